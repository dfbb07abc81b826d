/* SPDX-License-Identifier: MIT */
/*
 * sim_hostile.c - a peer that lies to the daemon; see sim_host.h
 *
 * A process like a VMM's that says whatever comes to mind, in good form: what is in bad form the
 * fuzzers send. Whatever becomes of it, the VMs must not notice.
 */
#include "sim/sim_host.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
	int fd; /* of its connection; -1: none */
	int process_fd;
	pid_t pid; /* 0: there is no such process */
} hostile = {.fd = -1, .process_fd = -1};

int sim_hostile_process_fd(pid_t pid)
{
	return hostile.pid == pid ? hostile.process_fd : -1;
}

static void say(union mt_wire_msg *msg)
{
	(void)!send(hostile.fd, msg, msg->head.length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static uint64_t some_pages(void)
{
	return host_below(3) ? host_below(5000) : (uint64_t)host_below(UINT32_MAX) << 20;
}

/* As itself, or as one of the VMs. */
static void say_hello(void)
{
	const struct sim_guest *guest = &world.guest[host_below(SIM_GUESTS_MAX)];
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_HELLO, 1);
	snprintf(msg.hello.name, sizeof(msg.hello.name), "%s",
		 !host_below(3) && guest->name[0] ? guest->name : "evil");
	snprintf(msg.hello.vmm, sizeof(msg.hello.vmm), "liar");
	if (!host_below(4))
		snprintf(msg.hello.secret, sizeof(msg.hello.secret), "guessed");
	if (host_below(2))
		snprintf(msg.hello.share_group, sizeof(msg.hello.share_group), "all");
	msg.hello.memsize_pages = some_pages();
	msg.hello.shared_pages = host_below(2) ? some_pages() : 0;
	/* One that was never granted anything: a daemon that lost its state file would have to
	 * believe it. */
	msg.hello.reservation_bytes = host_below(8) ? 0 : some_pages() << MT_PAGE_SHIFT;
	say(&msg);
}

static void say_region(union mt_wire_msg *msg)
{
	mt_wire_init(msg, host_below(4) ? MT_WIRE_REGION_ADD : MT_WIRE_REGION_DEL, 2);
	msg->region_add.addr = (uint64_t)host_below(8) << 32;
	msg->region_add.bytes = some_pages() << MT_PAGE_SHIFT;
}

static void say_shared(union mt_wire_msg *msg)
{
	switch (host_below(5)) {
	case 0:
		mt_wire_init(msg, MT_WIRE_SHARE_RELEASE, 0);
		msg->share_release.count = 1 + host_below(MT_WIRE_SHARE_RELEASES);
		for (uint32_t i = 0; i < msg->share_release.count; i++)
			msg->share_release.frame[i] = host_below(1 + host_below(300));
		break;
	case 1:
		mt_wire_init(msg, MT_WIRE_SHARE_KEEP, 0);
		msg->share_keep.count = 1 + host_below(MT_WIRE_SHARE_KEEPS);
		msg->share_keep.more = host_below(2);
		for (uint32_t i = 0; i < msg->share_keep.count; i++)
			msg->share_keep.frame[i] = host_below(300);
		break;
	case 2:
		mt_wire_init(msg, MT_WIRE_SHARE_PAGE, 0);
		mt_wire_contents(&msg->share_page, 1 + host_below(MT_WIRE_SHARE_CONTENTS));
		msg->share_page.first = host_below(MT_WIRE_SHARE_PAGES);
		for (uint32_t i = 0; i < msg->share_page.count; i++)
			msg->share_page.hash[i] = host_below(100);
		break;
	case 3:
		mt_wire_init(msg, MT_WIRE_SHARE_LOOK, 0);
		msg->share_look.count = 1 + host_below(MT_WIRE_SHARE_LOOKS);
		for (uint32_t i = 0; i < msg->share_look.count; i++) {
			msg->share_look.gpn[i] = host_below(5000);
			msg->share_look.hash[i] = host_below(100);
			msg->share_look.large[i] = (uint8_t)host_below(3);
		}
		break;
	default:
		mt_wire_init(msg, MT_WIRE_SHARE_OFFER, 0);
		msg->share_offer.count = 1 + host_below(MT_WIRE_SHARE_PAGES);
		for (uint32_t i = 0; i < msg->share_offer.count; i++) {
			uint8_t page[MT_PAGE_SIZE] __attribute__((aligned(8)));

			sim_fill(page, 1 + host_below(MT_MAX(world.config.alike, 1)));
			msg->share_offer.gpn[i] = host_below(5000);
			msg->share_offer.hash[i] = mt_share_hash(page);
		}
	}
}

static void say_something(void)
{
	union mt_wire_msg msg;

	switch (host_below(12)) {
	case 0:
		say_region(&msg);
		break;
	case 1:
		mt_wire_init(&msg, MT_WIRE_GRANT_RETURN, 0);
		msg.grant_return.pages = host_below(3) ? 0 : some_pages();
		break;
	case 2:
		mt_wire_init(&msg, MT_WIRE_STATS, 0);
		msg.stats.count = MT_COUNTER_MAX;
		for (uint32_t i = 0; i < MT_COUNTER_MAX; i++)
			msg.stats.value[i] = some_pages();
		break;
	case 3:
		mt_wire_init(&msg, MT_WIRE_EVENT, 0);
		msg.event.level = host_below(9);
		snprintf(msg.event.text, sizeof(msg.event.text), "all is well");
		break;
	default:
		say_shared(&msg);
	}
	say(&msg);
}

static void come(void)
{
	hostile.process_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	hostile.pid = ++world.last_pid;
	hostile.fd = sim_kernel_connect(hostile.pid);
	world.hostiles++;
	if (hostile.fd >= 0 && host_below(10))
		say_hello();
}

void sim_hostile_end(void)
{
	if (!hostile.pid)
		return;
	sim_kernel_hang_up(hostile.pid);
	eventfd_write(hostile.process_fd, 1);
	close(hostile.process_fd);
	hostile.pid = 0;
	hostile.fd = hostile.process_fd = -1;
}

void sim_hostile_step(void)
{
	if (!hostile.pid && host_chance_ppm(world.config.hostile_ppm))
		come();
	if (!hostile.pid || host_below(20))
		return;
	if (!host_below(20) || hostile.fd < 0)
		sim_hostile_end();
	else
		say_something();
}
