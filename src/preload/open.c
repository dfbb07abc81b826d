/* SPDX-License-Identifier: MIT */
/*
 * open.c - files that the VMM opens for direct I/O
 *
 * The monitor must know of some of them before the first transfer (monitor/vm_direct.c). So this
 * library stands in front of the calls that open a file, or change how it is open, and looks at
 * those that say O_DIRECT. fcntl() itself is the C library's, which has more to do than to call the
 * kernel. vhost-scsi is found by the monitor's own looks: it does nothing before its device is set
 * up by the guest's driver.
 */
#undef _FILE_OFFSET_BITS
/* The fortified declarations would be in the way of the definitions. */
#undef _FORTIFY_SOURCE

#include "base/compiler.h"
#include "monitor/vm.h"
#include "preload/preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* So the calls with and without 64 in their names are the same. */
_Static_assert(O_LARGEFILE == 0, "offsets have 64 bits");

static int open_told(int fd, int flags)
{
	int saved_errno = errno;

	if (fd >= 0 && flags & O_DIRECT)
		preload_direct_io(fd);
	errno = saved_errno;
	return fd;
}

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
	return open_told((int)syscall(SYS_openat, dir, path, flags, mode), flags);
}

/* The mode is there only when a file may be made. */
static mode_t open_mode(int flags, va_list ap)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

MT_PUBLIC int open(const char *path, int flags, ...);
MT_PUBLIC int open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = open_mode(flags, ap);
	va_end(ap);
	return open_at(AT_FDCWD, path, flags, mode);
}

MT_PUBLIC int open64(const char *path, int flags, ...) __attribute__((alias("open")));

MT_PUBLIC int openat(int dir, const char *path, int flags, ...);
MT_PUBLIC int openat(int dir, const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = open_mode(flags, ap);
	va_end(ap);
	return open_at(dir, path, flags, mode);
}

MT_PUBLIC int openat64(int dir, const char *path, int flags, ...) __attribute__((alias("openat")));

/* What a program built with _FORTIFY_SOURCE calls where it gives no mode. */
int __open_2(const char *path, int flags);
MT_PUBLIC int __open_2(const char *path, int flags)
{
	return open_at(AT_FDCWD, path, flags, 0);
}

MT_PUBLIC int __open64_2(const char *path, int flags) __attribute__((alias("__open_2")));

int __openat_2(int dir, const char *path, int flags);
MT_PUBLIC int __openat_2(int dir, const char *path, int flags)
{
	return open_at(dir, path, flags, 0);
}

MT_PUBLIC int __openat64_2(int dir, const char *path, int flags)
	__attribute__((alias("__openat_2")));

typedef int (*open_fcntl_fn)(int fd, int command, ...);

static int open_fcntl(int fd, int command, void *argument)
{
	static _Atomic(open_fcntl_fn) next;
	open_fcntl_fn call = next;
	int rc;

	if (!call) {
		call = (open_fcntl_fn)(uintptr_t)dlsym(RTLD_NEXT, "fcntl64");
		if (!call)
			call = (open_fcntl_fn)(uintptr_t)dlsym(RTLD_NEXT, "fcntl");
		next = call;
	}
	if (!call) {
		errno = ENOSYS;
		return -1;
	}
	rc = call(fd, command, argument);
	if (command == F_SETFL && !rc)
		open_told(fd, (int)(intptr_t)argument);
	return rc;
}

/* Whatever the argument is, it is passed in a register, and ignored where there is none. */
MT_PUBLIC int fcntl(int fd, int command, ...);
MT_PUBLIC int fcntl(int fd, int command, ...)
{
	void *argument;
	va_list ap;

	va_start(ap, command);
	argument = va_arg(ap, void *);
	va_end(ap);
	return open_fcntl(fd, command, argument);
}

MT_PUBLIC int fcntl64(int fd, int command, ...) __attribute__((alias("fcntl")));
