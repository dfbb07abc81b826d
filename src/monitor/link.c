/* SPDX-License-Identifier: MIT */
/*
 * link.c - the thread that talks to the daemon; see link.h
 *
 * The socket is written by this thread and, one packet at a time, by threads that make a request;
 * packets are atomic, so they need no lock among themselves. Only this thread reads.
 */
#include "monitor/link.h"
#include "base/cleanup.h"
#include "base/own_fds.h"
#include "base/thread.h"
#include "monitor/pager.h"
#include "monitor/peek.h"
#include "sys/sock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#define LINK_STATS_MS     250
#define LINK_RECONNECT_MS 300
#define LINK_LOOK_MS      2000
#define LINK_REQUEST_S    20
#define LINK_HELLO_S      10

static int link_receive(int fd, union mt_wire_msg *msg, int *ret_fd, struct mt_err *err)
{
	unsigned int fds = 0;
	ssize_t got;
	int rc;

	*ret_fd = -1;
	got = mt_sock_recv(fd, msg, sizeof(*msg), ret_fd, &fds);
	if (got <= 0)
		return mt_err_set(err, got ? (int)got : -ECONNRESET,
				  "the daemon closed the connection");
	rc = mt_wire_check(msg, (size_t)got, fds, false, err);
	if (rc && *ret_fd >= 0) {
		close(*ret_fd);
		*ret_fd = -1;
	}
	return rc;
}

/* Says hello on a fresh connection and takes the answer. Blocking, within LINK_HELLO_S. */
static int link_hello(struct mt_link *link, int fd, int *ret_device_fd, struct mt_err *err)
{
	struct timeval limit = {.tv_sec = LINK_HELLO_S};
	union mt_wire_msg msg;
	int rc;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	memset(&msg, 0, sizeof(msg));
	msg.hello = link->hello;
	rc = mt_sock_send(fd, &msg, sizeof(msg.hello), atomic_load(&link->swap_fd));
	/* Closed by the VMM: the daemon is to hear of that all the more. */
	if (rc == -EBADF)
		rc = mt_sock_send(fd, &msg, sizeof(msg.hello), -1);
	if (rc)
		return mt_err_set(err, rc, "say hello to the daemon: %s", strerror(-rc));
	rc = link_receive(fd, &msg, ret_device_fd, err);
	if (rc)
		return rc;
	if (msg.head.type == MT_WIRE_REFUSED)
		return mt_err_set(err, msg.refused.code ? msg.refused.code : -EPERM, "%s",
				  msg.refused.text);
	if (msg.head.type != MT_WIRE_WELCOME || *ret_device_fd < 0)
		return mt_err_set(err, -EPROTO, "the daemon answered %s to a hello",
				  mt_wire_type_name(msg.head.type));
	memcpy(link->hello.secret, msg.welcome.secret, sizeof(link->hello.secret));
	return 0;
}

static void link_vmm_name(char *text, size_t bytes)
{
	FILE *comm = fopen("/proc/self/comm", "re");

	if (comm) {
		if (fgets(text, (int)bytes, comm))
			text[strcspn(text, "\n")] = '\0';
		fclose(comm);
	}
}

int mt_link_open(struct mt_link *link, const struct mt_link_options *options, int *ret_device_fd,
		 struct mt_err *err)
{
	union mt_wire_msg msg;
	int rc;

	memset(link, 0, sizeof(*link));
	link->fd = -1;
	link->wake_fd = -1;
	atomic_init(&link->swap_fd, -1);
	link->frames_fd = -1;
	pthread_mutex_init(&link->lock, NULL);
	pthread_cond_init(&link->answered, NULL);
	if (strlen(options->socket) + sizeof(MT_WIRE_SUFFIX) > sizeof(link->path))
		return mt_err_set(err, -ENAMETOOLONG, "socket path '%s' is too long",
				  options->socket);
	snprintf(link->path, sizeof(link->path), "%s%s", options->socket, MT_WIRE_SUFFIX);
	mt_wire_init(&msg, MT_WIRE_HELLO, 1);
	snprintf(msg.hello.name, sizeof(msg.hello.name), "%s", options->name);
	snprintf(msg.hello.token, sizeof(msg.hello.token), "%s",
		 options->token ? options->token : "");
	link_vmm_name(msg.hello.vmm, sizeof(msg.hello.vmm));
	msg.hello.reservation_bytes = options->reservation_bytes;
	msg.hello.limit_bytes = options->limit_bytes;
	msg.hello.shares = options->shares;
	snprintf(msg.hello.share_group, sizeof(msg.hello.share_group), "%s",
		 options->share_group ? options->share_group : "");
	link->hello = msg.hello;
	link->wake_fd = mt_fd_own(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (link->wake_fd < 0)
		return mt_err_set(err, -errno, "eventfd: %s", strerror(errno));
	link->fd = mt_fd_own(mt_sock_connect(link->path, SOCK_SEQPACKET, err));
	if (link->fd < 0)
		return link->fd;
	rc = link_hello(link, link->fd, ret_device_fd, err);
	if (rc) {
		mt_fd_close(link->fd);
		link->fd = -1;
	}
	return rc;
}

void mt_link_kick(void *ctx)
{
	struct mt_link *link = ctx;

	mt_thread_wake(link->wake_fd);
}

/* Gives up the connection: whoever waits for an answer will not get it. */
static void link_lost(struct mt_link *link)
{
	int fd;

	pthread_mutex_lock(&link->lock);
	fd = link->fd;
	link->fd = -1;
	link->request_failed = link->request_open;
	pthread_cond_broadcast(&link->answered);
	pthread_mutex_unlock(&link->lock);
	mt_fd_close(fd);
	link->hello.shared_pages = mt_share_link_cut(link);
}

static int link_send(struct mt_link *link, const union mt_wire_msg *msg)
{
	if (link->fd < 0)
		return -ECONNRESET;
	return mt_sock_send(link->fd, msg, msg->head.length, -1);
}

static void link_send_stats(struct mt_link *link)
{
	struct mt_pager *pager = link->pager;
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_STATS, 0);
	msg.stats.count = MT_COUNTER_MAX;
	for (unsigned int i = 0; i < MT_COUNTER_MAX; i++)
		msg.stats.value[i] = atomic_load_explicit(&pager->counter[i], memory_order_relaxed);
	msg.stats.value[MT_C_GRANT] = mt_room_grant_pages(pager);
	msg.stats.value[MT_C_TARGET] =
		MT_MIN(atomic_load(&pager->target_pages), mt_room_grant_pages(pager));
	msg.stats.value[MT_C_FAULT_P50] = mt_hist_percentile_ns(&pager->fault_hist, 50);
	msg.stats.value[MT_C_FAULT_P99] = mt_hist_percentile_ns(&pager->fault_hist, 99);
	msg.stats.value[MT_C_FAULT_MAX] = mt_hist_max_ns(&pager->fault_hist);
	(void)link_send(link, &msg);
}

static void link_send_returns(struct mt_link *link)
{
	uint64_t returned =
		atomic_load_explicit(&link->pager->returned_pages, memory_order_acquire);
	union mt_wire_msg msg;

	if (returned == link->returned_told_pages)
		return;
	mt_wire_init(&msg, MT_WIRE_GRANT_RETURN, 0);
	msg.grant_return.pages = returned - link->returned_told_pages;
	if (!link_send(link, &msg))
		link->returned_told_pages = returned;
}

static int link_send_event(struct mt_link *link, enum mt_event_level level, const char *text)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_EVENT, 0);
	msg.event.level = level;
	snprintf(msg.event.text, sizeof(msg.event.text), "%s", text);
	return link_send(link, &msg);
}

static void link_loss_text(const struct mt_pager *pager, char *text, size_t bytes)
{
	if (atomic_load(&pager->cut))
		snprintf(text, bytes,
			 "the VMM has closed Memtide's descriptors: pages that are out can't come "
			 "back, and who touches one waits; restart the VM from its disk, and keep "
			 "the VMM from closing descriptors that it did not open");
	else
		snprintf(text, bytes,
			 "page 0x%x lost: %s; the VM is stopped at it, restart it from its disk",
			 pager->loss.gpn.n, mt_page_loss_text(pager->loss.error));
}

static void link_send_losses(struct mt_link *link)
{
	struct mt_pager *pager = link->pager;
	uint64_t failed = atomic_load_explicit(&pager->counter[MT_C_FAILED], memory_order_relaxed);
	uint64_t errors =
		atomic_load_explicit(&pager->counter[MT_C_SWAP_ERRORS], memory_order_relaxed);
	char text[MT_WIRE_TEXT_MAX];

	if (failed > link->losses_told) {
		link_loss_text(pager, text, sizeof(text));
		if (!link_send_event(link, MT_EVENT_ERROR, text))
			link->losses_told = failed;
	} else if (errors > link->errors_told) {
		snprintf(text, sizeof(text),
			 "swap file: %lu transfers failed so far; pages stay where they are",
			 (unsigned long)errors);
		(void)link_send_event(link, MT_EVENT_WARNING, text);
	}
	link->errors_told = errors;
}

struct link_audit {
	uint64_t pages;
	uint64_t violations;
	char text[MT_WIRE_TEXT_MAX];
};

static bool link_audit(struct mt_pager *pager, void *arg)
{
	struct link_audit *audit = arg;

	audit->violations = mt_audit(pager, &audit->pages, audit->text, sizeof(audit->text));
	return true;
}

static void link_check(struct mt_link *link, uint32_t serial)
{
	struct link_audit audit = {.pages = 0};
	union mt_wire_msg msg;

	mt_command(link->pager, link_audit, &audit);
	mt_wire_init(&msg, MT_WIRE_CHECKED, serial);
	msg.checked.pages = audit.pages;
	msg.checked.violations = audit.violations;
	snprintf(msg.checked.text, sizeof(msg.checked.text), "%s", audit.text);
	(void)link_send(link, &msg);
}

static void link_peek(struct mt_link *link, const struct mt_wire_peek *ask)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_PEEKED, ask->head.serial);
	mt_peek_answer(link->pager, atomic_load(&link->swap_fd), ask, &msg.peeked);
	(void)link_send(link, &msg);
}

/* An answer for whoever made the request; dropped when nobody waits for it any more. */
static void link_answer(struct mt_link *link, const union mt_wire_msg *msg, int fd)
{
	pthread_mutex_lock(&link->lock);
	if (link->request_open && link->answer && msg->head.serial == link->serial) {
		*link->answer = *msg;
		link->answer = NULL;
		link->answer_fd = fd;
		fd = -1;
		pthread_cond_broadcast(&link->answered);
	}
	pthread_mutex_unlock(&link->lock);
	if (fd >= 0)
		close(fd);
}

static void link_share(struct mt_link *link, const union mt_wire_msg *msg, int fd)
{
	if (mt_share_link_message(link, msg, fd))
		link_lost(link);
}

static void link_dispatch(struct mt_link *link, const union mt_wire_msg *msg, int fd)
{
	struct mt_pager *pager = link->pager;

	switch (msg->head.type) {
	case MT_WIRE_GRANT_ADD:
		atomic_fetch_add_explicit(&pager->granted_pages, msg->grant_add.pages,
					  memory_order_release);
		mt_pager_kick(pager);
		return;
	case MT_WIRE_TARGET:
		atomic_store_explicit(&pager->target_pages, msg->target.pages,
				      memory_order_relaxed);
		mt_pager_kick(pager);
		return;
	case MT_WIRE_SETTINGS:
		atomic_store_explicit(&pager->zip_max_pct, msg->settings.zip_max_pct,
				      memory_order_relaxed);
		atomic_store_explicit(&pager->sample.pages, msg->settings.sample_pages,
				      memory_order_relaxed);
		atomic_store_explicit(&pager->sample.period_ns,
				      msg->settings.sample_period_s * 1000000000ULL,
				      memory_order_relaxed);
		atomic_store_explicit(&pager->share.pages_per_ks, msg->settings.share_pages_per_ks,
				      memory_order_relaxed);
		mt_pager_kick(pager);
		return;
	case MT_WIRE_SHARE_START:
	case MT_WIRE_SHARE_ANSWER:
	case MT_WIRE_SHARE_AGAIN:
	case MT_WIRE_SHARE_LOOKED:
		link_share(link, msg, fd);
		return;
	case MT_WIRE_CHECK:
		link_check(link, msg->head.serial);
		return;
	case MT_WIRE_PEEK:
		link_peek(link, &msg->peek);
		return;
	case MT_WIRE_REFUSED:
	case MT_WIRE_REGION_OK:
		link_answer(link, msg, fd);
		return;
	default:
		if (fd >= 0)
			close(fd);
	}
}

/* The daemon is away. Says hello again with what the VM holds; both ends count from there. */
static void link_reconnect(struct mt_link *link)
{
	struct mt_pager *pager = link->pager;
	uint64_t returned = atomic_load_explicit(&pager->returned_pages, memory_order_acquire);
	int device_fd = -1;
	int fd = mt_fd_own(mt_sock_connect(link->path, SOCK_SEQPACKET, NULL));

	if (fd < 0)
		return;
	link->hello.grant_pages = atomic_load(&pager->granted_pages) - returned;
	link->hello.memsize_pages = atomic_load(&pager->counter[MT_C_MEMSIZE]);
	link->hello.held_pages = atomic_load(&pager->counter[MT_C_HELD]);
	if (link_hello(link, fd, &device_fd, NULL)) {
		mt_fd_close(fd);
		return;
	}
	if (device_fd >= 0)
		close(device_fd);
	link->returned_told_pages = returned;
	pthread_mutex_lock(&link->lock);
	link->fd = fd;
	pthread_mutex_unlock(&link->lock);
}

static void link_read(struct mt_link *link)
{
	union mt_wire_msg msg;
	int fd = -1;

	if (link_receive(link->fd, &msg, &fd, NULL))
		link_lost(link);
	else
		link_dispatch(link, &msg, fd);
}

static uint64_t link_now_ms(void)
{
	return mt_pager_now_ns() / 1000000;
}

/* Looks when it is time, and when the pager wants it. Return: when it is time again. */
static uint64_t link_look(struct mt_link *link, uint64_t due_ms)
{
	bool wanted = atomic_exchange(&link->pager->look_wanted, false);
	bool due = link_now_ms() >= due_ms;

	if (due || wanted)
		link->look(link->look_ctx, due);
	return due ? link_now_ms() + LINK_LOOK_MS : due_ms;
}

static void *link_main(void *arg)
{
	struct mt_link *link = arg;
	uint64_t next_ms = 0, reconnect_ms = 0, look_ms = 0, drained;
	bool deaf = false;

	mt_thread_enter("memtide-link");
	while (!atomic_load_explicit(&link->stop, memory_order_acquire)) {
		struct pollfd fds[2] = {{.fd = link->fd, .events = POLLIN},
					{.fd = deaf ? -1 : link->wake_fd, .events = POLLIN}};
		int ready = poll(fds, 2, link->fd < 0 ? LINK_RECONNECT_MS : LINK_STATS_MS);

		/* Closed by the VMM, as the daemon is about to be told: on without being woken. */
		deaf = deaf || (ready > 0 && fds[1].revents & POLLNVAL);
		if (ready > 0 && fds[1].revents &&
		    read(link->wake_fd, &drained, sizeof(drained)) < 0)
			drained = 0;
		if (link->look)
			look_ms = link_look(link, look_ms);
		if (link->fd < 0) {
			if (link_now_ms() < reconnect_ms)
				continue;
			link_reconnect(link);
			reconnect_ms = link_now_ms() + LINK_RECONNECT_MS;
			continue;
		}
		if (ready > 0 && fds[0].revents)
			link_read(link);
		link_send_returns(link);
		if (link->fd >= 0 && mt_share_link_send(link))
			link_lost(link);
		if (link_now_ms() >= next_ms) {
			link_send_stats(link);
			link_send_losses(link);
			next_ms = link_now_ms() + LINK_STATS_MS;
		}
	}
	return NULL;
}

int mt_link_start(struct mt_link *link, struct mt_pager *pager)
{
	int rc;

	link->pager = pager;
	rc = mt_thread_start(&link->thread, NULL, link_main, link);
	link->started = rc == 0;
	return rc;
}

void mt_link_close(struct mt_link *link)
{
	union mt_wire_msg msg;

	if (link->started) {
		atomic_store_explicit(&link->stop, true, memory_order_release);
		mt_link_kick(link);
		pthread_join(link->thread, NULL);
	}
	if (link->fd >= 0) {
		mt_wire_init(&msg, MT_WIRE_BYE, 0);
		(void)link_send(link, &msg);
		mt_fd_close(link->fd);
	}
	mt_fd_close(link->wake_fd);
	link->fd = -1;
	link->wake_fd = -1;
	link->started = false;
}

int mt_link_request(struct mt_link *link, union mt_wire_msg *msg, int *ret_fd, struct mt_err *err)
{
	struct timespec until;
	int rc;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LINK_REQUEST_S;
	pthread_mutex_lock(&link->lock);
	/* Requests come from the few places where a VMM sets memory up: one at a time will do. */
	while (link->request_open)
		pthread_cond_wait(&link->answered, &link->lock);
	link->request_open = true;
	link->request_failed = false;
	link->answer = msg;
	link->answer_fd = -1;
	msg->head.serial = ++link->serial;
	rc = link_send(link, msg);
	while (!rc && link->answer && !link->request_failed)
		rc = -pthread_cond_timedwait(&link->answered, &link->lock, &until);
	if (!rc && link->request_failed)
		rc = -ECONNRESET;
	*ret_fd = link->answer_fd;
	link->request_open = false;
	link->answer = NULL;
	pthread_cond_broadcast(&link->answered);
	pthread_mutex_unlock(&link->lock);
	if (rc)
		return mt_err_set(err, rc, "the daemon does not answer: %s", strerror(-rc));
	if (msg->head.type == MT_WIRE_REFUSED)
		return mt_err_set(err, msg->refused.code ? msg->refused.code : -EPERM, "%s",
				  msg->refused.text);
	return 0;
}

void mt_link_tell(struct mt_link *link, union mt_wire_msg *msg)
{
	pthread_mutex_lock(&link->lock);
	(void)link_send(link, msg);
	pthread_mutex_unlock(&link->lock);
}
