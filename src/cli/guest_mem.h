/* SPDX-License-Identifier: MIT */
/*
 * guest_mem.h - a live VM's memory by guest physical address, through the daemon
 *
 * Reads go to the VM's monitor ("peek"), which reads pages from wherever they are and brings
 * nothing in; pieces of 512 bytes are kept, so a table is not asked for entry by entry. Where the
 * VMM has the memory: guest_layout.h.
 */
#ifndef MT_CLI_GUEST_MEM_H
#define MT_CLI_GUEST_MEM_H

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/guest_layout.h"

#define GUEST_CHUNK  512u
#define GUEST_CACHED 1024u

/* Numbers of page states as docs/protocol.md has them. */
enum guest_state {
	GUEST_UNTOUCHED,
	GUEST_RESIDENT,
	GUEST_NOMINATED,
	GUEST_ZERO,
	GUEST_SHARED,
	GUEST_ZIPPED,
	GUEST_SWAPPED,
	GUEST_RELEASED,
	GUEST_FAILED,
	GUEST_STATES
};

/* Where a page is. */
struct guest_page {
	uint64_t host_addr;
	unsigned int state;
	uint64_t place;       /* staging slot, shared frame, zip object, swap slot */
	uint64_t length;      /* of the zip object */
	uint64_t machine_pfn; /* of what is mapped in its place; UINT64_MAX when the kernel does not
				 tell */
};

struct guest_mem {
	struct client client;
	const char *vm;
	struct guest_layout layout;
	int pagemap_fd; /* of the VMM's process, or -1 */
	struct {
		uint64_t tag; /* host address of the piece */
		uint8_t bytes[GUEST_CHUNK];
	} cache[GUEST_CACHED];
	struct mt_err err; /* of the last failed read */
};

/** guest_mem_open() - the VM's regions; where the guest has them is not known. Return: 0, -errno */
MT_MUST_CHECK int guest_mem_open(struct guest_mem *mem, const char *socket, const char *vm,
				 struct mt_err *err);

/**
 * guest_mem_place() - find out where the guest has its memory
 * @below_4g_bytes: 0 when not told
 * @qmp: to ask; NULL: nobody
 *
 * Return: 0 or -errno
 */
MT_MUST_CHECK int guest_mem_place(struct guest_mem *mem, uint64_t below_4g_bytes, struct qmp *qmp,
				  struct mt_err *err);
void guest_mem_close(struct guest_mem *mem);

/** guest_mem_memory() - as memory to walk in; read-only */
struct mt_memory guest_mem_memory(struct guest_mem *mem);

/** guest_mem_page() - where the page is. Return: 0; -ENXIO; -errno with .err */
int guest_mem_page(struct guest_mem *mem, mt_gpa_t gpa, struct guest_page *ret);

/** guest_mem_states() - a byte for each page of all regions (state, heat << 6), to be freed;
 * or NULL */
uint8_t *guest_mem_states(struct guest_mem *mem, struct mt_err *err);

#define GUEST_WORDS 64u

/**
 * guest_mem_words() - the words at @addr and at its like in the pages that follow
 * @addr: in the VMM, divisible by 8
 * @count: of words, at most GUEST_WORDS
 *
 * Return: how many of them could be read, from the first on; -errno, also of the first page
 */
int guest_mem_words(struct guest_mem *mem, uint64_t addr, unsigned int count, uint64_t *ret);

/** guest_state_name() - "resident", …; "unknown" for numbers of a later version */
const char *guest_state_name(unsigned int state);

#endif
