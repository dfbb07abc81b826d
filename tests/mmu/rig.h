/* SPDX-License-Identifier: MIT */
/*
 * rig.h - a guest whose page tables change at random, under three MMUs and a plain walk
 *
 * Each of native, shadow and nested has its own copy of the guest's memory, at machine addresses
 * that are scattered and move. The fourth, the "plain" copy, is walked by a few lines written for
 * this test alone, straight from the manual, with no cache and no hypervisor. Every random step is
 * done to all four, and every access must end the same way in all: outcome, error code, machine
 * address; and all four memories, accessed and dirty bits included, must stay equal.
 *
 * Random numbers come from a seed, or from the bytes of a fuzzer.
 */
#ifndef MT_TESTS_MMU_RIG_H
#define MT_TESTS_MMU_RIG_H

#include "mmu/mmu.h"

#include <stddef.h>

#define RIG_FRAMES 1024u /* 4 MiB */
#define RIG_COPIES 4u
#define RIG_PLAIN  3u

/* One copy of the guest and who translates for it. */
struct rig_copy {
	struct rig *rig;
	uint64_t *words;            /* by machine address */
	bool read_only[RIG_FRAMES]; /* by guest frame: backed so for now */
	struct mt_mmu mmu;          /* not of the plain copy */
};

struct rig {
	uint32_t machine_of[RIG_FRAMES]; /* guest frame to machine frame; the same in all copies */
	bool in_one_piece[RIG_FRAMES / MT_HUGE_PAGES];
	struct rig_copy copies[RIG_COPIES];
	struct mt_regs regs;
	bool cached;          /* TLB and walk caches are on */
	bool stale[64];       /* by PCID: tables changed since it was flushed */
	uint64_t random;      /* state of the generator */
	const uint8_t *bytes; /* of a fuzzer, instead; NULL: none */
	size_t left;
	bool over;           /* no bytes left */
	uint64_t recent[16]; /* addresses, to be used again */
	uint64_t accesses, edits, invlpgs, switches, moves;
	uint64_t through, faults, no_memory, emulated;
	uint64_t codes[32]; /* how often each error code */
};

/** rig_init() - a guest with tables in place; @cached: with TLBs and walk caches */
void rig_init(struct rig *rig, bool cached, uint64_t seed);
void rig_free(struct rig *rig);

/** rig_step() - one random step on all copies. Return: NULL, or what differs (text of its own) */
const char *rig_step(struct rig *rig);

/** rig_compare() - are all memories equal, does the shadow's audit pass? Return: as rig_step() */
const char *rig_compare(struct rig *rig);

#endif
