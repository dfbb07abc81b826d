/* SPDX-License-Identifier: MIT */
/* monitor_link.c - accept, receive, send, drop; see monitor_link.h */
#include "host/monitor_link.h"
#include "base/cleanup.h"
#include "host/balance.h"
#include "host/monitor_msgs.h"
#include "host/monitor_region.h"
#include "host/rights.h"
#include "host/share.h"
#include "sys/process.h"
#include "sys/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Packets that may wait for a monitor that does not read; it needs none of them to live. */
#define LINK_QUEUE_MAX 256
/* Packets taken from one monitor before the others get their turn. */
#define LINK_TURN_PACKETS 32
#define LINK_HELLO_NS     (10 * MT_NS_PER_S)
/* A monitor that dies closes its connection a moment before its process is gone. */
#define LINK_AWAY_EVENT_NS   (2 * MT_NS_PER_S)
#define LINK_ACCEPT_PAUSE_NS MT_NS_PER_S

struct mt_packet {
	struct mt_packet *next;
	int passed;
	uint32_t length;
	uint8_t bytes[];
};

void mt_link_break(struct mt_link *link, const char *fmt, ...)
{
	va_list args;

	if (link->broken)
		return;
	link->broken = true;
	va_start(args, fmt);
	vsnprintf(link->why, sizeof(link->why), fmt, args);
	va_end(args);
}

/* The other end is gone or unreachable; whether that is news is for its process's end to say. */
static void link_lost(struct mt_link *link)
{
	link->quiet |= !link->broken;
	link->broken = true;
}

/*
 * @rc is what a send failed with. A peer that has closed may have said goodbye before: only the end
 * of what there is to read is the end of the connection.
 */
static void link_send_failed(struct mt_link *link, int rc)
{
	if (rc == -EPIPE || rc == -ECONNRESET)
		link->deaf = true;
	else
		link_lost(link);
}

static void link_queue(struct mt_link *link, const union mt_wire_msg *msg, int passed)
{
	struct mt_packet *packet;

	if (link->queued >= LINK_QUEUE_MAX) {
		mt_link_break(link, "dropped: it left %u messages unread", link->queued);
		return;
	}
	packet = calloc(1, sizeof(*packet) + msg->head.length);
	if (packet)
		packet->passed = passed < 0 ? -1 : fcntl(passed, F_DUPFD_CLOEXEC, 0);
	if (!packet || (passed >= 0 && packet->passed < 0)) {
		free(packet);
		mt_link_break(link, "dropped: no memory or descriptors to queue a message");
		return;
	}
	memcpy(packet->bytes, msg, msg->head.length);
	packet->length = msg->head.length;
	if (link->queue_tail)
		link->queue_tail->next = packet;
	else
		link->queue_head = packet;
	link->queue_tail = packet;
	link->queued++;
	mt_loop_want(link->source, EPOLLIN | EPOLLOUT);
}

void mt_link_send(struct mt_link *link, const union mt_wire_msg *msg, int passed)
{
	int rc = -EAGAIN;

	if (link->broken || link->deaf)
		return;
	if (!link->queue_head)
		rc = mt_sock_send(link->fd, msg, msg->head.length, passed);
	if (rc == -EAGAIN)
		link_queue(link, msg, passed);
	else if (rc)
		link_send_failed(link, rc);
}

static void link_pop(struct mt_link *link)
{
	struct mt_packet *packet = link->queue_head;

	link->queue_head = packet->next;
	if (!link->queue_head)
		link->queue_tail = NULL;
	link->queued--;
	if (packet->passed >= 0)
		close(packet->passed);
	free(packet);
}

static void link_flush(struct mt_link *link)
{
	while (link->queue_head && !link->broken) {
		struct mt_packet *packet = link->queue_head;
		int rc = mt_sock_send(link->fd, packet->bytes, packet->length, packet->passed);

		if (rc == -EAGAIN && !link->deaf)
			return;
		if (rc && !link->deaf)
			link_send_failed(link, rc);
		link_pop(link);
	}
	mt_loop_want(link->source, EPOLLIN);
	if (link->closing)
		link_lost(link);
}

void mt_link_refuse(struct mt_link *link, uint32_t serial, const struct mt_err *err)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_REFUSED, serial);
	msg.refused.code = err->code;
	snprintf(msg.refused.text, sizeof(msg.refused.text), "%s", err->msg);
	mt_link_send(link, &msg, -1);
}

/* One packet. False when there is none for now. */
static bool link_receive(struct mt_link *link)
{
	union mt_wire_msg msg;
	struct mt_err err = {0};
	unsigned int fds = 0;
	MT_AUTO_CLOSE int passed = -1;
	ssize_t got = mt_sock_recv(link->fd, &msg, sizeof(msg), &passed, &fds);

	if (got == -EAGAIN)
		return false;
	/* said once when the peer closed with our messages unread; its own last ones still follow
	 */
	if (got == -ECONNRESET)
		return true;
	if (!got) {
		link_lost(link);
		return false;
	}
	if (got < 0) {
		mt_link_break(link, "dropped: a packet can't be received: %s", strerror((int)-got));
		return false;
	}
	if (mt_wire_check(&msg, (size_t)got, fds, true, &err)) {
		mt_link_break(link, "dropped: %s", err.msg);
		return false;
	}
	mt_monitor_message(link, &msg, passed);
	return !link->broken && !link->closing;
}

static void link_on_event(void *ctx, uint32_t events)
{
	struct mt_link *link = ctx;

	if (link->broken)
		return;
	if (events & EPOLLOUT)
		link_flush(link);
	if (link->closing || link->broken) {
		if (events & (EPOLLHUP | EPOLLERR))
			link_lost(link);
		return;
	}
	for (unsigned int i = 0; i < LINK_TURN_PACKETS; i++)
		if (!link_receive(link))
			break;
	mt_share_say(link->server);
}

static int link_new(struct mt_server *server, int fd)
{
	struct mt_link *link = calloc(1, sizeof(*link));
	int rc;

	if (!link)
		return -ENOMEM;
	link->server = server;
	link->fd = fd;
	link->pidfd = mt_pidfd_of_peer(fd);
	rc = link->pidfd < 0 ? link->pidfd : mt_sock_peer(fd, &link->pid, &link->uid);
	if (!rc && link->pid <= 0)
		rc = -ESRCH;
	if (!rc && !mt_rights_link_fits(server, link->uid))
		rc = -EMFILE;
	if (!rc) {
		link->source = mt_loop_add(server->loop, fd, EPOLLIN, link_on_event, link);
		rc = link->source ? 0 : -errno;
	}
	if (rc) {
		if (link->pidfd >= 0)
			close(link->pidfd);
		free(link);
		return rc;
	}
	link->hello_by_ns = mt_server_now_ns(server) + LINK_HELLO_NS;
	mt_server_arm(server, link->hello_by_ns);
	link->next = server->links;
	server->links = link;
	server->link_count++;
	return 0;
}

void mt_link_accept(struct mt_server *server)
{
	for (;;) {
		MT_AUTO_CLOSE int fd =
			accept4(server->vm_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
			mt_server_pause_accept(server, LINK_ACCEPT_PAUSE_NS);
			return;
		}
		if (fd < 0)
			return;
		/* what can't be served sees its connection closed and may try again */
		if (server->link_count >= MT_LINKS_MAX || link_new(server, fd))
			continue;
		mt_steal_fd(&fd);
	}
}

void mt_link_close(struct mt_link *link)
{
	link->closing = true;
	if (!link->queue_head)
		link_lost(link);
}

void mt_link_forget_vm(struct mt_link *link)
{
	link->vm = NULL;
	link_lost(link);
}

static void link_free(struct mt_link *link)
{
	while (link->queue_head)
		link_pop(link);
	mt_loop_remove(link->source);
	if (link->pidfd >= 0)
		close(link->pidfd);
	close(link->fd);
	free(link);
}

/* The VM stays on the books: it holds its memory until its process ends. */
static void link_leave_vm(struct mt_link *link)
{
	struct mt_server *server = link->server;
	struct mt_vmrec *vm = link->vm;

	vm->link = NULL;
	mt_region_forget_pending(vm);
	mt_balance_want(server);
	vm->away_event_ns = mt_server_now_ns(server) + LINK_AWAY_EVENT_NS;
	/* also now: an audit may be under way that nobody will answer */
	mt_server_arm(server, mt_server_now_ns(server));
}

static void link_drop(struct mt_link *link)
{
	struct mt_server *server = link->server;

	if (!link->quiet && !link->closing)
		mt_server_event_limited(server, link->vm ? &link->vm->rate : &server->rate,
					MT_EVENT_WARNING, link->vm ? link->vm->name : NULL,
					link->why);
	if (link->vm)
		link_leave_vm(link);
	link_free(link);
}

bool mt_link_sweep(struct mt_server *server)
{
	struct mt_link **place = &server->links;
	bool dropped = false;

	while (*place) {
		struct mt_link *link = *place;

		if (!link->broken) {
			place = &link->next;
			continue;
		}
		*place = link->next;
		server->link_count--;
		link_drop(link);
		dropped = true;
	}
	return dropped;
}

void mt_link_expire(struct mt_server *server)
{
	uint64_t now_ns = mt_server_now_ns(server);

	for (struct mt_link *link = server->links; link; link = link->next) {
		if (link->vm || link->broken)
			continue;
		if (link->hello_by_ns <= now_ns)
			mt_link_break(link, "dropped: process %d connected and never said hello",
				      (int)link->pid);
		else
			mt_server_arm(server, link->hello_by_ns);
	}
}

void mt_link_free_all(struct mt_server *server)
{
	while (server->links) {
		struct mt_link *link = server->links;

		server->links = link->next;
		if (link->vm)
			link->vm->link = NULL;
		link_free(link);
	}
	server->link_count = 0;
}
