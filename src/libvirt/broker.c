/* SPDX-License-Identifier: MIT */
/*
 * broker.c - compare two lists, keep the lines; see broker.h
 *
 * libvirt's events come in the thread of its event loop, so the list of pairs has a lock.
 */
#include "libvirt/broker.h"
#include "libvirt/line.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct pair {
	char vm[64];
	pid_t pid;
	bool seen; /* in the scan under way */
	struct lv_line *line;
	struct pair *next;
};

struct lv_broker {
	virConnectPtr connection;
	const char *dir, *pid_dir;
	int reboot_id, balloon_id; /* callbacks; -1: none */
	pthread_mutex_t lock;
	struct pair *pairs;        /* [lock] */
	char said[MT_ERR_MSG_MAX]; /* what went wrong last: said once, not at every scan */
};

/* A domain that is running, and its process. */
struct known {
	virDomainPtr domain;
	pid_t pid;
};

pid_t lv_pid_read(const char *dir, const char *name)
{
	char path[512], text[32];
	FILE *file;
	long pid = 0;

	if (strchr(name, '/') ||
	    snprintf(path, sizeof(path), "%s/%s.pid", dir, name) >= (int)sizeof(path))
		return 0;
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fgets(text, sizeof(text), file))
		pid = strtol(text, NULL, 10);
	fclose(file);
	return pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

static void broker_event(struct lv_broker *broker, virDomainPtr domain, const char *event,
			 struct json_object *data)
{
	unsigned char uuid[VIR_UUID_BUFLEN];

	virDomainGetUUID(domain, uuid);
	pthread_mutex_lock(&broker->lock);
	for (struct pair *pair = broker->pairs; pair; pair = pair->next)
		if (lv_line_is(pair->line, uuid))
			lv_line_event(pair->line, event, json_object_get(data));
	pthread_mutex_unlock(&broker->lock);
	json_object_put(data);
}

static void broker_rebooted(virConnectPtr connection, virDomainPtr domain, void *opaque)
{
	(void)connection;
	broker_event(opaque, domain, "RESET", json_object_new_object());
}

static void broker_ballooned(virConnectPtr connection, virDomainPtr domain,
			     unsigned long long actual_kib, void *opaque)
{
	struct json_object *data = json_object_new_object();

	(void)connection;
	json_object_object_add(data, "actual", json_object_new_uint64(actual_kib * 1024));
	broker_event(opaque, domain, "BALLOON_CHANGE", data);
}

struct lv_broker *lv_broker_new(const char *dir, const char *pid_dir, struct mt_err *err)
{
	struct lv_broker *broker = calloc(1, sizeof(*broker));

	if (!broker) {
		mt_err_set(err, -ENOMEM, "no memory");
		return NULL;
	}
	broker->dir = dir;
	broker->pid_dir = pid_dir;
	pthread_mutex_init(&broker->lock, NULL);
	return broker;
}

void lv_broker_begin(struct lv_broker *broker, virConnectPtr connection)
{
	broker->connection = connection;
	/* what is wrong with it is said by the first line that can't have its socket there */
	mkdir(broker->dir, 0700);
	broker->reboot_id = virConnectDomainEventRegisterAny(
		connection, NULL, VIR_DOMAIN_EVENT_ID_REBOOT,
		VIR_DOMAIN_EVENT_CALLBACK(broker_rebooted), broker, NULL);
	broker->balloon_id = virConnectDomainEventRegisterAny(
		connection, NULL, VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE,
		VIR_DOMAIN_EVENT_CALLBACK(broker_ballooned), broker, NULL);
}

/* Ends the pairs that the last scan did not see, or all. */
static void broker_drop(struct lv_broker *broker, bool all)
{
	struct pair **at = &broker->pairs;

	pthread_mutex_lock(&broker->lock);
	while (*at) {
		struct pair *pair = *at;

		if (!all && pair->seen) {
			at = &pair->next;
			continue;
		}
		*at = pair->next;
		lv_line_end(pair->line);
		free(pair);
	}
	pthread_mutex_unlock(&broker->lock);
}

void lv_broker_end(struct lv_broker *broker)
{
	if (broker->reboot_id >= 0)
		virConnectDomainEventDeregisterAny(broker->connection, broker->reboot_id);
	if (broker->balloon_id >= 0)
		virConnectDomainEventDeregisterAny(broker->connection, broker->balloon_id);
	broker_drop(broker, true);
	broker->connection = NULL;
}

static struct pair *broker_find(struct lv_broker *broker, const char *vm, pid_t pid)
{
	for (struct pair *pair = broker->pairs; pair; pair = pair->next)
		if (pair->pid == pid && !strcmp(pair->vm, vm))
			return pair;
	return NULL;
}

/* Return: how many domains run, in @ret with their processes; -1 when libvirt does not say. */
static int broker_domains(struct lv_broker *broker, struct known **ret, struct mt_err *err)
{
	virDomainPtr *domains = NULL;
	int count = virConnectListAllDomains(broker->connection, &domains,
					     VIR_CONNECT_LIST_DOMAINS_ACTIVE);
	struct known *known;

	if (count < 0) {
		mt_err_set(err, -EIO, "libvirt: %s", virGetLastErrorMessage());
		return -1;
	}
	known = calloc((size_t)count + 1, sizeof(*known));
	for (int i = 0; i < count; i++) {
		if (known)
			known[i] = (struct known){
				.domain = domains[i],
				.pid = lv_pid_read(broker->pid_dir, virDomainGetName(domains[i]))};
		else
			virDomainFree(domains[i]);
	}
	free(domains);
	*ret = known;
	if (!known)
		mt_err_set(err, -ENOMEM, "no memory for %d domains", count);
	return known ? count : -1;
}

static int broker_tell(const char *vm, pid_t pid, const char *path, struct client *client,
		       struct mt_err *err)
{
	struct json_object *request = client_request("qmp");

	json_object_object_add(request, "vm", json_object_new_string(vm));
	json_object_object_add(request, "pid", json_object_new_int(pid));
	json_object_object_add(request, "path", json_object_new_string(path));
	return client_ask(client, request, CLIENT_ANSWER_MS, NULL, err);
}

/* A new pair. What goes wrong with it is said, and concerns no other. */
static void broker_add(struct lv_broker *broker, virDomainPtr domain, const char *vm, pid_t pid,
		       struct client *client)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	struct mt_err err = {0};
	char path[512];
	int rc = -ENOMEM;

	snprintf(path, sizeof(path), "%s/%d", broker->dir, (int)pid);
	if (pair)
		pair->line = lv_line_new(path, domain, &err);
	if (pair && pair->line)
		rc = broker_tell(vm, pid, path, client, &err);
	if (rc) {
		if (strcmp(broker->said, err.msg))
			fprintf(stderr, "memtide-libvirt: VM '%s', domain '%s': %s\n", vm,
				virDomainGetName(domain), err.msg);
		snprintf(broker->said, sizeof(broker->said), "%s", err.msg);
		if (pair)
			lv_line_end(pair->line);
		free(pair);
		return;
	}
	snprintf(pair->vm, sizeof(pair->vm), "%s", vm);
	pair->pid = pid;
	pair->seen = true;
	pthread_mutex_lock(&broker->lock);
	pair->next = broker->pairs;
	broker->pairs = pair;
	pthread_mutex_unlock(&broker->lock);
	printf("memtide-libvirt: VM '%s' is domain '%s'\n", vm, virDomainGetName(domain));
	fflush(stdout);
}

/* One VM of the daemon's list. */
static void broker_vm(struct lv_broker *broker, struct json_object *vm, const struct known *known,
		      int count, struct client *client)
{
	const char *name = json_object_get_string(json_object_object_get(vm, "name"));
	const char *qmp = json_object_get_string(json_object_object_get(vm, "qmp"));
	pid_t pid = (pid_t)json_object_get_int(json_object_object_get(vm, "pid"));
	size_t dir = strlen(broker->dir);
	struct pair *pair;

	if (!name || pid <= 0)
		return;
	pair = broker_find(broker, name, pid);
	if (pair) {
		pair->seen = true;
		return;
	}
	/* a socket of its own; one of ours is from before we were started anew */
	if (qmp && qmp[0] && (strncmp(qmp, broker->dir, dir) || qmp[dir] != '/'))
		return;
	for (int i = 0; i < count; i++)
		if (known[i].pid == pid)
			broker_add(broker, known[i].domain, name, pid, client);
}

int lv_broker_scan(struct lv_broker *broker, struct client *client, struct mt_err *err)
{
	struct json_object *answer = NULL, *vms;
	struct known *known = NULL;
	int count = broker_domains(broker, &known, err);
	int rc = count < 0 ? -EIO : 0;

	if (!rc)
		rc = client_ask(client, client_request("list"), CLIENT_ANSWER_MS, &answer, err);
	if (!rc) {
		vms = json_object_object_get(answer, "vms");
		for (struct pair *pair = broker->pairs; pair; pair = pair->next)
			pair->seen = false;
		for (size_t i = 0; vms && i < json_object_array_length(vms); i++)
			broker_vm(broker, json_object_array_get_idx(vms, i), known, count, client);
		broker_drop(broker, false);
	}
	json_object_put(answer);
	for (int i = 0; i < count; i++)
		virDomainFree(known[i].domain);
	free(known);
	return rc;
}
