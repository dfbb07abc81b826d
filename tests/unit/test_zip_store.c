/* SPDX-License-Identifier: MIT */
/*
 * test_zip_store.c - the zip store against a model, and what it costs in memory
 *
 * The model is a table: page number -> length, seed of the content, reference. Content is made
 * from the seed, so every byte can be checked at any time. The arena is real anonymous memory and
 * drop is a real madvise, so that the store's own count can be held against the kernel's.
 */
#include "monitor/zip_store.h"

#include "common/mt_test.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

struct shadow {
	uint32_t bytes; /* 0: not stored */
	uint32_t seed;
	mt_zref_t ref;
};

struct rig {
	struct mt_zip_store *store;
	uint8_t *base;
	uint64_t bytes;
	struct shadow *pages;
	uint32_t page_max;
	uint64_t random;
	uint64_t drops;
	uint64_t moves;
	uint64_t stored_bytes;
	uint64_t objects;
	uint64_t empty_bytes;  /* held when new */
	uint64_t beside_bytes; /* bookkeeping at the last check */
};

static uint64_t random_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static uint32_t random_below(struct rig *rig, uint32_t limit)
{
	return (uint32_t)(random_next(&rig->random) % limit);
}

static void fill(uint8_t *data, uint32_t bytes, uint32_t seed)
{
	for (uint32_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)(seed + i * 131 + (i >> 8) * 7);
}

static void rig_drop(void *ctx, void *addr, uint64_t bytes)
{
	struct rig *rig = ctx;

	MT_CHECK((uint8_t *)addr >= rig->base);
	MT_CHECK((uint8_t *)addr + bytes <= rig->base + rig->bytes);
	MT_CHECK(((uintptr_t)addr | bytes) % MT_PAGE_SIZE == 0);
	MT_CHECK(!madvise(addr, bytes, MADV_DONTNEED));
	rig->drops++;
}

static void rig_moved(void *ctx, mt_gpn_t gpn, mt_zref_t to)
{
	struct rig *rig = ctx;

	MT_CHECK(gpn.n < rig->page_max);
	MT_CHECK(rig->pages[gpn.n].bytes > 0);
	rig->pages[gpn.n].ref = to;
	rig->moves++;
}

static void rig_init(struct rig *rig, uint64_t arena_bytes, uint32_t page_max, uint64_t seed)
{
	struct mt_zip_env env = {.ctx = rig, .drop = rig_drop, .moved = rig_moved};
	uint8_t *map = mmap(NULL, arena_bytes + 65536, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	MT_CHECK(map != MAP_FAILED);
	*rig = (struct rig){.page_max = page_max, .random = seed, .bytes = arena_bytes};
	rig->base = (uint8_t *)mt_align_up((uintptr_t)map, 65536);
	/* One page at a time, or the kernel would populate pages nobody wrote. */
	madvise(rig->base, arena_bytes, MADV_NOHUGEPAGE);
	rig->pages = calloc(page_max, sizeof(*rig->pages));
	MT_CHECK(rig->pages);
	env.base = rig->base;
	env.bytes = arena_bytes;
	MT_CHECK_EQ(mt_zip_new(&env, &rig->store), 0);
	rig->empty_bytes = mt_zip_held_bytes(rig->store);
	rig->beside_bytes = rig->empty_bytes;
}

static int rig_put(struct rig *rig, uint32_t gpn, uint32_t bytes)
{
	struct shadow *page = &rig->pages[gpn];
	uint64_t limit = mt_zip_held_bytes_after(rig->store, bytes);
	uint32_t seed = (uint32_t)random_next(&rig->random);
	uint8_t data[MT_ZIP_OBJECT_MAX];
	int rc;

	fill(data, bytes, seed);
	rc = mt_zip_put(rig->store, MT_GPN(gpn), data, bytes, &page->ref);
	if (rc)
		return rc;
	MT_CHECK(mt_zip_held_bytes(rig->store) <= limit);
	page->bytes = bytes;
	page->seed = seed;
	rig->stored_bytes += bytes;
	rig->objects++;
	return 0;
}

static void rig_verify(struct rig *rig, uint32_t gpn)
{
	const struct shadow *page = &rig->pages[gpn];
	uint8_t data[MT_ZIP_OBJECT_MAX];
	const void *found;
	mt_gpn_t found_gpn;

	MT_CHECK_EQ(mt_zip_get(rig->store, page->ref, &found, &found_gpn), page->bytes);
	MT_CHECK_EQ(found_gpn.n, gpn);
	fill(data, page->bytes, page->seed);
	MT_CHECK(!memcmp(data, found, page->bytes));
}

static void rig_del(struct rig *rig, uint32_t gpn)
{
	struct shadow *page = &rig->pages[gpn];

	rig->stored_bytes -= page->bytes;
	rig->objects--;
	mt_zip_del(rig->store, page->ref);
	page->bytes = 0;
}

static void rig_audit(struct rig *rig)
{
	char text[200] = "";

	if (mt_zip_audit(rig->store, text, sizeof(text)))
		MT_FAIL("audit: %s", text);
	MT_CHECK_EQ(mt_zip_stored_bytes(rig->store), rig->stored_bytes);
	MT_CHECK_EQ(mt_zip_objects(rig->store), rig->objects);
}

static void rig_verify_all(struct rig *rig)
{
	for (uint32_t gpn = 0; gpn < rig->page_max; gpn++)
		if (rig->pages[gpn].bytes)
			rig_verify(rig, gpn);
}

static uint64_t rig_populated_bytes(const struct rig *rig)
{
	uint64_t pages = rig->bytes / MT_PAGE_SIZE, count = 0;
	unsigned char *in_core = calloc(pages, 1);

	MT_CHECK(in_core);
	MT_CHECK(!mincore(rig->base, rig->bytes, in_core));
	for (uint64_t i = 0; i < pages; i++)
		count += in_core[i] & 1;
	free(in_core);
	return count * MT_PAGE_SIZE;
}

/*
 * The store counts what the kernel counts. Beside it there is only its bookkeeping: what it held
 * when new, and a table of 8 bytes for each block ever used, in whole pages, that never shrinks.
 */
static void rig_check_held(struct rig *rig)
{
	uint64_t beside = mt_zip_held_bytes(rig->store) - rig_populated_bytes(rig);
	uint64_t table_max = mt_align_up(rig->bytes / 65536 * 8, MT_PAGE_SIZE);

	MT_CHECK(beside >= rig->beside_bytes);
	MT_CHECK(beside <= rig->empty_bytes + table_max);
	MT_CHECK_EQ((beside - rig->empty_bytes) % MT_PAGE_SIZE, 0);
	rig->beside_bytes = beside;
	if (table_max == MT_PAGE_SIZE) /* then it is known to the byte */
		MT_CHECK_EQ(beside, rig->empty_bytes + MT_PAGE_SIZE);
}

/*
 * Sizes as LZ4 gives them for pages of real programs: many from a quarter to half a page, some
 * pages of almost nothing.
 */
static uint32_t lz4_like_bytes(struct rig *rig)
{
	uint32_t kind = random_below(rig, 100);

	if (kind < 5)
		return 20 + random_below(rig, 280);
	if (kind < 45)
		return 300 + random_below(rig, 700);
	return 600 + random_below(rig, MT_ZIP_OBJECT_MAX - 600 + 1);
}

static uint32_t any_bytes(struct rig *rig)
{
	return 1 + random_below(rig, MT_ZIP_OBJECT_MAX);
}

/* One random operation on a random page; puts are as likely as @fill_percent says. */
static void step(struct rig *rig, uint32_t fill_percent, uint32_t (*bytes)(struct rig *))
{
	uint32_t gpn = random_below(rig, rig->page_max);

	if (!rig->pages[gpn].bytes) {
		if (random_below(rig, 100) < fill_percent)
			MT_CHECK_EQ(rig_put(rig, gpn, bytes(rig)), 0);
	} else {
		rig_verify(rig, gpn);
		if (random_below(rig, 100) >= fill_percent)
			rig_del(rig, gpn);
	}
}

static void run_model(uint64_t seed)
{
	struct rig rig;

	rig_init(&rig, 32 << 20, 20000, seed);
	for (uint32_t i = 0; i < 1000000; i++) {
		/* Breathe, so that blocks come and go. */
		step(&rig, (i / 50000) % 2 ? 15 : 75, any_bytes);
		if (i % 20000 == 19999) {
			rig_audit(&rig);
			rig_check_held(&rig);
		}
		if (i % 170000 == 0)
			mt_zip_trim(rig.store);
		if (i % 100000 == 0)
			rig_verify_all(&rig);
	}
	rig_audit(&rig);
	rig_verify_all(&rig);
	MT_CHECK(rig.moves > 1000 && rig.drops > 1000);
	for (uint32_t gpn = 0; gpn < rig.page_max; gpn++)
		if (rig.pages[gpn].bytes)
			rig_del(&rig, gpn);
	rig_audit(&rig);
	MT_CHECK_EQ(rig_populated_bytes(&rig), 0);
	mt_zip_free(rig.store);
}

MT_TEST("a million random operations agree with the model, seed 1")
{
	run_model(1);
}
MT_TEST("a million random operations agree with the model, seed 2")
{
	run_model(2);
}
MT_TEST("a million random operations agree with the model, seed 3")
{
	run_model(3);
}

MT_TEST("slack is at most 6 % after heavy churn, from 8 to 64 MiB")
{
	for (uint64_t mib = 8; mib <= 64; mib *= 2) {
		/* Half of the pages are stored at any time, about 1050 bytes each. */
		uint32_t pages = (uint32_t)((mib << 20) / 1060 * 2);
		uint64_t worst_held = 0, worst_stored = 1;
		struct rig rig;

		rig_init(&rig, 256 << 20, pages, mib);
		for (uint64_t i = 0; i < 20ULL * pages; i++) {
			step(&rig, 50, lz4_like_bytes);
			if (i > 5ULL * pages && i % (pages / 10) == 0) {
				uint64_t held = mt_zip_held_bytes(rig.store);

				if (held * worst_stored > worst_held * rig.stored_bytes) {
					worst_held = held;
					worst_stored = rig.stored_bytes;
				}
			}
		}
		rig_audit(&rig);
		rig_check_held(&rig);
		printf("# %3llu MiB stored: slack at worst %.2f %%; ",
		       (unsigned long long)rig.stored_bytes >> 20,
		       100.0 * (double)worst_held / (double)worst_stored - 100.0);
		mt_zip_trim(rig.store);
		rig_check_held(&rig);
		printf("%.2f %% trimmed; %.3f drops for each delete\n",
		       100.0 * (double)mt_zip_held_bytes(rig.store) / (double)rig.stored_bytes -
			       100.0,
		       (double)rig.drops / (double)rig.moves);
		MT_CHECK(worst_held * 100 <= worst_stored * 106);
		mt_zip_free(rig.store);
		munmap(rig.base, rig.bytes);
		free(rig.pages);
	}
}

MT_TEST("a full arena refuses and changes nothing, and takes objects again after a delete")
{
	struct rig rig;
	uint32_t gpn = 0;
	uint64_t held;

	rig_init(&rig, 1 << 20, 4096, 7);
	while (!rig_put(&rig, gpn, 1500))
		gpn++;
	MT_CHECK_EQ(rig_put(&rig, gpn, 1500), -ENOSPC);
	held = mt_zip_held_bytes(rig.store);
	/* Another class would need a block too. */
	MT_CHECK_EQ(rig_put(&rig, gpn, 100), -ENOSPC);
	MT_CHECK_EQ(mt_zip_held_bytes(rig.store), held);
	rig_audit(&rig);
	rig_verify_all(&rig);
	rig_check_held(&rig);
	rig_del(&rig, 3);
	MT_CHECK_EQ(rig_put(&rig, 3, 1500), 0);
	MT_CHECK_EQ(rig_put(&rig, gpn, 1500), -ENOSPC);
	rig_audit(&rig);
	rig_verify_all(&rig);
}

MT_TEST("objects of every length from 1 to 2048 bytes are kept")
{
	struct rig rig;

	rig_init(&rig, 16 << 20, MT_ZIP_OBJECT_MAX + 1, 11);
	for (uint32_t bytes = 1; bytes <= MT_ZIP_OBJECT_MAX; bytes++)
		MT_CHECK_EQ(rig_put(&rig, bytes, bytes), 0);
	rig_audit(&rig);
	rig_verify_all(&rig);
	rig_check_held(&rig);
	for (uint32_t bytes = 1; bytes <= MT_ZIP_OBJECT_MAX; bytes++)
		rig_del(&rig, bytes);
	rig_audit(&rig);
	MT_CHECK_EQ(rig_populated_bytes(&rig), 0);
}

MT_TEST("an empty store holds nothing but its bookkeeping")
{
	uint64_t empty;
	struct rig rig;

	rig_init(&rig, 1ULL << 30, 20000, 13);
	empty = mt_zip_held_bytes(rig.store);
	MT_CHECK(empty <= 8192);
	MT_CHECK_EQ(rig_populated_bytes(&rig), 0);
	for (uint32_t gpn = 0; gpn < 20000; gpn++)
		MT_CHECK_EQ(rig_put(&rig, gpn, lz4_like_bytes(&rig)), 0);
	for (uint32_t gpn = 0; gpn < 20000; gpn++)
		rig_del(&rig, gpn);
	MT_CHECK_EQ(rig_populated_bytes(&rig), 0);
	MT_CHECK(mt_zip_held_bytes(rig.store) - empty <= 2 * MT_PAGE_SIZE);
	MT_CHECK_EQ(mt_zip_objects(rig.store), 0);
	MT_CHECK_EQ(mt_zip_stored_bytes(rig.store), 0);
}

/* References that no live object answers to; each must end the process. */
static void get_bad_ref(mt_zref_t ref)
{
	struct rig rig;
	const void *data;
	mt_gpn_t gpn;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		rig_init(&rig, 1 << 20, 16, 17);
		MT_CHECK_EQ(rig_put(&rig, 0, 1000), 0);
		MT_CHECK_EQ(rig_put(&rig, 1, 1000), 0);
		rig_del(&rig, 1);
		mt_zip_get(rig.store, ref, &data, &gpn);
		_exit(0);
	}
	MT_CHECK(waitpid(pid, &status, 0) == pid);
	if (!WIFSIGNALED(status))
		MT_FAIL("reference %llu was accepted", (unsigned long long)ref.n);
}

MT_TEST("a reference to no object traps: out of range, off a boundary, freed")
{
	get_bad_ref((mt_zref_t){1});
	get_bad_ref((mt_zref_t){126}); /* where the freed one was */
	get_bad_ref((mt_zref_t){8192});
	get_bad_ref((mt_zref_t){UINT64_MAX});
	get_bad_ref((mt_zref_t){1ULL << 40});
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

MT_TEST("put, get and delete are fast (figures only)")
{
	enum { PAGES = 60000 };
	static const uint8_t data[MT_ZIP_OBJECT_MAX];
	double put_ns, get_ns, del_ns, start;
	struct rig rig;
	uint64_t sum = 0;

	rig_init(&rig, 256 << 20, PAGES, 19);
	start = now_ns();
	for (uint32_t i = 0; i < PAGES; i++) {
		rig.pages[i].bytes = 1;
		MT_CHECK_EQ(mt_zip_put(rig.store, MT_GPN(i), data, lz4_like_bytes(&rig),
				       &rig.pages[i].ref),
			    0);
	}
	put_ns = (now_ns() - start) / PAGES;
	start = now_ns();
	for (uint32_t i = 0; i < PAGES; i++) {
		const void *found;
		mt_gpn_t gpn;

		sum += mt_zip_get(rig.store, rig.pages[random_below(&rig, PAGES)].ref, &found,
				  &gpn);
	}
	get_ns = (now_ns() - start) / PAGES;
	start = now_ns();
	for (uint32_t i = 0; i < PAGES; i++)
		mt_zip_del(rig.store, rig.pages[i].ref);
	del_ns = (now_ns() - start) / PAGES;
	printf("# ns: put %.0f (first touch of memory included), get %.0f, delete %.0f "
	       "(%.3f drops each); %llu\n",
	       put_ns, get_ns, del_ns, (double)rig.drops / PAGES, (unsigned long long)sum);
}

MT_TEST_MAIN
