/* SPDX-License-Identifier: MIT */
/*
 * test_compare.c - "memtide mmu compare" on traces of real programs: does the published behaviour
 * show?
 *
 * Nested paging loses on a program that misses the TLB a lot (grep for 50,000 words at
 * once), shadow paging on one that makes processes (a shell running commands); large pages in guest
 * and host cure nested's loss; a program with a small working set (sha256sum) runs alike under all.
 */
#include "cli/cli_call.h"
#include "lab/compare.h"

#define TRACE(name) LAB_TRACES "/" name ".trace.lz4"

static struct lab_comparison comparison;
static struct lab_trace trace;

static void run(const char *path, bool walk_caches)
{
	struct lab_compare_options options = {.mem_bytes = 64u << 20,
					      .passes = 2,
					      .walk_caches = walk_caches,
					      .cost = MT_COST_DEFAULT};
	struct mt_err err;

	if (lab_trace_read(&trace, path, &err) || lab_compare(&trace, &options, &comparison, &err))
		MT_FAIL("%s", err.msg);
}

static const struct lab_result *of(enum mt_mmu_mode mode, bool guest_large, bool host_large)
{
	for (unsigned int i = 0; i < LAB_SETUPS; i++) {
		const struct lab_setup *setup = &comparison.results[i].setup;

		if (setup->mode == mode && setup->guest_large == guest_large &&
		    (mode == MT_MMU_NATIVE || setup->host_large == host_large))
			return &comparison.results[i];
	}
	MT_FAIL("no such setup");
}

static double time_of(enum mt_mmu_mode mode, bool guest_large, bool host_large)
{
	return of(mode, guest_large, host_large)->slowdown;
}

MT_TEST("on a program that misses the TLB nested paging loses, and large pages at both levels cure "
	"it")
{
	double native, shadow, nested;

	run(TRACE("grep"), false);
	native = time_of(MT_MMU_NATIVE, false, false);
	shadow = time_of(MT_MMU_SHADOW, false, false);
	nested = time_of(MT_MMU_NESTED, false, false);
	MT_CHECK(shadow < native * 1.01);
	MT_CHECK(nested > shadow * 1.8);
	MT_CHECK(time_of(MT_MMU_NESTED, false, true) < nested);
	MT_CHECK(time_of(MT_MMU_NESTED, true, true) < native);
	MT_CHECK_EQ(of(MT_MMU_NESTED, false, false)->stats.refs,
		    24 * of(MT_MMU_NESTED, false, false)->stats.tlb_misses);
	MT_CHECK_EQ(of(MT_MMU_NESTED, false, true)->stats.refs,
		    19 * of(MT_MMU_NESTED, false, true)->stats.tlb_misses);
	MT_CHECK(of(MT_MMU_NESTED, false, false)->stats.tlb_misses > 60000);
	MT_CHECK(of(MT_MMU_NESTED, true, true)->stats.tlb_misses < 4000);
}

MT_TEST("walk caches take away most of nested paging's loss, as published")
{
	double without, with;

	run(TRACE("grep"), false);
	without = time_of(MT_MMU_NESTED, false, false) - 1;
	run(TRACE("grep"), true);
	with = time_of(MT_MMU_NESTED, false, false) - 1;
	MT_CHECK(with > 0.25 && with < without * 0.5);
	MT_CHECK(time_of(MT_MMU_NESTED, true, true) < 0.95);
}

MT_TEST("on a program that makes processes shadow paging loses, and nested paging does not")
{
	run(TRACE("fork"), true);
	MT_CHECK(time_of(MT_MMU_SHADOW, false, false) > 1.5);
	MT_CHECK(time_of(MT_MMU_NESTED, false, false) < 1.05);
	MT_CHECK(of(MT_MMU_SHADOW, false, false)->stats.hidden_faults > 1000);
	MT_CHECK(of(MT_MMU_SHADOW, false, false)->stats.trace_faults > 1000);
	MT_CHECK_EQ(of(MT_MMU_NESTED, false, false)->stats.guest_faults,
		    of(MT_MMU_NATIVE, false, false)->stats.guest_faults);
	MT_CHECK_EQ(of(MT_MMU_SHADOW, false, false)->stats.guest_faults,
		    of(MT_MMU_NATIVE, false, false)->stats.guest_faults);
	MT_CHECK(of(MT_MMU_SHADOW, false, false)->host_tables >
		 of(MT_MMU_NESTED, false, true)->host_tables);
}

MT_TEST("on a quiet program there is no gap")
{
	run(TRACE("sha256"), true);
	for (unsigned int i = 0; i < LAB_SETUPS; i++)
		MT_CHECK(comparison.results[i].slowdown > 0.98 &&
			 comparison.results[i].slowdown < 1.02);
}

MT_TEST("the verb prints a table, JSON and a picture")
{
	char svg[] = "/tmp/memtide-svg-XXXXXX", text[8192] = "";
	int fd = mkostemp(svg, O_CLOEXEC);

	MT_CHECK_EQ(cli("mmu", "compare", TRACE("sha256"), TRACE("fork"), "--svg", svg, "--passes",
			"1", NULL),
		    0);
	CLI_HAS(out, "REFS/MISS");
	CLI_HAS(out, "nested  2M     2M");
	CLI_HAS(out, "fork: ");
	MT_CHECK(read(fd, text, sizeof(text) - 1) > 1000);
	MT_CHECK(strstr(text, "<svg") && strstr(text, "exits to the hypervisor"));
	unlink(svg);
	MT_CHECK_EQ(cli("mmu", "compare", "--json", TRACE("sha256"), NULL), 0);
	CLI_HAS(out, "\"hiddenFaults\"");
	CLI_HAS(out, "\"trace\": \"sha256\"");
}

MT_TEST("what the verb can't do it says in one line")
{
	cli("mmu", NULL);
	CLI_FAILS(2, "say what to do");
	cli("mmu", "compare", NULL);
	CLI_FAILS(2, "at least one trace");
	cli("mmu", "compare", "/nonexistent", NULL);
	CLI_FAILS(1, "/nonexistent: No such file");
	cli("mmu", "compare", "/proc/self/exe", NULL);
	CLI_FAILS(1, "/proc/self/exe: not a text");
	cli("mmu", "compare", TRACE("fork"), "--mem", "1M", NULL);
	CLI_FAILS(2, "8M to 16G");
	cli("mmu", "compare", TRACE("sha256"), "--svg", "/nonexistent/x.svg", NULL);
	MT_CHECK_EQ(cli_result.status, 1);
	CLI_HAS(err, "/nonexistent/x.svg: No such file");
}

MT_TEST_MAIN
