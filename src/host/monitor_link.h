/* SPDX-License-Identifier: MIT */
/*
 * monitor_link.h - a connection to a monitor: packets in, packets out, never waiting
 *
 * A monitor may be in the hands of its guest, so a link believes nothing: packets are checked
 * before anyone reads them, output waits in a bounded queue, and a link that breaks a rule is
 * marked broken with the reason. Broken links are dropped in the sweep; what their VM holds stays
 * on the books until its process ends.
 */
#ifndef MT_HOST_MONITOR_LINK_H
#define MT_HOST_MONITOR_LINK_H

#include "host/server.h"

#include <sys/types.h>

struct mt_link {
	struct mt_server *server;
	struct mt_vmrec *vm; /* NULL before HELLO */
	int fd;
	int pidfd; /* until a VM takes it over */
	pid_t pid;
	uid_t uid;
	bool broken;
	bool closing; /* refused: close when the queue is out */
	bool quiet;   /* its end is no news */
	bool deaf; /* it has closed: nothing can be sent, but what it said last is still to be read
		    */
	char why[MT_WIRE_TEXT_MAX];
	uint64_t hello_by_ns;
	struct mt_source *source;
	struct mt_packet *queue_head;
	struct mt_packet *queue_tail;
	unsigned int queued;
	/* Gathered while packets are read, and sent when that is over: mt_share_say(). */
	struct {
		uint32_t count;
		uint32_t gpn[MT_WIRE_SHARE_PAGES];
	} share_again;
	struct mt_link *next;
};

/** mt_link_accept() - take every connection waiting at the monitors' socket */
void mt_link_accept(struct mt_server *server);

/** mt_link_send() - send or queue @msg with descriptor @passed (borrowed, or -1) */
void mt_link_send(struct mt_link *link, const union mt_wire_msg *msg, int passed);

/** mt_link_refuse() - answer REFUSED to what had @serial */
void mt_link_refuse(struct mt_link *link, uint32_t serial, const struct mt_err *err);

/** mt_link_break() - the peer broke a rule: drop it in the next sweep; the first reason counts */
void mt_link_break(struct mt_link *link, const char *fmt, ...) MT_PRINTF(2, 3);

/** mt_link_close() - drop it, without ado, once what is queued is sent */
void mt_link_close(struct mt_link *link);

/** mt_link_forget_vm() - the VM's record is going: so is the link */
void mt_link_forget_vm(struct mt_link *link);

/** mt_link_sweep() - drop broken links. Return: were there any? */
bool mt_link_sweep(struct mt_server *server);

/** mt_link_expire() - drop those that never said hello */
void mt_link_expire(struct mt_server *server);

/** mt_link_free_all() - at the end of the daemon */
void mt_link_free_all(struct mt_server *server);

#endif
