/* SPDX-License-Identifier: MIT */
/*
 * entitlement.h - who deserves how much memory: shares per page with an idle-memory tax
 *
 * The OSDI'02 paper's sections 5.1 and 5.2. Memory goes to the VM with the most shares for each
 * page it is charged, and is taken from the one with the fewest (min-funding revocation):
 *
 *	rho = S / (P * (f + k * (1 - f))),  k = 1 / (1 - tax)
 *
 * with S shares, P pages held, f the active part. Here the active pages A are what is known, and f
 * follows from P: f = min(1, A/P). The denominator, the *charge*, is then
 *
 *	charge(P) = P for P <= A,   A + k * (P - A) above
 *
 * so a VM that loses idle memory pays less tax on the rest, and the result does not depend on the
 * way that led to it. Taking from the lowest rho until all are equal is the same as handing out
 * page after page to whom it costs the least charge per share, so the targets are found directly:
 * by bisection on the common level charge/S, and, for the last few pages, by a heap with exact
 * integer comparisons (ties: the first VM). Exact to the page, deterministic, monotone in every
 * VM's shares; O(n log n), no allocation.
 *
 * The progressive tax (IdleTaxType 1) exists in the product, its curve is unpublished. Ours has
 * brackets, like an income tax, by idle pages for each active page: up to 1 a third of the rate,
 * up to 3 two thirds, beyond that the full rate. So a VM with a little idle memory keeps it, and
 * one with no active memory at all pays the full rate for everything.
 *
 * Each VM has three bounds. The floor is never undercut (a reservation in use). What a VM wants is
 * the memory it could make use of now; only when everybody has that, the rest is dealt out, by the
 * same prices, up to the caps (limit, configured size).
 */
#ifndef MT_POLICY_ENTITLEMENT_H
#define MT_POLICY_ENTITLEMENT_H

#include "policy/settings.h"

/* Largest number of pages or shares of one VM; keeps all arithmetic within 128 bits. */
#define MT_ENT_PAGES_MAX  (1ULL << 48)
#define MT_ENT_SHARES_MAX (1ULL << 40)

#define MT_ENT_SEGMENTS 4

struct mt_tax {
	unsigned int rate_pct; /* 0 to 99 */
	enum mt_tax_kind kind;
};

struct mt_ent_vm {
	uint64_t shares;       /* 0 counts as 1 */
	uint64_t active_pages; /* not taxed */
	uint64_t floor_pages;  /* at most want */
	uint64_t want_pages;   /* at most cap */
	uint64_t cap_pages;
	uint64_t target_pages; /* result */

	/* work space */
	struct {
		uint64_t low, high;
		uint64_t end[MT_ENT_SEGMENTS]; /* pages at which a price ends */
		uint32_t cost[MT_ENT_SEGMENTS];
		unsigned __int128 next; /* charge with one page more */
		uint32_t heap;
	} work;
};

/**
 * mt_ent_share_out() - set all targets
 *
 * Return: their sum: min(@total_pages, sum of caps). When the floors alone exceed @total_pages,
 * every VM gets its floor scaled down (admission control is there to prevent that).
 */
uint64_t mt_ent_share_out(const struct mt_tax *tax, uint64_t total_pages, struct mt_ent_vm *vms,
			  size_t count);

/**
 * mt_ent_revoke() - take @need_pages from those with the fewest shares per charged page
 *
 * Before: cap_pages is what each VM holds. After: target_pages is what it keeps, at least its
 * floor.
 *
 * Return: pages taken; fewer than @need_pages when everybody is at its floor
 */
uint64_t mt_ent_revoke(const struct mt_tax *tax, uint64_t need_pages, struct mt_ent_vm *vms,
		       size_t count);

/** mt_ent_charge() - pages that a VM with @active_pages is charged for holding @pages */
double mt_ent_charge(const struct mt_tax *tax, uint64_t active_pages, uint64_t pages);

/** mt_ent_rho() - shares for each charged page; the price it pays for memory. 0 pages: 0 */
double mt_ent_rho(const struct mt_tax *tax, uint64_t shares, uint64_t active_pages, uint64_t pages);

/** mt_ent_idle_cost() - what an idle page costs, in active pages: k at its highest */
double mt_ent_idle_cost(const struct mt_tax *tax);

#endif
