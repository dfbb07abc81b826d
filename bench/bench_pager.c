/* SPDX-License-Identifier: MIT */
/* bench_pager.c - the start-up of monitor/vm.c without the daemon; see bench_pager.h */
#include "bench_pager.h"
#include "bench.h"
#include "sys/uffd_device.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* As in monitor/vm.c. */
#define BENCH_STAGING_SLOTS 32768U
#define BENCH_ARENA_BYTES   (1ULL << 30)

static void bench_notify(void *ctx)
{
	(void)ctx;
}

static void bench_pager_open(struct bench_pager *bp, uint8_t *memory, uint64_t bytes)
{
	struct mt_err err = {0};
	int device_fd = mt_uffd_device_open(&err);

	if (device_fd < 0 || mt_uffd_open(&bp->uffd, device_fd, false, &err))
		bench_die("%s", err.msg);
	close(device_fd);
	bp->staging =
		mmap(NULL, (uint64_t)BENCH_STAGING_SLOTS << MT_PAGE_SHIFT, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (bp->staging == MAP_FAILED)
		bench_die("no address space for staging");
	madvise(bp->staging, (uint64_t)BENCH_STAGING_SLOTS << MT_PAGE_SHIFT, MADV_NOHUGEPAGE);
	if (mt_uffd_register(&bp->uffd, bp->staging, (uint64_t)BENCH_STAGING_SLOTS << MT_PAGE_SHIFT,
			     &err) ||
	    mt_uffd_register(&bp->uffd, memory, bytes, &err))
		bench_die("%s", err.msg);
}

struct bench_pager *bench_pager_new(uint8_t *memory, uint64_t bytes)
{
	struct bench_pager *bp = calloc(1, sizeof(*bp));
	struct mt_region region = {.base = memory, .pages = bytes >> MT_PAGE_SHIFT};
	struct mt_pager *pager;

	if (!bp)
		bench_die("out of memory");
	pager = &bp->pager;
	bench_pager_open(bp, memory, bytes);
	mt_uffd_mem_ops(&bp->uffd, &pager->mem);
	pager->fault_fd = bp->uffd.fd;
	pager->zip_arena_bytes = BENCH_ARENA_BYTES;
	pager->notify = bench_notify;
	atomic_init(&pager->zip_max_pct, 100);
	atomic_init(&pager->target_pages, UINT64_MAX);
	atomic_init(&pager->granted_pages, 1ULL << 40);
	if (mt_pager_init(pager, bp->staging, BENCH_STAGING_SLOTS) ||
	    mt_map_extend(&pager->map, region.pages, &region.first) ||
	    mt_region_insert(&pager->regions, &region))
		bench_die("the pager does not start");
	for (uint64_t i = 0; i < region.pages; i++)
		mt_page_set(&pager->map, MT_GPN(region.first.n + i), MT_PAGE_UNTOUCHED,
			    MT_PAGE_RESIDENT, 0);
	return bp;
}

static void *bench_pager_main(void *arg)
{
	struct bench_pager *bp = arg;

	pthread_setname_np(pthread_self(), "memtide-pager");
	mt_pager_run(&bp->pager, &bp->stop);
	return NULL;
}

void bench_pager_run(struct bench_pager *bp)
{
	if (pthread_create(&bp->thread, NULL, bench_pager_main, bp))
		bench_die("cannot start a thread");
	bp->running = true;
}

void bench_pager_free(struct bench_pager *bp)
{
	if (bp->running) {
		atomic_store(&bp->stop, true);
		mt_pager_kick(&bp->pager);
		pthread_join(bp->thread, NULL);
	}
	mt_pager_fini(&bp->pager);
	munmap(bp->staging, (uint64_t)BENCH_STAGING_SLOTS << MT_PAGE_SHIFT);
	mt_uffd_close(&bp->uffd);
	free(bp);
}
