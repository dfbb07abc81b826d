/* SPDX-License-Identifier: MIT */
/* test_ledger.c - the daemon's books */
#include "common/mt_test.h"
#include "host/ledger.h"

#include <errno.h>

MT_TEST("grants and the daemon's own part never exceed the pool")
{
	struct mt_ledger *ledger = mt_ledger_new(100, 10);
	struct mt_account *a = mt_ledger_open(ledger), *b = mt_ledger_open(ledger);

	MT_CHECK_EQ(mt_ledger_grant(ledger, a, 60), 0);
	MT_CHECK_EQ(mt_ledger_grant(ledger, b, 31), -ENOSPC);
	MT_CHECK_EQ(mt_account_pages(b), 0);
	MT_CHECK_EQ(mt_ledger_grant(ledger, b, 30), 0);
	MT_CHECK_EQ(mt_ledger_ungranted(ledger), 0);
	MT_CHECK_EQ(mt_ledger_grant(ledger, b, 1), -ENOSPC);
	MT_CHECK_EQ(mt_ledger_grant(ledger, b, UINT64_MAX), -ENOSPC);
	mt_ledger_close(ledger, a);
	MT_CHECK_EQ(mt_ledger_ungranted(ledger), 60);
	mt_ledger_close(ledger, b);
	mt_ledger_free(ledger);
}

MT_TEST("nobody returns more than it was granted")
{
	struct mt_ledger *ledger = mt_ledger_new(100, 0);
	struct mt_account *a = mt_ledger_open(ledger);

	MT_CHECK_EQ(mt_ledger_grant(ledger, a, 5), 0);
	MT_CHECK_EQ(mt_ledger_return(ledger, a, 6), -EINVAL);
	MT_CHECK_EQ(mt_ledger_return(ledger, a, UINT64_MAX), -EINVAL);
	MT_CHECK_EQ(mt_account_pages(a), 5);
	MT_CHECK_EQ(mt_ledger_return(ledger, a, 5), 0);
	MT_CHECK_EQ(mt_ledger_granted(ledger), 0);
	mt_ledger_close(ledger, a);
	mt_ledger_free(ledger);
}

MT_TEST("a pool made smaller than what is granted grants nothing until enough has come back")
{
	struct mt_ledger *ledger = mt_ledger_new(100, 0);
	struct mt_account *a = mt_ledger_open(ledger);

	MT_CHECK_EQ(mt_ledger_grant(ledger, a, 80), 0);
	mt_ledger_set_pool(ledger, 50);
	MT_CHECK_EQ(mt_ledger_ungranted(ledger), 0);
	MT_CHECK_EQ(mt_ledger_grant(ledger, a, 1), -ENOSPC);
	MT_CHECK_EQ(mt_ledger_return(ledger, a, 30), 0);
	MT_CHECK_EQ(mt_ledger_grant(ledger, a, 1), -ENOSPC);
	MT_CHECK_EQ(mt_ledger_return(ledger, a, 1), 0);
	MT_CHECK_EQ(mt_ledger_grant(ledger, a, 1), 0);
	MT_CHECK_EQ(mt_ledger_grant(ledger, a, 1), -ENOSPC);
	mt_ledger_close(ledger, a);
	mt_ledger_free(ledger);
}

MT_TEST("what VMs hold from an earlier daemon counts, even above the pool")
{
	struct mt_ledger *ledger = mt_ledger_new(100, 10);
	struct mt_account *a = mt_ledger_open(ledger), *b = mt_ledger_open(ledger);

	mt_ledger_adopt(ledger, a, 150);
	MT_CHECK_EQ(mt_ledger_ungranted(ledger), 0);
	MT_CHECK_EQ(mt_ledger_grant(ledger, b, 1), -ENOSPC);
	mt_ledger_close(ledger, a);
	MT_CHECK_EQ(mt_ledger_grant(ledger, b, 90), 0);
	mt_ledger_close(ledger, b);
	mt_ledger_free(ledger);
}

/* A hundred thousand random steps against books kept the simple way. */
MT_TEST("random grants, returns and ends keep the books right")
{
	struct mt_ledger *ledger = mt_ledger_new(10000, 100);
	struct mt_account *accounts[16] = {0};
	uint64_t has[16] = {0}, sum = 0;

	srandom(1);
	for (unsigned int step = 0; step < 100000; step++) {
		unsigned int i = (unsigned int)random() % 16;
		uint64_t pages = (uint64_t)random() % 2000;

		if (!accounts[i])
			accounts[i] = mt_ledger_open(ledger);
		switch (random() % 8) {
		case 0:
			mt_ledger_close(ledger, accounts[i]);
			accounts[i] = NULL;
			sum -= has[i];
			has[i] = 0;
			break;
		case 1:
		case 2:
		case 3:
			MT_CHECK_EQ(mt_ledger_return(ledger, accounts[i], pages),
				    pages > has[i] ? -EINVAL : 0);
			if (pages <= has[i]) {
				has[i] -= pages;
				sum -= pages;
			}
			break;
		default:
			MT_CHECK_EQ(mt_ledger_grant(ledger, accounts[i], pages),
				    sum + pages + 100 > 10000 ? -ENOSPC : 0);
			if (sum + pages + 100 <= 10000) {
				has[i] += pages;
				sum += pages;
			}
		}
		MT_CHECK_EQ(mt_ledger_granted(ledger), sum);
		MT_CHECK(sum + 100 <= 10000);
	}
}

MT_TEST("shared frames count once, and neither they nor grants exceed the pool together")
{
	struct mt_ledger *ledger = mt_ledger_new(100, 10);
	struct mt_account *a = mt_ledger_open(ledger);

	MT_CHECK_EQ(mt_ledger_grant(ledger, a, 50), 0);
	MT_CHECK_EQ(mt_ledger_take(ledger, 30), 0);
	MT_CHECK_EQ(mt_ledger_take(ledger, 11), -ENOSPC);
	MT_CHECK_EQ(mt_ledger_grant(ledger, a, 11), -ENOSPC);
	MT_CHECK_EQ(mt_ledger_grant(ledger, a, 10), 0);
	MT_CHECK_EQ(mt_ledger_take(ledger, 1), -ENOSPC);
	MT_CHECK_EQ(mt_ledger_common(ledger), 30);
	mt_ledger_drop(ledger, 30);
	MT_CHECK_EQ(mt_ledger_ungranted(ledger), 30);
	/* an earlier daemon's frames are there, whatever the pool is now */
	mt_ledger_take_over(ledger, 80);
	MT_CHECK_EQ(mt_ledger_ungranted(ledger), 0);
	mt_ledger_drop(ledger, 80);
	mt_ledger_close(ledger, a);
	MT_CHECK_EQ(mt_ledger_ungranted(ledger), 90);
	mt_ledger_free(ledger);
}

MT_TEST_MAIN
