/* SPDX-License-Identifier: MIT */
/* sock.c - unix sockets; see sock.h */
#include "sys/sock.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Room for a few descriptors more than anyone should send, so that extra ones are seen and closed.
 */
#define SOCK_FDS_ROOM 8

static int sock_address(const char *path, struct sockaddr_un *addr, struct mt_err *err)
{
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	if (!path[0] || strlen(path) >= sizeof(addr->sun_path))
		return mt_err_set(err, -ENAMETOOLONG,
				  "socket path '%s' is empty or longer than %zu bytes", path,
				  sizeof(addr->sun_path) - 1);
	memcpy(addr->sun_path, path, strlen(path) + 1);
	return 0;
}

int mt_sock_connect(const char *path, int type, struct mt_err *err)
{
	struct sockaddr_un addr;
	MT_AUTO_CLOSE int fd = -1;
	int rc = sock_address(path, &addr, err);

	if (rc)
		return rc;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return mt_err_set(err, -errno, "socket: %s", strerror(errno));
	do {
		rc = connect(fd, (const struct sockaddr *)&addr, sizeof(addr));
	} while (rc && errno == EINTR);
	if (rc)
		return mt_err_set(err, -errno, "connect to '%s': %s", path, strerror(errno));
	return mt_steal_fd(&fd);
}

/* A socket file left by a daemon that was killed is in the way; one in use must not be touched. */
static int sock_remove_stale(const char *path, int type, struct mt_err *err)
{
	struct stat st;
	int fd;

	if (lstat(path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return mt_err_set(err, -EEXIST, "'%s' exists and is not a socket", path);
	fd = mt_sock_connect(path, type, NULL);
	if (fd >= 0)
		close(fd);
	if (fd >= 0 || fd == -EPROTOTYPE || fd == -EAGAIN)
		return mt_err_set(err, -EADDRINUSE, "somebody listens on '%s' already", path);
	if (unlink(path))
		return mt_err_set(err, -errno, "remove stale '%s': %s", path, strerror(errno));
	return 0;
}

int mt_sock_listen(const char *path, int type, struct mt_err *err)
{
	struct sockaddr_un addr;
	MT_AUTO_CLOSE int fd = -1;
	mode_t mask;
	int rc = sock_address(path, &addr, err);

	if (!rc)
		rc = sock_remove_stale(path, type, err);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return mt_err_set(err, -errno, "socket: %s", strerror(errno));
	mask = umask(0117);
	rc = bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
	umask(mask);
	if (rc)
		return mt_err_set(err, rc, "bind '%s': %s", path, strerror(-rc));
	if (listen(fd, 128))
		return mt_err_set(err, -errno, "listen on '%s': %s", path, strerror(errno));
	return mt_steal_fd(&fd);
}

int mt_sock_peer(int fd, pid_t *ret_pid, uid_t *ret_uid)
{
	struct ucred cred;
	socklen_t length = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length))
		return -errno;
	*ret_pid = cred.pid;
	*ret_uid = cred.uid;
	return 0;
}

int mt_sock_send(int fd, const void *packet, size_t bytes, int passed)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = (void *)packet, .iov_len = bytes};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	if (passed >= 0) {
		memset(&control, 0, sizeof(control));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &passed, sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.room);
	}
	do {
		sent = sendmsg(fd, &msg, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return (size_t)sent == bytes ? 0 : -EMSGSIZE;
}

/* Takes the first descriptor of a message and closes the rest: a hostile peer must not fill our
 * table. */
static void sock_take_fds(struct msghdr *msg, int *ret_fd, unsigned int *ret_fds)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*ret_fd < 0)
				*ret_fd = fd;
			else
				close(fd);
			(*ret_fds)++;
		}
	}
}

ssize_t mt_sock_recv(int fd, void *packet, size_t room, int *ret_fd, unsigned int *ret_fds)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(SOCK_FDS_ROOM * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = packet, .iov_len = room};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	int passed = -1;
	unsigned int passed_count = 0;
	ssize_t got;

	do {
		got = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	sock_take_fds(&msg, &passed, &passed_count);
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		if (passed >= 0)
			close(passed);
		return -EMSGSIZE;
	}
	*ret_fd = passed;
	*ret_fds = passed_count;
	return got;
}
