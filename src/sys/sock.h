/* SPDX-License-Identifier: MIT */
/*
 * sock.h - unix sockets: listen, connect, and packets that carry descriptors
 *
 * Non-blocking unless it says otherwise; close-on-exec always.
 */
#ifndef MT_SYS_SOCK_H
#define MT_SYS_SOCK_H

#include "base/err.h"

#include <sys/types.h>

/**
 * mt_sock_listen() - listen on a unix socket of @type (SOCK_STREAM or SOCK_SEQPACKET) at @path
 *
 * A socket file that nobody listens on is removed first; one that answers is an error. Mode 0660.
 * Return: descriptor or -errno: -EADDRINUSE when somebody listens there, -ENAMETOOLONG.
 */
int mt_sock_listen(const char *path, int type, struct mt_err *err);

/** mt_sock_connect() - connect to @path; blocking socket. Return: descriptor or -errno. */
int mt_sock_connect(const char *path, int type, struct mt_err *err);

/** mt_sock_peer() - pid and uid at the other end of @fd. Return: 0 or -errno. */
int mt_sock_peer(int fd, pid_t *ret_pid, uid_t *ret_uid);

/**
 * mt_sock_send() - send one packet, with descriptor @passed when it is >= 0 (borrowed)
 * Return: 0, -EAGAIN when the peer does not read, or another -errno. Never raises SIGPIPE.
 */
int mt_sock_send(int fd, const void *packet, size_t bytes, int passed);

/**
 * mt_sock_recv() - receive one packet of at most @room bytes
 * @ret_fd: a descriptor that came along, owned by the caller, or -1; more than one are closed
 * @ret_fds: how many came
 *
 * Return: bytes, 0 at the end of the connection, or -errno (-EAGAIN, -EMSGSIZE when longer).
 */
ssize_t mt_sock_recv(int fd, void *packet, size_t room, int *ret_fd, unsigned int *ret_fds);

#endif
