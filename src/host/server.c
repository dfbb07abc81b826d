/* SPDX-License-Identifier: MIT */
/* server.c - start, loop, sweep, end; see server.h */
#include "host/server.h"
#include "host/balance.h"
#include "host/balloon.h"
#include "host/client.h"
#include "host/monitor_link.h"
#include "host/monitor_region.h"
#include "host/qmp_dir.h"
#include "host/registry.h"
#include "host/share.h"
#include "host/state_file.h"
#include "base/size.h"
#include "policy/minfree.h"
#include "sys/cpu.h"
#include "sys/sock.h"
#include "sys/swap_file.h"
#include "sys/uffd_device.h"

#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Lines a second that one peer may cause. */
#define SERVER_EVENTS_PER_S 20

void mt_server_arm(struct mt_server *server, uint64_t deadline_ns)
{
	server->deadline_ns = MT_MIN(server->deadline_ns, deadline_ns);
}

uint64_t mt_server_now_ns(const struct mt_server *server)
{
	return mt_loop_now_ns(server->loop);
}

uint64_t mt_server_minfree_pages(const struct mt_server *server, uint64_t pool_pages)
{
	return mt_minfree_pages(pool_pages, server->sched_config.min_free_pct);
}

uint64_t mt_server_room_pages(const struct mt_server *server, uint64_t pool_pages)
{
	uint64_t keep =
		MT_MAX(mt_server_minfree_pages(server, pool_pages), MT_STARTER_RESERVE_PAGES);
	uint64_t taken = mt_ledger_own(server->ledger) + keep;

	return pool_pages > taken ? pool_pages - taken : 0;
}

uint64_t mt_server_held_pages(const struct mt_server *server)
{
	uint64_t pages = 0;

	for (unsigned int i = 0; i < server->vm_count; i++)
		pages += server->vms[i]->stats[MT_C_HELD];
	return pages;
}

void mt_server_event_limited(struct mt_server *server, struct mt_event_rate *rate,
			     enum mt_event_level level, const char *vm, const char *text)
{
	uint64_t now_ns = mt_server_now_ns(server);

	if (now_ns - rate->window_ns >= MT_NS_PER_S) {
		if (rate->dropped)
			mt_events_add(server->events, MT_EVENT_WARNING, vm,
				      "%u further messages were too many and left out",
				      rate->dropped);
		rate->window_ns = now_ns;
		rate->count = rate->dropped = 0;
	}
	if (rate->count++ < SERVER_EVENTS_PER_S)
		mt_events_add(server->events, level, vm, "%s", text);
	else
		rate->dropped++;
}

static void server_on_signal(void *ctx, uint32_t events)
{
	struct mt_server *server = ctx;
	struct signalfd_siginfo info;

	(void)events;
	if (read(server->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		server->stop = true;
}

static void server_on_control(void *ctx, uint32_t events)
{
	(void)events;
	mt_client_accept(ctx);
}

static void server_on_vm(void *ctx, uint32_t events)
{
	(void)events;
	mt_link_accept(ctx);
}

void mt_server_pause_accept(struct mt_server *server, uint64_t pause_ns)
{
	if (!server->accept_paused_ns)
		mt_events_add(server->events, MT_EVENT_WARNING, NULL,
			      "out of descriptors or memory: new connections have to wait");
	server->accept_paused_ns = mt_server_now_ns(server) + pause_ns;
	mt_loop_want(server->control_source, 0);
	mt_loop_want(server->vm_source, 0);
	mt_server_arm(server, server->accept_paused_ns);
}

static void server_expire_pause(struct mt_server *server)
{
	if (!server->accept_paused_ns)
		return;
	if (server->accept_paused_ns > mt_server_now_ns(server)) {
		mt_server_arm(server, server->accept_paused_ns);
		return;
	}
	server->accept_paused_ns = 0;
	mt_loop_want(server->control_source, EPOLLIN);
	mt_loop_want(server->vm_source, EPOLLIN);
}

/* Everyone who waits for a time looks at the clock, and arms it again if it is not his yet. */
static void server_expire(struct mt_server *server)
{
	if (server->deadline_ns > mt_server_now_ns(server))
		return;
	server->deadline_ns = MT_LOOP_NEVER;
	mt_link_expire(server);
	mt_region_expire(server);
	mt_registry_expire(server);
	mt_client_expire(server);
	mt_balloon_expire(server);
	mt_state_file_expire(server);
	server_expire_pause(server);
}

/* Acts on what callbacks have marked, until nothing is left to do: one thing may cause another. */
static void server_sweep(struct mt_server *server)
{
	bool again = true;

	mt_balance_run(server);
	server_expire(server);
	while (again) {
		again = mt_link_sweep(server);
		mt_share_settle(server);
		again |= mt_balance_run(server);
		again |= mt_client_sweep(server);
	}
}

static int server_signals(struct mt_server *server, struct mt_err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return mt_err_set(err, -errno, "block signals: %s", strerror(errno));
	server->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (server->signal_fd < 0)
		return mt_err_set(err, -errno, "signalfd: %s", strerror(errno));
	return 0;
}

/* Three descriptors for each VM. Failing is no reason not to start: accept pauses when they run
 * out. */
static void server_raise_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int server_socket_dir(const char *socket_path, struct mt_err *err)
{
	char path[PATH_MAX];
	const char *dir;

	snprintf(path, sizeof(path), "%s", socket_path);
	dir = dirname(path);
	if (mkdir(dir, 0755) && errno != EEXIST)
		return mt_err_set(
			err, -errno,
			"socket directory '%s': %s; create it or name another with --socket", dir,
			strerror(errno));
	return 0;
}

/* Who may connect: root, and a group. A group that was not asked for by name may be missing. */
static int server_give_group(const struct mt_config *config, const char *path, struct mt_err *err)
{
	const char *name = config->group[0] ? config->group : MT_CONFIG_GROUP;
	const struct group *group = getgrnam(name);

	if (!group && config->group[0])
		return mt_err_set(err, -ENOENT,
				  "there is no group '%s'; create it or name another with --group",
				  name);
	if (group && chown(path, (uid_t)-1, group->gr_gid) && config->group[0])
		return mt_err_set(err, -errno, "give '%s' to group '%s': %s", path, name,
				  strerror(errno));
	return 0;
}

static int server_listen(struct mt_server *server, struct mt_err *err)
{
	const char *path = server->config.socket;
	int rc = server_socket_dir(path, err);

	if (rc)
		return rc;
	if ((size_t)snprintf(server->vm_path, sizeof(server->vm_path), "%s%s", path,
			     MT_WIRE_SUFFIX) >= sizeof(server->vm_path))
		return mt_err_set(err, -ENAMETOOLONG, "socket path '%.100s...' is too long", path);
	rc = mt_sock_listen(path, SOCK_STREAM, err);
	if (rc < 0)
		return rc;
	server->control_fd = rc;
	rc = mt_sock_listen(server->vm_path, SOCK_SEQPACKET, err);
	if (rc < 0)
		return rc;
	server->vm_fd = rc;
	rc = server_give_group(&server->config, path, err);
	return rc ? rc : server_give_group(&server->config, server->vm_path, err);
}

static int server_sources(struct mt_server *server, struct mt_err *err)
{
	server->signal_source =
		mt_loop_add(server->loop, server->signal_fd, EPOLLIN, server_on_signal, server);
	server->control_source =
		mt_loop_add(server->loop, server->control_fd, EPOLLIN, server_on_control, server);
	server->vm_source = mt_loop_add(server->loop, server->vm_fd, EPOLLIN, server_on_vm, server);
	if (!server->signal_source || !server->control_source || !server->vm_source)
		return mt_err_set(err, -ENOMEM, "event loop: no memory");
	return 0;
}

/* What must be there before anyone is let in. */
static int server_start(struct mt_server *server, struct mt_err *err)
{
	const struct mt_config *config = &server->config;
	int rc;

	server->loop = mt_loop_new(err);
	if (!server->loop)
		return err->code;
	server->started_ns = mt_server_now_ns(server);
	server->events = mt_events_new();
	server->ledger = mt_ledger_new(config->pool_bytes / MT_PAGE_SIZE,
				       mt_pages_of_bytes(config->own_bytes));
	if (!server->events || !server->ledger)
		return mt_err_set(err, -ENOMEM, "no memory to start");
	rc = mt_uffd_device_open(err);
	if (rc < 0)
		return rc;
	server->uffd = rc;
	server->host_mhz = mt_cpu_mhz();
	rc = mt_swap_dir_check(config->swap_dir, err);
	if (!rc)
		rc = server_signals(server, err);
	if (!rc)
		rc = server_listen(server, err);
	if (!rc)
		rc = server_sources(server, err);
	if (!rc)
		rc = mt_state_file_load(server, err);
	if (!rc)
		mt_qmp_dir_sweep(server);
	return rc;
}

struct mt_server *mt_server_new(const struct mt_config *config, struct mt_err *err)
{
	struct mt_server *server = calloc(1, sizeof(*server));

	if (!server) {
		mt_err_set(err, -ENOMEM, "no memory to start");
		return NULL;
	}
	server->config = *config;
	server->sched_config = config->sched;
	server->uffd = server->signal_fd = server->control_fd = server->vm_fd = -1;
	server->deadline_ns = MT_LOOP_NEVER;
	server_raise_files();
	if (server_start(server, err)) {
		mt_server_free(server);
		return NULL;
	}
	return server;
}

static void server_close(int fd, const char *path)
{
	if (fd < 0)
		return;
	if (path)
		unlink(path);
	close(fd);
}

void mt_server_free(struct mt_server *server)
{
	if (!server)
		return;
	server_close(server->control_fd, server->config.socket);
	server_close(server->vm_fd, server->vm_path);
	mt_client_free_all(server);
	mt_link_free_all(server);
	mt_share_end(server);
	while (server->vm_count)
		mt_registry_remove(server, server->vms[server->vm_count - 1], "the daemon ends");
	mt_share_free_all(server);
	mt_loop_remove(server->signal_source);
	mt_loop_remove(server->control_source);
	mt_loop_remove(server->vm_source);
	server_close(server->signal_fd, NULL);
	server_close(server->uffd, NULL);
	mt_ledger_free(server->ledger);
	mt_events_free(server->events);
	mt_loop_free(server->loop);
	free(server);
}

int mt_server_turn(struct mt_server *server, struct mt_err *err)
{
	int rc = mt_loop_turn(server->loop, server->deadline_ns, err);

	server_sweep(server);
	return rc;
}

int mt_server_run(struct mt_server *server, struct mt_err *err)
{
	char pool[MT_SIZE_TEXT_MAX];
	int rc = 0;

	mt_size_text(server->config.pool_bytes, pool);
	mt_events_add(server->events, MT_EVENT_INFO, NULL, "memtided %s started, pool %s",
		      MT_VERSION, pool);
	printf("memtided: ready, pool %s, socket %s\n", pool, server->config.socket);
	fflush(stdout);
	while (!server->stop && !rc)
		rc = mt_server_turn(server, err);
	mt_state_file_finish(server);
	return rc;
}
