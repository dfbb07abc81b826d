/* SPDX-License-Identifier: MIT */
/*
 * test_kernel.c - the lab's guest kernel: contents, isolation, swap, balloon, in every mode
 *
 * Contents are checked by lab_touch(): each page holds the number its own process wrote last. So a
 * page that shows another process's content, or an old one of its own, is a failure.
 */
#include "common/mt_test.h"
#include "lab/storm.h"
#include "lab/trace.h"

#include <errno.h>
#include <fcntl.h>

#define MIB  (1ULL << 20)
#define HEAP 0x400ULL

struct rig {
	void *memory;
	struct lab_host host;
	struct lab_vm vm;
	struct lab_kernel kernel;
	struct lab_run run;
	struct lab_storm storm;
};

static struct rig rigs[2];

static void boot(struct rig *rig, struct lab_host *host, unsigned int number,
		 const struct lab_vm_config *config, uint32_t swap_slots, bool large)
{
	struct lab_kernel_config kernel = {.large = large, .swap_slots = swap_slots};
	struct lab_vm_config vm = *config;
	struct mt_err err;

	vm.number = (uint16_t)number;
	if (lab_vm_init(&rig->vm, host, &vm, &err) ||
	    lab_kernel_boot(&rig->kernel, &rig->vm, &kernel, &err))
		MT_FAIL("%s", err.msg);
	rig->run.kernel = &rig->kernel;
	lab_storm_init(&rig->storm, &rig->run, number);
}

static void host_of(struct rig *rig, uint64_t bytes)
{
	rig->memory = aligned_alloc(MT_HUGE_SIZE, bytes);
	MT_CHECK(rig->memory);
	memset(rig->memory, 0, bytes);
	MT_CHECK(!lab_host_init(&rig->host, rig->memory, bytes));
}

static void start(struct rig *rig, enum mt_mmu_mode mode, bool large, uint32_t swap_slots)
{
	struct lab_vm_config config = {
		.frames = 8 * MIB >> 12, .mode = mode, .large = large, .walk_caches = true};

	host_of(rig, 16 * MIB);
	boot(rig, &rig->host, 1, &config, swap_slots, large);
}

static void ok(struct rig *rig, int rc)
{
	if (rc)
		MT_FAIL("%d: %s", rc, rig->kernel.err.msg);
}

static void check(struct rig *rig)
{
	const char *wrong = lab_kernel_audit(&rig->kernel);

	if (wrong)
		MT_FAIL("%s", wrong);
	if (rig->run.wrong)
		MT_FAIL("%s", rig->run.err.msg);
	if (rig->vm.mmu.config.mode == MT_MMU_SHADOW && mt_shadow_audit(&rig->vm.mmu.shadow))
		MT_FAIL("%s", mt_shadow_audit(&rig->vm.mmu.shadow));
}

static void finish(struct rig *rig)
{
	check(rig);
	lab_kernel_destroy(&rig->kernel);
	lab_vm_destroy(&rig->vm);
	for (uint32_t i = 0; i < rig->host.frames; i++)
		MT_CHECK_EQ(rig->host.owner[i], LAB_NO_VM);
	lab_host_destroy(&rig->host);
	free(rig->memory);
	memset(rig, 0, sizeof(*rig));
}

#define EACH_MODE(mode) for (enum mt_mmu_mode mode = 0; mode < MT_MMU_MODES; mode++)

MT_TEST("a VM starts without memory, and the first touch allocates")
{
	struct rig *rig = &rigs[0];
	uint32_t before, after;

	EACH_MODE(mode)
	{
		start(rig, mode, false, 0);
		before = after = 0;
		for (uint32_t i = 0; i < rig->vm.frames; i++)
			before += rig->vm.pmap[i] != LAB_NO_FRAME;
		MT_CHECK(before < 64); /* the frame table and the kernel's page tables */
		ok(rig, lab_spawn(&rig->kernel, 1));
		ok(rig, lab_switch(&rig->kernel, 1));
		ok(rig, lab_map(&rig->kernel, HEAP, 100, false));
		for (uint64_t page = 0; page < 100; page++)
			ok(rig, lab_touch(&rig->run, HEAP + page, MT_PF_W));
		for (uint32_t i = 0; i < rig->vm.frames; i++)
			after += rig->vm.pmap[i] != LAB_NO_FRAME;
		MT_CHECK(after >= before + 100 && after < before + 120);
		finish(rig);
	}
}

MT_TEST("a process sees its own pages and no other's, before and after fork, exec and exit")
{
	struct rig *rig = &rigs[0];

	EACH_MODE(mode)
	{
		start(rig, mode, false, 0);
		for (uint32_t pid = 1; pid <= 3; pid++) {
			ok(rig, lab_spawn(&rig->kernel, pid));
			ok(rig, lab_switch(&rig->kernel, pid));
			ok(rig, lab_map(&rig->kernel, HEAP, 50, false));
			for (uint64_t page = 0; page < 50; page++)
				ok(rig, lab_touch(&rig->run, HEAP + page, MT_PF_W));
		}
		ok(rig, lab_fork(&rig->kernel, 4));
		for (uint32_t pid = 1; pid <= 4; pid++) {
			ok(rig, lab_switch(&rig->kernel, pid));
			for (uint64_t page = 0; page < 50; page++)
				ok(rig, lab_touch(&rig->run, HEAP + page, page % 3 ? 0 : MT_PF_W));
		}
		ok(rig, lab_exec(&rig->kernel));
		MT_CHECK_EQ(lab_touch(&rig->run, HEAP, 0), -EFAULT);
		ok(rig, lab_exit(&rig->kernel));
		ok(rig, lab_switch(&rig->kernel, 3));
		for (uint64_t page = 0; page < 50; page++)
			ok(rig, lab_touch(&rig->run, HEAP + page, 0));
		MT_CHECK(rig->run.checked >= 400);
		finish(rig);
	}
}

MT_TEST("a process can reach neither the kernel, nor what is not mapped, nor write what is "
	"read-only")
{
	struct rig *rig = &rigs[0];
	uint64_t value = 0;

	EACH_MODE(mode)
	{
		start(rig, mode, false, 0);
		ok(rig, lab_spawn(&rig->kernel, 1));
		ok(rig, lab_switch(&rig->kernel, 1));
		ok(rig, lab_map(&rig->kernel, HEAP, 1, true));
		MT_CHECK_EQ(lab_access(&rig->kernel, MT_GVA(0xffff888000001000), 0, &value),
			    -EFAULT);
		MT_CHECK_EQ(lab_access(&rig->kernel, MT_GVA(1ULL << 60), 0, &value), -EFAULT);
		MT_CHECK_EQ(lab_access(&rig->kernel, MT_GVA((HEAP + 1) << 12), 0, &value), -EFAULT);
		ok(rig, lab_access(&rig->kernel, MT_GVA(HEAP << 12), 0, &value));
		MT_CHECK_EQ(lab_access(&rig->kernel, MT_GVA(HEAP << 12), MT_PF_W, &value), -EFAULT);
		MT_CHECK_EQ(lab_map(&rig->kernel, HEAP, 1, false), -EINVAL);
		MT_CHECK_EQ(lab_map(&rig->kernel, LAB_USER_PAGES - 1, 2, false), -EINVAL);
		MT_CHECK_EQ(lab_switch(&rig->kernel, 9), -ESRCH);
		MT_CHECK_EQ(lab_spawn(&rig->kernel, 1), -EEXIST);
		MT_CHECK_EQ(lab_spawn(&rig->kernel, LAB_PROCESSES_MAX), -EINVAL);
		finish(rig);
	}
}

/* Points entries of its own page table at whatever it likes, and looks what is there. */
static void attack(struct rig *attacker, const struct rig *victim)
{
	const struct mt_memory *memory = &attacker->vm.mmu.config.guest;
	uint64_t at, secret = 0x5ec2e75ec2e7ULL, value;
	struct mt_walk walk;

	mt_walk(&attacker->vm.mmu.regs, memory, MT_GVA(HEAP << 12), MT_ACCESS_LOOK, NULL, &walk);
	MT_CHECK_EQ(walk.end, MT_WALK_OK);
	at = walk.steps[walk.step_count - 1].at.a;
	for (uint64_t frame = 0; frame < victim->host.frames * 2; frame++) {
		struct mt_translation to;
		enum mt_mmu_end end;

		/* As the attacker's kernel would, through its MMU or behind it. */
		MT_CHECK(!memory->load(memory->ctx, at, &value));
		MT_CHECK(!memory->swap(memory->ctx, at, value,
				       frame << 12 | MT_PTE_P | MT_PTE_RW | MT_PTE_US));
		mt_mmu_stored(&attacker->vm.mmu, MT_GPA(at));
		mt_mmu_invlpg(&attacker->vm.mmu, MT_GVA(HEAP << 12));
		end = mt_mmu_translate(&attacker->vm.mmu, MT_GVA(HEAP << 12), MT_PF_U, &to);
		if (frame >= attacker->vm.frames) {
			MT_CHECK_EQ(end, MT_MMU_NO_MEMORY);
			continue;
		}
		MT_CHECK_EQ(end, MT_MMU_OK);
		value = *(uint64_t *)lab_vm_at(&attacker->vm, to.mpa); /* asserts whose it is */
		MT_CHECK(value != secret);
	}
}

MT_TEST("whatever a guest writes into its page tables, it reaches no frame of another VM")
{
	struct lab_vm_config config = {.frames = 8 * MIB >> 12, .walk_caches = true};
	uint64_t secret = 0x5ec2e75ec2e7ULL;

	EACH_MODE(mode)
	{
		config.mode = mode;
		host_of(&rigs[0], 32 * MIB);
		boot(&rigs[0], &rigs[0].host, 1, &config, 0, false);
		boot(&rigs[1], &rigs[0].host, 2, &config, 0, false);
		for (unsigned int i = 0; i < 2; i++) {
			ok(&rigs[i], lab_spawn(&rigs[i].kernel, 1));
			ok(&rigs[i], lab_switch(&rigs[i].kernel, 1));
			ok(&rigs[i], lab_map(&rigs[i].kernel, HEAP, 500, false));
		}
		for (uint64_t page = 0; page < 500; page++)
			ok(&rigs[0], lab_access(&rigs[0].kernel, MT_GVA((HEAP + page) << 12),
						MT_PF_W, &secret));
		ok(&rigs[1], lab_touch(&rigs[1].run, HEAP, 0));
		attack(&rigs[1], &rigs[0]);
		for (uint64_t page = 0; page < 500; page++) {
			ok(&rigs[0],
			   lab_access(&rigs[0].kernel, MT_GVA((HEAP + page) << 12), 0, &secret));
			MT_CHECK_EQ(secret, 0x5ec2e75ec2e7ULL);
		}
		lab_vm_destroy(&rigs[1].vm);
		lab_kernel_destroy(&rigs[1].kernel);
		finish(&rigs[0]);
	}
}

MT_TEST("more than the guest's memory is used through its swap, and every page comes back right")
{
	struct rig *rig = &rigs[0];

	EACH_MODE(mode)
	{
		start(rig, mode, false, 4000);
		ok(rig, lab_spawn(&rig->kernel, 1));
		ok(rig, lab_switch(&rig->kernel, 1));
		ok(rig, lab_map(&rig->kernel, HEAP, 4000, false));
		for (uint64_t page = 0; page < 4000; page++)
			ok(rig, lab_touch(&rig->run, HEAP + page, MT_PF_W));
		ok(rig, lab_fork(&rig->kernel, 2));
		for (uint32_t pid = 1; pid <= 2; pid++) {
			ok(rig, lab_switch(&rig->kernel, pid));
			for (uint64_t page = 0; page < 4000; page += 3)
				ok(rig, lab_touch(&rig->run, HEAP + page, 0));
		}
		MT_CHECK(rig->kernel.stats.swap_outs > 2000 && rig->kernel.stats.swap_ins > 1000);
		ok(rig, lab_exit(&rig->kernel));
		check(rig);
		ok(rig, lab_switch(&rig->kernel, 1));
		ok(rig, lab_unmap(&rig->kernel, HEAP, 4000));
		MT_CHECK_EQ(rig->kernel.disk.used, 0);
		MT_CHECK_EQ(rig->kernel.used.count, 0);
		finish(rig);
	}
}

MT_TEST("without room in memory and swap the process is told, and the guest lives")
{
	struct rig *rig = &rigs[0];
	uint64_t page = 0;
	int rc = 0;

	EACH_MODE(mode)
	{
		start(rig, mode, false, 50);
		ok(rig, lab_spawn(&rig->kernel, 1));
		ok(rig, lab_switch(&rig->kernel, 1));
		ok(rig, lab_map(&rig->kernel, HEAP, 8000, false));
		for (page = 0, rc = 0; !rc && page < 8000; page++)
			rc = lab_touch(&rig->run, HEAP + page, MT_PF_W);
		MT_CHECK_EQ(rc, -ENOMEM);
		MT_CHECK(page > 1500);
		ok(rig, lab_exit(&rig->kernel));
		check(rig);
		ok(rig, lab_spawn(&rig->kernel, 1));
		finish(rig);
	}
}

MT_TEST("the balloon's frames go back to the host, and come back zeroed")
{
	struct rig *rig = &rigs[0];

	EACH_MODE(mode)
	{
		uint32_t backed = 0;

		start(rig, mode, false, 2000);
		ok(rig, lab_spawn(&rig->kernel, 1));
		ok(rig, lab_switch(&rig->kernel, 1));
		ok(rig, lab_map(&rig->kernel, HEAP, 1500, false));
		for (uint64_t page = 0; page < 1500; page++)
			ok(rig, lab_touch(&rig->run, HEAP + page, MT_PF_W));
		MT_CHECK_EQ(lab_inflate(&rig->kernel, 1000), 1000);
		for (uint32_t i = 0; i < rig->vm.frames; i++)
			backed += rig->vm.pmap[i] != LAB_NO_FRAME;
		MT_CHECK(backed <= rig->vm.frames - 1000);
		MT_CHECK(rig->kernel.stats.swap_outs > 300);
		check(rig);
		MT_CHECK_EQ(lab_deflate(&rig->kernel, 2000), 1000);
		for (uint64_t page = 0; page < 1500; page++)
			ok(rig, lab_touch(&rig->run, HEAP + page, 0));
		finish(rig);
	}
}

MT_TEST("large pages translate, survive forks, and break where a part is unmapped")
{
	struct rig *rig = &rigs[0];

	EACH_MODE(mode)
	{
		start(rig, mode, true, 0);
		ok(rig, lab_spawn(&rig->kernel, 1));
		ok(rig, lab_switch(&rig->kernel, 1));
		ok(rig, lab_map(&rig->kernel, HEAP, 0x200, false));
		for (uint64_t page = 0; page < 0x200; page += 7)
			ok(rig, lab_touch(&rig->run, HEAP + page, MT_PF_W));
		MT_CHECK_EQ(rig->kernel.stats.demand, 1);
		ok(rig, lab_fork(&rig->kernel, 2));
		ok(rig, lab_touch(&rig->run, HEAP + 5, MT_PF_W));
		ok(rig, lab_switch(&rig->kernel, 2));
		for (uint64_t page = 0; page < 0x200; page++)
			ok(rig, lab_touch(&rig->run, HEAP + page, page & 64 ? MT_PF_W : 0));
		ok(rig, lab_unmap(&rig->kernel, HEAP + 0x80, 0x10));
		MT_CHECK_EQ(lab_touch(&rig->run, HEAP + 0x80, 0), -EFAULT);
		ok(rig, lab_touch(&rig->run, HEAP + 0x90, 0));
		check(rig);
		ok(rig, lab_exit(&rig->kernel));
		ok(rig, lab_switch(&rig->kernel, 1));
		for (uint64_t page = 0; page < 0x200; page++)
			ok(rig, lab_touch(&rig->run, HEAP + page, 0));
		finish(rig);
	}
}

static void random_guest(bool large)
{
	struct rig *rig = &rigs[0];
	uint64_t digest[MT_MMU_MODES];

	EACH_MODE(mode)
	{
		start(rig, mode, large, 1500);
		lab_inflate(&rig->kernel, large ? 200 : 1000);
		for (unsigned int i = 0; i < 60000; i++) {
			if (lab_storm_step(&rig->storm))
				MT_FAIL("%s", rig->kernel.err.msg);
			if (i % 5000 == 0)
				check(rig);
		}
		printf("# %s: %llu words checked, %llu faults, %llu copies, %llu swapped out, "
		       "%llu hidden, %llu trace faults\n",
		       mt_mmu_mode_name(mode), (unsigned long long)rig->run.checked,
		       (unsigned long long)rig->kernel.stats.faults,
		       (unsigned long long)rig->kernel.stats.copies,
		       (unsigned long long)rig->kernel.stats.swap_outs,
		       (unsigned long long)rig->vm.mmu.stats.hidden_faults,
		       (unsigned long long)rig->vm.mmu.stats.trace_faults);
		MT_CHECK(rig->run.checked > 5000 && rig->kernel.stats.copies > 50);
		MT_CHECK(!large == !rig->kernel.stats.large);
		MT_CHECK(large || rig->kernel.stats.swap_ins > 100);
		digest[mode] = rig->run.version * 1000003 + rig->kernel.stats.faults;
		finish(rig);
	}
	/* The guest can't tell which MMU it runs on. */
	MT_CHECK_EQ(digest[MT_MMU_SHADOW], digest[MT_MMU_NATIVE]);
	MT_CHECK_EQ(digest[MT_MMU_NESTED], digest[MT_MMU_NATIVE]);
}

MT_TEST("a guest that does everything at random finds what it left, in every mode alike")
{
	random_guest(false);
}

MT_TEST("and so does one with large pages, on a host with large pages")
{
	random_guest(true);
}

/* The message for a trace with this text. */
static const char *refusal(const char *text, bool run_it)
{
	static struct mt_err err;
	char path[] = "/tmp/memtide-trace-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	struct lab_trace trace;
	int rc;

	MT_CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	rc = lab_trace_read(&trace, path, &err);
	if (!rc && run_it) {
		start(&rigs[0], MT_MMU_SHADOW, false, 0);
		rc = lab_trace_run(&trace, &rigs[0].run, &err);
		finish(&rigs[0]);
	}
	unlink(path);
	if (!rc)
		lab_trace_free(&trace);
	return rc ? strchr(err.msg, ':') : "";
}

MT_TEST("a broken trace is refused with file, line and reason")
{
	static const char head[] = "memtide-trace 1\n";
	char text[200];
	static const struct {
		const char *line, *message;
		bool run;
	} cases[] = {
		{"map 10", ":2: too few or too many words after 'map'", false},
		{"map 10 zz", ":2: not a number that can be here: 'zz'", false},
		{"map 10 1 rw", ":2: only 'ro' can stand here, not 'rw'", false},
		{"jump 5", ":2: unknown word 'jump'", false},
		{"a", ":2: no accesses after 'a'", false},
		{"a r10 12", ":2: an access is r, w or x and a page, not '12'", false},
		{"a w10000000000", ":2: not a number that can be here: '10000000000'", false},
		{"a r-1", ":2: not a number that can be here: '-1'", false},
		{"hit 99999999999999999999",
		 ":2: not a number that can be here: '99999999999999999999'", false},
		{"a r10", ":2: process 1 must not use 0x10680", true},
		{"run 7", ":2: process 7 is not there", true},
		{"fork 0", ":2: process 0 is out of range", true},
		{"fork 1", ":2: process 1 is there already", true},
		{"exit\na r10", ":3: process 0 must not use 0x10680", true},
		{"loop", ":2: once, and after something else, can stand 'loop'", false},
		{"map 1 1\nloop\nloop", ":4: once, and after something else, can stand 'loop'",
		 false},
		{"exit\nexit", ":3: no process is running", true},
		{"map 10 800000000",
		 ":2: 34359738368 pages from page 10 on are no place for a process", true},
	};

	MT_CHECK_STR(refusal("", false), ":0: empty; a trace begins with 'memtide-trace 1'");
	MT_CHECK_STR(refusal("\x04\x22\x4d\x18 and then this", false),
		     ": damaged: it begins like an LZ4 file, but can't be unpacked");
	MT_CHECK_STR(refusal("#!/bin/sh\n", false),
		     ":1: not a trace: it must begin with 'memtide-trace 1'");
	for (size_t i = 0; i < MT_ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), "%s%s\n", head, cases[i].line);
		MT_CHECK_STR(refusal(text, cases[i].run), cases[i].message);
	}
	snprintf(
		text, sizeof(text), "%s%s", head,
		"map 10 4\na r10 x11 w12\nfork 2\nrun 2\na w12\nexit\nrun 1\na r12\nhit 5\nexit\n");
	MT_CHECK_STR(refusal(text, true), "");
}

MT_TEST_MAIN
