/* SPDX-License-Identifier: MIT */
/*
 * ledger.h - who may hold how much of the pool
 *
 * The promise of the whole product in one object: the sum of all grants, of the shared frames and
 * the daemon's own share never exceeds the pool. Every change of a grant goes through here and the
 * books are checked after each one. No clock, no I/O.
 *
 * Two things can put the books above the pool without anyone breaking the promise: a pool made
 * smaller while VMs hold grants, and a daemon that starts while VMs from before still hold
 * theirs. Then the ledger carries the sum as a ceiling that only sinks, with every return, until
 * it is back at the pool; nothing is granted meanwhile.
 */
#ifndef MT_HOST_LEDGER_H
#define MT_HOST_LEDGER_H

#include "base/compiler.h"

struct mt_ledger;
struct mt_account;

/** mt_ledger_new() - NULL without memory; @own_pages must be at most @pool_pages */
struct mt_ledger *mt_ledger_new(uint64_t pool_pages, uint64_t own_pages);
/** mt_ledger_free() - all accounts must be closed; NULL is fine */
void mt_ledger_free(struct mt_ledger *ledger);

/** mt_ledger_open() - an account with nothing on it; NULL without memory */
struct mt_account *mt_ledger_open(struct mt_ledger *ledger);
/** mt_ledger_close() - the VM is gone: what it had is free again; NULL is fine */
void mt_ledger_close(struct mt_ledger *ledger, struct mt_account *account);

/** mt_ledger_grant() - give @pages more. Return: 0, or -ENOSPC and nothing changed. */
MT_MUST_CHECK int mt_ledger_grant(struct mt_ledger *ledger, struct mt_account *account,
				  uint64_t pages);
/** mt_ledger_return() - take @pages back. Return: 0, or -EINVAL when the account has fewer. */
MT_MUST_CHECK int mt_ledger_return(struct mt_ledger *ledger, struct mt_account *account,
				   uint64_t pages);
/** mt_ledger_adopt() - the VM had @pages from an earlier daemon; the account must be empty */
void mt_ledger_adopt(struct mt_ledger *ledger, struct mt_account *account, uint64_t pages);

/**
 * mt_ledger_take() - @pages for what all have in common: shared frames and the books about them
 * Return: 0, or -ENOSPC and nothing changed.
 */
MT_MUST_CHECK int mt_ledger_take(struct mt_ledger *ledger, uint64_t pages);
/** mt_ledger_take_over() - the same, of pages that an earlier daemon's frames have already */
void mt_ledger_take_over(struct mt_ledger *ledger, uint64_t pages);
/** mt_ledger_drop() - @pages of these are free again */
void mt_ledger_drop(struct mt_ledger *ledger, uint64_t pages);
/** mt_ledger_common() - pages taken */
uint64_t mt_ledger_common(const struct mt_ledger *ledger);

/** mt_ledger_set_pool() - make the pool larger or smaller; at least the daemon's own share */
void mt_ledger_set_pool(struct mt_ledger *ledger, uint64_t pool_pages);

uint64_t mt_ledger_pool(const struct mt_ledger *ledger);
uint64_t mt_ledger_own(const struct mt_ledger *ledger);
/** mt_ledger_granted() - sum of all grants */
uint64_t mt_ledger_granted(const struct mt_ledger *ledger);
/** mt_ledger_ungranted() - what can still be granted; 0 while above the pool */
uint64_t mt_ledger_ungranted(const struct mt_ledger *ledger);
/** mt_account_pages() - the grant of one VM */
uint64_t mt_account_pages(const struct mt_account *account);

#endif
