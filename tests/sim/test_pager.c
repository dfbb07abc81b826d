/* SPDX-License-Identifier: MIT */
/*
 * test_pager.c - the pager against a model: whatever happens, the guest sees what it wrote
 *
 * MT_SIM_SEED and MT_SIM_STEPS run another course of events; a failure says which one it was.
 */
#include "sim/sim_vm.h"

#include "common/mt_test.h"

static void run(struct sim_config config, uint64_t steps)
{
	const char *seed = getenv("MT_SIM_SEED"), *many = getenv("MT_SIM_STEPS");

	if (seed)
		config.seed = strtoull(seed, NULL, 0);
	sim_run(&config, many ? strtoull(many, NULL, 0) : steps);
}

MT_TEST("a guest far larger than its memory keeps every page")
{
	run((struct sim_config){.seed = 1,
				.pages = {700, 500, 300},
				.spare_pages = 200,
				.zip_pct = 10,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 5},
	    50000);
}

MT_TEST("a zip store without memory for another object sends pages to swap")
{
	run((struct sim_config){.seed = 14,
				.pages = {700, 500, 300},
				.spare_pages = 300,
				.zip_pct = 50,
				.zip_blocks = 5,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 5},
	    30000);
}

MT_TEST("a kernel that stops moves half-way, or refuses them, costs no page")
{
	run((struct sim_config){.seed = 2,
				.pages = {900, 400, 100},
				.spare_pages = 300,
				.zip_pct = 30,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 5,
				.trouble_permille = 80},
	    40000);
}

MT_TEST("regions come and go while jobs and transfers are under way")
{
	run((struct sim_config){.seed = 3,
				.pages = {600, 600, 600},
				.spare_pages = 150,
				.zip_pct = 15,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 5,
				.trouble_permille = 20,
				.regions_come_and_go = true},
	    40000);
}

MT_TEST("failed transfers to and from the swap file cost time, never a page")
{
	run((struct sim_config){.seed = 4,
				.pages = {800, 500, 0},
				.spare_pages = 200,
				.zip_pct = 5,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 5,
				.trouble_permille = 10,
				.swap_errors = true,
				.regions_come_and_go = true},
	    40000);
}

MT_TEST("reads that fail time and again lose no page that can be read at last")
{
	run((struct sim_config){.seed = 11,
				.pages = {800, 500, 100},
				.spare_pages = 200,
				.zip_pct = 2,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 5,
				.swap_errors = true,
				.eio_pct = 20},
	    40000);
}

MT_TEST("a page the disk damaged is lost and said to be, never guessed")
{
	run((struct sim_config){.seed = 5,
				.pages = {800, 500, 100},
				.spare_pages = 200,
				.zip_pct = 2,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 5,
				.trouble_permille = 10,
				.damage = true},
	    40000);
}

MT_TEST("a page that vanishes from memory is lost and said to be, never made up of zeros")
{
	run((struct sim_config){.seed = 10,
				.pages = {800, 500, 100},
				.spare_pages = 200,
				.zip_pct = 5,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 5,
				.theft = true},
	    40000);
}

MT_TEST("with plenty of memory large pages are handed out and taken back")
{
	run((struct sim_config){.seed = 6,
				.pages = {8000, 2000, 0},
				.spare_pages = 9000,
				.zip_pct = 10,
				.swap_slots = 2 * SIM_SWAP_SLOTS,
				.swap_delay = 5,
				.trouble_permille = 10},
	    10000);
}

MT_TEST("a slow disk keeps pages waiting in staging, and whoever touches one gets it at once")
{
	run((struct sim_config){.seed = 9,
				.pages = {500, 300, 100},
				.spare_pages = 150,
				.zip_pct = 1,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 60,
				.trouble_permille = 10,
				.regions_come_and_go = true},
	    20000);
}

MT_TEST("while the disk is slow nothing is compressed twice")
{
	run((struct sim_config){.seed = 10,
				.pages = {2000, 0, 0},
				.spare_pages = 600,
				.zip_pct = 1,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 2000},
	    20000);
}

MT_TEST("a zip store that might take everything leaves the guest what it works on")
{
	run((struct sim_config){.seed = 8,
				.pages = {3000, 3000, 0},
				.spare_pages = 1,
				.zip_pct = 95,
				.swap_slots = 3 * SIM_SWAP_SLOTS,
				.swap_delay = 1,
				.all_shrinks = true},
	    20000);
}

MT_TEST("with swap file and zip store full nothing is lost")
{
	run((struct sim_config){.seed = 7,
				.pages = {400, 200, 0},
				.spare_pages = 300,
				.zip_pct = 60,
				.swap_slots = 600,
				.swap_delay = 5,
				.trouble_permille = 10},
	    20000);
}

MT_TEST("pages shared with another VM stay what the guest wrote, and no frame is used unasked")
{
	run((struct sim_config){.seed = 11,
				.pages = {900, 500, 300},
				.spare_pages = 300,
				.zip_pct = 10,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 5,
				.alike = 150,
				.must_share = true},
	    40000);
}

MT_TEST("sharing goes well with a kernel that refuses and regions that come and go")
{
	run((struct sim_config){.seed = 12,
				.pages = {700, 600, 500},
				.spare_pages = 500,
				.zip_pct = 20,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 10,
				.trouble_permille = 50,
				.alike = 60,
				.must_share = true,
				.swap_errors = true,
				.regions_come_and_go = true},
	    40000);
}

MT_TEST("the scanner looks at as many pages as it was told, and not at more")
{
	run((struct sim_config){.seed = 13,
				.pages = {900, 500, 300},
				.spare_pages = 4000,
				.zip_pct = 10,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 5,
				.alike = 100000,
				.must_keep_pace = true},
	    40000);
}

MT_TEST("while direct I/O may be under way that nobody reports no page leaves its place")
{
	run((struct sim_config){.seed = 17,
				.pages = {700, 500, 300},
				.spare_pages = 300,
				.zip_pct = 10,
				.swap_slots = SIM_SWAP_SLOTS,
				.swap_delay = 5,
				.alike = 40,
				.unreported = true,
				.trouble_permille = 20},
	    50000);
	/* Memory for all: whatever is moved is moved by the scanner. */
	run((struct sim_config){.seed = 18,
				.pages = {700, 500, 300},
				.spare_pages = 2000,
				.alike = 40,
				.must_keep_pace = true,
				.unreported = true},
	    50000);
}

MT_TEST_MAIN
