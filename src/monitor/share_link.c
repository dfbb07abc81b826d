/* SPDX-License-Identifier: MIT */
/*
 * share_link.c - offers, answers and releases between the pager and the daemon
 *
 * Runs in the link thread. A batch is ours while it is TO_SEND, and ours to answer while it is
 * ASKED, unless the pager has lost patience; an answer that finds no batch gives back what it
 * brought. What needs the page map is done by the pager as a command.
 */
#include "monitor/link.h"
#include "monitor/pager.h"
#include "base/own_fds.h"
#include "sys/process.h"
#include "sys/sock.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FRAMES_BYTES ((uint64_t)MT_FRAMES_MAX << MT_PAGE_SHIFT)

static int share_link_put(struct mt_link *link, const union mt_wire_msg *msg, int passed)
{
	if (link->fd < 0)
		return -ECONNRESET;
	return mt_sock_send(link->fd, msg, msg->head.length, passed);
}

static int share_send_offer(struct mt_link *link, const struct mt_share_batch *batch)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_SHARE_OFFER, 0);
	msg.share_offer.batch = batch->number;
	msg.share_offer.count = batch->count;
	for (uint32_t i = 0; i < batch->count; i++) {
		msg.share_offer.gpn[i] = batch->gpn[i].n;
		msg.share_offer.hash[i] = batch->hash[i];
	}
	return share_link_put(link, &msg, -1);
}

static int share_send_contents(struct mt_link *link, const struct mt_share_batch *batch)
{
	union mt_wire_msg msg;
	int rc = 0;

	mt_wire_init(&msg, MT_WIRE_SHARE_PAGE, 0);
	msg.share_page.batch = batch->number;
	for (uint32_t done = 0, count; done < batch->count && !rc; done += count) {
		count = MT_MIN(batch->count - done, MT_WIRE_SHARE_CONTENTS);
		msg.share_page.first = done;
		for (uint32_t i = 0; i < count; i++) {
			msg.share_page.gpn[i] = batch->gpn[done + i].n;
			msg.share_page.hash[i] = batch->hash[done + i];
			memcpy(msg.share_page.content[i], batch->page[done + i], MT_PAGE_SIZE);
		}
		mt_wire_contents(&msg.share_page, count);
		rc = share_link_put(link, &msg, -1);
	}
	return rc;
}

static int share_send_batch(struct mt_link *link, struct mt_share_batch *batch)
{
	int rc;

	if (atomic_load_explicit(&batch->phase, memory_order_acquire) != MT_SHARE_TO_SEND)
		return 0;
	rc = batch->contents ? share_send_contents(link, batch) : share_send_offer(link, batch);
	/* If it could not be sent the connection is given up, and the batch with it. */
	if (!rc)
		atomic_store_explicit(&batch->phase, MT_SHARE_ASKED, memory_order_release);
	return rc;
}

static int share_send_release(struct mt_link *link, const uint32_t *frame, uint32_t count)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_SHARE_RELEASE, 0);
	msg.share_release.count = count;
	memcpy(msg.share_release.frame, frame, count * sizeof(*frame));
	return share_link_put(link, &msg, -1);
}

static int share_send_releases(struct mt_link *link)
{
	struct mt_share *share = &link->pager->share;
	uint32_t head = atomic_load_explicit(&share->release_head, memory_order_relaxed);
	uint32_t frame[MT_WIRE_SHARE_RELEASES], count = 0;
	int rc = 0;

	/* The daemon is told the rest when it has been told of everything. */
	if (link->share_telling)
		return 0;
	while (!rc && head != atomic_load_explicit(&share->release_tail, memory_order_acquire)) {
		frame[count++] = share->release[head++ % MT_SHARE_RELEASES].n;
		if (count < MT_WIRE_SHARE_RELEASES)
			continue;
		rc = share_send_release(link, frame, count);
		atomic_store_explicit(&share->release_head, head, memory_order_release);
		count = 0;
	}
	if (count && !rc)
		rc = share_send_release(link, frame, count);
	atomic_store_explicit(&share->release_head, head, memory_order_release);
	return rc;
}

/* An answer nobody waits for any more: its frames are not used. */
static int share_give_back(struct mt_link *link, const uint32_t *answer, uint32_t answers)
{
	uint32_t frame[MT_WIRE_SHARE_RELEASES], count = 0;
	int rc = 0;

	for (uint32_t i = 0; i < answers && !rc; i++) {
		if (mt_answer_is_frame(answer[i]))
			frame[count++] = answer[i];
		if (count < MT_WIRE_SHARE_RELEASES && i + 1 < answers)
			continue;
		rc = count ? share_send_release(link, frame, count) : 0;
		count = 0;
	}
	return rc;
}

/* The pages of a look that have a hash, in their order. */
static int share_send_look(struct mt_link *link)
{
	struct mt_share_look *look = &link->pager->share.look;
	union mt_wire_msg msg;
	uint32_t n = 0;
	int rc;

	if (atomic_load_explicit(&look->phase, memory_order_acquire) != MT_LOOK_TO_SEND)
		return 0;
	mt_wire_init(&msg, MT_WIRE_SHARE_LOOK, 0);
	for (uint32_t i = 0; i < look->count; i++) {
		if (look->answer[i] != MT_LOOK_TO_ASK)
			continue;
		msg.share_look.gpn[n] = look->gpn[i];
		msg.share_look.hash[n] = look->hash[i];
		msg.share_look.large[n++] = look->large[i];
	}
	msg.share_look.batch = look->number;
	msg.share_look.count = n;
	rc = share_link_put(link, &msg, -1);
	if (!rc)
		atomic_store_explicit(&look->phase, MT_LOOK_ASKED, memory_order_release);
	return rc;
}

/* Enters what was said of a look, which has as many pages without an answer as are answered. */
static int share_looked(struct mt_link *link, const struct mt_wire_share_looked *msg)
{
	struct mt_share_look *look = &link->pager->share.look;
	uint32_t n = 0;

	if (atomic_load_explicit(&look->phase, memory_order_acquire) != MT_LOOK_ASKED ||
	    look->number != msg->batch)
		return share_give_back(link, msg->frame, msg->count);
	for (uint32_t i = 0; i < look->count && n < msg->count; i++)
		if (look->answer[i] == MT_LOOK_TO_ASK)
			look->answer[i] = msg->frame[n++];
	atomic_store_explicit(&look->phase, MT_LOOK_ANSWERED, memory_order_release);
	mt_pager_kick(link->pager);
	return 0;
}

int mt_share_link_send(struct mt_link *link)
{
	struct mt_share *share = &link->pager->share;
	int rc = 0;

	if (atomic_load_explicit(&share->release_lost, memory_order_acquire))
		return -EOVERFLOW;
	for (uint32_t i = 0; i < MT_SHARE_BATCHES && !rc; i++)
		rc = share_send_batch(link, &share->batch[i]);
	if (!rc)
		rc = share_send_look(link);
	return rc ? rc : share_send_releases(link);
}

/* Enters an answer. The batch is ASKED: nobody else writes to it but by taking it away whole. */
static int share_answer(struct mt_link *link, const struct mt_wire_share_answer *msg)
{
	struct mt_share *share = &link->pager->share;

	for (uint32_t i = 0; i < MT_SHARE_BATCHES; i++) {
		struct mt_share_batch *batch = &share->batch[i];
		int asked = MT_SHARE_ASKED;
		bool done;

		/* Held while we write, so that the pager does not lose patience in between. */
		if (!atomic_compare_exchange_strong(&batch->phase, &asked, MT_SHARE_TO_SEND))
			continue;
		if (batch->number != msg->batch || msg->first + msg->count > batch->count ||
		    msg->count > batch->unanswered) {
			atomic_store(&batch->phase, MT_SHARE_ASKED);
			continue;
		}
		memcpy(batch->answer + msg->first, msg->frame, msg->count * sizeof(*msg->frame));
		batch->unanswered -= msg->count;
		done = !batch->unanswered;
		/* From here on it may be the pager's. */
		atomic_store(&batch->phase, done ? MT_SHARE_ANSWERED : MT_SHARE_ASKED);
		if (done)
			mt_pager_kick(link->pager);
		return 0;
	}
	return share_give_back(link, msg->frame, msg->count);
}

static void share_again(struct mt_link *link, const struct mt_wire_share_again *msg)
{
	struct mt_share *share = &link->pager->share;
	uint32_t tail = atomic_load_explicit(&share->again_tail, memory_order_relaxed);

	uint32_t before = tail - atomic_load_explicit(&share->again_head, memory_order_acquire);

	for (uint32_t i = 0; i < msg->count; i++) {
		if (tail - atomic_load_explicit(&share->again_head, memory_order_acquire) ==
		    MT_SHARE_AGAINS) {
			atomic_store_explicit(&share->again_lost, true, memory_order_release);
			break;
		}
		share->again[tail % MT_SHARE_AGAINS] = MT_GPN(msg->gpn[i]);
		atomic_store_explicit(&share->again_tail, ++tail, memory_order_release);
	}
	/* The pager waits until they are worth a job, or old: it must know of the first. */
	if (!before || before / MT_SHARE_AGAIN_MANY != (before + msg->count) / MT_SHARE_AGAIN_MANY)
		mt_pager_kick(link->pager);
}

/* Tells the daemon every frame in use. Releases wait until that is done. */
static int share_keep(struct mt_link *link)
{
	bool first = true;
	int rc = 0;

	link->share_telling = true;
	mt_command(link->pager, mt_share_tell_begin, NULL);
	for (bool more = true; more && !rc;) {
		struct mt_share_tell tell = {.count = 0};
		union mt_wire_msg msg;

		mt_command(link->pager, mt_share_tell, &tell);
		mt_wire_init(&msg, MT_WIRE_SHARE_KEEP, 0);
		msg.share_keep.count = tell.count;
		msg.share_keep.more = tell.more;
		memcpy(msg.share_keep.frame, tell.frame, tell.count * sizeof(tell.frame[0]));
		rc = share_link_put(link, &msg, first ? link->frames_fd : -1);
		first = false;
		more = tell.more;
	}
	link->share_telling = false;
	return rc;
}

static bool share_same_file(int a, int b)
{
	struct stat one, two;

	return a >= 0 && !fstat(a, &one) && !fstat(b, &two) && one.st_dev == two.st_dev &&
	       one.st_ino == two.st_ino;
}

/*
 * The group's frames, to be read from now on. Sharing that can't be is no reason to fail. A child
 * may have the mapping: it costs nothing, and marking it MADV_DONTFORK here would look like guest
 * RAM to the preload library.
 */
static void share_start(struct mt_link *link, int fd)
{
	struct mt_pager *pager = link->pager;
	struct mt_share_begin begin = {.frames = link->frames_map,
				       .frames_fd = link->frames_fd,
				       .map_at_once = mt_process_has_kvm()};
	void *map;

	if (share_same_file(link->frames_fd, fd)) {
		close(fd);
		mt_command(pager, mt_share_begin, &begin);
		return;
	}
	fd = mt_fd_own(fd);
	map = mmap(NULL, FRAMES_BYTES, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED) {
		mt_fd_close(fd);
		return;
	}
	begin.frames = map;
	begin.frames_fd = fd;
	mt_command(pager, mt_share_begin, &begin);
	if (begin.refused) {
		munmap(map, FRAMES_BYTES);
		mt_fd_close(fd);
		return;
	}
	if (link->frames_map)
		munmap(link->frames_map, FRAMES_BYTES);
	mt_fd_close(link->frames_fd);
	link->frames_map = map;
	link->frames_fd = fd;
}

int mt_share_link_message(struct mt_link *link, const union mt_wire_msg *msg, int fd)
{
	int rc = 0;

	if (msg->head.type == MT_WIRE_SHARE_ANSWER)
		rc = share_answer(link, &msg->share_answer);
	else if (msg->head.type == MT_WIRE_SHARE_LOOKED)
		rc = share_looked(link, &msg->share_looked);
	else if (msg->head.type == MT_WIRE_SHARE_AGAIN)
		share_again(link, &msg->share_again);
	else if (msg->share_start.what == MT_SHARE_START_KEEP)
		rc = share_keep(link);
	else if (msg->share_start.what == MT_SHARE_START_FRESH && fd >= 0) {
		share_start(link, fd);
		return 0;
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

uint64_t mt_share_link_cut(struct mt_link *link)
{
	uint64_t pages = 0;

	link->share_telling = false;
	mt_command(link->pager, mt_share_cut, &pages);
	return pages;
}

void mt_share_link_fini(struct mt_link *link, struct mt_pager *pager)
{
	if (link->frames_map)
		munmap(link->frames_map, FRAMES_BYTES);
	mt_fd_close(link->frames_fd);
	pager->share.frames = NULL;
	link->frames_map = NULL;
	link->frames_fd = -1;
}
