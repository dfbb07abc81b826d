/* SPDX-License-Identifier: MIT */
/* test_share_table.c - hints, frames and who uses them; and all of it against a plain model */
#include "common/mt_test.h"
#include "host/share_table.h"

#include <errno.h>

#define PLENTY (1ULL << 30)

static void freed_none(void *ctx, mt_frame_t frame)
{
	(void)ctx;
	MT_FAIL("frame %u was freed", frame.n);
}

static void freed_count(void *ctx, mt_frame_t frame)
{
	(void)frame;
	(*(unsigned int *)ctx)++;
}

static struct mt_share_member *join(struct mt_share_table *table, uint64_t pages)
{
	struct mt_share_member *member = mt_share_join(table, NULL);

	MT_CHECK(member);
	mt_share_set_pages(member, pages);
	return member;
}

static void sound(const struct mt_share_table *table)
{
	char text[200];

	if (mt_share_audit(table, text, sizeof(text)))
		MT_FAIL("%s", text);
}

/* Offers and, when wanted, makes. Return: the frame, or none. */
static mt_frame_t share(struct mt_share_table *table, struct mt_share_member *member, uint32_t gpn,
			uint64_t hash)
{
	mt_frame_t frame = MT_FRAME_NONE;
	struct mt_share_hint hint;
	bool fresh;

	if (mt_share_offer(table, member, MT_GPN(gpn), hash, &frame) == MT_SHARE_WANTED)
		MT_CHECK(!mt_share_make(table, member, MT_GPN(gpn), hash, &frame, &fresh, &hint));
	return frame;
}

MT_TEST("a page in a large page is told of its likes, and nobody is to wait for it")
{
	struct mt_share_table *table = mt_share_table_new(PLENTY);
	struct mt_share_member *a = join(table, 10), *b = join(table, 10), *c = join(table, 10);
	mt_frame_t frame = MT_FRAME_NONE;

	MT_CHECK_EQ(mt_share_offer_large(table, a, MT_GPN(1), 77), MT_SHARE_HINTED);
	MT_CHECK_EQ(mt_share_offer_large(table, a, MT_GPN(1), 77), MT_SHARE_SAME);
	MT_CHECK_EQ(mt_share_offer_large(table, a, MT_GPN(2), 77), MT_SHARE_LIKE);
	MT_CHECK_EQ(mt_share_offer_large(table, b, MT_GPN(1), 77), MT_SHARE_LIKE);
	/* a page that can be shared takes its place, and is the one that a like is shared with */
	MT_CHECK_EQ(mt_share_offer(table, b, MT_GPN(5), 77, &frame), MT_SHARE_HINTED);
	MT_CHECK_EQ(mt_share_table_hints(table), 1);
	sound(table);
	MT_CHECK_EQ(mt_share_offer_large(table, a, MT_GPN(1), 77), MT_SHARE_LIKE);
	frame = share(table, c, 3, 77);
	MT_CHECK(frame.n < MT_FRAMES_MAX);
	MT_CHECK_EQ(mt_share_offer_large(table, a, MT_GPN(1), 77), MT_SHARE_LIKE);
	MT_CHECK_EQ(mt_share_used(a), 0);
	/* its large page is broken: the same page is remembered as one that can be shared */
	MT_CHECK_EQ(mt_share_offer_large(table, a, MT_GPN(7), 88), MT_SHARE_HINTED);
	MT_CHECK_EQ(mt_share_offer(table, a, MT_GPN(7), 88, &frame), MT_SHARE_SAME);
	MT_CHECK_EQ(mt_share_offer(table, b, MT_GPN(8), 88, &frame), MT_SHARE_WANTED);
	/* and then a large page once more, before the content has come */
	MT_CHECK_EQ(mt_share_offer_large(table, a, MT_GPN(7), 88), MT_SHARE_SAME);
	MT_CHECK_EQ(mt_share_make(table, b, MT_GPN(8), 88, &frame, &(bool){false},
				  &(struct mt_share_hint){.member = NULL}),
		    -ENOENT);
	sound(table);
	mt_share_leave(table, a, freed_none, NULL);
	mt_share_leave(table, b, freed_none, NULL);
	mt_share_leave(table, c, freed_count, &(unsigned int){0});
	mt_share_table_free(table);
}

MT_TEST("the second page with the same hash is wanted, the third finds a frame")
{
	struct mt_share_table *table = mt_share_table_new(PLENTY);
	struct mt_share_member *a = join(table, 10), *b = join(table, 10), *c = join(table, 10);
	mt_frame_t frame = MT_FRAME_NONE, other = MT_FRAME_NONE;
	struct mt_share_hint hint;
	unsigned int freed = 0;
	bool fresh, gone;

	MT_CHECK_EQ(mt_share_offer(table, a, MT_GPN(1), 77, &frame), MT_SHARE_HINTED);
	MT_CHECK_EQ(mt_share_offer(table, a, MT_GPN(1), 77, &frame), MT_SHARE_SAME);
	MT_CHECK_EQ(mt_share_offer(table, b, MT_GPN(5), 77, &frame), MT_SHARE_WANTED);
	MT_CHECK_EQ(mt_share_make(table, b, MT_GPN(5), 77, &frame, &fresh, &hint), 0);
	MT_CHECK(fresh && hint.member == a && hint.gpn.n == 1);
	MT_CHECK_EQ(mt_share_table_frames(table), 1);
	MT_CHECK_EQ(mt_share_offer(table, c, MT_GPN(9), 77, &other), MT_SHARE_FOUND);
	MT_CHECK_EQ(other.n, frame.n);
	MT_CHECK_EQ(mt_share_charge(table, b), 1); /* a half, rounded up */
	sound(table);
	MT_CHECK_EQ(mt_share_release(table, b, frame, &gone), 0);
	MT_CHECK(!gone);
	MT_CHECK_EQ(mt_share_release(table, c, frame, &gone), 0);
	MT_CHECK(gone);
	MT_CHECK_EQ(mt_share_table_frames(table), 0);
	sound(table);
	mt_share_leave(table, a, freed_none, NULL);
	mt_share_leave(table, b, freed_none, NULL);
	mt_share_leave(table, c, freed_count, &freed);
	MT_CHECK_EQ(freed, 0);
	mt_share_table_free(table);
}

MT_TEST("two equal pages of one VM share a frame, one page never matches itself")
{
	struct mt_share_table *table = mt_share_table_new(PLENTY);
	struct mt_share_member *a = join(table, 10);
	mt_frame_t frame = MT_FRAME_NONE;
	struct mt_share_hint hint;
	unsigned int freed = 0;
	bool fresh;

	MT_CHECK_EQ(mt_share_offer(table, a, MT_GPN(1), 5, &frame), MT_SHARE_HINTED);
	MT_CHECK_EQ(mt_share_make(table, a, MT_GPN(1), 5, &frame, &fresh, &hint), -ENOENT);
	MT_CHECK(!mt_frame_is_none(share(table, a, 2, 5)));
	sound(table);
	mt_share_leave(table, a, freed_count, &freed);
	MT_CHECK_EQ(freed, 1);
	mt_share_table_free(table);
}

MT_TEST("nobody releases a frame of another, or one twice")
{
	struct mt_share_table *table = mt_share_table_new(PLENTY);
	struct mt_share_member *a = join(table, 10), *b = join(table, 10);
	unsigned int freed = 0;
	mt_frame_t frame;
	bool gone;

	share(table, a, 1, 5);
	frame = share(table, a, 2, 5);
	MT_CHECK_EQ(mt_share_release(table, b, frame, &gone), -EINVAL);
	MT_CHECK_EQ(mt_share_release(table, b, MT_FRAME(MT_FRAMES_MAX), &gone), -EINVAL);
	MT_CHECK_EQ(mt_share_release(table, b, MT_FRAME_NONE, &gone), -EINVAL);
	MT_CHECK_EQ(mt_share_release(table, a, frame, &gone), 0);
	MT_CHECK_EQ(mt_share_release(table, a, frame, &gone), -EINVAL);
	sound(table);
	mt_share_leave(table, a, freed_count, &freed);
	mt_share_leave(table, b, freed_count, &freed);
	MT_CHECK_EQ(freed, 0);
	mt_share_table_free(table);
}

MT_TEST("a content nobody asked for becomes no frame")
{
	struct mt_share_table *table = mt_share_table_new(PLENTY);
	struct mt_share_member *a = join(table, 10);
	mt_frame_t frame = MT_FRAME_NONE;
	struct mt_share_hint hint;
	bool fresh;

	MT_CHECK_EQ(mt_share_make(table, a, MT_GPN(1), 5, &frame, &fresh, &hint), -ENOENT);
	MT_CHECK_EQ(mt_share_table_frames(table), 0);
	mt_share_leave(table, a, freed_none, NULL);
	mt_share_table_free(table);
}

MT_TEST("a VM that offers without end forgets its own oldest hints and nobody else's")
{
	struct mt_share_table *table = mt_share_table_new(PLENTY);
	struct mt_share_member *a = join(table, 100), *b = join(table, 50);
	mt_frame_t frame;

	for (uint32_t i = 0; i < 100; i++)
		MT_CHECK_EQ(mt_share_offer(table, a, MT_GPN(i), 1000 + i, &frame), MT_SHARE_HINTED);
	for (uint32_t i = 0; i < 100000; i++)
		MT_CHECK_EQ(mt_share_offer(table, b, MT_GPN(i % 50), 1000000 + i, &frame),
			    MT_SHARE_HINTED);
	MT_CHECK_EQ(mt_share_table_hints(table), 150);
	MT_CHECK(mt_share_table_bytes(table) < 80000);
	for (uint32_t i = 0; i < 100; i++)
		MT_CHECK_EQ(mt_share_offer(table, a, MT_GPN(i), 1000 + i, &frame), MT_SHARE_SAME);
	sound(table);
	mt_share_leave(table, a, freed_none, NULL);
	mt_share_leave(table, b, freed_none, NULL);
	MT_CHECK_EQ(mt_share_table_hints(table), 0);
	mt_share_table_free(table);
}

MT_TEST("a VM uses no more frames than it has pages")
{
	struct mt_share_table *table = mt_share_table_new(PLENTY);
	struct mt_share_member *a = join(table, 10), *b = join(table, 3);
	mt_frame_t frame = MT_FRAME_NONE;
	unsigned int freed = 0;

	for (uint32_t i = 0; i < 8; i++)
		share(table, a, i, 5);
	for (uint32_t i = 0; i < 3; i++)
		MT_CHECK_EQ(mt_share_offer(table, b, MT_GPN(i), 5, &frame), MT_SHARE_FOUND);
	MT_CHECK_EQ(mt_share_offer(table, b, MT_GPN(9), 5, &frame), MT_SHARE_REFUSED);
	mt_share_leave(table, b, freed_none, NULL);
	mt_share_leave(table, a, freed_count, &freed);
	MT_CHECK_EQ(freed, 1);
	mt_share_table_free(table);
}

MT_TEST("a table at its limit grows no further and stays sound")
{
	struct mt_share_table *table = mt_share_table_new(100000);
	struct mt_share_member *a = join(table, 1000000);
	unsigned int freed = 0;
	mt_frame_t frame;

	for (uint32_t i = 0; i < 50000; i++) {
		mt_share_offer(table, a, MT_GPN(i), i, &frame);
		MT_CHECK(mt_share_table_bytes(table) <= 100000);
	}
	MT_CHECK(mt_share_table_hints(table) > 100 && mt_share_table_hints(table) < 5000);
	sound(table);
	mt_share_leave(table, a, freed_count, &freed);
	mt_share_table_free(table);
}

MT_TEST("frames of neighbouring pages are neighbours")
{
	struct mt_share_table *table = mt_share_table_new(PLENTY);
	struct mt_share_member *a = join(table, 1000), *b = join(table, 1000);
	unsigned int freed = 0, breaks = 0;
	mt_frame_t last = MT_FRAME_NONE;

	for (uint32_t i = 0; i < 300; i++)
		share(table, a, i, i + 1);
	for (uint32_t i = 0; i < 300; i++) {
		mt_frame_t frame = share(table, b, i, i + 1);

		MT_CHECK(!mt_frame_is_none(frame));
		breaks += i && frame.n != last.n + 1;
		last = frame;
	}
	MT_CHECK_EQ(breaks, 0);
	mt_share_leave(table, a, freed_none, NULL);
	mt_share_leave(table, b, freed_count, &freed);
	MT_CHECK_EQ(freed, 300);
	mt_share_table_free(table);
}

MT_TEST("frames from before are kept with their users, and new ones stay clear of them")
{
	struct mt_share_table *table = mt_share_table_new(PLENTY);
	struct mt_share_member *a = join(table, 10), *b = join(table, 10);
	unsigned int freed = 0;
	mt_frame_t frame;

	mt_share_floor(table, 40);
	mt_share_keep_begin(table, a);
	mt_share_keep_begin(table, b);
	MT_CHECK_EQ(mt_share_keep(table, a, MT_FRAME(7), true, 99), 0);
	MT_CHECK_EQ(mt_share_keep(table, b, MT_FRAME(7), true, 99), 0);
	MT_CHECK_EQ(mt_share_keep(table, b, MT_FRAME(7), true, 99), 0);
	MT_CHECK_EQ(mt_share_keep(table, b, MT_FRAME(MT_FRAMES_MAX), true, 99), -EINVAL);
	mt_share_keep_end(table, a, freed_none, NULL);
	mt_share_keep_end(table, b, freed_none, NULL);
	MT_CHECK_EQ(mt_share_used(b), 2);
	MT_CHECK(mt_share_is_frame(table, MT_FRAME(7)) && !mt_share_is_frame(table, MT_FRAME(6)));
	MT_CHECK_EQ(share(table, a, 3, 99).n, 7);
	share(table, a, 4, 5);
	frame = share(table, b, 4, 5);
	MT_CHECK(frame.n >= 40 && !mt_frame_is_none(frame));
	sound(table);
	mt_share_release_all(table, b, freed_count, &freed);
	MT_CHECK_EQ(freed, 1);
	sound(table);
	mt_share_leave(table, a, freed_count, &freed);
	mt_share_leave(table, b, freed_count, &freed);
	MT_CHECK_EQ(freed, 2);
	mt_share_table_free(table);
}

MT_TEST("a VM that tells anew what it uses loses what it does not name and gains nothing")
{
	struct mt_share_table *table = mt_share_table_new(PLENTY);
	struct mt_share_member *a = join(table, 10), *b = join(table, 10);
	unsigned int freed = 0;
	mt_frame_t one, two;

	share(table, a, 1, 5);
	one = share(table, a, 2, 5);
	share(table, b, 1, 6);
	two = share(table, a, 3, 6);
	share(table, a, 4, 6);
	mt_share_keep_begin(table, a);
	MT_CHECK_EQ(mt_share_keep(table, a, two, false, 0), 0);
	MT_CHECK_EQ(mt_share_keep(table, a, two, false, 0), 0);
	MT_CHECK_EQ(mt_share_keep(table, a, two, false, 0), -EINVAL);
	MT_CHECK_EQ(mt_share_keep(table, b, two, false, 0), -EINVAL);
	mt_share_keep_end(table, a, freed_count, &freed);
	MT_CHECK_EQ(freed, 1);
	MT_CHECK(!mt_share_is_frame(table, one) && mt_share_is_frame(table, two));
	MT_CHECK_EQ(mt_share_used(a), 2);
	sound(table);
	mt_share_leave(table, a, freed_count, &freed);
	mt_share_leave(table, b, freed_count, &freed);
	MT_CHECK_EQ(freed, 2);
	mt_share_table_free(table);
}

MT_TEST("frames come and go without their numbers growing")
{
	struct mt_share_table *table = mt_share_table_new(PLENTY);
	struct mt_share_member *a = join(table, 100000);
	mt_frame_t held[256];
	unsigned int freed = 0;
	bool gone;

	for (uint32_t i = 0; i < 60000; i++) {
		mt_frame_t *frame = &held[i % 256];

		if (i >= 256) {
			MT_CHECK_EQ(mt_share_release(table, a, *frame, &gone), 0);
			MT_CHECK(gone);
		}
		share(table, a, i * 7 % 90000, i + 1);
		*frame = share(table, a, 90001 + i * 3 % 9000, i + 1);
		MT_CHECK(!mt_frame_is_none(*frame));
	}
	printf("# %u numbers for 256 frames\n", mt_share_high(table));
	MT_CHECK(mt_share_high(table) <= 16 * 256 * 2);
	sound(table);
	mt_share_leave(table, a, freed_count, &freed);
	MT_CHECK_EQ(freed, 256);
	mt_share_table_free(table);
}

/* The model: what each VM uses, and which frame stands for which hash. */
#define VMS    4
#define HASHES 60

static struct {
	unsigned int uses[VMS][HASHES];
	mt_frame_t frame[HASHES]; /* none: no frame */
	struct mt_share_member *member[VMS];
	uint64_t random;
} model;

static uint32_t below(uint32_t limit)
{
	model.random = model.random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(model.random >> 33) % limit;
}

static void model_freed(void *ctx, mt_frame_t frame)
{
	(void)ctx;
	for (uint32_t h = 0; h < HASHES; h++) {
		if (model.frame[h].n != frame.n)
			continue;
		for (uint32_t v = 0; v < VMS; v++)
			MT_CHECK_EQ(model.uses[v][h], 0);
		model.frame[h] = MT_FRAME_NONE;
		return;
	}
	MT_FAIL("frame %u was freed, which was none", frame.n);
}

static void model_share(struct mt_share_table *table, uint32_t v, uint32_t h)
{
	mt_frame_t frame = share(table, model.member[v], below(400), h + 1);

	if (mt_frame_is_none(frame)) {
		MT_CHECK(mt_frame_is_none(model.frame[h]) || model.uses[v][h]);
		return;
	}
	if (!mt_frame_is_none(model.frame[h]))
		MT_CHECK_EQ(frame.n, model.frame[h].n);
	for (uint32_t i = 0; i < HASHES; i++)
		MT_CHECK(i == h || model.frame[i].n != frame.n);
	model.frame[h] = frame;
	model.uses[v][h]++;
}

static void model_release(struct mt_share_table *table, uint32_t v, uint32_t h)
{
	bool gone = false;

	if (mt_frame_is_none(model.frame[h]))
		return;
	if (!model.uses[v][h]) {
		MT_CHECK_EQ(mt_share_release(table, model.member[v], model.frame[h], &gone),
			    -EINVAL);
		return;
	}
	MT_CHECK_EQ(mt_share_release(table, model.member[v], model.frame[h], &gone), 0);
	model.uses[v][h]--;
	if (gone)
		model_freed(NULL, model.frame[h]);
}

static void model_leave(struct mt_share_table *table, uint32_t v)
{
	memset(model.uses[v], 0, sizeof(model.uses[v]));
	mt_share_leave(table, model.member[v], model_freed, NULL);
	model.member[v] = join(table, 100000);
}

MT_TEST("whatever VMs do, each frame has exactly the users it should")
{
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct mt_share_table *table = mt_share_table_new(PLENTY);

		memset(&model, 0, sizeof(model));
		model.random = seed;
		for (uint32_t h = 0; h < HASHES; h++)
			model.frame[h] = MT_FRAME_NONE;
		for (uint32_t v = 0; v < VMS; v++)
			model.member[v] = join(table, 100000);
		for (uint32_t step = 0; step < 20000; step++) {
			uint32_t what = below(1000);

			if (what < 500)
				model_share(table, below(VMS), below(HASHES));
			else if (what < 998)
				model_release(table, below(VMS), below(HASHES));
			else
				model_leave(table, below(VMS));
			if (step % 50 == 0)
				sound(table);
		}
		for (uint32_t v = 0; v < VMS; v++) {
			memset(model.uses[v], 0, sizeof(model.uses[v]));
			mt_share_leave(table, model.member[v], model_freed, NULL);
		}
		MT_CHECK_EQ(mt_share_table_frames(table), 0);
		mt_share_table_free(table);
	}
}

MT_TEST_MAIN
