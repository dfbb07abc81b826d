/* SPDX-License-Identifier: MIT */
/* lab_guest.h - a guest kernel with processes instead of checked pages: "--mmu" */
#ifndef MT_TESTVM_LAB_GUEST_H
#define MT_TESTVM_LAB_GUEST_H

#include "guest.h"

/* Run a trace again and again, or a random guest, until guest->stop. Prints a "lab" line. */
void tv_lab_run(struct tv_guest *guest, unsigned int number);

#endif
