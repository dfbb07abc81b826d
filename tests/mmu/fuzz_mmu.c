/* SPDX-License-Identifier: MIT */
/*
 * fuzz_mmu.c - libFuzzer picks the steps of the rig: edits, accesses, INVLPGs, CR3 loads, host
 * moves
 *
 * The first byte says whether caches are on, the others are the rig's random numbers. Built where
 * the compiler is clang and has its fuzzer: meson test --suite fuzz runs it for a short while.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rig rig;
	const char *wrong = NULL;

	if (size < 2)
		return 0;
	rig_init(&rig, data[0] & 1, data[0]);
	rig.bytes = data + 1;
	rig.left = size - 1;
	while (!rig.over && !wrong)
		wrong = rig_step(&rig);
	if (!wrong)
		wrong = rig_compare(&rig);
	if (wrong) {
		fprintf(stderr, "%s\n", wrong);
		abort();
	}
	rig_free(&rig);
	return 0;
}
