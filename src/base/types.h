/* SPDX-License-Identifier: MIT */
/*
 * types.h - page numbers and handles as distinct types
 *
 * A guest page number, a staging slot and a swap slot are all small integers; wrapping each in a
 * one-member struct makes passing the wrong one a compile error and costs nothing. Sentinels are
 * all-ones: zero is a valid number in every one of these spaces.
 */
#ifndef MT_BASE_TYPES_H
#define MT_BASE_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#define MT_PAGE_SHIFT 12
#define MT_PAGE_SIZE  (1UL << MT_PAGE_SHIFT)
#define MT_HUGE_SHIFT 21
#define MT_HUGE_SIZE  (1UL << MT_HUGE_SHIFT)
/* 4 KiB pages in one 2 MiB large page */
#define MT_HUGE_PAGES (1U << (MT_HUGE_SHIFT - MT_PAGE_SHIFT))

/* Guest page number: index of a page in one VM's page map. 32 bits cover 16 TiB of guest memory. */
typedef struct mt_gpn {
	uint32_t n;
} mt_gpn_t;

/* Slot of a page in the staging area, where nominated pages wait. */
typedef struct mt_stage {
	uint32_t n;
} mt_stage_t;

/* Slot of a page in the VM's swap file. */
typedef struct mt_slot {
	uint32_t n;
} mt_slot_t;

/* Place of a compressed page in the zip store; opaque outside of it, fits 40 bits. */
typedef struct mt_zref {
	uint64_t n;
} mt_zref_t;

/* The daemon's number for a VM; never reused while the daemon lives. */
typedef struct mt_vmid {
	uint32_t n;
} mt_vmid_t;

/* Page of a share group's frames: a copy that several guest pages have in common. */
typedef struct mt_frame {
	uint32_t n;
} mt_frame_t;

#define MT_NONE32 UINT32_MAX

#define MT_GPN(v)     ((mt_gpn_t){(uint32_t)(v)})
#define MT_GPN_NONE   MT_GPN(MT_NONE32)
#define MT_STAGE(v)   ((mt_stage_t){(uint32_t)(v)})
#define MT_STAGE_NONE MT_STAGE(MT_NONE32)
#define MT_SLOT(v)    ((mt_slot_t){(uint32_t)(v)})
#define MT_SLOT_NONE  MT_SLOT(MT_NONE32)
#define MT_FRAME(v)   ((mt_frame_t){(uint32_t)(v)})
#define MT_FRAME_NONE MT_FRAME(MT_NONE32)

/* Most frames of a share group: 64 GiB. */
#define MT_FRAMES_MAX (1U << 24)

static inline bool mt_gpn_is_none(mt_gpn_t gpn)
{
	return gpn.n == MT_NONE32;
}

static inline bool mt_frame_is_none(mt_frame_t frame)
{
	return frame.n == MT_NONE32;
}

static inline uint64_t mt_pages_of_bytes(uint64_t bytes)
{
	return (bytes + MT_PAGE_SIZE - 1) >> MT_PAGE_SHIFT;
}

#endif
