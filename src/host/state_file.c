/* SPDX-License-Identifier: MIT */
/*
 * state_file.c - one line for each VM; see state_file.h
 *
 *	memtide-state 1
 *	@Mem.IdleTax 50		a setting of the host that was changed live; no VM's name has an @
 *	%group ...		a share group: share_state.c
 *	name pid start grant memsize reservation limit target_max shares shares_per_mib zip_max_pct
 *group qmp
 *
 * grant and memsize in pages, start in clock ticks since boot, the rest as in its settings ("-"
 * for no group), and the path of its QMP socket to the end of the line ("-" or nothing: none; who
 * serves it for the VMM comes again by himself). No fsync: what must survive is the daemon, not the
 * host, whose end is also the VMs'.
 */
#include "host/state_file.h"
#include "base/cleanup.h"
#include "base/size.h"
#include "host/balance.h"
#include "host/qmp_dir.h"
#include "host/registry.h"
#include "host/share.h"
#include "sys/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define STATE_HEAD     "memtide-state 1\n"
#define STATE_SUFFIX   ".state"
#define STATE_DELAY_NS MT_NS_PER_S
/* Room to spare is given back after this, so that frames that come and go don't write it each time.
 */
#define STATE_SLACK_NS (5 * MT_NS_PER_S)
#define STATE_LINE_MAX 1024
/* How much more than the grant is recorded when it grows: 64 MiB. */
#define STATE_SLACK_PAGES ((64UL << 20) / MT_PAGE_SIZE)

static void state_path(const struct mt_server *server, const char *suffix, char ret[PATH_MAX + 16])
{
	snprintf(ret, PATH_MAX + 16, "%s" STATE_SUFFIX "%s", server->config.socket, suffix);
}

/* What the file is to say for @vm: its grant, or more on the way to its target. */
static uint64_t state_record(const struct mt_vmrec *vm, bool slack)
{
	uint64_t grant = mt_account_pages(vm->account);

	if (!slack || grant >= vm->steer_pages)
		return grant;
	return MT_MIN(vm->steer_pages, grant + STATE_SLACK_PAGES);
}

static void state_print(FILE *file, const struct mt_vmrec *vm, uint64_t record)
{
	const struct mt_vm_settings *s = &vm->settings;

	fprintf(file,
		"%s %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
		" %" PRIu64 " %u %u %s %s\n",
		vm->name, (int)vm->pid, vm->start_ticks, record, mt_vm_memsize_pages(vm),
		s->reservation_bytes, s->limit_bytes, s->target_max_bytes, s->shares,
		s->shares_per_mib, s->zip_max_pct, s->share_group[0] ? s->share_group : "-",
		vm->qmp_path[0] && !vm->qmp_pid ? vm->qmp_path : "-");
}

/* Settings that differ from what the configuration says. */
static bool state_settings(const struct mt_server *server, FILE *file)
{
	bool any = false;

	for (size_t i = 0; i < mt_settings_count; i++) {
		unsigned int value = mt_setting_value(&mt_settings[i], &server->sched_config);

		if (value == mt_setting_value(&mt_settings[i], &server->config.sched))
			continue;
		any = true;
		if (file)
			fprintf(file, "@%s %u\n", mt_settings[i].name, value);
	}
	return any;
}

static int state_print_all(const struct mt_server *server, FILE *file, bool slack)
{
	bool bad;

	fputs(STATE_HEAD, file);
	state_settings(server, file);
	mt_share_state_print(server, file, slack);
	for (unsigned int i = 0; i < server->vm_count; i++)
		if (server->vms[i]->pid)
			state_print(file, server->vms[i], state_record(server->vms[i], slack));
	bad = ferror(file);
	return fclose(file) || bad ? -EIO : 0;
}

static int state_replace(const struct mt_server *server, bool slack)
{
	char path[PATH_MAX + 16], fresh[PATH_MAX + 16];
	FILE *file;
	int fd, rc;

	state_path(server, "", path);
	state_path(server, ".new", fresh);
	if (unlink(fresh) && errno != ENOENT)
		return -errno;
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	file = fdopen(fd, "w");
	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	rc = state_print_all(server, file, slack);
	if (!rc && rename(fresh, path))
		rc = -errno;
	return rc;
}

/* It is written after @delay_ns, or before when it was due before. */
static void state_due(struct mt_server *server, uint64_t delay_ns)
{
	uint64_t due_ns = mt_server_now_ns(server) + delay_ns;

	if (!server->state_dirty || due_ns < server->state_due_ns)
		server->state_due_ns = due_ns;
	server->state_dirty = true;
	mt_server_arm(server, server->state_due_ns);
}

static int state_write(struct mt_server *server, bool slack)
{
	int rc = state_replace(server, slack);

	server->state_dirty = false;
	if (rc) {
		if (!server->state_failed)
			mt_events_add(server->events, MT_EVENT_ERROR, NULL,
				      "state file '%.200s" STATE_SUFFIX "' can't be written: %s; "
				      "no memory is granted until it can",
				      server->config.socket, strerror(-rc));
		server->state_failed = true;
		state_due(server, STATE_DELAY_NS);
		return rc;
	}
	mt_share_state_recorded(server, slack);
	for (unsigned int i = 0; i < server->vm_count; i++) {
		struct mt_vmrec *vm = server->vms[i];

		vm->recorded_pages = state_record(vm, slack);
		vm->recorded = vm->pid != 0;
	}
	if (server->state_failed)
		mt_balance_again(server);
	server->state_failed = false;
	if (slack)
		state_due(server, STATE_SLACK_NS);
	return 0;
}

void mt_state_file_touch(struct mt_server *server)
{
	state_due(server, STATE_DELAY_NS);
}

int mt_state_file_secure(struct mt_server *server)
{
	bool understated = false;

	for (unsigned int i = 0; i < server->vm_count; i++) {
		const struct mt_vmrec *vm = server->vms[i];
		uint64_t grant = mt_account_pages(vm->account);

		if (!vm->pid || (!grant && !vm->recorded))
			continue;
		if (!vm->recorded || grant > vm->recorded_pages)
			understated = true;
		else if (grant < vm->recorded_pages)
			mt_state_file_touch(server);
	}
	return understated ? state_write(server, true) : 0;
}

int mt_state_file_rewrite(struct mt_server *server)
{
	return state_write(server, true);
}

void mt_state_file_expire(struct mt_server *server)
{
	if (!server->state_dirty)
		return;
	if (server->state_due_ns > mt_server_now_ns(server)) {
		mt_server_arm(server, server->state_due_ns);
		return;
	}
	/* a failure has said so and tries again */
	if (state_write(server, false))
		return;
}

void mt_state_file_finish(struct mt_server *server)
{
	bool needed = state_settings(server, NULL);
	char path[PATH_MAX + 16];

	for (unsigned int i = 0; i < server->vm_count; i++)
		needed |= server->vms[i]->pid != 0;
	if (needed) {
		if (state_write(server, false))
			fprintf(stderr, "memtided: state file of '%s' can't be written\n",
				server->config.socket);
		return;
	}
	state_path(server, "", path);
	unlink(path);
}

struct state_line {
	char name[MT_WIRE_NAME_MAX];
	char group[MT_WIRE_NAME_MAX];
	char qmp_path[MT_QMP_PATH_MAX];
	int pid;
	uint64_t start_ticks;
	uint64_t grant_pages;
	uint64_t memsize_pages;
	struct mt_vm_settings settings;
};

static bool state_parse(const char *text, struct state_line *line)
{
	struct mt_vm_settings *s = &line->settings;
	int count;

	memset(line, 0, sizeof(*line));
	count = sscanf(text,
		       "%63s %d %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
		       " %" SCNu64 " %" SCNu64 " %u %u %63s %107[^\n]",
		       line->name, &line->pid, &line->start_ticks, &line->grant_pages,
		       &line->memsize_pages, &s->reservation_bytes, &s->limit_bytes,
		       &s->target_max_bytes, &s->shares, &s->shares_per_mib, &s->zip_max_pct,
		       line->group, line->qmp_path);
	/* a daemon from before QMP left 12 */
	if (count < 12 || !mt_wire_name_ok(line->name) || line->pid <= 0 ||
	    line->grant_pages > MT_POLICY_MAX || line->memsize_pages > MT_VM_PAGES_MAX ||
	    s->zip_max_pct > 100)
		return false;
	if (mt_qmp_path_check(line->qmp_path, NULL))
		line->qmp_path[0] = '\0';
	if (strcmp(line->group, "-"))
		snprintf(s->share_group, sizeof(s->share_group), "%s", line->group);
	return true;
}

/* The process of @line, if it is still the same. Return: pidfd or -errno. */
static int state_open_process(const struct state_line *line)
{
	MT_AUTO_CLOSE int pidfd = mt_pidfd_open(line->pid);
	uint64_t ticks = 0;
	int rc;

	if (pidfd < 0)
		return -ESRCH;
	rc = mt_pid_start_time(line->pid, &ticks);
	if (rc || ticks != line->start_ticks || mt_pidfd_ended(pidfd))
		return -ESRCH;
	return mt_steal_fd(&pidfd);
}

static void state_adopt(struct mt_server *server, const struct state_line *line)
{
	const struct mt_vm_settings none = {0};
	struct mt_vmrec *vm = NULL;
	struct mt_err err = {0};
	char grant[MT_SIZE_TEXT_MAX];
	int pidfd = state_open_process(line);
	int rc;

	if (pidfd < 0)
		return;
	/* its settings were checked when they were made; now they are a fact */
	rc = mt_registry_add(server, line->name, &none, &vm, &err);
	if (rc) {
		close(pidfd);
	} else {
		vm->settings = line->settings;
		mt_ledger_adopt(server->ledger, vm->account, line->grant_pages);
		rc = mt_registry_watch(server, vm, line->pid, pidfd, &err);
		if (rc)
			mt_registry_remove(server, vm, "its process could not be watched");
	}
	if (rc) {
		mt_events_add(server->events, MT_EVENT_WARNING, line->name,
			      "not taken over from the earlier daemon: %s", err.msg);
		return;
	}
	memcpy(vm->qmp_path, line->qmp_path, sizeof(vm->qmp_path));
	mt_share_state_expect(vm);
	vm->base_pages = line->memsize_pages;
	vm->swap_unknown = true;
	vm->recorded = true;
	vm->recorded_pages = line->grant_pages;
	mt_events_add(server->events, MT_EVENT_INFO, vm->name,
		      "known from the earlier daemon: process %d, grant %s", line->pid,
		      mt_size_text(line->grant_pages * MT_PAGE_SIZE, grant));
}

static bool state_parse_setting(const char *text, struct mt_sched_config *config)
{
	char name[64], value[16];

	return sscanf(text, "@%63s %15s", name, value) == 2 &&
	       !mt_sched_config_parse(config, name, value, NULL);
}

static void state_line(struct mt_server *server, const char *text, struct mt_sched_config *config)
{
	struct state_line line;

	if (text[0] == '@' && state_parse_setting(text, config))
		return;
	if (text[0] == '%' && mt_share_state_parse(server, text))
		return;
	if (text[0] != '@' && state_parse(text, &line))
		state_adopt(server, &line);
	else
		mt_events_add(server->events, MT_EVENT_WARNING, NULL,
			      "a bad line of the state file was ignored");
}

int mt_state_file_load(struct mt_server *server, struct mt_err *err)
{
	struct mt_sched_config config = server->sched_config;
	char path[PATH_MAX + 16], text[STATE_LINE_MAX];
	FILE *file;
	int fd;

	state_path(server, "", path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return 0;
	file = fd < 0 ? NULL : fdopen(fd, "r");
	if (!file)
		return mt_err_set(err, -errno, "state file '%s': %s", path, strerror(errno));
	if (!fgets(text, sizeof(text), file) || strcmp(text, STATE_HEAD))
		mt_events_add(server->events, MT_EVENT_WARNING, NULL,
			      "state file '%.200s' is not ours and was ignored", path);
	else
		while (fgets(text, sizeof(text), file))
			state_line(server, text, &config);
	fclose(file);
	if (mt_sched_config_check(&config, NULL))
		mt_events_add(server->events, MT_EVENT_WARNING, NULL,
			      "settings in the state file do not fit together; those of the "
			      "configuration are used");
	else
		server->sched_config = config;
	return 0;
}
