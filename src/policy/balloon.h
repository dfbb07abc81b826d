/* SPDX-License-Identifier: MIT */
/*
 * balloon.h - how large one VM's balloon should be, and whether it is enough
 *
 * The guest knows best which pages it can spare, so a VM that has to shrink is asked first, and its
 * pages are compressed and swapped only when the balloon can't bring what is needed: it is missing,
 * silent, slower than wanted, or at its end. Its end is the least of
 *
 *   the cap      ctl_max_pct of the guest's own total (reference, section 6)
 *   the floor    memory that must stay available by the guest's own account: a sixteenth of its
 *                total, at least 32 MiB, at most a quarter
 *   the back-off a guest that reads from its own swap space was squeezed too hard: an eighth of the
 *                balloon goes back and nothing is taken for half a minute
 *
 * A guest with less than half of the floor left is in danger, whatever the host's need: half of its
 * balloon goes back at once. What guests report is a second old, and a guest may
 * need all of its memory within less: the last line is deflate-on-oom, and a balloon without it is
 * never made larger.
 *
 * When the host's need is over a balloon goes back by as much as there is free memory to fill it.
 */
#ifndef MT_POLICY_BALLOON_H
#define MT_POLICY_BALLOON_H

#include "base/compiler.h"
#include "base/types.h"

/* The need must have been over for so long before a balloon goes back for that reason. */
#define MT_BALLOON_EASE_NS 10000000000ULL
/* Nothing is taken for so long from a guest that showed that it was too much. */
#define MT_BALLOON_BACKOFF_NS 30000000000ULL
/* A balloon is fast enough when it would be done within this. */
#define MT_BALLOON_HASTE_S 4
/* Rates are measured over at least this. */
#define MT_BALLOON_WINDOW_NS 1000000000ULL
/* A target that differs by less is left as it is: 1 MiB. */
#define MT_BALLOON_GRAIN_PAGES ((1UL << 20) / MT_PAGE_SIZE)
/* Least memory that stays available to a guest: 32 MiB. */
#define MT_BALLOON_FLOOR_PAGES ((32UL << 20) / MT_PAGE_SIZE)
/* A guest that reads more than this from its swap space between two decisions swaps: 256 KiB. */
#define MT_BALLOON_SWAPS_PAGES ((256UL << 10) / MT_PAGE_SIZE)

enum mt_balloon_drive {
	MT_BALLOON_EASE, /* nobody needs the memory: give back what there is room for */
	MT_BALLOON_HOLD, /* leave it as it is */
	MT_BALLOON_TAKE, /* make the guest fit what it may have */
};

struct mt_balloon_guest {
	enum mt_balloon_drive drive;
	unsigned int max_pct; /* cap, of the guest's own total */
	bool present;         /* there is a device that can be told */
	bool deflates_on_oom; /* it gives pages back before the guest\'s OOM killer acts */
	bool fresh;           /* the guest reported lately; without that the next three are old */
	uint64_t total_pages; /* what the guest's kernel manages, the balloon included */
	uint64_t available_pages;  /* what it can use without swapping */
	uint64_t swapped_in_pages; /* read from its swap space since the last decision */
	uint64_t memsize_pages;    /* what it was given, the balloon included */
	uint64_t ballooned_pages;  /* in the balloon now */
	uint64_t reported_pages;   /* in the balloon when the guest reported, at least */
	uint64_t used_pages;       /* with contents, wherever they are */
	uint64_t fit_pages;        /* how many of these there is a place for */
	uint64_t spare_pages;      /* free memory of the host that it may have */
};

/* What the caller keeps between decisions; zero at first and after the guest started anew. */
struct mt_balloon_state {
	uint64_t target_pages;
	uint64_t taken_ns; /* last time the host's need drove it */
	uint64_t backoff_until_ns;
	uint64_t backoff_pages; /* most until then */
	bool measuring;         /* it was to grow at the time below */
	uint64_t measured_ns;
	uint64_t measured_pages;
	uint64_t wanted_pages_s; /* rate */
	bool slow;
};

/* Why the target is what it is: the bound that decided. */
enum mt_balloon_why {
	MT_BALLOON_NO_NEED,
	MT_BALLOON_FITS, /* the guest will fit its place */
	MT_BALLOON_AT_CAP,
	MT_BALLOON_AT_FLOOR,
	MT_BALLOON_GUEST_SWAPS,
	MT_BALLOON_DANGER,
	MT_BALLOON_UNSAFE, /* it would let the guest run out of memory */
	MT_BALLOON_SILENT, /* the guest does not report */
	MT_BALLOON_ABSENT,
	MT_BALLOON_WHYS
};

struct mt_balloon_decision {
	uint64_t target_pages; /* size of the balloon */
	bool works;            /* it brings what is needed: nothing has to be paged out meanwhile */
	bool slow;             /* it does not because it is slower than wanted */
	bool guest_short;      /* the guest itself is short of memory */
	uint64_t most_pages;   /* the largest size that the bounds allow now */
	enum mt_balloon_why why;
};

/** mt_balloon_cap() - most that the balloon may take of a guest with @total_pages of its own */
uint64_t mt_balloon_cap(uint64_t total_pages, unsigned int max_pct);

/** mt_balloon_floor() - least that is left available in such a guest */
uint64_t mt_balloon_floor(uint64_t total_pages);

/** mt_balloon_decide() - decide; about once a second, whenever the guest has reported */
struct mt_balloon_decision mt_balloon_decide(struct mt_balloon_state *state,
					     const struct mt_balloon_guest *guest, uint64_t now_ns);

/** mt_balloon_why_text() - for people: "at most 65 % of the guest", ... */
const char *mt_balloon_why_text(enum mt_balloon_why why);

#endif
