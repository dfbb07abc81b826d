/* SPDX-License-Identifier: MIT */
/*
 * swap_crypt.h - a swap file in which nobody can read: encryption between the pager and the disk
 *
 * Stands in front of another implementation of monitor/swap_io.h. Pages are encrypted with AES-256
 * in XTS mode, as disk encryption does it, with the slot as the tweak: what a page takes stays a
 * page, and nothing has to be kept for it. What is written is checked by the pager's checksum of
 * the page as it was, after decryption.
 *
 * The key is random, made for this one file, and known to nobody but this process: a disk that is
 * stolen, sold or read by its host's other users tells nothing. It goes with the process. Nettle
 * does the work: linked in, hidden from the VMM's own copy, without state and without allocating.
 */
#ifndef MT_SYS_SWAP_CRYPT_H
#define MT_SYS_SWAP_CRYPT_H

#include "base/err.h"
#include "monitor/swap_io.h"

/**
 * mt_swap_crypt_new() - have all that goes through @io encrypted
 * @io: taken over, and replaced; untouched on failure
 * @writes: writes that can be under way at a time; each takes a buffer of @run pages. One more is
 *	    -EBUSY, like one more than the disk can take.
 * @run: most pages of one write
 *
 * Return: 0 or -errno.
 */
MT_MUST_CHECK int mt_swap_crypt_new(struct mt_swap_io *io, uint32_t writes, uint32_t run,
				    struct mt_err *err);

#endif
