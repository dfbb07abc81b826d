/* SPDX-License-Identifier: MIT */
/* mapping.h - what kind of memory a range of this process is, as /proc/self/smaps tells */
#ifndef MT_SYS_MAPPING_H
#define MT_SYS_MAPPING_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mt_mapping {
	MT_MAPPING_ANON,   /* private anonymous, readable and writable: what we manage */
	MT_MAPPING_SHARED, /* shared memory or a shared file mapping */
	MT_MAPPING_FILE,   /* private mapping of a file */
	MT_MAPPING_HUGETLB,
	MT_MAPPING_LOCKED, /* mlock()ed */
	MT_MAPPING_OTHER,  /* not mapped, or not readable and writable throughout */
};

/* What a mapping is marked with, as far as the kernel joins only mappings that are equal in it. */
struct mt_mapping_flags {
	bool huge;       /* MADV_HUGEPAGE */
	bool no_huge;    /* MADV_NOHUGEPAGE */
	bool no_dump;    /* MADV_DONTDUMP */
	bool no_reserve; /* MAP_NORESERVE */
};

/** mt_mapping_kind() - the worst kind found in the range. Return: it; OTHER when /proc can't tell.
 */
enum mt_mapping mt_mapping_kind(const void *addr, size_t bytes);

/** mt_mapping_flags() - what the mapping at @addr is marked with; nothing when /proc can't tell */
struct mt_mapping_flags mt_mapping_flags(const void *addr);

/** mt_mapping_count() - mappings that this process has; 0 when /proc can't tell. Allocates nothing.
 */
uint64_t mt_mapping_count(void);

#endif
