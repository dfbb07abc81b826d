/* SPDX-License-Identifier: MIT */
/*
 * sandbox.c - the system calls of the daemon, as an allow-list for the kernel (seccomp)
 *
 * The daemon runs as root and reads what others send. If one of them ever gets it to run code of
 * his, that code should find no way to start a program, change who it is, load anything into the
 * kernel or touch another process. The list below is by purpose, so that it can be compared with
 * what the daemon does; a call that is not on it fails with EPERM. Nothing can be allowed again.
 *
 * Not with sanitizers, which make calls of their own.
 */
#include "host/sandbox.h"
#include "base/compiler.h"

#include <errno.h>
#include <seccomp.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_OFF 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
	__has_feature(memory_sanitizer)
#define SANDBOX_OFF 1
#endif
#endif

#define CALL(name) SCMP_SYS(name)

static const int sandbox_calls[] = {
	/* memory */
	CALL(brk),
	CALL(mmap),
	CALL(munmap),
	CALL(mremap),
	CALL(mprotect),
	CALL(madvise),
	/* files: state, swap files, sockets' and QMP's directories, /proc of VMs */
	CALL(open),
	CALL(openat),
	CALL(openat2),
	CALL(close),
	CALL(read),
	CALL(readv),
	CALL(pread64),
	CALL(write),
	CALL(writev),
	CALL(pwrite64),
	CALL(lseek),
	CALL(fcntl),
	CALL(dup),
	CALL(dup2),
	CALL(dup3),
	CALL(ioctl),
	CALL(fstat),
	CALL(stat),
	CALL(lstat),
	CALL(newfstatat),
	CALL(statx),
	CALL(statfs),
	CALL(fstatfs),
	CALL(access),
	CALL(faccessat),
	CALL(faccessat2),
	CALL(ftruncate),
	CALL(fallocate),
	CALL(fsync),
	CALL(fdatasync),
	CALL(unlink),
	CALL(unlinkat),
	CALL(rename),
	CALL(renameat),
	CALL(renameat2),
	CALL(mkdir),
	CALL(mkdirat),
	CALL(rmdir),
	CALL(chmod),
	CALL(fchmod),
	CALL(fchmodat),
	CALL(chown),
	CALL(fchown),
	CALL(fchownat),
	CALL(lchown),
	CALL(umask),
	CALL(getdents64),
	CALL(readlink),
	CALL(readlinkat),
	CALL(pipe2),
	CALL(memfd_create),
	/* sockets: clients, monitors, QMP */
	CALL(socket),
	CALL(connect),
	CALL(bind),
	CALL(listen),
	CALL(accept4),
	CALL(sendmsg),
	CALL(sendto),
	CALL(recvmsg),
	CALL(recvfrom),
	CALL(getsockopt),
	CALL(setsockopt),
	CALL(getsockname),
	CALL(getpeername),
	CALL(shutdown),
	/* waiting */
	CALL(epoll_create1),
	CALL(epoll_ctl),
	CALL(epoll_wait),
	CALL(epoll_pwait),
	CALL(poll),
	CALL(ppoll),
	CALL(eventfd2),
	CALL(timerfd_create),
	CALL(timerfd_settime),
	CALL(signalfd4),
	CALL(clock_gettime),
	CALL(clock_nanosleep),
	CALL(nanosleep),
	CALL(gettimeofday),
	CALL(time),
	CALL(restart_syscall),
	CALL(futex),
	CALL(sched_yield),
	/* who lives; who we are; what there is */
	CALL(pidfd_open),
	CALL(getpid),
	CALL(gettid),
	CALL(getppid),
	CALL(getuid),
	CALL(geteuid),
	CALL(getgid),
	CALL(getegid),
	CALL(getrandom),
	CALL(sysinfo),
	CALL(uname),
	CALL(prlimit64),
	CALL(getrlimit),
	CALL(sched_getaffinity),
	/* signals and the end */
	CALL(rt_sigprocmask),
	CALL(rt_sigaction),
	CALL(rt_sigreturn),
	CALL(tgkill),
	CALL(exit),
	CALL(exit_group),
};

static int sandbox_allow(scmp_filter_ctx filter)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < MT_ARRAY_SIZE(sandbox_calls); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, sandbox_calls[i], 0);
	return rc;
}

int mt_sandbox_enter(struct mt_err *err)
{
	scmp_filter_ctx filter;
	int rc;

#ifdef SANDBOX_OFF
	return 0;
#endif
	filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return mt_err_set(err, -ENOMEM, "sandbox: no memory");
	rc = sandbox_allow(filter);
	if (!rc)
		rc = seccomp_load(filter);
	seccomp_release(filter);
	if (!rc)
		return 0;
	return mt_err_set(
		err, rc,
		"sandbox: %s; this kernel may lack seccomp: start with 'sandbox = off' in "
		"the configuration",
		strerror(-rc));
}
