/* SPDX-License-Identifier: MIT */
/*
 * monitor_region.h - guest RAM comes under management, and leaves it
 *
 * A region is confirmed once there is swap space for it (so that the VM can always be steered to
 * its target) and the VM has a grant it can start with. The grant may have to come from other
 * VMs, so the answer may take a while; after region_wait_ms it is no.
 */
#ifndef MT_HOST_MONITOR_REGION_H
#define MT_HOST_MONITOR_REGION_H

#include "host/monitor_link.h"

void mt_region_add(struct mt_link *link, const struct mt_wire_region_add *msg);
void mt_region_del(struct mt_link *link, const struct mt_wire_region_del *msg);
void mt_region_unmanaged(struct mt_link *link, const struct mt_wire_unmanaged *msg);

/** mt_region_waiting() - deadline of the region of @vm that waits longest; 0: none waits */
uint64_t mt_region_waiting(const struct mt_vmrec *vm);

/** mt_region_answer() - confirm what waits, if @vm has the grant for it */
void mt_region_answer(struct mt_server *server, struct mt_vmrec *vm);

/**
 * mt_region_compare() - @vm says it has @pages of memory
 *
 * When it says less than we know of for some seconds, a message of ours or of its was lost with a
 * connection: then it is believed. Never more, which it would have to be admitted for.
 */
void mt_region_compare(struct mt_vmrec *vm, uint64_t pages);

/** mt_region_expire() - refuse what has waited for too long */
void mt_region_expire(struct mt_server *server);

/** mt_region_forget_pending() - the connection is lost: what waits is asked for again, or never */
void mt_region_forget_pending(struct mt_vmrec *vm);

/** mt_region_swap_grow() - make the swap file large enough for a reservation of @reservation_bytes
 */
MT_MUST_CHECK int mt_region_swap_grow(struct mt_server *server, struct mt_vmrec *vm,
				      uint64_t reservation_bytes, struct mt_err *err);

/** mt_region_swap_adopt() - take the swap file an earlier daemon made for @vm; @fd is borrowed */
MT_MUST_CHECK int mt_region_swap_adopt(struct mt_server *server, struct mt_vmrec *vm, int fd,
				       struct mt_err *err);

#endif
