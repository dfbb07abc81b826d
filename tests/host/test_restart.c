/* SPDX-License-Identifier: MIT */
/* test_restart.c - connections lost, processes killed, daemons killed: the books survive it all */
#include "host/rig.h"

#include "common/mt_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#define SHOW(name) "{\"cmd\":\"show\",\"vm\":\"" name "\"}"
#define HOST       "{\"cmd\":\"host\"}"

/* A VM in a process of its own that joins, takes its memory, and lives until killed. */
static pid_t vm_process(const struct rig *rig, const char *name, uint64_t bytes)
{
	int ready[2];
	char ok = 0;
	pid_t pid;

	MT_CHECK_EQ(pipe(ready), 0);
	pid = fork();
	MT_CHECK(pid >= 0);
	if (!pid) {
		struct peer peer;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		peer_join(rig, &peer, name);
		if (peer_region(&peer, bytes))
			_exit(1);
		peer_drain(&peer, 100);
		if (write(ready[1], "k", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	MT_CHECK_EQ(read(ready[0], &ok, 1), 1);
	close(ready[0]);
	return pid;
}

MT_TEST("a VM whose process is killed is gone with its grant, and its name is free")
{
	struct rig rig;
	struct peer peer;
	pid_t pid;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	pid = vm_process(&rig, "a", 64 * MIB);
	MT_CHECK(RIG_WAIT(ctl_number(ctl, HOST, "host", "granted_out") >= 64 * 1024));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	peer_join(&rig, &peer, "a");
	MT_CHECK(ctl_event_seen(ctl, "a", "process has ended"));
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "granted_out"), 0);
	rig_stop(&rig);
}

MT_TEST("a goodbye counts even when the VM left our messages unread")
{
	struct rig rig;
	struct peer peer;
	union mt_wire_msg bye;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"set\",\"vm\":\"a\",\"settings\":"
				   "{\"target_max\":\"40M\"}}"),
		     "");
	kill(rig.daemon, SIGSTOP);
	mt_wire_init(&bye, MT_WIRE_BYE, 0);
	peer_send(&peer, &bye);
	peer_close(&peer);
	kill(rig.daemon, SIGCONT);
	MT_CHECK(ctl_event_seen(ctl, "a", "left management"));
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "granted_out"), 0);
	rig_stop(&rig);
}

MT_TEST("a goodbye counts even when the daemon is just about to say something")
{
	struct rig rig;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	/* WELCOME is followed by SETTINGS at once: some of these leave in between. */
	for (int i = 0; i < 200; i++) {
		union mt_wire_msg bye;
		struct peer peer;

		peer_join(&rig, &peer, "a");
		mt_wire_init(&bye, MT_WIRE_BYE, 0);
		peer_send(&peer, &bye);
		peer_close(&peer);
		MT_CHECK(RIG_WAIT(!ctl_number(ctl, HOST, "host", "vms")));
	}
	rig_stop(&rig);
}

MT_TEST("a VM that loses its connection keeps its grant and gets its place back with its secret")
{
	struct rig rig;
	struct peer peer, thief;
	uint64_t grant;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	grant = peer_granted(&peer);
	peer_stats(&peer, MT_C_HELD, grant);
	peer_close(&peer);
	MT_CHECK(RIG_WAIT(!strcmp(ctl_string(ctl, SHOW("a"), "vm", "state"), "away")));
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "held"), grant * 4);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "grant"), grant * 4);
	thief = peer;
	memset(thief.secret, 'f', 32);
	MT_CHECK_EQ(peer_again(&rig, &thief, "a", MIB_PAGES(64)), -EPERM);
	thief = peer;
	thief.grant = grant + 1;
	MT_CHECK_EQ(peer_again(&rig, &thief, "a", MIB_PAGES(64)), -EPROTO);
	peer.grant -= 5; /* a GRANT_RETURN that got lost with the connection */
	MT_CHECK_EQ(peer_again(&rig, &peer, "a", MIB_PAGES(64)), 0);
	PEER_UNTIL(&peer, peer.grant == grant);
	MT_CHECK_STR(ctl_string(ctl, SHOW("a"), "vm", "state"), "running");
	/* what it returned it does not hold, although it has not said so in other words */
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "held"), (grant - 5) * 4);
	/* a region asked for again is confirmed again */
	peer.addr = 1ULL << 32;
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	MT_CHECK(peer.swap_fd >= 0);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "memsize"), 64 * 1024);
	/* without closing the old connection first */
	MT_CHECK_EQ(peer_again(&rig, &peer, "a", MIB_PAGES(64)), 0);
	MT_CHECK_EQ(peer_region(&peer, 4 * MIB), 0);
	rig_stop(&rig);
}

/*
 * Sets a limit for a, which obeys. Return: does the state file say what a and b have, and no more,
 * nor of frames? It follows after a second.
 */
static bool limited(const struct rig *rig, int ctl, struct peer *a)
{
	uint64_t grant_b;

	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"set\",\"vm\":\"a\",\"settings\":"
				   "{\"limit\":\"48M\",\"zip_max_pct\":77}}"),
		     "");
	peer_drain(a, PEER_QUIET_MS);
	peer_obey(a);
	grant_b = ctl_number(ctl, SHOW("b"), "vm", "grant") / 4;
	return a->grant == a->target && a->target <= MIB_PAGES(48) &&
	       rig_state_says(rig, "a", RIG_STATE_GRANT, a->grant) &&
	       rig_state_says(rig, "a", RIG_STATE_LIMIT, 48 * MIB) &&
	       rig_state_says(rig, "a", RIG_STATE_ZIP_MAX_PCT, 77) &&
	       rig_state_says(rig, "b", RIG_STATE_GRANT, grant_b) && !rig_state_frames(rig);
}

MT_TEST("a killed daemon's successor counts what VMs hold before they have said hello again")
{
	struct rig rig;
	struct peer p, stranger;
	uint64_t grant;
	pid_t other;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &p, "a");
	MT_CHECK_EQ(peer_region(&p, 64 * MIB), 0);
	other = vm_process(&rig, "b", 512 * MIB);
	PEER_UNTIL(&p, limited(&rig, ctl, &p));
	grant = p.grant;
	rig_kill(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	MT_CHECK_STR(ctl_string(ctl, SHOW("a"), "vm", "state"), "away");
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "grant"), grant * 4);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "limit"), 48 * 1024);
	MT_CHECK_STR(ctl_string(ctl, SHOW("b"), "vm", "state"), "away");
	/* a new VM gets only what is really free */
	peer_join(&rig, &stranger, "c");
	MT_CHECK_EQ(peer_region(&stranger, 512 * MIB), 0);
	peer_drain(&stranger, 200);
	MT_CHECK(ctl_number(ctl, HOST, "host", "granted_out") <= (256 - 8) * 1024);
	stranger.grant = 0;
	MT_CHECK_EQ(peer_again(&rig, &p, "a", MIB_PAGES(64)), 0);
	PEER_UNTIL(&p, p.zip_max_pct == 77);
	MT_CHECK_STR(ctl_string(ctl, SHOW("a"), "vm", "state"), "running");
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "memsize"), 64 * 1024);
	MT_CHECK(ctl_event_seen(ctl, "a", "connected again"));
	p.addr = 1ULL << 40;
	MT_CHECK_EQ(peer_region(&p, 4 * MIB), -EOPNOTSUPP);
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	MT_CHECK(ctl_event_seen(ctl, "b", "process has ended"));
	rig_stop(&rig);
}

MT_TEST("a daemon killed at any moment has not written down less than a VM was granted")
{
	struct rig rig;
	struct peer p[2];

	rig_make(&rig);
	for (unsigned int round = 0; round < 15; round++) {
		uint64_t sum = 0;
		int ctl;

		rig_start(&rig, "256M", NULL);
		peer_join(&rig, &p[0], "a");
		peer_join(&rig, &p[1], "b");
		peer_region_send(&p[0], 512 * MIB);
		peer_region_send(&p[1], 256 * MIB);
		for (unsigned int i = 0; i < round * 3; i++) {
			peer_drain(&p[0], 1);
			peer_obey(&p[0]);
			peer_drain(&p[1], 1);
		}
		rig_kill(&rig);
		for (unsigned int i = 0; i < 2; i++) {
			peer_drain(&p[i], 0);
			sum += p[i].grant;
		}
		MT_CHECK(sum <= MIB_PAGES(248));
		rig_start(&rig, "256M", NULL);
		ctl = ctl_open(&rig);
		/* a VM without any grant may be missing */
		if (p[0].grant)
			MT_CHECK(ctl_number(ctl, SHOW("a"), "vm", "grant") >= p[0].grant * 4);
		if (p[1].grant)
			MT_CHECK(ctl_number(ctl, SHOW("b"), "vm", "grant") >= p[1].grant * 4);
		MT_CHECK_EQ(peer_again(&rig, &p[0], "a", MIB_PAGES(512)), 0);
		MT_CHECK_EQ(peer_again(&rig, &p[1], "b", MIB_PAGES(256)), 0);
		close(ctl);
		peer_close(&p[0]);
		peer_close(&p[1]);
		rig_kill(&rig);
		/* the next round starts afresh */
		snprintf(rig.config, sizeof(rig.config), "%s/control.sock.state", rig.dir);
		unlink(rig.config);
		snprintf(rig.config, sizeof(rig.config), "%s/config", rig.dir);
	}
}

/* A file like a swap file, but for one thing. */
static int false_swap(const struct rig *rig, int which)
{
	char path[128];
	int fd;

	if (which == 0)
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	if (which == 1)
		return open("/dev/shm", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0);
	if (which == 2)
		return open(rig->swap, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (which == 3)
		return open(rig->swap, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0);
	if (which == 4)
		return open(rig->swap, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/named", rig->swap);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0);
	return fd;
}

MT_TEST("after a restart a VM brings its swap file along and its memory can grow")
{
	struct rig rig;
	struct peer peer;
	struct stat st;
	int ctl, swap;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	peer_granted(&peer);
	swap = peer.swap_fd;
	MT_CHECK(swap >= 0);
	rig_kill(&rig);
	peer_close(&peer);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	MT_CHECK_EQ(peer_again_with(&rig, &peer, "a", MIB_PAGES(64), swap), 0);
	MT_CHECK_EQ(peer_region(&peer, 32 * MIB), 0);
	MT_CHECK_EQ(peer.swap_bytes, 96 * MIB);
	/* The file that it has, not another one. */
	MT_CHECK_EQ(peer.swap_fd, -1);
	MT_CHECK_EQ(fstat(swap, &st), 0);
	MT_CHECK_EQ(st.st_size, 96 * MIB);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "memsize"), 96 * 1024);
	rig_stop(&rig);
}

MT_TEST("a VM that had no memory yet when the daemon was restarted can still be given some")
{
	struct rig rig;
	struct peer peer;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	peer_join(&rig, &peer, "a");
	rig_kill(&rig);
	peer_close(&peer);
	rig_start(&rig, "256M", NULL);
	MT_CHECK_EQ(peer_again(&rig, &peer, "a", 0), 0);
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	MT_CHECK(peer.swap_fd >= 0);
	MT_CHECK_EQ(peer.swap_bytes, 64 * MIB);
	rig_stop(&rig);
}

MT_TEST("memory whose removal the daemon was not told of is not counted for ever")
{
	struct rig rig;
	struct peer peer;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	MT_CHECK_EQ(peer_region(&peer, 32 * MIB), 0);
	/* it may be on its way still */
	peer_stats(&peer, MT_C_MEMSIZE, MIB_PAGES(64));
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "memsize"), 96 * 1024);
	/* said again and again, for five seconds and more */
	MT_CHECK(RIG_WAIT((peer_stats(&peer, MT_C_MEMSIZE, MIB_PAGES(64)),
			   ctl_number(ctl, SHOW("a"), "vm", "memsize") == 64 * 1024)));
	/* more is only believed when it is asked for */
	peer_stats(&peer, MT_C_MEMSIZE, MIB_PAGES(128));
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "memsize"), 64 * 1024);
	MT_CHECK_EQ(peer_region(&peer, 32 * MIB), 0);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "memsize"), 96 * 1024);
	rig_stop(&rig);
}

MT_TEST("what only looks like a swap file is not taken for one")
{
	struct rig rig;
	struct peer peer;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	peer_drain(&peer, 100);
	rig_kill(&rig);
	peer_close(&peer);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	for (int which = 0; which < 6; which++) {
		int fd = false_swap(&rig, which);

		MT_CHECK(fd >= 0);
		MT_CHECK_EQ(peer_again_with(&rig, &peer, "a", MIB_PAGES(64), fd), 0);
		MT_CHECK_EQ(peer_region(&peer, 4 * MIB), -EOPNOTSUPP);
		peer_close(&peer);
		close(fd);
	}
	MT_CHECK(ctl_event_seen(ctl, "a", "its swap file can't grow any more"));
	rig_stop(&rig);
}

MT_TEST("a damaged state file is said so, and what of it is good is used")
{
	struct rig rig;
	char path[128];
	FILE *file;
	int ctl;

	rig_make(&rig);
	snprintf(path, sizeof(path), "%s.state", rig.socket);
	file = fopen(path, "we");
	MT_CHECK(file);
	fprintf(file,
		"memtide-state 1\nnonsense\n../x 1 1 1 1 0 0 0 0 10 10 -\n"
		"gone 999999 5 100 100 0 0 0 0 10 10 -\nold %d 5 100 100 0 0 0 0 10 10 -\n",
		(int)getpid());
	fclose(file);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	MT_CHECK(ctl_event_seen(ctl, "", "bad line"));
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "vms"), 0);
	rig_stop(&rig);
	MT_CHECK(access(path, F_OK)); /* no VM, no state */
	file = fopen(path, "we");
	MT_CHECK(file);
	fputs("something else\n", file);
	fclose(file);
	rig_start(&rig, "256M", NULL);
	MT_CHECK(ctl_event_seen(ctl_open(&rig), "", "not ours"));
	rig_stop(&rig);
}

MT_TEST("without a state file a VM from before is believed within reason")
{
	struct rig rig;
	struct peer peer;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	memset(&peer, 0, sizeof(peer));
	memset(peer.secret, 'a', 32);
	peer.grant = MIB_PAGES(100);
	MT_CHECK_EQ(peer_again(&rig, &peer, "a", MIB_PAGES(64)), -EPROTO);
	memset(peer.secret, 'a', 32);
	MT_CHECK_EQ(peer_again(&rig, &peer, "a", MIB_PAGES(128)), 0);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "memsize"), 128 * 1024);
	MT_CHECK(ctl_number(ctl, HOST, "host", "granted_out") >= 100 * 1024);
	rig_stop(&rig);
}

MT_TEST("a clean end keeps the state for VMs that live on")
{
	struct rig rig;
	struct peer peer;
	uint64_t grant;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	grant = peer_granted(&peer);
	rig_stop(&rig);
	rig_start(&rig, "256M", NULL);
	MT_CHECK_EQ(ctl_number(ctl_open(&rig), SHOW("a"), "vm", "grant"), grant * 4);
	MT_CHECK_EQ(peer_again(&rig, &peer, "a", MIB_PAGES(64)), 0);
	rig_stop(&rig);
}

MT_TEST_MAIN
