/* SPDX-License-Identifier: MIT */
/* test_policy_balloon.c - sizes of balloons, by example, with a model guest, and by property */
#include "common/mt_test.h"
#include "base/types.h"
#include "policy/balloon.h"

#define MIB_PAGES(m) ((uint64_t)(m) << 8)
#define S            1000000000ULL
#define START_NS     (1000 * S)

/* A guest of 512 MiB that uses 200 for itself and 200 for caches, and has a place for 300. */
static struct mt_balloon_guest guest_typical(void)
{
	return (struct mt_balloon_guest){.drive = MT_BALLOON_TAKE,
					 .max_pct = 65,
					 .present = true,
					 .deflates_on_oom = true,
					 .fresh = true,
					 .total_pages = MIB_PAGES(490),
					 .available_pages = MIB_PAGES(280),
					 .memsize_pages = MIB_PAGES(512),
					 .used_pages = MIB_PAGES(420),
					 .fit_pages = MIB_PAGES(300)};
}

static struct mt_balloon_decision decide_once(const struct mt_balloon_guest *guest)
{
	struct mt_balloon_state state = {0};

	return mt_balloon_decide(&state, guest, START_NS);
}

MT_TEST("a guest that does not fit its place gets a balloon that makes it fit, in one step")
{
	struct mt_balloon_guest guest = guest_typical();
	struct mt_balloon_decision decision = decide_once(&guest);

	MT_CHECK_EQ(decision.target_pages, MIB_PAGES(212));
	MT_CHECK_EQ(decision.why, MT_BALLOON_FITS);
	MT_CHECK(decision.works);
}

MT_TEST("a guest that fits is left alone")
{
	struct mt_balloon_guest guest = guest_typical();

	guest.used_pages = MIB_PAGES(299);
	MT_CHECK_EQ(decide_once(&guest).target_pages, 0);
	/* what could be taken from it is known all the same */
	MT_CHECK_EQ(decide_once(&guest).most_pages,
		    MIB_PAGES(280) - mt_balloon_floor(guest.total_pages));
}

MT_TEST("a balloon never takes more than its part of the guest's own total")
{
	struct mt_balloon_guest guest = guest_typical();
	struct mt_balloon_decision decision;

	guest.fit_pages = MIB_PAGES(50);
	guest.available_pages = MIB_PAGES(450);
	decision = decide_once(&guest);
	MT_CHECK_EQ(decision.target_pages, MIB_PAGES(490) * 65 / 100);
	MT_CHECK_EQ(decision.why, MT_BALLOON_AT_CAP);
	MT_CHECK_EQ(decision.most_pages, decision.target_pages);
	guest.max_pct = 0;
	MT_CHECK_EQ(decide_once(&guest).target_pages, 0);
}

MT_TEST("a balloon leaves the floor available, and at its end pages go out")
{
	struct mt_balloon_guest guest = guest_typical();
	struct mt_balloon_state state = {0};
	struct mt_balloon_decision decision;

	guest.available_pages = MIB_PAGES(100);
	decision = mt_balloon_decide(&state, &guest, START_NS);
	MT_CHECK_EQ(decision.target_pages, MIB_PAGES(100) - mt_balloon_floor(guest.total_pages));
	MT_CHECK_EQ(decision.why, MT_BALLOON_AT_FLOOR);
	MT_CHECK(decision.works);
	guest.ballooned_pages = guest.reported_pages = decision.target_pages;
	guest.available_pages = mt_balloon_floor(guest.total_pages);
	decision = mt_balloon_decide(&state, &guest, START_NS + S);
	MT_CHECK_EQ(decision.target_pages, guest.ballooned_pages);
	MT_CHECK(!decision.works && !decision.slow);
}

MT_TEST("a guest that uses pages of its balloon is paged, though the balloon is as large as it "
	"shall be")
{
	struct mt_balloon_guest guest = guest_typical();
	struct mt_balloon_state state = {0};
	struct mt_balloon_decision decision;

	mt_balloon_decide(&state, &guest, START_NS);
	guest.ballooned_pages = guest.reported_pages = MIB_PAGES(212);
	guest.available_pages = MIB_PAGES(68);
	decision = mt_balloon_decide(&state, &guest, START_NS + S);
	MT_CHECK_EQ(decision.target_pages, MIB_PAGES(212));
	MT_CHECK(!decision.works && !decision.slow);
	guest.used_pages = guest.fit_pages;
	MT_CHECK(mt_balloon_decide(&state, &guest, START_NS + 2 * S).works);
}

MT_TEST("a missing or silent balloon works not at all, and nothing more is asked of it")
{
	struct mt_balloon_guest guest = guest_typical();
	struct mt_balloon_decision decision;

	guest.present = false;
	decision = decide_once(&guest);
	MT_CHECK(!decision.works && !decision.target_pages);
	MT_CHECK_EQ(decision.why, MT_BALLOON_ABSENT);
	guest.present = true;
	guest.fresh = false;
	decision = decide_once(&guest);
	MT_CHECK(!decision.works && !decision.target_pages);
	MT_CHECK_EQ(decision.why, MT_BALLOON_SILENT);
}

MT_TEST("a balloon without deflate-on-oom is never made larger, and goes back only by itself")
{
	struct mt_balloon_state state = {.target_pages = MIB_PAGES(40)};
	struct mt_balloon_guest guest = guest_typical();
	struct mt_balloon_decision decision;

	guest.deflates_on_oom = false;
	guest.ballooned_pages = guest.reported_pages = MIB_PAGES(40);
	decision = mt_balloon_decide(&state, &guest, START_NS);
	MT_CHECK_EQ(decision.target_pages, MIB_PAGES(40));
	MT_CHECK_EQ(decision.why, MT_BALLOON_UNSAFE);
	MT_CHECK(!decision.works);
}

MT_TEST("a balloon slower than wanted is found out in a second, and may prove itself again")
{
	struct mt_balloon_guest guest = guest_typical();
	struct mt_balloon_state state = {0};
	uint64_t now_ns = START_NS;

	MT_CHECK(mt_balloon_decide(&state, &guest, now_ns).works);
	/* 212 MiB in four seconds are 53 MiB/s */
	guest.ballooned_pages = guest.reported_pages = MIB_PAGES(20);
	guest.available_pages -= MIB_PAGES(20);
	MT_CHECK(!mt_balloon_decide(&state, &guest, now_ns += S).works);
	MT_CHECK(mt_balloon_decide(&state, &guest, now_ns + 1).slow);
	guest.ballooned_pages = guest.reported_pages = MIB_PAGES(90);
	guest.available_pages -= MIB_PAGES(70);
	MT_CHECK(mt_balloon_decide(&state, &guest, now_ns += S).works);
	guest.ballooned_pages = guest.reported_pages = MIB_PAGES(212);
	guest.available_pages -= MIB_PAGES(122);
	guest.used_pages = MIB_PAGES(299);
	MT_CHECK(mt_balloon_decide(&state, &guest, now_ns += S).works);
}

MT_TEST("a guest that swaps gets an eighth back and is left alone for half a minute")
{
	struct mt_balloon_guest guest = guest_typical();
	struct mt_balloon_state state = {0};
	struct mt_balloon_decision decision;
	uint64_t now_ns = START_NS;

	mt_balloon_decide(&state, &guest, now_ns);
	guest.ballooned_pages = guest.reported_pages = MIB_PAGES(160);
	guest.available_pages = MIB_PAGES(120);
	guest.swapped_in_pages = MT_BALLOON_SWAPS_PAGES + 1;
	decision = mt_balloon_decide(&state, &guest, now_ns += S);
	MT_CHECK_EQ(decision.target_pages, MIB_PAGES(140));
	MT_CHECK_EQ(decision.why, MT_BALLOON_GUEST_SWAPS);
	MT_CHECK(decision.guest_short && !decision.works);
	guest.swapped_in_pages = 0;
	guest.ballooned_pages = guest.reported_pages = MIB_PAGES(140);
	for (unsigned int i = 0; i < 29; i++)
		MT_CHECK_EQ(mt_balloon_decide(&state, &guest, now_ns += S).target_pages,
			    MIB_PAGES(140));
	MT_CHECK(mt_balloon_decide(&state, &guest, now_ns += S).target_pages > MIB_PAGES(140));
}

MT_TEST("a guest in danger gets half of its balloon back, whatever the host's need")
{
	static const enum mt_balloon_drive drives[] = {MT_BALLOON_TAKE, MT_BALLOON_HOLD,
						       MT_BALLOON_EASE};

	for (size_t i = 0; i < 3; i++) {
		struct mt_balloon_guest guest = guest_typical();
		struct mt_balloon_state state = {.target_pages = MIB_PAGES(200)};
		struct mt_balloon_decision decision;

		guest.drive = drives[i];
		guest.ballooned_pages = guest.reported_pages = MIB_PAGES(200);
		guest.available_pages = MIB_PAGES(10);
		decision = mt_balloon_decide(&state, &guest, START_NS);
		MT_CHECK(decision.target_pages <= MIB_PAGES(100));
		MT_CHECK(decision.guest_short);
	}
}

MT_TEST("a balloon is held in hard, and goes back by what there is room for when the need is over")
{
	struct mt_balloon_guest guest = guest_typical();
	struct mt_balloon_state state = {0};
	uint64_t now_ns = START_NS;

	mt_balloon_decide(&state, &guest, now_ns);
	guest.ballooned_pages = guest.reported_pages = MIB_PAGES(212);
	guest.available_pages = MIB_PAGES(68);
	guest.drive = MT_BALLOON_HOLD;
	for (unsigned int i = 0; i < 100; i++)
		MT_CHECK_EQ(mt_balloon_decide(&state, &guest, now_ns += S).target_pages,
			    MIB_PAGES(212));
	guest.drive = MT_BALLOON_EASE;
	guest.spare_pages = MIB_PAGES(100);
	for (unsigned int i = 0; i < 9; i++)
		MT_CHECK_EQ(mt_balloon_decide(&state, &guest, now_ns += S).target_pages,
			    MIB_PAGES(212));
	MT_CHECK_EQ(mt_balloon_decide(&state, &guest, now_ns += S).target_pages,
		    MIB_PAGES(212 - 32));
	guest.spare_pages = 0;
	MT_CHECK_EQ(mt_balloon_decide(&state, &guest, now_ns += S).target_pages,
		    MIB_PAGES(212 - 32));
	guest.spare_pages = MIB_PAGES(500);
	for (unsigned int i = 0; i < 6; i++)
		mt_balloon_decide(&state, &guest, now_ns += S);
	MT_CHECK_EQ(state.target_pages, 0);
}

MT_TEST("a place that has grown lets the balloon go back at once")
{
	struct mt_balloon_guest guest = guest_typical();
	struct mt_balloon_state state = {0};

	mt_balloon_decide(&state, &guest, START_NS);
	guest.ballooned_pages = guest.reported_pages = MIB_PAGES(212);
	guest.available_pages = MIB_PAGES(68);
	guest.used_pages = MIB_PAGES(290);
	guest.fit_pages = MIB_PAGES(450);
	MT_CHECK_EQ(mt_balloon_decide(&state, &guest, START_NS + S).target_pages, MIB_PAGES(62));
}

MT_TEST("a report made while the balloon grew neither stops it nor drives it further")
{
	struct mt_balloon_guest guest = guest_typical();
	struct mt_balloon_state state = {0};

	mt_balloon_decide(&state, &guest, START_NS);
	guest.ballooned_pages = MIB_PAGES(190);
	/* reported with anything between 0 and 190 MiB in the balloon */
	guest.available_pages = MIB_PAGES(180);
	guest.fit_pages = MIB_PAGES(250);
	MT_CHECK_EQ(mt_balloon_decide(&state, &guest, START_NS + S).target_pages, MIB_PAGES(212));
}

/* A guest of random size and appetite under a random host: what must hold holds at every step. */
MT_TEST("whatever happens, bounds hold: cap, size, floor; small guests and odd reports included")
{
	uint64_t random = 88172645463325252ULL;
#define RANDOM(below) \
	(random ^= random << 13, random ^= random >> 7, random ^= random << 17, random % (below))
	for (unsigned int run = 0; run < 2000; run++) {
		struct mt_balloon_guest guest = {
			.present = true, .deflates_on_oom = true, .max_pct = 65};
		struct mt_balloon_state state = {0};
		uint64_t memsize = MIB_PAGES(32) + RANDOM(MIB_PAGES(4096));
		uint64_t now_ns = START_NS;

		guest.memsize_pages = memsize;
		guest.total_pages = memsize - memsize / 20;
		for (unsigned int step = 0; step < 100; step++) {
			struct mt_balloon_decision d;
			uint64_t left;

			guest.drive = (enum mt_balloon_drive)RANDOM(3);
			guest.fresh = RANDOM(10);
			guest.available_pages =
				RANDOM(guest.total_pages - guest.ballooned_pages + 1);
			guest.used_pages = RANDOM(memsize + 1);
			guest.fit_pages = RANDOM(memsize * 2);
			guest.spare_pages = RANDOM(memsize);
			guest.swapped_in_pages = RANDOM(4) ? 0 : RANDOM(1000);
			guest.reported_pages = guest.ballooned_pages;
			d = mt_balloon_decide(&state, &guest, now_ns += RANDOM(3 * S));
			MT_CHECK(d.target_pages <= mt_balloon_cap(guest.total_pages, 65));
			left = guest.available_pages + guest.ballooned_pages;
			if (d.target_pages > guest.ballooned_pages + MT_BALLOON_GRAIN_PAGES)
				MT_CHECK(guest.fresh &&
					 left - d.target_pages + MT_BALLOON_GRAIN_PAGES >=
						 mt_balloon_floor(guest.total_pages));
			if (guest.drive == MT_BALLOON_EASE)
				MT_CHECK(!d.works);
			/* the guest follows, more or less */
			guest.ballooned_pages =
				RANDOM(3) ? d.target_pages
					  : (d.target_pages + guest.ballooned_pages) / 2;
		}
	}
}

MT_TEST("every reason has its words")
{
	for (unsigned int i = 0; i < MT_BALLOON_WHYS; i++)
		MT_CHECK(mt_balloon_why_text((enum mt_balloon_why)i));
}

MT_TEST_MAIN
