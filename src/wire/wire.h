/* SPDX-License-Identifier: MIT */
/*
 * wire.h - the messages between a monitor and the daemon
 *
 * Monitors talk to the daemon over a SOCK_SEQPACKET unix socket at the control socket's path with
 * ".vm" appended: one packet is one message, so a peer can never leave half a message behind.
 * A message is a header and a body of fixed size for its type, little-endian as in memory (both
 * ends run on one host). mt_wire_check() is the only gate: what passes it has a known type, the
 * right length, the right number of descriptors, and strings that end.
 *
 * Memory is granted by deltas: GRANT_ADD raises a VM's grant, GRANT_RETURN lowers it, and only the
 * monitor lowers it, after it has let go of the memory. So the sum of grants in the daemon's
 * ledger never understates what monitors may hold, whatever is in flight.
 *
 *   monitor                                   daemon
 *     HELLO ──────────────────────────────────▶   name, token or settings; on reconnect what it
 *                                                 holds, and descriptor of its swap file
 *     ◀────────────────────── WELCOME or REFUSED   id, secret; descriptor of /dev/userfaultfd
 *     REGION_ADD ─────────────────────────────▶
 *     ◀──────────────────── REGION_OK or REFUSED   descriptor of the swap file with the first one
 *     ◀──────────────── GRANT_ADD, TARGET, SETTINGS, CHECK, PEEK at any time
 *     STATS, GRANT_RETURN, EVENT, CHECKED, PEEKED, REGION_DEL, UNMANAGED ▶   at any time
 *     ◀───────────────────────────────── SHARE_START   descriptor of the group's frames
 *     SHARE_KEEP ─────────────────────────────▶   on reconnect: the frames it uses
 *     SHARE_OFFER, SHARE_LOOK, SHARE_PAGE ────▶
 *     ◀─────────── SHARE_ANSWER, SHARE_LOOKED, SHARE_AGAIN
 *     SHARE_RELEASE ──────────────────────────▶
 *     BYE ────────────────────────────────────▶
 */
#ifndef MT_WIRE_WIRE_H
#define MT_WIRE_WIRE_H

#include "base/compiler.h"
#include "base/err.h"
#include "base/types.h"
#include "wire/counters.h"

#define MT_WIRE_MAGIC   0x4544544dU /* "MTDE" */
#define MT_WIRE_VERSION 3
#define MT_WIRE_MAX     32896 /* longest message in bytes */
#define MT_WIRE_SUFFIX  ".vm"

#define MT_WIRE_NAME_MAX  64  /* with the ending NUL */
#define MT_WIRE_TOKEN_MAX 33  /* 128 bits in hex, with the ending NUL */
#define MT_WIRE_TEXT_MAX  320 /* with the ending NUL */

enum mt_wire_type {
	/* monitor to daemon */
	MT_WIRE_HELLO = 1,
	MT_WIRE_REGION_ADD,
	MT_WIRE_REGION_DEL,
	MT_WIRE_UNMANAGED,
	MT_WIRE_STATS,
	MT_WIRE_GRANT_RETURN,
	MT_WIRE_EVENT,
	MT_WIRE_CHECKED,
	MT_WIRE_BYE,
	MT_WIRE_PEEKED,
	MT_WIRE_SHARE_OFFER,
	MT_WIRE_SHARE_PAGE,
	MT_WIRE_SHARE_RELEASE,
	MT_WIRE_SHARE_KEEP,
	MT_WIRE_SHARE_LOOK,
	/* daemon to monitor */
	MT_WIRE_WELCOME = 64,
	MT_WIRE_REFUSED,
	MT_WIRE_REGION_OK,
	MT_WIRE_GRANT_ADD,
	MT_WIRE_TARGET,
	MT_WIRE_SETTINGS,
	MT_WIRE_CHECK,
	MT_WIRE_PEEK,
	MT_WIRE_SHARE_START,
	MT_WIRE_SHARE_ANSWER,
	MT_WIRE_SHARE_AGAIN,
	MT_WIRE_SHARE_LOOKED,
};

struct mt_wire_head {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t length; /* whole message in bytes */
	uint32_t serial; /* of a request; its answer carries the same */
};

/*
 * First message. With a token the settings given to "memtide run" hold and those here are ignored.
 * A monitor that lost its daemon says hello again with its secret and what it holds, and with the
 * descriptor of its swap file, so that a new daemon can make that grow.
 */
struct mt_wire_hello {
	struct mt_wire_head head;
	char name[MT_WIRE_NAME_MAX];
	char token[MT_WIRE_TOKEN_MAX];
	char secret[MT_WIRE_TOKEN_MAX]; /* empty the first time */
	char vmm[32];                   /* what the VMM's process is called, for people */
	uint8_t pad[6];
	uint64_t reservation_bytes;
	uint64_t limit_bytes;               /* 0: none */
	uint64_t shares;                    /* 0: normal */
	uint64_t memsize_pages;             /* on reconnect */
	uint64_t grant_pages;               /* on reconnect */
	uint64_t held_pages;                /* on reconnect */
	uint64_t shared_pages;              /* on reconnect: guest pages that use frames */
	char share_group[MT_WIRE_NAME_MAX]; /* empty: its own */
};

struct mt_wire_region_add {
	struct mt_wire_head head;
	uint64_t addr; /* host virtual, for people and for outside measurement */
	uint64_t bytes;
};

struct mt_wire_region_del {
	struct mt_wire_head head;
	uint64_t addr;
	uint64_t bytes;
};

/* Why a range of guest RAM cannot be managed. */
enum mt_unmanaged_why {
	MT_UNMANAGED_SHARED = 1, /* shared memory: pages can't be moved out; balloon only */
	MT_UNMANAGED_FILE,       /* private mapping of a file */
	MT_UNMANAGED_HUGETLB,
	MT_UNMANAGED_LOCKED, /* mlock: the VMM wants it all in memory */
	MT_UNMANAGED_OTHER,
};

struct mt_wire_unmanaged {
	struct mt_wire_head head;
	uint64_t addr;
	uint64_t bytes;
	uint32_t why; /* enum mt_unmanaged_why */
	uint32_t pad;
};

/* At least once a second; grants and holdings are taken from GRANT_* messages, not from here. */
struct mt_wire_stats {
	struct mt_wire_head head;
	uint32_t count; /* numbers that follow, at most MT_WIRE_STATS_MAX */
	uint32_t pad;
#define MT_WIRE_STATS_MAX 96
	uint64_t value[MT_WIRE_STATS_MAX]; /* by enum mt_counter; sent in full */
};

struct mt_wire_grant_return {
	struct mt_wire_head head;
	uint64_t pages; /* given back with this message */
};

enum mt_event_level {
	MT_EVENT_INFO = 1,
	MT_EVENT_WARNING,
	MT_EVENT_ERROR,
};

struct mt_wire_event {
	struct mt_wire_head head;
	uint32_t level; /* enum mt_event_level */
	char text[MT_WIRE_TEXT_MAX];
};

struct mt_wire_checked {
	struct mt_wire_head head; /* serial of the CHECK */
	uint64_t pages;
	uint64_t violations;
	char text[MT_WIRE_TEXT_MAX]; /* the first violation, or empty */
};

struct mt_wire_bye {
	struct mt_wire_head head;
};

/* With descriptor: /dev/userfaultfd, opened by the daemon. */
struct mt_wire_welcome {
	struct mt_wire_head head;
	uint32_t vmid;
	uint32_t pad;
	char secret[MT_WIRE_TOKEN_MAX]; /* to say hello with after the daemon was away */
	uint8_t pad2[7];
};

struct mt_wire_refused {
	struct mt_wire_head head; /* serial of what was refused */
	int32_t code;             /* -errno */
	char text[MT_WIRE_TEXT_MAX];
};

/* With descriptor of the swap file the first time a VM gets one. */
struct mt_wire_region_ok {
	struct mt_wire_head head;
	uint64_t swap_bytes;   /* size of the swap file now */
	uint32_t swap_encrypt; /* what is written to a new one is to be encrypted */
	uint32_t pad;
};

struct mt_wire_grant_add {
	struct mt_wire_head head;
	uint64_t pages;
};

struct mt_wire_target {
	struct mt_wire_head head;
	uint64_t pages;
};

struct mt_wire_settings {
	struct mt_wire_head head;
	uint32_t zip_max_pct; /* 0 to 100: most of the VM's memory that the zip store may take */
	uint32_t share_pages_per_ks; /* pages to look at for sharing in 1000 s; 0: do not share */
	uint32_t sample_period_s;    /* 0: no sampling */
	uint32_t sample_pages;
};

struct mt_wire_check {
	struct mt_wire_head head;
};

#define MT_PEEK_MAX        512 /* bytes, or pages, of one PEEK */
#define MT_PEEK_HEAT_SHIFT 6   /* a page's state is in the bits below, its heat in those above: */
#define MT_PEEK_HEAT_MAX   3U  /* visits of the hand that it is spared, 3: or more */

enum mt_peek_what {
	MT_PEEK_BYTES = 1, /* bytes of one page, from wherever it is; nothing is brought in */
	MT_PEEK_STATES,    /* a byte for each page: enum mt_page_state and heat */
	MT_PEEK_WORDS,     /* the 8 bytes at addr, and at its like in the pages that follow */
	MT_PEEK_FRAME,     /* 8 bytes for each page that uses a frame: its host address */
};

struct mt_wire_peek {
	struct mt_wire_head head;
	uint64_t addr;  /* host virtual; FRAME: look from there on; 0: from the first page */
	uint32_t count; /* at most MT_PEEK_MAX */
	uint32_t what;  /* enum mt_peek_what */
	uint32_t frame; /* FRAME: of the VM's share group */
	uint32_t pad;
};

struct mt_wire_peeked {
	struct mt_wire_head head; /* serial of the PEEK */
	int32_t code;             /* 0 or -errno */
	uint32_t count;           /* of data; may be less than asked for */
	uint32_t state;           /* BYTES: of the page */
	uint32_t pad;
	uint64_t place;  /* BYTES: staging slot, shared frame, zip object or swap slot; FRAME: where
			  * to go on looking, 0: nowhere */
	uint64_t length; /* BYTES: of a zip object */
	uint8_t data[MT_PEEK_MAX];
};

/* Pages offered at once, frames released at once, frames kept told of at once. */
#define MT_WIRE_SHARE_PAGES    32
#define MT_WIRE_SHARE_CONTENTS 8
#define MT_WIRE_SHARE_LOOKS    256
#define MT_WIRE_SHARE_RELEASES 64
#define MT_WIRE_SHARE_KEEPS    512

/* Pages that might be shared: what the hash of their content is. Answered by a SHARE_ANSWER. */
struct mt_wire_share_offer {
	struct mt_wire_head head;
	uint32_t batch; /* comes back in the answer */
	uint32_t count;
	uint32_t gpn[MT_WIRE_SHARE_PAGES];
	uint64_t hash[MT_WIRE_SHARE_PAGES];
};

/*
 * Pages that were hashed where they are, as SHARE_OFFER but for two things: the guest may have
 * changed them since; and those in large pages, which can't be shared as long as these are whole,
 * are only to be remembered. Answered by a SHARE_LOOKED.
 */
struct mt_wire_share_look {
	struct mt_wire_head head;
	uint32_t batch; /* comes back in the answer */
	uint32_t count;
	uint32_t gpn[MT_WIRE_SHARE_LOOKS];
	uint64_t hash[MT_WIRE_SHARE_LOOKS];
	uint8_t large[MT_WIRE_SHARE_LOOKS]; /* 1: part of a large page */
};

/*
 * Contents of pages that follow each other in a batch, and that the daemon answered WANTED for.
 * Answered by a SHARE_ANSWER for these alone. The one message that ends where its contents do:
 * mt_wire_contents().
 */
struct mt_wire_share_page {
	struct mt_wire_head head;
	uint32_t batch;
	uint32_t first; /* index in the batch */
	uint32_t count; /* at least 1 */
	uint32_t pad;
	uint32_t gpn[MT_WIRE_SHARE_CONTENTS];
	uint64_t hash[MT_WIRE_SHARE_CONTENTS];
	uint8_t content[MT_WIRE_SHARE_CONTENTS][MT_PAGE_SIZE];
};

/* Frames that one guest page each has ceased to use. */
struct mt_wire_share_release {
	struct mt_wire_head head;
	uint32_t count;
	uint32_t pad;
	uint32_t frame[MT_WIRE_SHARE_RELEASES];
};

/*
 * After a reconnection: the frames that guest pages use, one for each page. With the descriptor of
 * the frames' memory in the first, for a daemon that has none.
 */
struct mt_wire_share_keep {
	struct mt_wire_head head;
	uint32_t count;
	uint32_t more; /* 0: this was the last */
	uint32_t frame[MT_WIRE_SHARE_KEEPS];
};

/* With descriptor: the group's frames, to be read only; none when they are to be told first. */
struct mt_wire_share_start {
	struct mt_wire_head head;
	uint32_t what; /* enum mt_share_start */
	uint32_t pad;
};

enum mt_share_start {
	MT_SHARE_START_FRESH = 1, /* nothing is shared: begin, with this descriptor */
	MT_SHARE_START_KEEP,      /* send SHARE_KEEP, then go on */
	MT_SHARE_START_LOST,      /* the daemon can't know the frames: share no further */
};

/* What the daemon says instead of a frame's number. */
#define MT_WIRE_SHARE_NONE   UINT32_MAX       /* not shared: no like, or no room */
#define MT_WIRE_SHARE_WANTED (UINT32_MAX - 1) /* send SHARE_PAGE */
#define MT_WIRE_SHARE_SAME   (UINT32_MAX - 2) /* not shared, and not changed since the last time */
#define MT_WIRE_SHARE_FULL   (UINT32_MAX - 3) /* not shared: no room for a frame */
#define MT_WIRE_SHARE_LIKE   (UINT32_MAX - 4) /* part of a large page, and has a like */

struct mt_wire_share_answer {
	struct mt_wire_head head;
	uint32_t batch;
	uint32_t first; /* index in the batch of the first page answered for */
	uint32_t count;
	uint32_t pad;
	uint32_t frame[MT_WIRE_SHARE_PAGES];
};

struct mt_wire_share_looked {
	struct mt_wire_head head;
	uint32_t batch;
	uint32_t count; /* of the pages asked for, all */
	uint32_t frame[MT_WIRE_SHARE_LOOKS];
};

/* These pages have got a frame with content like theirs: offer them again. */
struct mt_wire_share_again {
	struct mt_wire_head head;
	uint32_t count;
	uint32_t pad;
	uint32_t gpn[MT_WIRE_SHARE_PAGES];
};

_Static_assert(sizeof(struct mt_wire_share_page) <= MT_WIRE_MAX, "a message must fit the buffer");
_Static_assert(sizeof(struct mt_wire_share_look) <= MT_WIRE_MAX, "a message must fit the buffer");
_Static_assert(MT_COUNTER_MAX <= MT_WIRE_STATS_MAX, "all counters must fit a STATS message");
_Static_assert(sizeof(struct mt_wire_stats) <= MT_WIRE_MAX, "a message must fit the buffer");

/* A buffer that holds any message, aligned for all of them. */
union mt_wire_msg {
	struct mt_wire_head head;
	struct mt_wire_hello hello;
	struct mt_wire_region_add region_add;
	struct mt_wire_region_del region_del;
	struct mt_wire_unmanaged unmanaged;
	struct mt_wire_stats stats;
	struct mt_wire_grant_return grant_return;
	struct mt_wire_event event;
	struct mt_wire_checked checked;
	struct mt_wire_bye bye;
	struct mt_wire_welcome welcome;
	struct mt_wire_refused refused;
	struct mt_wire_region_ok region_ok;
	struct mt_wire_grant_add grant_add;
	struct mt_wire_target target;
	struct mt_wire_settings settings;
	struct mt_wire_check check;
	struct mt_wire_peek peek;
	struct mt_wire_peeked peeked;
	struct mt_wire_share_offer share_offer;
	struct mt_wire_share_look share_look;
	struct mt_wire_share_page share_page;
	struct mt_wire_share_release share_release;
	struct mt_wire_share_keep share_keep;
	struct mt_wire_share_start share_start;
	struct mt_wire_share_answer share_answer;
	struct mt_wire_share_looked share_looked;
	struct mt_wire_share_again share_again;
	uint8_t bytes[MT_WIRE_MAX];
};

/** mt_wire_init() - zero a message of @type, no more of the buffer, and fill its header */
void mt_wire_init(union mt_wire_msg *msg, enum mt_wire_type type, uint32_t serial);

/** mt_wire_contents() - a SHARE_PAGE has the contents of @count pages, and ends behind them */
void mt_wire_contents(struct mt_wire_share_page *msg, uint32_t count);

/** mt_wire_length() - length in bytes of a message of @type, at its longest; 0 for an unknown one
 */
uint32_t mt_wire_length(unsigned int type);

/** mt_wire_type_name() - for people; "unknown" for what is none */
const char *mt_wire_type_name(unsigned int type);

/**
 * mt_wire_check() - may this packet be read as the message it says it is?
 * @msg: the packet
 * @bytes: its length as received
 * @fds: descriptors that came with it
 * @to_daemon: true in the daemon, which takes only monitors' messages, and the other way round
 *
 * Return: 0; -EPROTO with the reason in @err. Strings of a message that passes are terminated.
 */
MT_MUST_CHECK int mt_wire_check(const union mt_wire_msg *msg, size_t bytes, unsigned int fds,
				bool to_daemon, struct mt_err *err);

/** mt_wire_name_ok() - is @name one a VM may have: 1 to 63 of a-z A-Z 0-9 . _ -, no leading dot or
 * dash */
bool mt_wire_name_ok(const char *name);

#endif
