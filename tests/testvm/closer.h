/* SPDX-License-Identifier: MIT */
/* closer.h - a VMM that closes descriptors it did not open: memtide-mapper's */
#ifndef MT_TESTVM_CLOSER_H
#define MT_TESTVM_CLOSER_H

/* By every call that the C library has for it. Return: was what is not ours left as it was? */
int closer_library(void);

/* By a system call that nobody stands in front of. Return: was it made? */
int closer_raw(void);

#endif
