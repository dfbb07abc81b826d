/* SPDX-License-Identifier: MIT */
/*
 * compiler.h - attributes, assertions and cleanup helpers used everywhere
 *
 * Assertions have two tiers. MT_ASSERT states something only a bug can break and is always on.
 * Inside a VMM a failed one must not take the guest down silently with wrong data, so it traps:
 * a stopped guest loses less than a guest that runs on with damaged memory.
 */
#ifndef MT_BASE_COMPILER_H
#define MT_BASE_COMPILER_H

#include <stddef.h>
#include <stdint.h>

#define MT_MUST_CHECK   __attribute__((warn_unused_result))
#define MT_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define MT_UNUSED       __attribute__((unused))
#define MT_PUBLIC       __attribute__((visibility("default")))
#define MT_LIKELY(x)    __builtin_expect(!!(x), 1)
#define MT_UNLIKELY(x)  __builtin_expect(!!(x), 0)

#define MT_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MT_ASSERT(cond)                   \
	do {                              \
		if (MT_UNLIKELY(!(cond))) \
			__builtin_trap(); \
	} while (0)

/* A place no run gets to unless there is a bug; @why is for the reader. */
#define MT_UNREACHABLE(why) __builtin_trap()

#define MT_MIN(a, b) ((a) < (b) ? (a) : (b))
#define MT_MAX(a, b) ((a) > (b) ? (a) : (b))

/** mt_minus() - not below zero */
static inline uint64_t mt_minus(uint64_t from, uint64_t take)
{
	return from > take ? from - take : 0;
}

static inline uint64_t mt_align_up(uint64_t value, uint64_t power_of_two)
{
	return (value + power_of_two - 1) & ~(power_of_two - 1);
}

static inline uint64_t mt_align_down(uint64_t value, uint64_t power_of_two)
{
	return value & ~(power_of_two - 1);
}

#endif
