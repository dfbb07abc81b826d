/* SPDX-License-Identifier: MIT */
/*
 * checked_page.h - 4 KiB pages that can be checked byte for byte.
 *
 * Why: Memtide moves, compresses, shares and restores pages of running guests. A test must notice
 * when a single byte of a page comes back wrong, and should be able to say how it is wrong (an old
 * version of the page, another page, another guest's page, zeros, a torn page).
 *
 * How: the content of a page is a pure function of (seed, page number, version, kind), so that a
 * checker keeps no copy, only a version number for each page. The page starts with a header that
 * names these four and carries a checksum of the payload; both serve to describe a bad page, while
 * the verdict "OK" always comes from comparing all 4096 bytes with what they should be. A seed
 * stands for a guest: two guests with the same seed hold identical pages (for tests of sharing),
 * guests with different seeds have only zero pages in common.
 *
 * The code needs nothing but string.h and allocates nothing, so it serves in the guest program
 * (guest/guestmem.c) and in native test VMs alike. All functions are thread-safe.
 */
#ifndef MEMTIDE_TESTS_CHECKED_PAGE_H
#define MEMTIDE_TESTS_CHECKED_PAGE_H

#include <stddef.h>
#include <stdint.h>

#define CP_PAGE_SIZE 4096u
#define CP_MAGIC     0x4d54434bu /* first word of every page that is not all zeros */

/* What a page is made of; the percentages are its size after lz4. */
enum cp_kind {
	CP_ZERO,  /* zero throughout: no header either, and every version is alike */
	CP_TEXT,  /* phrases: 20-25 % */
	CP_HALF,  /* records of noise and phrases: 40-48 % */
	CP_NOISE, /* does not compress */
	CP_KINDS
};

enum cp_verdict {
	CP_OK,
	CP_UNEXPECTED_ZERO, /* all bytes are zero, and should not be */
	CP_NOT_ZERO,        /* should be all zero, and is not */
	CP_BAD_HEADER,      /* no checked page starts here */
	CP_WRONG_SEED,      /* an intact page of another seed (another guest) */
	CP_WRONG_PAGE,      /* an intact page, but another page number */
	CP_WRONG_VERSION,   /* the right page, intact, but another version */
	CP_WRONG_KIND,      /* the right page and version, intact, of another kind */
	CP_BAD_CONTENT,     /* the header is a checked page's, other bytes are damaged */
	CP_VERDICTS
};

/* Shares of the kinds in percent; what is missing to 100 is CP_NOISE. */
struct cp_mix {
	unsigned int zero;
	unsigned int text;
	unsigned int half;
};

/* The mix that stands for a working guest: 15 % zero, 40 % text, 25 % half, 20 % noise. */
#define CP_DEFAULT_MIX ((struct cp_mix){.zero = 15, .text = 40, .half = 25})

/* Write the page; @page need not be aligned. Page numbers and versions may have any value. */
void cp_fill(void *page, uint64_t seed, uint64_t page_no, uint32_t version, enum cp_kind kind);

/* Compare all bytes of @page with what cp_fill() writes for the same arguments. */
enum cp_verdict cp_verify(const void *page, uint64_t seed, uint64_t page_no, uint32_t version,
			  enum cp_kind kind);

/* Offset of the first byte that differs from what cp_fill() writes, CP_PAGE_SIZE when none does. */
size_t cp_first_difference(const void *page, uint64_t seed, uint64_t page_no, uint32_t version,
			   enum cp_kind kind);

/* The kind of page @page_no: always the same for the same arguments, in the shares @mix asks for.
 */
enum cp_kind cp_kind_for(uint64_t seed, uint64_t page_no, const struct cp_mix *mix);

/* One word such as "wrong-version"; never NULL. */
const char *cp_verdict_name(enum cp_verdict verdict);

/* One word such as "text"; never NULL. */
const char *cp_kind_name(enum cp_kind kind);

/* The next number of the splitmix64 sequence that @state stands for: a fast generator for tests. */
uint64_t cp_random(uint64_t *state);

#endif
