/* SPDX-License-Identifier: MIT */
/*
 * counters.h - every number a monitor reports, once, with its meaning
 *
 * The monitor's statistics, the STATS message, the JSON the daemon prints and the man page's table
 * come from this list. A kind says how to show a number: PAGES are 4 KiB pages (shown in KiB),
 * BYTES bytes (shown in KiB), COUNT events since the start, NS nanoseconds.
 *
 * Append only: the position is the number on the wire. A reader of an older version ignores what
 * it does not know, a reader of a newer one sees zeros for what it is not told.
 */
#ifndef MT_WIRE_COUNTERS_H
#define MT_WIRE_COUNTERS_H

/* clang-format off */
#define MT_COUNTERS(X) \
	/* id               JSON name             kind   meaning */ \
	X(MEMSIZE,          "memsize",            PAGES, "guest memory promised, in all regions") \
	X(RESIDENT,         "resident",           PAGES, "guest pages in their place") \
	X(NOMINATED,        "nominated",          PAGES, "guest pages waiting in staging for a second chance") \
	X(ZERO,             "zero",               PAGES, "guest pages known to hold only zeros; they cost nothing") \
	X(SHARED_FRAMES,    "sharedFrames",       PAGES, "guest pages in shared frames") \
	X(ZIPPED,           "zipped",             PAGES, "guest pages compressed, counted at their full size") \
	X(SWAPPED,          "swapped",            PAGES, "guest pages in the swap file") \
	X(RELEASED,         "released",           PAGES, "guest pages given up by the guest or the VMM and not touched since") \
	X(UNTOUCHED,        "untouched",          PAGES, "guest pages never touched") \
	X(FAILED,           "failed",             PAGES, "guest pages whose only copy was lost") \
	X(ZIP_HELD,         "zipHeld",            BYTES, "machine memory the zip store takes") \
	X(ZIP_STORED,       "zipStored",          BYTES, "compressed bytes in the zip store") \
	X(OVERHEAD,         "overhead",           BYTES, "machine memory of the monitor's own bookkeeping") \
	X(HELD,             "held",               PAGES, "machine memory held in all: guest pages, staging, zip store, bookkeeping") \
	X(HELD_MAX,         "heldMax",            PAGES, "most machine memory held at any time") \
	X(GRANT,            "grant",              PAGES, "machine memory the VM may hold now") \
	X(TARGET,           "target",             PAGES, "machine memory the VM is steered to") \
	X(SWAP_SLOTS,       "swapSpace",          PAGES, "size of the swap file") \
	X(FAULT_NEW,        "faultNew",           COUNT, "faults: first touch of a page, or touch of a released one") \
	X(FAULT_NOMINATED,  "faultNominated",     COUNT, "faults: page was in staging (second chance taken)") \
	X(FAULT_ZERO,       "faultZero",          COUNT, "faults: page was known to be zero") \
	X(FAULT_ZIPPED,     "faultZipped",        COUNT, "faults: page was compressed") \
	X(FAULT_SWAPPED,    "faultSwapped",       COUNT, "faults: page was in the swap file") \
	X(FAULT_PRESENT,    "faultPresent",       COUNT, "faults: page had come back meanwhile") \
	X(FAULT_UNSEEN,     "faultUnseen",        COUNT, "pages gone from memory though nobody gave them up") \
	X(FAULT_WAITED,     "faultWaited",        COUNT, "faults that had to wait until memory was given up") \
	X(PREFETCHED,       "prefetched",         COUNT, "pages brought back along with a faulting neighbour") \
	X(NOMINATIONS,      "nominations",        COUNT, "pages moved to staging") \
	X(PINNED,           "pinned",             COUNT, "nominations refused by the kernel: page pinned for DMA") \
	X(ZIP_IN,           "zipin",              COUNT, "pages put into the zip store") \
	X(ZIP_OUT,          "zipout",             COUNT, "pages brought back from the zip store to the guest") \
	X(ZIP_REJECTED,     "zipRejected",        COUNT, "pages that did not shrink to half") \
	X(ZIP_TO_SWAP,      "zipToSwap",          COUNT, "pages that left the full zip store for the swap file") \
	X(SWAP_OUT,         "swapout",            COUNT, "pages written to the swap file") \
	X(SWAP_IN,          "swapin",             COUNT, "pages read from the swap file") \
	X(SWAP_ERRORS,      "swapErrors",         COUNT, "swap reads or writes that failed") \
	X(DISCARDED,        "discarded",          COUNT, "pages given up by the VMM's madvise") \
	X(FAULT_P50,        "faultP50",           NS,    "fault service time, median") \
	X(FAULT_P99,        "faultP99",           NS,    "fault service time, 99th percentile") \
	X(FAULT_MAX,        "faultMax",           NS,    "fault service time, longest") \
	X(SAMPLE_PERIODS,   "samplePeriods",      COUNT, "sample periods that have ended") \
	X(SAMPLE_WATCHED,   "sampleWatched",      COUNT, "guest pages watched in all of them") \
	X(SAMPLE_TOUCHED,   "sampleTouched",      COUNT, "of these, pages the guest touched") \
	X(SAMPLE_WRITTEN,   "sampleWritten",      COUNT, "of these, pages it wrote to at first touch") \
	X(SAMPLE_NOW_WATCHED, "sampleNowWatched", COUNT, "guest pages watched in the running period") \
	X(SAMPLE_NOW_TOUCHED, "sampleNowTouched", COUNT, "of these, pages touched so far") \
	X(SAMPLE_NOW_WRITTEN, "sampleNowWritten", COUNT, "of these, pages written so far") \
	X(ZERO_DENIED,      "zeroDenied",         COUNT, "pages one thread read as zero and the next did not: a fault of the machine") \
	X(MENDED,           "mended",             COUNT, "large pages that sampling broke, put together again") \
	X(FAULT_SHARED,     "faultShared",        COUNT, "faults: page was in a shared frame") \
	X(SHARE_SCANNED,    "shareScanned",       COUNT, "pages hashed for sharing") \
	X(SHARE_MADE,       "shareMade",          COUNT, "pages put into shared frames") \
	X(SHARE_UNCHANGED,  "shareUnchanged",     COUNT, "pages offered before, the same as then, and without a like") \
	X(SHARE_NO_MATCH,   "shareNoMatch",       COUNT, "pages offered, without a like so far") \
	X(SHARE_VOLATILE,   "shareVolatile",      COUNT, "pages touched before they could be shared") \
	X(SHARE_FULL,       "shareFull",          COUNT, "pages not shared because there was no room for a frame") \
	X(SHARE_DIFFERS,    "shareDiffers",       COUNT, "pages that had a frame's hash and not its content") \
	X(SHARE_LARGE,      "shareLarge",         COUNT, "pages hashed and not shared because they are part of large pages") \
	X(SHARE_MAPPED,     "sharedMapped",       PAGES, "guest pages in shared frames that the guest reads in their place") \
	X(SHARE_MAPS,       "sharedMaps",         COUNT, "mappings of the VMM's these take") \
	X(FAULT_MAPPED,     "faultMapped",        COUNT, "faults: page in a shared frame was read, and the frame mapped") \
	X(SHARE_BROKEN,     "shareBroken",        COUNT, "faults: page with a mapped frame was written to") \
	X(SHARE_OVER,       "shareOverBudget",    COUNT, "shared pages read and copied back: the VMM has too many mappings") \
	X(SWAP_ENCRYPTED,   "swapEncrypted",      COUNT, "1: what is written to the swap file is encrypted") \
	X(COW_HINT,         "cowHint",            PAGES, "guest pages in large pages that sharing would save if these were broken") \
	X(DIRECT_IO,        "directIo",           COUNT, "1: a file is open for direct I/O that the kernel does not report: no page leaves its place")
/* clang-format on */

enum mt_counter_kind {
	MT_COUNTER_PAGES,
	MT_COUNTER_BYTES,
	MT_COUNTER_COUNT,
	MT_COUNTER_NS,
};

enum mt_counter {
#define X(id, name, kind, meaning) MT_C_##id,
	MT_COUNTERS(X)
#undef X
		MT_COUNTER_MAX
};

struct mt_counter_info {
	const char *name;
	enum mt_counter_kind kind;
	const char *meaning;
};

/** One entry for each enum mt_counter. */
extern const struct mt_counter_info mt_counter_info[MT_COUNTER_MAX];

#endif
