/* SPDX-License-Identifier: MIT */
/* sim_kernel.c - what stands in for the kernel on the simulated host; see sim_host.h */
#include "sim/sim_host.h"
#include "sys/cpu.h"
#include "sys/mapping.h"
#include "sys/process.h"
#include "sys/sock.h"
#include "sys/swap_file.h"
#include "sys/swap_io.h"
#include "sys/uffd.h"
#include "sys/uffd_device.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MHZ      4000U
#define MAPS_MAX 16000U

int __wrap_mt_sock_connect(const char *path, int type, struct mt_err *err);
int __wrap_mt_sock_listen(const char *path, int type, struct mt_err *err);
int __wrap_mt_sock_peer(int fd, pid_t *ret_pid, uid_t *ret_uid);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *length, int flags);
int __wrap_close(int fd);
int __wrap_mt_fd_own(int fd);
int __wrap_mt_direct_io_find(const struct mt_direct_lists *lists, char *name, size_t room);
int __wrap_mt_thread_own_files(const int *keep, unsigned int count);
int __wrap_epoll_create1(int flags);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int room, int timeout_ms);
int __wrap_rename(const char *from, const char *to);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t at);
int __wrap_fallocate64(int fd, int mode, off_t at, off_t bytes);
int __real_close(int fd);
int __real_epoll_create1(int flags);
int __real_epoll_wait(int fd, struct epoll_event *events, int room, int timeout_ms);
int __real_rename(const char *from, const char *to);
ssize_t __real_pwrite64(int fd, const void *data, size_t bytes, off_t at);
int __real_fallocate64(int fd, int mode, off_t at, off_t bytes);

/* -- connections -- */

static struct sim_conn *conn_of(int daemon_fd)
{
	for (uint32_t i = 0; i < SIM_CONNS_MAX; i++)
		if (world.conn[i].daemon_fd == daemon_fd)
			return &world.conn[i];
	return NULL;
}

/* The listening socket is an eventfd that is readable while somebody waits. */
static void conn_announce(bool waiting)
{
	uint64_t count = 1;

	if (!world.server || world.server->vm_fd < 0)
		return;
	if (waiting)
		MT_ASSERT(write(world.server->vm_fd, &count, sizeof(count)) == sizeof(count));
	else
		MT_ASSERT(read(world.server->vm_fd, &count, sizeof(count)) == sizeof(count) ||
			  errno == EAGAIN);
}

int sim_kernel_connect(pid_t pid)
{
	struct sim_conn *conn = conn_of(-1);
	int fds[2];

	while (conn && conn < world.conn + SIM_CONNS_MAX &&
	       (conn->daemon_fd >= 0 || conn->monitor_fd >= 0))
		conn++;
	if (!world.server || !conn || conn == world.conn + SIM_CONNS_MAX)
		return -ECONNREFUSED;
	MT_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
	MT_ASSERT(!fcntl(fds[1], F_SETFL, O_NONBLOCK));
	*conn = (struct sim_conn){
		.monitor_fd = fds[0], .daemon_fd = fds[1], .pid = pid, .waiting = true};
	conn_announce(true);
	return fds[0];
}

int __wrap_mt_sock_connect(const char *path, int type, struct mt_err *err)
{
	int fd = sim_kernel_connect(world.now->pid);

	(void)path;
	(void)type;
	return fd < 0 ? mt_err_set(err, fd, "nobody listens") : fd;
}

/* These VMMs have none; a pager that must leave pages where they are is tried in test_pager.c. */
int __wrap_mt_direct_io_find(const struct mt_direct_lists *lists, char *name, size_t room)
{
	(void)lists;
	(void)name;
	(void)room;
	return 0;
}

/* Descriptors have the numbers that the model knows them by, and all VMs share a table. */
int __wrap_mt_fd_own(int fd)
{
	return fd;
}

int __wrap_mt_thread_own_files(const int *keep, unsigned int count)
{
	(void)keep;
	(void)count;
	return 0;
}

int __wrap_mt_sock_listen(const char *path, int type, struct mt_err *err)
{
	(void)path;
	(void)type;
	(void)err;
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

int __wrap_mt_sock_peer(int fd, pid_t *ret_pid, uid_t *ret_uid)
{
	*ret_pid = conn_of(fd)->pid;
	*ret_uid = 0;
	return 0;
}

int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *length, int flags)
{
	(void)addr;
	(void)length;
	(void)flags;
	sim_daemon_may_die();
	for (uint32_t i = 0; fd == world.server->vm_fd && i < SIM_CONNS_MAX; i++) {
		if (!world.conn[i].waiting)
			continue;
		world.conn[i].waiting = false;
		return world.conn[i].daemon_fd;
	}
	conn_announce(false);
	errno = EAGAIN;
	return -1;
}

int __wrap_close(int fd)
{
	for (uint32_t i = 0; i < SIM_CONNS_MAX; i++) {
		if (world.conn[i].daemon_fd == fd)
			world.conn[i].daemon_fd = -1;
		if (world.conn[i].monitor_fd == fd)
			world.conn[i].monitor_fd = -1;
	}
	return __real_close(fd);
}

/* A process has ended: its ends of connections close. */
void sim_kernel_hang_up(pid_t pid)
{
	for (uint32_t i = 0; i < SIM_CONNS_MAX; i++)
		if (world.conn[i].monitor_fd >= 0 && world.conn[i].pid == pid)
			__wrap_close(world.conn[i].monitor_fd);
}

void sim_kernel_daemon_died(void)
{
	for (uint32_t i = 0; i < SIM_CONNS_MAX; i++) {
		world.conn[i].waiting = false;
		if (world.conn[i].daemon_fd >= 0)
			__wrap_close(world.conn[i].daemon_fd);
	}
}

static bool readable(int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};

	return fd >= 0 && poll(&wait, 1, 0) > 0;
}

/* Is nothing on its way? */
bool sim_kernel_silent(void)
{
	for (uint32_t i = 0; i < SIM_CONNS_MAX; i++)
		if (world.conn[i].waiting || readable(world.conn[i].daemon_fd) ||
		    readable(world.conn[i].monitor_fd))
			return false;
	return true;
}

/* -- processes -- */

void sim_kernel_start_process(struct sim_guest *guest)
{
	if (guest->process_fd >= 0)
		__real_close(guest->process_fd);
	guest->process_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	MT_ASSERT(guest->process_fd >= 0);
	guest->pid = ++world.last_pid;
	guest->present = true;
}

int mt_pidfd_open(pid_t pid)
{
	const struct sim_guest *guest = sim_guest_of_pid(pid);
	int fd = guest ? guest->process_fd : sim_hostile_process_fd(pid);

	return fd < 0 ? -ESRCH : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

int mt_pidfd_of_peer(int sock)
{
	return mt_pidfd_open(conn_of(sock)->pid);
}

bool mt_pidfd_ended(int pidfd)
{
	return readable(pidfd);
}

int mt_pid_start_time(pid_t pid, uint64_t *ret_ticks)
{
	*ret_ticks = (uint64_t)pid * 7;
	return sim_guest_of_pid(pid) || sim_hostile_process_fd(pid) >= 0 ? 0 : -ESRCH;
}

/* -- the daemon's calls, at which it may die -- */

int __wrap_epoll_create1(int flags)
{
	return world.epoll_fd = __real_epoll_create1(flags);
}

int __wrap_epoll_wait(int fd, struct epoll_event *events, int room, int timeout_ms)
{
	(void)timeout_ms;
	sim_daemon_may_die();
	return __real_epoll_wait(fd, events, room, 0);
}

int __wrap_rename(const char *from, const char *to)
{
	int rc;

	sim_daemon_may_die();
	rc = __real_rename(from, to);
	sim_daemon_may_die();
	return rc;
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t at)
{
	sim_daemon_may_die();
	HOST_TALK("file %d: frame %ld is written", fd, (long)(at >> MT_PAGE_SHIFT));
	return __real_pwrite64(fd, data, bytes, at);
}

int __wrap_fallocate64(int fd, int mode, off_t at, off_t bytes)
{
	sim_daemon_may_die();
	HOST_TALK("file %d: %ld frames are dropped from %ld on", fd, (long)(bytes >> MT_PAGE_SHIFT),
		  (long)(at >> MT_PAGE_SHIFT));
	return __real_fallocate64(fd, mode, at, bytes);
}

int mt_uffd_device_open(struct mt_err *err)
{
	(void)err;
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

unsigned int mt_cpu_mhz(void)
{
	return MHZ;
}

/* -- swap files: only their size matters to the daemon -- */

static bool disk_full(void)
{
	return !world.calm && host_below(100) < world.config.disk_full_pct;
}

int mt_swap_file_open(const char *dir, struct mt_err *err)
{
	(void)dir;
	if (disk_full())
		return mt_err_set(err, -ENOSPC, "the disk is full");
	return memfd_create("swap", MFD_CLOEXEC);
}

int mt_swap_file_resize(int fd, uint64_t from, uint64_t bytes, struct mt_err *err)
{
	if (bytes > from && disk_full())
		return mt_err_set(err, -ENOSPC, "the disk is full");
	return ftruncate(fd, (off_t)bytes) ? -errno : 0;
}

int mt_swap_file_check(const char *dir, int fd, uint64_t *ret_bytes, struct mt_err *err)
{
	struct stat st;

	(void)dir;
	if (fstat(fd, &st))
		return mt_err_set(err, -errno, "look at the file");
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

int mt_swap_dir_check(const char *dir, struct mt_err *err)
{
	(void)dir;
	(void)err;
	return 0;
}

uint64_t mt_swap_dir_free_bytes(const char *dir)
{
	(void)dir;
	return 1ULL << 40;
}

/* -- of one VM: its disk, its userfaultfd -- */

int mt_swap_io_new(int fd, uint32_t depth, int event_fd, struct mt_swap_io *ret_io,
		   struct mt_err *err)
{
	const struct sim_config *config = &sim.config;
	uint32_t most = 0;

	(void)fd;
	(void)err;
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		most += config->pages[i];
	sim.swap = mt_fake_swap_new(most, depth, event_fd, ret_io);
	*mt_fake_swap_faults(sim.swap) = (struct mt_fake_swap_faults){
		.seed = sim.random,
		.delay_max = config->swap_delay,
		.reorder = true,
		.eio_percent = config->swap_errors ? config->eio_pct : 0,
		.eio_passes = true};
	return 0;
}

enum mt_mapping mt_mapping_kind(const void *addr, size_t bytes)
{
	(void)addr;
	(void)bytes;
	return MT_MAPPING_ANON;
}

struct mt_mapping_flags mt_mapping_flags(const void *addr)
{
	(void)addr;
	return (struct mt_mapping_flags){false};
}

bool mt_process_has_kvm(void)
{
	return false;
}

int mt_uffd_open(struct mt_uffd *uffd, int device_fd, bool frames, struct mt_err *err)
{
	(void)frames;
	(void)device_fd;
	(void)err;
	uffd->fd = uffd->pagemap_fd = -1;
	world.now->vm = (struct mt_vm *)(void *)((char *)uffd - offsetof(struct mt_vm, uffd));
	return 0;
}

void mt_uffd_like(struct mt_uffd *uffd, const void *addr, uint64_t bytes,
		  const struct mt_mapping_flags *flags)
{
	(void)uffd;
	(void)addr;
	(void)bytes;
	(void)flags;
}

void mt_uffd_close(struct mt_uffd *uffd)
{
	(void)uffd;
	world.now->vm = NULL;
	sim.pager = NULL;
}

int mt_uffd_register(struct mt_uffd *uffd, void *addr, uint64_t bytes, struct mt_err *err)
{
	struct mt_pager *pager = &world.now->vm->pager;
	struct sim_region *region;
	uint32_t page;

	(void)uffd;
	(void)err;
	region = sim_region_of(addr, &page);
	if (!region) {
		sim.staging = addr;
		sim.staging_slots = (uint32_t)(bytes >> MT_PAGE_SHIFT);
		return 0;
	}
	/* not what this host's kernel allows: a course must not depend on it */
	if (!pager->share.maps)
		pager->share.maps_max = sim.config.maps_max ? sim.config.maps_max : MAPS_MAX;
	region->pages = (uint32_t)(bytes >> MT_PAGE_SHIFT);
	region->first = mt_region_of_addr(&pager->regions, (uintptr_t)addr)->first;
	return 0;
}

/* Whoever touches an absent page of it now gets zeros. */
static void look_at_left(const struct sim_region *region)
{
	for (uint32_t i = 0; i < region->pages; i++) {
		const uint8_t *page = region->base + (uint64_t)i * MT_PAGE_SIZE;

		if (region->present[i] ? !sim_is(page, region->model[i]) : region->model[i] != 0)
			HOST_FAIL("%s left, and its page 0x%x, %s, %s, is not what the guest wrote",
				  world.now->name, region->first.n + i,
				  region->present[i] ? "in place" : "absent",
				  mt_page_state_name(mt_page_state(&sim.pager->map,
								   MT_GPN(region->first.n + i))));
	}
}

int mt_uffd_unregister(struct mt_uffd *uffd, void *addr, uint64_t bytes)
{
	uint32_t page;
	struct sim_region *region = sim_region_of(addr, &page);

	(void)uffd;
	(void)bytes;
	if (!region->leaving)
		look_at_left(region);
	memset(region->present, 0, sizeof(region->present));
	memset(region->pinned, 0, sizeof(region->pinned));
	memset(region->mapped, 0, sizeof(region->mapped));
	memset(region->piece, 0, sizeof(region->piece));
	memset(region->model, 0, sizeof(region->model));
	region->pages = 0;
	sim_guest_forget((uint32_t)(region - sim.region));
	return 0;
}

static int (*model_read_faults)(void *ctx, struct mt_fault *faults, uint32_t max);

/* The pager's turns begin here. */
static int kernel_read_faults(void *ctx, struct mt_fault *faults, uint32_t max)
{
	if (!sim_pager_slept)
		sim_task_yield();
	sim_pager_slept = false;
	return model_read_faults(ctx, faults, max);
}

void mt_uffd_mem_ops(struct mt_uffd *uffd, struct mt_mem_ops *ret_ops)
{
	sim_mem_ops(ret_ops);
	ret_ops->ctx = uffd;
	model_read_faults = ret_ops->read_faults;
	ret_ops->read_faults = kernel_read_faults;
	sim.pager = &world.now->vm->pager;
}
