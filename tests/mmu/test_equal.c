/* SPDX-License-Identifier: MIT */
/* test_equal.c - shadow, nested and native translate alike, whatever guest and host do; see rig.h
 */
#include "common/mt_test.h"
#include "rig.h"

#define STEPS         1500000u
#define COMPARE_EVERY 20000u

static void run(bool cached, uint64_t seed)
{
	static struct rig rig;
	unsigned int codes = 0;

	rig_init(&rig, cached, seed);
	for (unsigned int i = 0; i < STEPS; i++) {
		const char *wrong = rig_step(&rig);

		if (!wrong && i % COMPARE_EVERY == 0)
			wrong = rig_compare(&rig);
		if (wrong)
			MT_FAIL("seed %llu step %u: %s", (unsigned long long)seed, i, wrong);
	}
	MT_CHECK(!rig_compare(&rig));
	for (unsigned int i = 0; i < MT_ARRAY_SIZE(rig.codes); i++) {
		codes += rig.codes[i] != 0;
		if (rig.codes[i])
			printf("# error code %02x: %llu\n", i, (unsigned long long)rig.codes[i]);
	}
	printf("# %llu accesses: %llu through, %llu faults, %llu without memory, %llu emulated; "
	       "%llu edits, %llu switches, %llu invlpgs, %llu moves\n",
	       (unsigned long long)rig.accesses, (unsigned long long)rig.through,
	       (unsigned long long)rig.faults, (unsigned long long)rig.no_memory,
	       (unsigned long long)rig.emulated, (unsigned long long)rig.edits,
	       (unsigned long long)rig.switches, (unsigned long long)rig.invlpgs,
	       (unsigned long long)rig.moves);
	for (unsigned int i = 0; i < RIG_PLAIN; i++) {
		const struct mt_mmu_stats *stats = &rig.copies[i].mmu.stats;

		MT_CHECK(!cached || stats->tlb_misses < stats->accesses * 9 / 10);
		printf("# %s: %llu TLB misses, %llu refs, %llu hidden, %llu trace, %llu "
		       "violations\n",
		       mt_mmu_mode_name((enum mt_mmu_mode)i), (unsigned long long)stats->tlb_misses,
		       (unsigned long long)stats->refs, (unsigned long long)stats->hidden_faults,
		       (unsigned long long)stats->trace_faults,
		       (unsigned long long)stats->violations);
	}
	/* The test is worth its name only if everything did happen. */
	MT_CHECK(rig.through > rig.accesses / 10 && rig.faults > rig.accesses / 20);
	MT_CHECK(rig.accesses >= 1000000 && rig.no_memory && rig.emulated && rig.moves &&
		 codes >= 12);
	rig_free(&rig);
}

MT_TEST("without caches all modes follow each change of the tables at once")
{
	run(false, 1);
}

MT_TEST("with TLB and walk caches all modes agree for a guest that keeps to the rules")
{
	run(true, 2);
}

MT_TEST_MAIN
