/* SPDX-License-Identifier: MIT */
/*
 * main.c - memtide-libvirt: balloons of libvirt's VMs for memtided
 *
 * libvirt keeps its VMs' QMP sockets to itself, so their balloons are reached through libvirt's
 * API. That is a large library whose calls wait, and the daemon neither waits nor loads large
 * libraries: hence this program, which speaks libvirt on one side and, for each VM, QMP on the
 * other. The daemon's QMP client, with its time-outs and its mistrust, sees no difference.
 *
 * Threads: this one looks for VMs; one runs libvirt's event loop, which also notices that libvirt's
 * daemon hangs; each VM's line has one. When either daemon is gone, all lines are dropped and the
 * search begins anew. Nothing is kept here that could get lost.
 */
#include "libvirt/broker.h"

#include <errno.h>
#include <getopt.h>
#include <libvirt/virterror.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXIT_USAGE   2
#define MAIN_URI     "qemu:///system"
#define MAIN_SOCKET  "/run/memtide/control.sock"
#define MAIN_PID_DIR "/run/libvirt/qemu"
/* Between two looks, with events of the daemon and without. */
#define MAIN_BUSY_MS 500
#define MAIN_IDLE_MS 5000
/* First pause after something failed; it doubles so often. */
#define MAIN_RETRY_MS     500
#define MAIN_RETRY_DOUBLE 6
/* Seconds between two signs of life asked of libvirt, and how many it may miss. */
#define MAIN_ALIVE_S    5
#define MAIN_ALIVE_MISS 3

struct options {
	const char *uri, *socket, *pid_dir;
	bool once; /* end at the first failure: under a supervisor, and in tests */
};

static const char main_help[] =
	"Usage: memtide-libvirt [--connect URI] [--socket PATH] [--pid-dir DIR]\n"
	"\n"
	"Lets memtided reach the balloons of VMs that libvirt runs. Needs root; runs in the\n"
	"foreground.\n"
	"\n"
	"  --connect URI   libvirt's daemon (" MAIN_URI ")\n"
	"  --socket PATH   memtided's control socket (" MAIN_SOCKET ")\n"
	"  --pid-dir DIR   where libvirt keeps NAME.pid of its VMs (" MAIN_PID_DIR ")\n"
	"  --once          end when either daemon does, instead of looking for it again\n"
	"  --help, --version\n";

static void main_silent(void *data, virErrorPtr error)
{
	(void)data;
	(void)error;
}

static void *main_events(void *arg)
{
	struct timespec pause = {.tv_nsec = 100000000};

	for (;;)
		if (virEventRunDefaultImpl() < 0)
			nanosleep(&pause, NULL);
	return arg;
}

static int main_event_thread(void)
{
	pthread_t thread;

	virSetErrorFunc(NULL, main_silent);
	if (virEventRegisterDefaultImpl() < 0)
		return -1;
	return pthread_create(&thread, NULL, main_events, NULL);
}

/* Takes in what the daemon tells of itself, at most for @wait_ms. Return: 0, or the connection is
 * lost. */
static int main_wait(struct client *events, int wait_ms, struct mt_err *err)
{
	struct json_object *line = NULL;
	int rc = client_read(events, wait_ms, &line, err);

	json_object_put(line);
	return rc == -ETIMEDOUT ? 0 : rc;
}

static int main_follow(struct client *events, const char *socket, struct mt_err *err)
{
	struct json_object *request;
	int rc = client_open(events, socket, err);

	if (rc)
		return rc;
	request = client_request("events");
	json_object_object_add(request, "follow", json_object_new_boolean(true));
	rc = client_ask(events, request, CLIENT_ANSWER_MS, NULL, err);
	if (rc)
		client_close(events);
	return rc;
}

/* Both daemons are there: until one of them is not. */
static int main_serve(struct lv_broker *broker, struct client *client, struct client *events,
		      struct mt_err *err)
{
	struct timespec pause = {.tv_nsec = MAIN_BUSY_MS * 1000000L};
	int rc;

	for (;;) {
		rc = lv_broker_scan(broker, client, err);
		if (!rc)
			rc = main_wait(events, MAIN_IDLE_MS, err);
		if (rc)
			return rc;
		/* what else happens right now needs no look of its own */
		nanosleep(&pause, NULL);
	}
}

static int main_session(const struct options *o, struct lv_broker *broker, virConnectPtr connection,
			bool *ret_began, struct mt_err *err)
{
	struct client client, events;
	int rc = client_open(&client, o->socket, err);

	if (rc)
		return rc;
	rc = main_follow(&events, o->socket, err);
	if (!rc) {
		*ret_began = true;
		printf("memtide-libvirt: ready, %s, %s\n", o->uri, o->socket);
		fflush(stdout);
		lv_broker_begin(broker, connection);
		rc = main_serve(broker, &client, &events, err);
		lv_broker_end(broker);
		client_close(&events);
	}
	client_close(&client);
	return rc;
}

/* One try, as long as it lasts. @ret_began: it got as far as serving. */
static int main_try(const struct options *o, struct lv_broker *broker, bool *ret_began,
		    struct mt_err *err)
{
	virConnectPtr connection = virConnectOpen(o->uri);
	int rc;

	if (!connection)
		return mt_err_set(err, -EIO, "libvirt at %s: %s", o->uri, virGetLastErrorMessage());
	/* a driver within this process needs and knows no sign of life */
	if (virConnectSetKeepAlive(connection, MAIN_ALIVE_S, MAIN_ALIVE_MISS) < 0)
		virResetLastError();
	rc = main_session(o, broker, connection, ret_began, err);
	virConnectClose(connection);
	return rc;
}

static int main_run(const struct options *o)
{
	char said[MT_ERR_MSG_MAX] = "", dir[PATH_MAX];
	struct lv_broker *broker;
	struct mt_err err = {0};
	unsigned int failed = 0;

	snprintf(dir, sizeof(dir), "%s.libvirt", o->socket);
	broker = lv_broker_new(dir, o->pid_dir, &err);
	if (!broker) {
		fprintf(stderr, "memtide-libvirt: %s\n", err.msg);
		return EXIT_FAILURE;
	}
	for (;;) {
		bool began = false;

		err = (struct mt_err){0};
		main_try(o, broker, &began, &err);
		if (strcmp(said, err.msg))
			fprintf(stderr, "memtide-libvirt: %s\n", err.msg);
		if (o->once)
			return EXIT_FAILURE;
		snprintf(said, sizeof(said), "%s", err.msg);
		failed = began ? 0 : MT_MIN(failed + 1, MAIN_RETRY_DOUBLE);
		poll(NULL, 0, MAIN_RETRY_MS << failed);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"connect", required_argument, NULL, 'c'},
						{"socket", required_argument, NULL, 's'},
						{"pid-dir", required_argument, NULL, 'p'},
						{"once", no_argument, NULL, 'o'},
						{"help", no_argument, NULL, 'h'},
						{"version", no_argument, NULL, 'v'},
						{NULL, 0, NULL, 0}};
	struct options o = {.uri = MAIN_URI, .socket = MAIN_SOCKET, .pid_dir = MAIN_PID_DIR};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			o.uri = optarg;
			break;
		case 's':
			o.socket = optarg;
			break;
		case 'p':
			o.pid_dir = optarg;
			break;
		case 'o':
			o.once = true;
			break;
		case 'h':
			fputs(main_help, stdout);
			return EXIT_SUCCESS;
		case 'v':
			printf("memtide-libvirt %s\n", MT_VERSION);
			return EXIT_SUCCESS;
		default:
			fprintf(stderr, "memtide-libvirt: see memtide-libvirt --help\n");
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "memtide-libvirt: '%s' is no option; see memtide-libvirt --help\n",
			argv[optind]);
		return EXIT_USAGE;
	}
	if (main_event_thread()) {
		fprintf(stderr, "memtide-libvirt: libvirt's event loop does not start\n");
		return EXIT_FAILURE;
	}
	return main_run(&o);
}
