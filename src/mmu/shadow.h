/* SPDX-License-Identifier: MIT */
/*
 * shadow.h - shadow page tables: guest virtual to machine in one go, kept in step by software
 *
 * A processor without nested paging can walk one set of tables. The shadow is that set: for each
 * guest table a *shadow page* of the same level, whose entries hold the guest's rights and machine
 * addresses. It starts empty; a *hidden fault*, which the guest never learns of, fills what a walk
 * of the guest's tables allows. Three rules keep it in step:
 *
 * S1  A shadow entry exists only for a guest entry whose accessed bit is set, and is writable only
 *     if the leaf's dirty bit is set too: the first access and the first write come by here.
 * S2  A guest frame that has a shadow page is *traced*: no shadow entry maps it writable. A store
 * to it ends as MT_SHADOW_EMULATE; who carries it out says so by mt_shadow_written(). S3  What the
 * host moves is dropped from the shadow before it moves (mt_shadow_host_changed()).
 *
 * So the shadow follows each change of a guest table at once, more strictly than INVLPG demands.
 * Roots stay cached over CR3 switches. A table written again and again without being used loses its
 * shadow and its trace ("flooding": a fork filling a table, or a freed table put to another use).
 * Only 64-bit tables are shadowed. One virtual processor; no locks.
 */
#ifndef MT_MMU_SHADOW_H
#define MT_MMU_SHADOW_H

#include "mmu/tables.h"
#include "mmu/walk.h"

#define MT_SHADOW_ROOTS_MAX 64u
#define MT_SHADOW_FLOOD     4u /* writes to a table since its shadow was last filled */
#define MT_SHADOW_NONE      UINT32_MAX

/* All entries of the shadow are numbered: table * 512 + index. Those with one target are a list. */
struct mt_shadow_link {
	uint32_t next, prev; /* entries, or MT_SHADOW_NONE */
	uint32_t gfn;        /* of a leaf: what it maps */
};

/* What a shadow table stands for. */
struct mt_shadow_page {
	uint32_t gfn;     /* the guest's table; direct: first frame of what it maps */
	uint32_t parents; /* first entry that points here */
	uint32_t next;    /* of the same frame */
	uint8_t level;
	bool used;
	bool direct; /* a guest's large page in smaller pieces: stands for no table */
	bool root;
	uint8_t writes; /* since it was last filled */
	uint64_t last_use;
};

struct mt_shadow_frame {
	uint32_t leaves; /* first 4 KiB shadow leaf that maps it */
	uint32_t pages;  /* first shadow page for it */
};

struct mt_shadow_large {
	uint32_t leaves; /* first 2 MiB shadow leaf that maps it */
	uint32_t traced; /* frames in it that are traced */
};

struct mt_shadow {
	struct mt_tables tables;
	struct mt_shadow_page *pages[MT_TABLES_MAX / MT_TABLES_CHUNK]; /* in step with tables */
	struct mt_shadow_link *links[MT_TABLES_MAX / MT_TABLES_CHUNK];
	struct mt_shadow_frame *frames;
	struct mt_shadow_large *large;
	uint32_t frame_count;
	struct mt_memory memory; /* the guest's, by guest physical address */
	struct mt_pmap pmap;
	mt_table_t root;
	unsigned int root_count;
	uint64_t clock;       /* for last_use */
	bool rights_went;     /* an entry lost rights: cached translations must go */
	bool fractured;       /* a guest's large page was mapped in pieces */
	bool tables_went;     /* a table was given back: cached walks must go */
	uint64_t flooded;     /* shadow pages dropped for being written */
	uint64_t roots_found; /* CR3 switches whose root was still there */
};

enum mt_shadow_end {
	MT_SHADOW_FILLED,  /* a hidden fault: try the access again */
	MT_SHADOW_EMULATE, /* carry the store out yourself, at .mpa, then mt_shadow_written(.gpa) */
	MT_SHADOW_GUEST,   /* the guest's own fault, or the end of the walk: .walk */
	MT_SHADOW_NO_MEMORY, /* the guest's tables point to .gpa, where it has no memory */
	MT_SHADOW_FAILED     /* .rc */
};

struct mt_shadow_fault {
	enum mt_shadow_end end;
	int rc;
	mt_gpa_t gpa;
	mt_mpa_t mpa;
	struct mt_walk walk;
};

/** mt_shadow_init() - @frames: 4 KiB frames of guest memory. Return: 0 or -ENOMEM */
int mt_shadow_init(struct mt_shadow *shadow, const struct mt_memory *memory,
		   const struct mt_pmap *pmap, uint32_t frames, uint32_t tables_max);
void mt_shadow_destroy(struct mt_shadow *shadow);

/** mt_shadow_switch() - CR3 or the mode changed: pick the root. Return: 0 or -ENOMEM */
int mt_shadow_switch(struct mt_shadow *shadow, const struct mt_regs *regs);

/** mt_shadow_forget() - drop everything; mt_shadow_switch() must follow */
void mt_shadow_forget(struct mt_shadow *shadow);

/** mt_shadow_fill() - the shadow did not allow this access: why, and what now? */
void mt_shadow_fill(struct mt_shadow *shadow, const struct mt_regs *regs, mt_gva_t gva,
		    unsigned int access, struct mt_shadow_fault *fault);

/** mt_shadow_written() - the 8 bytes around @gpa were written. Return: was the frame traced? */
bool mt_shadow_written(struct mt_shadow *shadow, mt_gpa_t gpa);

/** mt_shadow_host_changed() - the host moves @gfn, or takes the right to write it */
void mt_shadow_host_changed(struct mt_shadow *shadow, mt_gfn_t gfn);

/** mt_shadow_traced() - do stores to this frame need mt_shadow_written()? */
bool mt_shadow_traced(const struct mt_shadow *shadow, mt_gfn_t gfn);

/**
 * mt_shadow_audit() - do all lists and rules hold?
 *
 * Return: NULL or what is wrong. Looks at every entry: for tests.
 */
const char *mt_shadow_audit(const struct mt_shadow *shadow);

#endif
