/* SPDX-License-Identifier: MIT */
/*
 * sim_share.c - the daemon that the simulated VM shares pages with; see sim_mem.h
 *
 * The real table (host/share_table.c) over frames that are an array. Answers come late, in any
 * order, or not at all; connections break and are made anew; a second VM without memory uses and
 * releases frames of its own accord. A frame that nobody uses becomes rubbish at once, so whoever
 * still reads it is found out.
 */
#include "sim/sim_mem.h"

#include "host/share_table.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SHARE_FRAMES       16384U
#define SHARE_LATE         16U
#define SHARE_PAGES_PER_KS 100000U
/* To tell whether the pace is kept, some rounds of the scanner are needed. */
#define SHARE_PAGES_PER_KS_FAST 1000000U

/* An answer on its way. */
struct share_late {
	uint32_t number; /* of the batch; 0: free */
	uint32_t count;
	uint32_t answer[MT_WIRE_SHARE_LOOKS];
	bool look;
};

static struct {
	struct mt_share_table *table;
	struct mt_share_member *vm, *other;
	uint8_t *frames;
	struct share_late late[SHARE_LATE];
	uint64_t made, cuts, others, start_ns;
} host;

const uint8_t *sim_share_frame(uint32_t frame)
{
	return host.frames + (uint64_t)frame * MT_PAGE_SIZE;
}

static void host_freed(void *ctx, mt_frame_t frame)
{
	(void)ctx;
	memset(host.frames + (uint64_t)frame.n * MT_PAGE_SIZE, 0xdd, MT_PAGE_SIZE);
}

static void host_release(struct mt_share_member *member, uint32_t number)
{
	bool gone;

	if (mt_share_release(host.table, member, MT_FRAME(number), &gone))
		SIM_FAIL("frame %u is released and was not used", number);
	if (gone)
		host_freed(NULL, MT_FRAME(number));
}

/* @content: NULL to offer only. Return: as the real daemon answers. */
static uint32_t host_offer(struct mt_share_member *member, mt_gpn_t gpn, uint64_t hash,
			   const uint8_t *content)
{
	mt_frame_t frame = MT_FRAME_NONE;
	struct mt_share_hint hint;
	uint32_t tail;
	bool fresh;

	if (!content) {
		switch (mt_share_offer(host.table, member, gpn, hash, &frame)) {
		case MT_SHARE_FOUND:
			return frame.n;
		case MT_SHARE_WANTED:
			return MT_WIRE_SHARE_WANTED;
		case MT_SHARE_SAME:
			return MT_WIRE_SHARE_SAME;
		case MT_SHARE_HINTED:
		case MT_SHARE_REFUSED:
		case MT_SHARE_LIKE:
			break;
		}
		return MT_WIRE_SHARE_NONE;
	}
	if (mt_share_hash(content) != hash)
		SIM_FAIL("page 0x%x is sent with another content than its hash", gpn.n);
	if (mt_share_make(host.table, member, gpn, hash, &frame, &fresh, &hint))
		return MT_WIRE_SHARE_NONE;
	MT_ASSERT(frame.n < SHARE_FRAMES);
	if (fresh)
		memcpy(host.frames + (uint64_t)frame.n * MT_PAGE_SIZE, content, MT_PAGE_SIZE);
	host.made += fresh;
	tail = sim.pager->share.again_tail;
	if (fresh && hint.member == host.vm && sim_chance(20)) {
		sim.pager->share.again_lost = true;
	} else if (fresh && hint.member == host.vm &&
		   tail - sim.pager->share.again_head < MT_SHARE_AGAINS) {
		sim.pager->share.again[tail % MT_SHARE_AGAINS] = hint.gpn;
		sim.pager->share.again_tail = tail + 1;
	}
	return frame.n;
}

static struct share_late *late_free(void)
{
	for (uint32_t i = 0; i < SHARE_LATE; i++)
		if (!host.late[i].number)
			return &host.late[i];
	return NULL;
}

/* The link has sent a batch; its answer is on the way, unless it gets lost. */
static void host_take(struct mt_share_batch *batch)
{
	struct share_late *late = late_free();

	if (!late)
		return;
	for (uint32_t i = 0; i < batch->count; i++)
		late->answer[i] = host_offer(host.vm, batch->gpn[i], batch->hash[i],
					     batch->contents ? batch->page[i] : NULL);
	late->number = batch->number;
	late->count = batch->count;
	late->look = false;
	batch->phase = MT_SHARE_ASKED;
}

static uint32_t host_offer_large(mt_gpn_t gpn, uint64_t hash)
{
	enum mt_share_verdict verdict = mt_share_offer_large(host.table, host.vm, gpn, hash);

	if (verdict == MT_SHARE_FOUND || verdict == MT_SHARE_WANTED)
		SIM_FAIL("page 0x%x of a large page is to be shared", gpn.n);
	return verdict == MT_SHARE_LIKE ? MT_WIRE_SHARE_LIKE : MT_WIRE_SHARE_NONE;
}

/* The same for a look. */
static void host_take_look(struct mt_share_look *look)
{
	struct share_late *late = late_free();

	if (!late)
		return;
	late->count = 0;
	for (uint32_t i = 0; i < look->count; i++) {
		mt_gpn_t gpn = MT_GPN(look->gpn[i]);

		if (look->answer[i] == MT_LOOK_TO_ASK)
			late->answer[late->count++] =
				look->large[i] ? host_offer_large(gpn, look->hash[i])
					       : host_offer(host.vm, gpn, look->hash[i], NULL);
	}
	late->number = look->number;
	late->look = true;
	look->phase = MT_LOOK_ASKED;
}

static void host_deliver_look(struct share_late *late)
{
	struct mt_share_look *look = &sim.pager->share.look;
	uint32_t n = 0;

	MT_ASSERT(look->phase == MT_LOOK_ASKED && look->number == late->number);
	for (uint32_t i = 0; i < look->count; i++)
		if (look->answer[i] == MT_LOOK_TO_ASK)
			look->answer[i] = late->answer[n++];
	MT_ASSERT(n == late->count);
	look->phase = MT_LOOK_ANSWERED;
	late->number = 0;
}

static void host_deliver(struct share_late *late)
{
	struct mt_share *share = &sim.pager->share;

	if (late->look) {
		host_deliver_look(late);
		return;
	}
	for (uint32_t n = 0; n < MT_SHARE_BATCHES; n++) {
		struct mt_share_batch *batch = &share->batch[n];

		if (batch->phase != MT_SHARE_ASKED || batch->number != late->number)
			continue;
		memcpy(batch->answer, late->answer, late->count * sizeof(late->answer[0]));
		batch->phase = MT_SHARE_ANSWERED;
		late->number = 0;
		return;
	}
	for (uint32_t i = 0; i < late->count; i++)
		if (late->answer[i] < MT_FRAMES_MAX)
			host_release(host.vm, late->answer[i]);
	late->number = 0;
}

static void host_take_releases(void)
{
	struct mt_share *share = &sim.pager->share;

	while (share->release_head != share->release_tail) {
		host_release(host.vm, share->release[share->release_head % MT_SHARE_RELEASES].n);
		share->release_head++;
	}
}

static void host_reconnect(void)
{
	struct mt_share_begin begin = {.frames = host.frames,
				       .map_at_once = sim.config.map_at_once};
	uint64_t pages = 0;

	memset(host.late, 0, sizeof(host.late));
	mt_share_cut(sim.pager, &pages);
	if (pages != sim.pager->map.pages[MT_PAGE_SHARED])
		SIM_FAIL("%lu pages are said to be shared", (unsigned long)pages);
	host.cuts++;
	mt_share_tell_begin(sim.pager, NULL);
	mt_share_keep_begin(host.table, host.vm);
	for (bool more = true; more;) {
		struct mt_share_tell tell = {.count = 0};

		while (!mt_share_tell(sim.pager, &tell))
			;
		for (uint32_t i = 0; i < tell.count; i++)
			if (mt_share_keep(host.table, host.vm, MT_FRAME(tell.frame[i]), false, 0))
				SIM_FAIL("frame %u is told of and was not used", tell.frame[i]);
		more = tell.more;
		/* The guest goes on while it is told. */
		if (more)
			sim_guest_step();
		if (more && !sim.in_step)
			mt_pager_step(sim.pager, 0);
	}
	mt_share_keep_end(host.table, host.vm, host_freed, NULL);
	host_take_releases();
	mt_share_begin(sim.pager, &begin);
}

/* Another VM of the group, whose pages are made up as they are needed. */
static void other_step(void)
{
	static uint8_t page[MT_PAGE_SIZE] __attribute__((aligned(8)));
	mt_gpn_t gpn = MT_GPN(sim_below(400));
	uint32_t answer;

	sim_fill(page, sim_value());
	answer = host_offer(host.other, gpn, mt_share_hash(page), NULL);
	if (answer == MT_WIRE_SHARE_WANTED)
		answer = host_offer(host.other, gpn, mt_share_hash(page), page);
	host.others += answer < MT_FRAMES_MAX;
	if (sim_chance(20))
		mt_share_release_all(host.table, host.other, host_freed, NULL);
}

void sim_share_step(void)
{
	struct mt_share *share = &sim.pager->share;

	if (!sim.config.alike)
		return;
	for (uint32_t i = 0; i < MT_SHARE_BATCHES; i++)
		if (share->batch[i].phase == MT_SHARE_TO_SEND && (sim.calm || sim_chance(500)))
			host_take(&share->batch[i]);
	if (share->look.phase == MT_LOOK_TO_SEND && (sim.calm || sim_chance(500)))
		host_take_look(&share->look);
	for (uint32_t i = 0; i < SHARE_LATE; i++)
		if (host.late[i].number && (sim.calm || sim_chance(200)))
			host_deliver(&host.late[i]);
	if (sim_chance(300))
		host_take_releases();
	/* The link's commands are carried out between the pager's turns, not in them. */
	if (!sim.calm && !sim.in_step && sim_chance(4))
		host_reconnect();
	if (!sim.calm && sim_chance(200))
		other_step();
}

/* Each use the table counts for the VM is a page of it, once nothing is on its way. */
void sim_share_check_rest(void)
{
	const struct mt_page_map *map = &sim.pager->map;
	char text[200];

	if (!sim.config.alike)
		return;
	for (uint32_t i = 0; i < SHARE_LATE; i++)
		if (host.late[i].number)
			host_deliver(&host.late[i]);
	host_take_releases();
	if (mt_share_used(host.vm) != map->pages[MT_PAGE_SHARED])
		SIM_FAIL("the daemon counts %lu uses, %lu pages are shared",
			 (unsigned long)mt_share_used(host.vm),
			 (unsigned long)map->pages[MT_PAGE_SHARED]);
	if (mt_share_audit(host.table, text, sizeof(text)))
		SIM_FAIL("the daemon's table: %s", text);
}

bool sim_share_at_rest(void)
{
	for (uint32_t i = 0; i < MT_SHARE_BATCHES; i++)
		if (sim.pager->share.batch[i].phase != MT_SHARE_IDLE)
			return false;
	return sim.pager->share.look.phase == MT_LOOK_IDLE;
}

void sim_share_start(void)
{
	struct mt_share_begin begin;

	if (!sim.config.alike)
		return;
	memset(&host, 0, sizeof(host));
	host.table = mt_share_table_new(1ULL << 30);
	host.vm = mt_share_join(host.table, NULL);
	host.other = mt_share_join(host.table, NULL);
	host.frames = mmap(NULL, (uint64_t)SHARE_FRAMES << MT_PAGE_SHIFT, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	MT_ASSERT(host.vm && host.other && host.frames != MAP_FAILED);
	mt_share_set_pages(host.vm, 100000);
	mt_share_set_pages(host.other, 400);
	begin = (struct mt_share_begin){.frames = host.frames,
					.map_at_once = sim.config.map_at_once};
	if (sim.config.maps_max)
		sim.pager->share.maps_max = sim.config.maps_max;
	host.start_ns = sim.clock_ns;
	atomic_store(&sim.pager->share.pages_per_ks,
		     sim.config.must_keep_pace ? SHARE_PAGES_PER_KS_FAST : SHARE_PAGES_PER_KS);
	mt_share_begin(sim.pager, &begin);
}

/*
 * Without pressure all that is hashed is the scanner's. It must not be faster than it was told, but
 * for one look that has just begun, and what it was told to look at again. It may be slower by what
 * it waits for answers, and by pages that are not in their places.
 */
static void pace_check(void)
{
	uint64_t scanned = sim.pager->counter[MT_C_SHARE_SCANNED];
	uint64_t told =
		(sim.clock_ns - host.start_ns) / 1000 * SHARE_PAGES_PER_KS_FAST / 1000000000;

	if (scanned > told + MT_WIRE_SHARE_LOOKS + host.made || scanned < told / 2)
		SIM_FAIL("%lu pages were looked at, it should have been %lu",
			 (unsigned long)scanned, (unsigned long)told);
}

void sim_share_report(void)
{
	const _Atomic uint64_t *counter = sim.pager->counter;

	if (!sim.config.alike)
		return;
	printf("# shared %llu times, %llu came back, %llu too late, %llu frames made, %llu "
	       "reconnections, the other VM shared %llu; frames mapped %llu times, %llu pages "
	       "broken\n",
	       (unsigned long long)counter[MT_C_SHARE_MADE],
	       (unsigned long long)counter[MT_C_FAULT_SHARED],
	       (unsigned long long)counter[MT_C_SHARE_VOLATILE], (unsigned long long)host.made,
	       (unsigned long long)host.cuts, (unsigned long long)host.others,
	       (unsigned long long)counter[MT_C_FAULT_MAPPED],
	       (unsigned long long)counter[MT_C_SHARE_BROKEN]);
	if (sim.config.must_share &&
	    (counter[MT_C_SHARE_MADE] < 1000 || counter[MT_C_FAULT_SHARED] < 1000 ||
	     counter[MT_C_FAULT_MAPPED] < 1000 || counter[MT_C_SHARE_BROKEN] < 500))
		SIM_FAIL("hardly anything was shared");
	if (sim.config.must_keep_pace)
		pace_check();
	if (counter[MT_C_SHARE_DIFFERS])
		SIM_FAIL("a frame had not the content of its hash");
}
