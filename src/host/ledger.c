/* SPDX-License-Identifier: MIT */
/* ledger.c - accounts in a list, a running sum, and an audit after every change; see ledger.h */
#include "host/ledger.h"

#include <errno.h>
#include <stdlib.h>

struct mt_account {
	uint64_t pages;
	struct mt_account *next;
};

struct mt_ledger {
	uint64_t pool;
	uint64_t own;
	uint64_t granted; /* sum over accounts */
	uint64_t common;
	uint64_t ceiling; /* most that all these may be now: the pool, or more on the way down */
	struct mt_account *accounts;
};

static uint64_t ledger_used(const struct mt_ledger *ledger)
{
	return ledger->granted + ledger->common + ledger->own;
}

/* The books must add up, and nobody may have been given what is not there. */
static void ledger_audit(struct mt_ledger *ledger)
{
	uint64_t sum = 0;

	for (const struct mt_account *a = ledger->accounts; a; a = a->next)
		sum += a->pages;
	MT_ASSERT(sum == ledger->granted);
	MT_ASSERT(ledger_used(ledger) <= ledger->ceiling);
	ledger->ceiling = MT_MAX(ledger->pool, ledger_used(ledger));
}

struct mt_ledger *mt_ledger_new(uint64_t pool_pages, uint64_t own_pages)
{
	struct mt_ledger *ledger = calloc(1, sizeof(*ledger));

	if (!ledger)
		return NULL;
	MT_ASSERT(own_pages <= pool_pages);
	ledger->pool = pool_pages;
	ledger->own = own_pages;
	ledger->ceiling = pool_pages;
	return ledger;
}

void mt_ledger_free(struct mt_ledger *ledger)
{
	if (!ledger)
		return;
	MT_ASSERT(!ledger->accounts);
	free(ledger);
}

struct mt_account *mt_ledger_open(struct mt_ledger *ledger)
{
	struct mt_account *account = calloc(1, sizeof(*account));

	if (!account)
		return NULL;
	account->next = ledger->accounts;
	ledger->accounts = account;
	return account;
}

void mt_ledger_close(struct mt_ledger *ledger, struct mt_account *account)
{
	struct mt_account **link = &ledger->accounts;

	if (!account)
		return;
	while (*link != account) {
		MT_ASSERT(*link);
		link = &(*link)->next;
	}
	*link = account->next;
	ledger->granted -= account->pages;
	free(account);
	ledger_audit(ledger);
}

int mt_ledger_grant(struct mt_ledger *ledger, struct mt_account *account, uint64_t pages)
{
	if (pages > mt_ledger_ungranted(ledger))
		return -ENOSPC;
	account->pages += pages;
	ledger->granted += pages;
	ledger_audit(ledger);
	return 0;
}

int mt_ledger_return(struct mt_ledger *ledger, struct mt_account *account, uint64_t pages)
{
	if (pages > account->pages)
		return -EINVAL;
	account->pages -= pages;
	ledger->granted -= pages;
	ledger_audit(ledger);
	return 0;
}

void mt_ledger_adopt(struct mt_ledger *ledger, struct mt_account *account, uint64_t pages)
{
	MT_ASSERT(!account->pages);
	account->pages = pages;
	ledger->granted += pages;
	ledger->ceiling = MT_MAX(ledger->ceiling, ledger_used(ledger));
	ledger_audit(ledger);
}

int mt_ledger_take(struct mt_ledger *ledger, uint64_t pages)
{
	if (pages > mt_ledger_ungranted(ledger))
		return -ENOSPC;
	ledger->common += pages;
	ledger_audit(ledger);
	return 0;
}

void mt_ledger_take_over(struct mt_ledger *ledger, uint64_t pages)
{
	ledger->common += pages;
	ledger->ceiling = MT_MAX(ledger->ceiling, ledger_used(ledger));
	ledger_audit(ledger);
}

void mt_ledger_drop(struct mt_ledger *ledger, uint64_t pages)
{
	MT_ASSERT(pages <= ledger->common);
	ledger->common -= pages;
	ledger_audit(ledger);
}

uint64_t mt_ledger_common(const struct mt_ledger *ledger)
{
	return ledger->common;
}

void mt_ledger_set_pool(struct mt_ledger *ledger, uint64_t pool_pages)
{
	MT_ASSERT(pool_pages >= ledger->own);
	ledger->pool = pool_pages;
	ledger->ceiling = MT_MAX(ledger->ceiling, pool_pages);
	ledger_audit(ledger);
}

uint64_t mt_ledger_pool(const struct mt_ledger *ledger)
{
	return ledger->pool;
}

uint64_t mt_ledger_own(const struct mt_ledger *ledger)
{
	return ledger->own;
}

uint64_t mt_ledger_granted(const struct mt_ledger *ledger)
{
	return ledger->granted;
}

uint64_t mt_ledger_ungranted(const struct mt_ledger *ledger)
{
	uint64_t used = ledger_used(ledger);

	return used < ledger->pool ? ledger->pool - used : 0;
}

uint64_t mt_account_pages(const struct mt_account *account)
{
	return account ? account->pages : 0;
}
