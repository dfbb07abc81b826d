/* SPDX-License-Identifier: MIT */
/* sample.c - draw, watch, return; see sample.h */
#include "monitor/pager.h"

#include <errno.h>
#include <sys/mman.h>

/* Pages moved in one turn. */
#define SAMPLE_STEP_PAGES 8U
/* Longest period. */
#define SAMPLE_WAIT_MS 3600000U
/* At most this part of the guest and of staging is watched at once. */
#define SAMPLE_GUEST_PART   32U
#define SAMPLE_STAGING_PART 8U

int mt_sample_init(struct mt_sample *sample)
{
	sample->page = mt_pager_area(MT_SAMPLE_MAX * sizeof(*sample->page));
	if (!sample->page)
		return -ENOMEM;
	madvise(sample->page, MT_SAMPLE_MAX * sizeof(*sample->page), MADV_NOHUGEPAGE);
	return 0;
}

void mt_sample_fini(struct mt_sample *sample)
{
	if (sample->page)
		munmap(sample->page, MT_SAMPLE_MAX * sizeof(*sample->page));
}

uint64_t mt_sample_bytes(const struct mt_sample *sample)
{
	return mt_align_up(sample->most * sizeof(*sample->page), MT_PAGE_SIZE);
}

static uint64_t sample_random(struct mt_sample *sample)
{
	uint64_t x = sample->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	sample->random = x;
	return x;
}

/* By page number, in place (Shell's sort): qsort() may allocate, which the pager must not. */
static void sample_sort(struct mt_sample_page *page, uint64_t count)
{
	for (uint64_t gap = count / 2; gap; gap /= 2) {
		for (uint64_t i = gap; i < count; i++) {
			struct mt_sample_page moving = page[i];
			uint64_t at = i;

			for (; at >= gap && page[at - gap].gpn.n > moving.gpn.n; at -= gap)
				page[at] = page[at - gap];
			page[at] = moving;
		}
	}
}

static struct mt_sample_page *sample_find(struct mt_sample *sample, mt_gpn_t gpn)
{
	uint32_t low = 0, high = sample->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (sample->page[middle].gpn.n == gpn.n)
			return &sample->page[middle];
		if (sample->page[middle].gpn.n < gpn.n)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static void sample_publish(struct mt_pager *pager)
{
	struct mt_sample *sample = &pager->sample;
	uint64_t counts[] = {sample->watched, sample->touched, sample->written};

	for (unsigned int i = 0; i < MT_ARRAY_SIZE(counts); i++)
		atomic_store_explicit(&pager->counter[MT_C_SAMPLE_NOW_WATCHED + i], counts[i],
				      memory_order_relaxed);
}

/* Page @index of all regions, one behind the other. */
static mt_gpn_t sample_nth(const struct mt_pager *pager, uint64_t index)
{
	for (uint32_t i = 0; i < pager->regions.count; i++) {
		const struct mt_region *region = &pager->regions.region[i];

		if (index < region->pages)
			return MT_GPN(region->first.n + index);
		index -= region->pages;
	}
	return MT_GPN_NONE;
}

/* Draws the pages of the next period, sorted and each of them once. */
static void sample_draw(struct mt_pager *pager, uint64_t now_ns)
{
	struct mt_sample *sample = &pager->sample;
	uint64_t pages = mt_regions_pages(&pager->regions), want;
	uint32_t kept = 0;

	sample->drawn_period_ns = atomic_load_explicit(&sample->period_ns, memory_order_relaxed);
	sample->drawn_pages = atomic_load_explicit(&sample->pages, memory_order_relaxed);
	want = MT_MIN(sample->drawn_pages,
		      MT_MIN(pages / SAMPLE_GUEST_PART, pager->staging.size / SAMPLE_STAGING_PART));
	want = MT_MIN(want, MT_SAMPLE_MAX);
	/* a larger table counts as held */
	if (!mt_room_for(pager, mt_pages_of_bytes(want * sizeof(sample->page[0]))))
		want = MT_MIN(want, sample->most);
	if (!sample->random)
		sample->random = now_ns | 1;
	for (uint64_t i = 0; i < want; i++)
		sample->page[i] = (struct mt_sample_page){
			.gpn = sample_nth(pager, sample_random(sample) % pages)};
	sample_sort(sample->page, want);
	for (uint64_t i = 0; i < want; i++)
		if (!kept || sample->page[kept - 1].gpn.n != sample->page[i].gpn.n)
			sample->page[kept++] = sample->page[i];
	sample->count = kept;
	sample->most = MT_MAX(sample->most, (uint32_t)want);
	sample->next = sample->watched = sample->touched = sample->written = 0;
	sample->end_ns = now_ns + sample->drawn_period_ns;
	sample->phase = MT_SAMPLE_DRAWING;
}

/* Is page @gpn in staging for us? Its region may have gone since. */
static bool sample_has(struct mt_pager *pager, mt_gpn_t gpn)
{
	return mt_region_of_gpn(&pager->regions, gpn) &&
	       mt_page_state(&pager->map, gpn) == MT_PAGE_NOMINATED &&
	       mt_page_busy(&pager->map, gpn) == MT_TICKET_SAMPLE;
}

static bool sample_is_large(struct mt_pager *pager, mt_gpn_t gpn)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);

	return pager->mem.large(pager->mem.ctx, mt_region_addr(region, gpn));
}

static void sample_watch(struct mt_pager *pager, struct mt_sample_page *page)
{
	struct mt_sample *sample = &pager->sample;
	enum mt_page_state state;

	if (!mt_region_of_gpn(&pager->regions, page->gpn))
		return;
	state = mt_page_state(&pager->map, page->gpn);
	if (state == MT_PAGE_FAILED)
		return;
	/* A mapped frame is read without our being told. */
	if (mt_page_mapped(&pager->map, page->gpn) && !mt_share_unmap(pager, page->gpn, 1))
		return;
	if (state == MT_PAGE_RESIDENT) {
		page->broke = sample_is_large(pager, page->gpn);
		/* One that can't be moved now can't be watched. */
		if (!mt_nominate_run(pager, page->gpn, 1))
			return;
		mt_page_busy_set(&pager->map, page->gpn, MT_TICKET_SAMPLE);
		sample->staged++;
	}
	page->watched = true;
	sample->watched++;
}

/* Puts page @gpn back. If that can't be, it becomes a nominated page like others. */
static void sample_return(struct mt_pager *pager, mt_gpn_t gpn)
{
	if (!sample_has(pager, gpn))
		return;
	if (mt_nominate_undo(pager, gpn, true) == MT_MEM_DONE) {
		mt_page_heat_set(&pager->map, gpn, (struct mt_heat){0});
		return;
	}
	/* lost */
	if (!sample_has(pager, gpn))
		return;
	mt_page_busy_clear(&pager->map, gpn, false);
	pager->sample.staged--;
}

/* Pages that came into their place in another way than by a fault of their own. */
static void sample_count_around(struct mt_pager *pager)
{
	struct mt_sample *sample = &pager->sample;

	for (uint32_t i = 0; i < sample->count; i++) {
		const struct mt_sample_page *page = &sample->page[i];

		if (page->watched && !page->touched &&
		    mt_region_of_gpn(&pager->regions, page->gpn) &&
		    mt_page_state(&pager->map, page->gpn) == MT_PAGE_RESIDENT)
			sample->touched++;
	}
}

static void sample_finish(struct mt_pager *pager)
{
	struct mt_sample *sample = &pager->sample;

	sample_count_around(pager);
	mt_count(pager, MT_C_SAMPLE_WATCHED, sample->watched);
	mt_count(pager, MT_C_SAMPLE_TOUCHED, sample->touched);
	mt_count(pager, MT_C_SAMPLE_WRITTEN, sample->written);
	mt_count(pager, MT_C_SAMPLE_PERIODS, 1);
	sample->next = 0;
	sample->phase = MT_SAMPLE_RETURNING;
}

/* The next few pages of the phase. Return: was that all? */
static bool sample_some(struct mt_pager *pager)
{
	struct mt_sample *sample = &pager->sample;

	for (uint32_t i = 0; i < SAMPLE_STEP_PAGES && sample->next < sample->count; i++) {
		struct mt_sample_page *page = &sample->page[sample->next++];

		if (sample->phase == MT_SAMPLE_DRAWING) {
			sample_watch(pager, page);
			continue;
		}
		sample_return(pager, page->gpn);
		if (page->broke && mt_region_of_gpn(&pager->regions, page->gpn))
			mt_mend_wanted(pager, page->gpn);
	}
	return sample->next == sample->count;
}

static void sample_idle(struct mt_pager *pager)
{
	struct mt_sample *sample = &pager->sample;

	sample->phase = MT_SAMPLE_IDLE;
	sample->count = sample->watched = sample->touched = sample->written = 0;
}

static bool sample_on(const struct mt_pager *pager)
{
	return atomic_load_explicit(&pager->sample.period_ns, memory_order_relaxed) &&
	       pager->regions.count && !pager->leaving && !pager->in_place;
}

/* Are the settings still those of the running period? */
static bool sample_same(const struct mt_sample *sample)
{
	return atomic_load_explicit(&sample->period_ns, memory_order_relaxed) ==
		       sample->drawn_period_ns &&
	       atomic_load_explicit(&sample->pages, memory_order_relaxed) == sample->drawn_pages;
}

int mt_sample_step(struct mt_pager *pager)
{
	struct mt_sample *sample = &pager->sample;
	uint64_t now_ns;

	if (sample->phase == MT_SAMPLE_IDLE && !sample_on(pager))
		return -1;
	if ((sample->phase == MT_SAMPLE_DRAWING || sample->phase == MT_SAMPLE_WATCHING) &&
	    !(sample_on(pager) && sample_same(sample))) {
		sample->next = 0;
		sample->phase = MT_SAMPLE_RETURNING;
	}
	now_ns = mt_pager_now_ns();
	if (sample->phase == MT_SAMPLE_IDLE)
		sample_draw(pager, now_ns);
	if (sample->phase == MT_SAMPLE_WATCHING && now_ns >= sample->end_ns)
		sample_finish(pager);
	if (sample->phase == MT_SAMPLE_WATCHING) {
		sample_publish(pager);
		return mt_pager_ms_until(now_ns, sample->end_ns, SAMPLE_WAIT_MS);
	}
	if (!sample_some(pager))
		return 0;
	if (sample->phase == MT_SAMPLE_DRAWING)
		sample->phase = MT_SAMPLE_WATCHING;
	else
		sample_idle(pager);
	sample_publish(pager);
	return 0;
}

void mt_sample_touch(struct mt_pager *pager, mt_gpn_t gpn, bool write)
{
	struct mt_sample *sample = &pager->sample;
	struct mt_sample_page *page;

	if (!sample->watched || sample->phase == MT_SAMPLE_RETURNING)
		return;
	page = sample_find(sample, gpn);
	if (!page || !page->watched)
		return;
	sample->touched += !page->touched;
	sample->written += write && !page->written;
	page->touched = true;
	page->written |= write;
}

bool mt_sample_watches(struct mt_pager *pager, mt_gpn_t gpn)
{
	struct mt_sample *sample = &pager->sample;
	const struct mt_sample_page *page;

	if (!sample->watched || sample->phase == MT_SAMPLE_RETURNING)
		return false;
	page = sample_find(sample, gpn);
	return page && page->watched && !page->touched;
}

void mt_sample_give_up(struct mt_pager *pager)
{
	struct mt_sample *sample = &pager->sample;

	for (uint32_t i = 0; sample->staged && i < sample->count; i++) {
		if (!sample_has(pager, sample->page[i].gpn))
			continue;
		mt_page_busy_clear(&pager->map, sample->page[i].gpn, true);
		sample->staged--;
	}
}
