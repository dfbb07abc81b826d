/* SPDX-License-Identifier: MIT */
/*
 * share.h - guest pages in frames that they have in common with others
 *
 * The daemon keeps the frames of a share group and knows pages by the hash of their content; this
 * is the monitor's side. Pages are shared only from staging, where nobody can write to them:
 *
 *   helper hashes ──▶ offer ──▶ daemon: a frame ──────▶ compared byte by byte, then SHARED
 *                      ▲                wanted ──┐      no like, no room ──▶ back, or compressed
 *                      └── with the content ◀────┘
 *
 * Batches come from two sides. Reclaim offers what is about to be compressed or swapped. And what
 * is in place is looked at slowly (share_scan.c): hashed where it is, and only what has a like is
 * moved to staging (share_look.c). A page that is touched while it is offered goes back to the
 * guest as any nominated page does.
 *
 * A SHARED page's frame is its only copy, like a compressed page's object. When the guest reads the
 * page, the frame is mapped in its place (share_map.c); when it writes, the content is copied back
 * and the frame released. What is mapped or copied back must have the checksum the page had when
 * it was shared.
 *
 * The link thread sends and receives (share_link.c). Batches pass between it and the pager by
 * their phase. Without a daemon nothing is offered, and releases need not be told: a monitor that
 * comes back tells which frames it uses.
 */
#ifndef MT_MONITOR_SHARE_H
#define MT_MONITOR_SHARE_H

#include "base/compiler.h"
#include "monitor/helper.h"
#include "monitor/region.h"
#include "wire/wire.h"

#include <stdatomic.h>

#define MT_SHARE_BATCHES  4U
#define MT_SHARE_RELEASES 1024U /* a power of two */
#define MT_SHARE_READING  4U
#define MT_SHARE_AGAINS   512U /* a power of two */
/* So many of these are worth to be looked at at once. */
#define MT_SHARE_AGAIN_MANY 128U

enum mt_share_phase {
	MT_SHARE_IDLE,     /* pager */
	MT_SHARE_TO_SEND,  /* link */
	MT_SHARE_ASKED,    /* link, until the pager loses patience */
	MT_SHARE_ANSWERED, /* pager */
};

struct mt_share_batch {
	_Atomic int phase;
	uint32_t number; /* tells an answer to this offer from a late one to an earlier */
	bool evict;      /* what is not shared is compressed; else it goes back into its place */
	bool zipped;     /* its pages are compressed, not in staging */
	bool contents;   /* send contents, not hashes: the daemon wants them */
	uint32_t count;
	uint32_t unanswered;
	uint64_t ticket;
	uint64_t since_ns;
	mt_gpn_t gpn[MT_JOB_PAGES];
	mt_stage_t slot[MT_JOB_PAGES];
	const uint8_t *page[MT_JOB_PAGES]; /* the link reads it with contents only */
	uint64_t hash[MT_JOB_PAGES];
	uint32_t answer[MT_JOB_PAGES]; /* a frame, or MT_WIRE_SHARE_* */
};

enum mt_look_phase {
	MT_LOOK_IDLE,     /* pager */
	MT_LOOK_TO_HASH,  /* helper */
	MT_LOOK_HASHED,   /* pager */
	MT_LOOK_TO_SEND,  /* link */
	MT_LOOK_ASKED,    /* link */
	MT_LOOK_ANSWERED, /* pager */
};

/* Beside what the daemon says (MT_WIRE_SHARE_*), what is known of a page that was looked at. */
#define MT_LOOK_ABSENT (UINT32_MAX - 16) /* it was not there to be read, or has changed since */
#define MT_LOOK_ZERO   (UINT32_MAX - 17)
#define MT_LOOK_TO_ASK (UINT32_MAX - 18) /* it has a hash, and no answer yet */

/* Pages that are looked at where they are. */
struct mt_share_look {
	_Atomic int phase; /* enum mt_look_phase */
	uint32_t number;   /* as a batch's */
	uint32_t count;
	uint32_t done; /* pages whose answer has been dealt with */
	uint32_t gpn[MT_WIRE_SHARE_LOOKS];
	const uint8_t *page[MT_WIRE_SHARE_LOOKS];
	uint64_t hash[MT_WIRE_SHARE_LOOKS];
	uint32_t answer[MT_WIRE_SHARE_LOOKS]; /* as a batch's, or MT_LOOK_* */
	bool large[MT_WIRE_SHARE_LOOKS];
};

_Static_assert(MT_JOB_PAGES <= MT_WIRE_SHARE_PAGES, "a job's pages fit one offer");

/* What the daemon knows of the frames we use. */
enum mt_share_sync {
	MT_SHARE_CUT,     /* nothing: it will be told all of them */
	MT_SHARE_TELLING, /* those of pages before @tell_next */
	MT_SHARE_SYNCED,  /* all */
};

struct mt_share {
	const uint8_t *frames; /* the group's, read-only; NULL before there are any */
	int frames_fd;         /* the same, to be mapped (the link's) */

	/* Mapped frames, and the mappings they take. */
	uint64_t mapped_pages;
	uint64_t maps;
	uint64_t maps_max;
	bool map_at_once;   /* when pages are shared, not when they are read */
	uint32_t uncounted; /* mappings taken away since all were counted */
	_Atomic bool count_wanted;
	_Atomic uint64_t maps_real; /* helper: mappings of the whole process */
	uint64_t maps_real_max;
	uint64_t maps_held_pages; /* kernel memory behind them, as far as it is counted as held */
	enum mt_share_sync sync;
	mt_gpn_t tell_next;
	uint32_t last_number;
	struct mt_share_batch batch[MT_SHARE_BATCHES];

	struct mt_share_look look;
	uint64_t cow_hint_pages;       /* in the scanner's round so far */
	uint64_t cow_hint_round_pages; /* in the one before */

	/* Frames that pages have ceased to use: from the pager to the link. */
	mt_frame_t release[MT_SHARE_RELEASES];
	_Atomic uint32_t release_head; /* link */
	_Atomic uint32_t release_tail; /* pager */
	_Atomic bool release_lost;     /* there was no room: the link starts over */

	/* Pages that have got a frame like them: from the link to the pager. */
	mt_gpn_t again[MT_SHARE_AGAINS];
	uint64_t again_by_ns;        /* pager: they are looked at by then, however few; 0: none */
	_Atomic uint32_t again_head; /* pager */
	_Atomic uint32_t again_tail; /* link */
	_Atomic bool again_lost;     /* there was no room: all compressed pages are looked at */

	/* Of these, pages that are on their way from the swap file. */
	mt_gpn_t reading[MT_SHARE_READING];
	uint32_t reading_count;

	/* Scanner. */
	_Atomic uint32_t pages_per_ks; /* link thread; 0: do not share */
	struct mt_region_hand scan_hand;
	uint64_t scan_since_ns; /* when the hand went on last */
	uint64_t scan_passed_pages;
	uint64_t scan_left_pages; /* of its round */
	struct mt_region_hand sweep_hand;
	uint64_t sweep_left_pages;
};

struct mt_pager;

/* share.c */

/** mt_share_usable() - may pages be offered now? */
bool mt_share_usable(const struct mt_pager *pager);

/** mt_share_batch_idle() - is there a batch to be filled? */
bool mt_share_batch_idle(const struct mt_pager *pager);

/** mt_share_offer_job() - pages of a hashed job are offered; whatever can't be goes on its way */
void mt_share_offer_job(struct mt_pager *pager, struct mt_job *job);

/** mt_share_step() - take answers, scan. Return: ms until there is something to do; -1: nothing. */
int mt_share_step(struct mt_pager *pager);

/** mt_share_frame() - content of the frame of SHARED page @gpn */
const uint8_t *mt_share_frame(const struct mt_pager *pager, mt_gpn_t gpn);

/** mt_share_intact() - has page @gpn's frame the content it was shared with? */
bool mt_share_intact(const struct mt_pager *pager, mt_gpn_t gpn);

/** mt_share_let_go() - page @gpn, SHARED until now, does not need @frame any more */
void mt_share_let_go(struct mt_pager *pager, mt_gpn_t gpn, mt_frame_t frame);

/** mt_share_hash() - as the daemon computes it */
uint64_t mt_share_hash(const void *page);

/** mt_share_batch_get() - a batch to be filled, its count 0; NULL when all are under way */
struct mt_share_batch *mt_share_batch_get(struct mt_pager *pager);

/** mt_share_send() - hand a filled batch to the link; with @contents that reads the pages */
void mt_share_send(struct mt_pager *pager, struct mt_share_batch *batch, bool contents);

/** mt_share_batch_take() - take in a batch all of whose answers are known. False: not now. */
MT_MUST_CHECK bool mt_share_batch_take(struct mt_pager *pager, struct mt_share_batch *batch);

/** mt_share_count_why() - count why a page is not shared */
void mt_share_count_why(struct mt_pager *pager, uint32_t answer);

/** mt_answer_is_frame() - is it a frame's number, which the page has a use of? */
static inline bool mt_answer_is_frame(uint32_t answer)
{
	return answer < MT_FRAMES_MAX;
}

/* share_look.c */

/** mt_look_idle() - may the look be filled? */
bool mt_look_idle(const struct mt_pager *pager);

/** mt_look_add() - put page @gpn, which is in its place, into the look; it must have room */
void mt_look_add(struct mt_pager *pager, mt_gpn_t gpn, bool large);

/** mt_look_start() - hand the look to the helper, if there is anything in it */
void mt_look_start(struct mt_pager *pager);

/** mt_look_hash() - helper thread: hash a look's pages. Return: was there one? */
bool mt_look_hash(struct mt_pager *pager);

/** mt_look_step() - go on with a look that has its hashes, or its answers */
void mt_look_step(struct mt_pager *pager);

/** mt_look_cut() - the connection is lost: the daemon's answers are void */
void mt_look_cut(struct mt_pager *pager);

/* share_map.c */

/** mt_share_map_init() - find out how many mappings there may be */
void mt_share_map_init(struct mt_pager *pager);

/**
 * mt_share_map() - let the guest read SHARED page @gpn in its frame, and some beside it
 *
 * Wakes who waits for them. False if the page is to be copied back instead.
 */
MT_MUST_CHECK bool mt_share_map(struct mt_pager *pager, mt_gpn_t gpn);

/** mt_share_unmap() - take the mapped frames of up to @most pages from @gpn on away: SHARED still
 *
 * And of more around them, where that is better for the kernel.
 *
 * False if @gpn's is still there.
 */
MT_MUST_CHECK bool mt_share_unmap(struct mt_pager *pager, mt_gpn_t gpn, uint32_t most);

/**
 * mt_share_unmap_range() - take the mapped frames in a range away that the guest gives up
 *
 * Frames that can't be taken away stay.
 */
void mt_share_unmap_range(struct mt_pager *pager, mt_gpn_t first, uint64_t pages);

/** mt_share_forget_maps() - whatever was mapped in a range has been replaced by the VMM */
void mt_share_forget_maps(struct mt_pager *pager, mt_gpn_t first, uint64_t pages);

/** mt_share_map_idle() - helper thread: count all mappings if that is wanted. Return: was it? */
bool mt_share_map_idle(struct mt_pager *pager);

/** mt_share_count_maps() - count what the mappings cost the kernel, as far as there is room */
void mt_share_count_maps(struct mt_pager *pager);

/** mt_share_audit_maps() - count mapped pages and mappings anew */
void mt_share_audit_maps(struct mt_pager *pager, uint64_t *ret_pages, uint64_t *ret_maps);

/* share_zipped.c */

/** mt_share_zipped_add() - put page @gpn into the batch if it is compressed. Return: is it? */
bool mt_share_zipped_add(struct mt_pager *pager, struct mt_share_batch *batch, mt_gpn_t gpn);

/** mt_share_zipped_take() - take in an answered batch of compressed pages */
void mt_share_zipped_take(struct mt_pager *pager, struct mt_share_batch *batch);

/* share_scan.c */

/** mt_share_scan() - look at a few pages if it is time. Return: ms until it is; -1: never. */
int mt_share_scan(struct mt_pager *pager);

/* share_sync.c: commands (command.h) */

/* The frames of one SHARE_KEEP. */
struct mt_share_tell {
	uint32_t count;
	uint32_t frame[MT_WIRE_SHARE_KEEPS];
	bool more;
};

/* Where the group's frames are mapped. */
struct mt_share_begin {
	const uint8_t *frames;
	int frames_fd;
	bool map_at_once;
	bool refused;
};

/** mt_share_begin() - pages may be offered from now on; refused while pages are in other frames */
bool mt_share_begin(struct mt_pager *pager, void *begin);

/** mt_share_tell_begin(), mt_share_tell() - gather the frames in use from the first page on */
bool mt_share_tell_begin(struct mt_pager *pager, void *unused);
bool mt_share_tell(struct mt_pager *pager, void *tell);

/** mt_share_cut() - the connection is lost; @ret_pages: uint64_t, guest pages in frames */
bool mt_share_cut(struct mt_pager *pager, void *ret_pages);

/* share_link.c */

struct mt_link;

/** mt_share_link_send() - send what the pager has for the daemon. Return: 0 or -errno. */
MT_MUST_CHECK int mt_share_link_send(struct mt_link *link);

/** mt_share_link_message() - a SHARE_* message of the daemon; owns @fd. Return: 0 or -errno. */
MT_MUST_CHECK int mt_share_link_message(struct mt_link *link, const union mt_wire_msg *msg, int fd);

/** mt_share_link_cut() - the connection is lost. Return: guest pages in frames. */
uint64_t mt_share_link_cut(struct mt_link *link);

/** mt_share_link_fini() - close and unmap; the pager is no more */
void mt_share_link_fini(struct mt_link *link, struct mt_pager *pager);

#endif
