/* SPDX-License-Identifier: MIT */
/*
 * doctor_vmm.c - is there a VMM that a monitor can get into, and does KVM open?
 *
 * Programs and libraries are tried in children of ours, with their output caught and a time limit:
 * a broken one must not take the doctor along.
 */
#include "cli/doctor.h"
#include "cli/vmm.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_SECONDS 10

/* In the child. What is tried must not meet a daemon, nor an old preloaded library. */
static void child_prepare(int out)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(CHILD_SECONDS);
	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	unsetenv("LD_PRELOAD");
	unsetenv("MEMTIDE_VM");
	unsetenv("MEMTIDE_TOKEN");
	unsetenv("MEMTIDE_SOCKET");
}

static void child_version(const char *path)
{
	execl(path, path, "--version", (char *)NULL);
	_exit(127);
}

static void child_load(const char *path)
{
	const char *error;

	if (dlopen(path, RTLD_NOW | RTLD_LOCAL))
		_exit(0);
	error = dlerror();
	dprintf(STDOUT_FILENO, "%s\n", error ? error : "no reason given");
	_exit(1);
}

/* Runs @body in a child and takes the first line it prints. Return: wait status or -errno. */
static int child_try(void (*body)(const char *path), const char *path, char *line, size_t room)
{
	int fds[2], status = 0;
	size_t used = 0;
	pid_t pid;

	line[0] = '\0';
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		child_prepare(fds[1]);
		body(path);
	}
	close(fds[1]);
	while (pid > 0 && used + 1 < room) {
		ssize_t got = read(fds[0], line + used, room - used - 1);

		if (got <= 0)
			break;
		used += (size_t)got;
	}
	line[used] = '\0';
	line[strcspn(line, "\n")] = '\0';
	close(fds[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -errno;
	return status;
}

static void doctor_vmm_file(struct doctor *doctor)
{
	char path[PATH_MAX], version[256];
	struct mt_err err = {0};
	enum vmm_kind kind = VMM_DYNAMIC;
	int status, rc = vmm_find(doctor->vmm, path, &err);

	if (!rc)
		rc = vmm_inspect(path, &kind, &err);
	if (rc) {
		doctor_report(doctor, DOCTOR_FAIL, "vmm", NULL, "%s", err.msg);
		return;
	}
	status = child_try(child_version, path, version, sizeof(version));
	if (kind == VMM_SCRIPT)
		doctor_report(doctor, DOCTOR_WARN, "vmm", "check the program it runs with --vmm",
			      "%s is a script; what it runs is not known", path);
	else if (status)
		doctor_report(doctor, DOCTOR_WARN, "vmm", "try it by hand: is it a VMM?",
			      "%s is dynamically linked, but '%s --version' fails", path, path);
	else
		doctor_report(doctor, DOCTOR_OK, "vmm", NULL,
			      "%s is dynamically linked and not setuid: %s", path, version);
}

static void doctor_preload(struct doctor *doctor)
{
	char path[PATH_MAX], line[512];
	struct mt_err err = {0};
	int status;

	if (vmm_preload_find(path, &err)) {
		doctor_report(doctor, DOCTOR_FAIL, "preload", NULL, "%s", err.msg);
		return;
	}
	status = child_try(child_load, path, line, sizeof(line));
	if (!status)
		doctor_report(doctor, DOCTOR_OK, "preload", NULL, "%s loads", path);
	else if (line[0])
		doctor_report(doctor, DOCTOR_FAIL, "preload", "install Memtide again", "%s", line);
	else
		doctor_report(doctor, DOCTOR_FAIL, "preload", "install Memtide again",
			      "%s breaks the program that loads it", path);
}

/* Return: 0, or -errno and what failed. */
static int kvm_try(int kvm, const char **ret_what)
{
	int version = ioctl(kvm, KVM_GET_API_VERSION, 0);
	int vm;

	*ret_what = "KVM_GET_API_VERSION";
	if (version < 0)
		return -errno;
	if (version != KVM_API_VERSION)
		return -EPROTO;
	*ret_what = "KVM_CREATE_VM";
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		return -errno;
	close(vm);
	return 0;
}

static void doctor_kvm(struct doctor *doctor)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	const char *what;
	int rc;

	if (kvm < 0) {
		doctor_report(doctor, DOCTOR_WARN, "kvm",
			      errno == ENOENT
				      ? "load kvm_intel or kvm_amd, switch virtualisation on in "
					"the firmware; without, QEMU emulates (TCG)"
				      : "join the group kvm; without, QEMU emulates (TCG)",
			      "/dev/kvm: %s", strerror(errno));
		return;
	}
	rc = kvm_try(kvm, &what);
	close(kvm);
	if (rc)
		doctor_report(doctor, DOCTOR_WARN, "kvm",
			      "without KVM, QEMU emulates (TCG), slowly",
			      "/dev/kvm opens, but %s: %s", what, strerror(-rc));
	else
		doctor_report(
			doctor, DOCTOR_OK, "kvm", NULL,
			"the device opens and makes a VM; whether it runs guests well only a try "
			"tells");
}

void doctor_vmm(struct doctor *doctor)
{
	doctor_vmm_file(doctor);
	doctor_preload(doctor);
	doctor_kvm(doctor);
}
