/* SPDX-License-Identifier: MIT */
/*
 * pager.h - the pager of one VM: what its files share
 *
 * The pager is one thread that owns everything about a VM's pages: map, staging, stores, faults.
 * Its parts are files of their own (list below), which share this structure and are called from
 * the pager thread only, unless a function says otherwise. Other threads reach the pager through
 * four doors, each with its own rule: commands (command.h), discards (discard.h), the grant and
 * target (atomics here), and the kick.
 *
 *   pager.c     the loop            fault.c     serve one fault
 *   nominate.c  move pages out      reclaim.c   how much, when; jobs to the helper and back
 *   helper.c    compress (a thread) swap_out.c  pages to the swap file
 *   swap_in.c   pages from it       room.c      what is held, what may be held
 *   sample.c    watch a few pages   mend.c      large pages put together again
 *   heat.c      what to keep        loss.c      give a page up for lost
 *   nursery.c   large pages ready for first touches
 *   share.c     pages in frames they have in common with others
 *   share_map.c frames mapped into the guest
 *   audit.c     check every invariant
 */
#ifndef MT_MONITOR_PAGER_H
#define MT_MONITOR_PAGER_H

#include "base/hist.h"
#include "monitor/command.h"
#include "monitor/discard.h"
#include "monitor/helper.h"
#include "monitor/mem_ops.h"
#include "monitor/mend.h"
#include "monitor/page_map.h"
#include "monitor/region.h"
#include "monitor/sample.h"
#include "monitor/share.h"
#include "monitor/staging.h"
#include "monitor/stream.h"
#include "monitor/swap_io.h"
#include "monitor/swap_slots.h"
#include "monitor/zip_store.h"
#include "wire/counters.h"

#include <stdatomic.h>

/* Faults that may wait at once; one thread waits on one page, so this bounds a VMM's threads. */
#define MT_WAITERS_MAX 1024
/* Most pages brought in by one fault, and the size of the pager's bounce buffer. */
#define MT_AROUND_MAX 32U
/* Pages of one swap transfer through a buffer, and of one straight from staging. */
#define MT_SWAP_RUN        8U
#define MT_SWAP_STAGED_RUN 32U
/* Swap transfers under way at once: with a buffer of MT_SWAP_RUN pages, and without one. */
#define MT_SWAP_BUFFERED 6U
#define MT_SWAP_OPS      14U
/* Pages that wait for a transfer to become free; room for the jobs of one round and the last. */
#define MT_SWAP_QUEUE (2 * MT_JOBS * MT_JOB_PAGES)
/* Large pages kept ready for first touches. */
#define MT_NURSERY_SLOTS 2U

/* A fault that could not be served at once. */
struct mt_waiter {
	struct mt_fault fault;
	uint64_t since_ns;
	int outcome; /* enum mt_fault_outcome: what it waits for */
};

enum mt_swap_kind {
	MT_SWAP_FREE,
	MT_SWAP_FROM_STAGING, /* writes nominated pages straight from staging */
	MT_SWAP_FROM_ZIP,     /* writes pages that leave the zip store, unpacked in the buffer */
	MT_SWAP_READ,
};

/* One transfer to or from the swap file. */
struct mt_swap_op {
	enum mt_swap_kind kind;
	uint32_t count;
	uint64_t ticket;  /* the pages' busy ticket (not for reads) */
	mt_slot_t slot;   /* first of the run */
	mt_stage_t stage; /* first of the run (FROM_STAGING) */
	mt_gpn_t gpn[MT_SWAP_STAGED_RUN];
	uint64_t sum[MT_SWAP_STAGED_RUN]; /* checksums as written */
	uint8_t *buffer;                  /* MT_SWAP_RUN pages; NULL for those without */
};

/* Nominated pages that are to be written to swap: busy, with a ticket of their job. Oldest first.
 */
struct mt_swap_queue {
	uint32_t count;
	struct {
		mt_gpn_t gpn;
		mt_stage_t slot;
		uint64_t ticket;
	} page[MT_SWAP_QUEUE];
};

/* Why the only copy of a page is gone; told to people. */
struct mt_page_loss {
	mt_gpn_t gpn;
	mt_slot_t slot;
	int error; /* -EIO; -EBADMSG: its copy is damaged; -ENODATA: it is not where it should be */
};

struct mt_pager {
	struct mt_mem_ops mem;
	struct mt_page_map map;
	struct mt_regions regions;
	struct mt_staging staging;
	struct mt_zip_store *zip;
	uint8_t *zip_arena;
	uint64_t zip_arena_bytes;
	struct mt_slots *slots; /* NULL until there is a swap file */
	struct mt_swap_io swap;
	struct mt_swap_op swap_op[MT_SWAP_OPS];
	struct mt_swap_queue swap_queue;
	uint64_t next_ticket;
	uint64_t swap_retry_ns;    /* after a failed write, or when full: no swapping before then */
	uint64_t read_retry_ns;    /* pages whose last read failed are not read again before then */
	uint64_t reclaim_retry_ns; /* while swap is out: no job before then */
	bool settling;    /* a region came filled: more may be held than granted for a while */
	_Atomic bool cut; /* somebody has closed our descriptors: no page can come or go any more */
	bool in_place; /* I/O may go into guest pages unseen: none leaves its place (vm_direct.c) */
	_Atomic bool look_wanted; /* the pager can't tell whether it may: who may wait is to look */
	uint64_t settle_retry_ns; /* it could not tell: not asked again before then */
	_Atomic uint64_t unsettled_ns; /* since when it can't tell; 0: it could, last time */
	bool leaving;                  /* every page is to come back, and to stay: restore.h */

	/* The nursery's slots are filled by the helper and emptied by the pager. */
	uint8_t *nursery;
	_Atomic uint32_t nursery_ready[MT_NURSERY_SLOTS];

	struct mt_helper helper;
	struct mt_commands commands;
	struct mt_discards discards;
	struct mt_streams streams;
	struct mt_waiter waiter[MT_WAITERS_MAX];
	uint32_t waiters;
	uint32_t waiters_for_memory;
	struct mt_sample sample;
	struct mt_mends mends;
	struct mt_share share;
	uint8_t *bounce; /* MT_AROUND_MAX pages */
	uint8_t *zeros;  /* MT_AROUND_MAX pages that nobody ever writes: no memory behind them */

	/* Clock hand of nomination. */
	struct mt_region_hand hand;
	uint64_t hand_skipped; /* pages passed over since the last one taken */
	uint64_t left_pages;   /* pages that left for a store, in all: the clock of heat.h */

	/*
	 * The grant is what was granted in all less what was returned in all. Each has one writer,
	 * so the link thread can tell the daemon both sides of it without missing a change.
	 */
	_Atomic uint64_t granted_pages;  /* link thread */
	_Atomic uint64_t returned_pages; /* pager */
	_Atomic uint64_t target_pages;   /* link thread */
	uint64_t
		returned_notified_pages; /* of returned_pages, what the link thread was woken for */
	_Atomic uint32_t zip_max_pct;
	uint64_t promised_pages; /* pages that swap reads under way will need */
	uint64_t fixed_bytes;    /* bookkeeping that does not grow with the guest */

	/* Where the pager runs: near whom it serves, while serving is what it mostly does. */
	uint64_t placed_ns;
	uint64_t served_ns; /* last fault */

	int fault_fd;           /* userfaultfd, to sleep on */
	int mem_fd;             /* what mem.read() needs, from whatever thread */
	int event_fd;           /* wakes the pager: commands, helper, swap, discards, grants */
	_Atomic uint32_t batch; /* odd while the pager works, even while it sleeps */

	/* Read by other threads; written by the pager only. */
	_Atomic uint64_t counter[MT_COUNTER_MAX];
	struct mt_hist fault_hist;
	struct mt_page_loss loss; /* the first page lost; valid when counter[FAILED] > 0 */

	/* Called by the pager when something is to be told to the daemon: returned_pages, losses.
	 */
	void (*notify)(void *ctx);
	void *notify_ctx;
};

static inline void mt_count(struct mt_pager *pager, enum mt_counter id, uint64_t more)
{
	uint64_t value = atomic_load_explicit(&pager->counter[id], memory_order_relaxed);

	atomic_store_explicit(&pager->counter[id], value + more, memory_order_relaxed);
}

/* pager.c */

/** mt_pager_kick() - wake the pager to look at its doors; any thread, signal-safe */
void mt_pager_kick(struct mt_pager *pager);

/** mt_pager_area() - private memory of ours that a fork does not share; NULL without any */
void *mt_pager_area(uint64_t bytes);

/** mt_pager_now_ns() - monotonic clock */
uint64_t mt_pager_now_ns(void);

/** mt_pager_ms_until() - how long to wait for @to_ns, rounded up; @most_ms at most */
static inline int mt_pager_ms_until(uint64_t now_ns, uint64_t to_ns, unsigned int most_ms)
{
	uint64_t ms = to_ns > now_ns ? (to_ns - now_ns) / 1000000 + 1 : 0;

	return (int)MT_MIN(ms, most_ms);
}

/**
 * mt_pager_init() - make the pager's own areas; @pager is zeroed but for mem, notify and settings
 * @staging: range for @staging_slots pages, registered for faults (borrowed)
 *
 * Return: 0 or -errno; on failure mt_pager_fini() is still to be called.
 */
MT_MUST_CHECK int mt_pager_init(struct mt_pager *pager, void *staging, uint32_t staging_slots);
void mt_pager_fini(struct mt_pager *pager);

/** mt_pager_cut_pages() - pages that can't come any more, as we are cut off; one at least */
uint64_t mt_pager_cut_pages(const struct mt_pager *pager);

/** mt_pager_run() - step until *@stop; the body of the pager's thread */
void mt_pager_run(struct mt_pager *pager, _Atomic bool *stop);

/**
 * mt_pager_step() - one turn: wait at most @timeout_ms (-1: for ever), then do what is to be done
 * Return: how long the next turn may wait.
 */
int mt_pager_step(struct mt_pager *pager, int timeout_ms);

/* fault.c */

enum mt_fault_outcome {
	MT_FAULT_SERVED,
	MT_FAULT_WAITS_MEMORY,
	MT_FAULT_WAITS_SWAP,
	MT_FAULT_WAITS_KERNEL, /* the address space is changing; try again soon */
	MT_FAULT_STUCK,        /* the page is FAILED: the thread is left where it is */
};

/** mt_fault_serve() - give whoever touched it the page; @again: asked for it before */
enum mt_fault_outcome mt_fault_serve(struct mt_pager *pager, const struct mt_fault *fault,
				     bool again);

/** mt_fault_new() - a fault just read from the kernel: serve it or have it wait */
void mt_fault_new(struct mt_pager *pager, const struct mt_fault *fault);

/** mt_fault_retry() - try those that wait again. Return: how many still wait for the kernel. */
uint32_t mt_fault_retry(struct mt_pager *pager);

/* room.c */

/** mt_room_grant_pages() - machine memory that may be held now; any thread */
uint64_t mt_room_grant_pages(const struct mt_pager *pager);

/** mt_room_held_pages() - machine memory held now, in pages, all counted */
uint64_t mt_room_held_pages(const struct mt_pager *pager);

/** mt_room_for() - may @pages more be held now? */
bool mt_room_for(struct mt_pager *pager, uint64_t pages);

/** mt_room_left_pages() - pages until the grant is used up; 0 when it is */
uint64_t mt_room_left_pages(struct mt_pager *pager);

/** mt_room_shrinking() - is some of the grant to be given back? */
bool mt_room_shrinking(const struct mt_pager *pager);

/** mt_room_around_pages() - most pages that one fault may bring now; 0 when there is no room */
uint64_t mt_room_around_pages(struct mt_pager *pager);

/** mt_room_excess_pages() - pages to be given up to be where we are steered to; 0 when there */
uint64_t mt_room_excess_pages(struct mt_pager *pager);

/** mt_room_return_grant() - lower the grant towards the target as far as holdings allow */
void mt_room_return_grant(struct mt_pager *pager);

/** mt_room_zip_max_bytes() - most memory the zip store may hold now */
uint64_t mt_room_zip_max_bytes(const struct mt_pager *pager);

/** mt_room_overhead_bytes() - bookkeeping memory */
uint64_t mt_room_overhead_bytes(const struct mt_pager *pager);

/* nominate.c */

/** mt_nominate_some() - move up to @pages cold pages to staging. Return: how many were moved. */
uint32_t mt_nominate_some(struct mt_pager *pager, uint32_t pages);

/** mt_nominate_may_find() - found nothing, but is the hand still to visit pages it might take? */
bool mt_nominate_may_find(const struct mt_pager *pager);

/**
 * mt_nominate_settle() - may the nominated pages be read, to be given up?
 *
 * Not while there may be I/O under way into them that nobody reports. A page that is out of its
 * place when it is sure that there is none will have none: it would have to come back first.
 */
bool mt_nominate_settle(struct mt_pager *pager);

/** mt_nominate_run() - move up to @pages pages from @gpn on, all RESIDENT. Return: how many. */
uint32_t mt_nominate_run(struct mt_pager *pager, mt_gpn_t gpn, uint32_t pages);

/**
 * mt_nominate_undo_run() - put pages from @gpn on back together; they lie one behind the other in
 * staging, too, in one region, and nobody reads them there. Return: how many, from the first on.
 */
uint32_t mt_nominate_undo_run(struct mt_pager *pager, mt_gpn_t gpn, uint32_t pages);

/** mt_nominate_undo() - put a NOMINATED page back into its place without anyone having touched it
 */
enum mt_mem_outcome mt_nominate_undo(struct mt_pager *pager, mt_gpn_t gpn, bool wake);

/* reclaim.c */

/**
 * mt_reclaim_step() - one round of giving memory up, as far as it can go without waiting
 * Return: true when there is more to do right now.
 */
bool mt_reclaim_step(struct mt_pager *pager);

/**
 * mt_reclaim_zero() - drop page @gpn in @slot, which the helper found to be zero, if it is
 *
 * Nothing else of the page is kept, so two threads on two processors look before it goes. It costs
 * 100 ns.
 */
void mt_reclaim_zero(struct mt_pager *pager, mt_gpn_t gpn, mt_stage_t slot);

/**
 * mt_page_left() - page @gpn has just left staging for a store
 * mt_page_came_back() - it has come back from one because it was touched
 *
 * What that says of its heat.
 */
void mt_page_left(struct mt_pager *pager, mt_gpn_t gpn);
void mt_page_came_back(struct mt_pager *pager, mt_gpn_t gpn);

/** mt_reclaim_collect() - take in what the helper has finished */
void mt_reclaim_collect(struct mt_pager *pager);

/* swap_out.c */

/** mt_swap_out_enqueue() - page @gpn, busy with @ticket in staging slot @slot, is to be written */
void mt_swap_out_enqueue(struct mt_pager *pager, mt_gpn_t gpn, mt_stage_t slot, uint64_t ticket);

/** mt_swap_out_room() - has the queue room for all that jobs sent out now may bring? */
bool mt_swap_out_room(const struct mt_pager *pager);

/**
 * mt_swap_out_queued() - start writing what is queued, as far as transfers are free
 *
 * Without a working swap file the pages go back to the nominated list.
 */
void mt_swap_out_queued(struct mt_pager *pager);

/** mt_swap_usable() - is there a swap file that took the last write? */
bool mt_swap_usable(const struct mt_pager *pager);

/** mt_swap_out_oldest() - start moving the zip store's oldest pages to swap. Return: how many. */
uint32_t mt_swap_out_oldest(struct mt_pager *pager);

/** mt_swap_out_done() - a write has ended with @result */
void mt_swap_out_done(struct mt_pager *pager, struct mt_swap_op *op, int result);

/** mt_swap_op_get() - an unused transfer, or NULL when all are under way */
struct mt_swap_op *mt_swap_op_get(struct mt_pager *pager, enum mt_swap_kind kind);

/** mt_swap_collect() - take in finished transfers. Return: true when there were any. */
bool mt_swap_collect(struct mt_pager *pager);

/* swap_in.c */

/** mt_swap_in_start() - read page @gpn, and @around pages after it that lie right behind in the
 * file */
enum mt_fault_outcome mt_swap_in_start(struct mt_pager *pager, mt_gpn_t gpn, uint32_t around);

/** mt_swap_in_done() - a read has ended with @result */
void mt_swap_in_done(struct mt_pager *pager, struct mt_swap_op *op, int result);

/** mt_swap_in_forget() - a page that is being read was given up: drop it from the transfer */
void mt_swap_in_forget(struct mt_pager *pager, mt_gpn_t gpn);

/* discard.c */

/** mt_discard_range() - the guest gave these pages up: free every copy of them */
void mt_discard_range(struct mt_pager *pager, mt_gpn_t first, uint64_t pages);

/**
 * mt_page_in_place() - page @gpn, in state @from before, was put into its place: RESIDENT
 *
 * To be called after it was put there, in the same turn: notes if a discard may drop it again.
 */
void mt_page_in_place(struct mt_pager *pager, mt_gpn_t gpn, enum mt_page_state from);

enum mt_absence {
	MT_ABSENCE_SOON_KNOWN, /* the ring has an entry that may explain it: look again next turn */
	MT_ABSENCE_DROPPED,    /* by a discard that was under way: it reads as zeros */
	MT_ABSENCE_LOST,       /* nobody gave it up */
};

/** mt_page_absence() - why RESIDENT page @gpn, found absent just now, is so; changes nothing */
enum mt_absence mt_page_absence(struct mt_pager *pager, mt_gpn_t gpn);

/**
 * mt_page_absent() - RESIDENT page @gpn was found absent just now: why, and what becomes of it
 *
 * DROPPED leaves it RELEASED, LOST leaves it FAILED; only of a dropped page it is known what it
 * holds.
 */
enum mt_absence mt_page_absent(struct mt_pager *pager, mt_gpn_t gpn);

/* loss.c */

/**
 * mt_page_lost() - the only copy of page @gpn is gone or damaged: FAILED, and the daemon is told
 * @from: the state it is in
 * @slot: swap slot it was in, which is never used again, or MT_SLOT_NONE
 * @error: see struct mt_page_loss
 */
void mt_page_lost(struct mt_pager *pager, mt_gpn_t gpn, enum mt_page_state from, mt_slot_t slot,
		  int error);

/** mt_page_loss_text() - why a page was lost, in words */
const char *mt_page_loss_text(int error);

/* nursery.c */

/** mt_nursery_take() - serve a first touch with a whole large page, if there is one and room */
bool mt_nursery_take(struct mt_pager *pager, const struct mt_region *region, mt_gpn_t gpn);

/** mt_nursery_update() - have empty slots filled while there is plenty, drop them when there isn't
 */
void mt_nursery_update(struct mt_pager *pager);

/** mt_nursery_fill() - helper thread: fill one slot that was asked for. Return: was there one? */
bool mt_nursery_fill(struct mt_pager *pager);

/** mt_nursery_pages() - memory the nursery holds */
uint64_t mt_nursery_pages(const struct mt_pager *pager);

/* audit.c */

/** mt_audit() - check every invariant. Return: violations; the first in words in @text. */
uint64_t mt_audit(struct mt_pager *pager, uint64_t *ret_pages, char *text, size_t text_bytes);

#endif
