/* SPDX-License-Identifier: MIT */
/*
 * vm_direct.c - while I/O may go into guest pages unseen, no page leaves its place
 *
 * There is direct I/O that the kernel does not tell us of (sys/direct_io.h). While the VMM has a
 * file open that does such, the pager takes no page out of guest memory (mt_nominate_run()). What
 * is out already is safe: such I/O begins with a fault that brings the page back.
 *
 * The preload library says so before the VMM can use the descriptor; the pager itself sets the
 * switch, so when that is done no move is under way. Descriptors that came another way the pager
 * itself sees before it reads a page that has left its place (mt_nominate_settle()), and has us
 * look; those that have gone are found by looking, now and then. The lock makes a look and a new
 * descriptor one after the other: a look that did not see it can't undo what was said of it.
 */
#include "monitor/vm_internal.h"
#include "sys/direct_io.h"

#include <stdio.h>

/* Pages go again after so many looks that found nothing: I/O may outlive its descriptor for a bit.
 */
#define DIRECT_CLEAN_LOOKS 2U
#define DIRECT_NAME_MAX    128
/* The pager can't tell for so long. */
#define DIRECT_UNSETTLED_NS 10000000000ULL

static bool direct_set(struct mt_pager *pager, void *arg)
{
	pager->in_place = *(const bool *)arg;
	atomic_store(&pager->unsettled_ns, 0);
	return true;
}

static void direct_tell(struct mt_vm *vm, const char *name)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_EVENT, 0);
	msg.event.level = name ? MT_EVENT_WARNING : MT_EVENT_INFO;
	if (name)
		snprintf(
			msg.event.text, sizeof(msg.event.text),
			"%s is open for direct I/O that the kernel does not report: until it is "
			"closed no page is taken away, and only the balloon gives memory back; use "
			"cache=writeback for it, or a local disk",
			name);
	else
		snprintf(msg.event.text, sizeof(msg.event.text),
			 "no file is open any more for direct I/O that the kernel does not "
			 "report: pages can be taken away again");
	mt_link_tell(&vm->link, &msg);
}

/* [direct_lock] */
static void direct_switch(struct mt_vm *vm, bool in_place, const char *name)
{
	if (vm->direct_in_place == in_place)
		return;
	vm->direct_in_place = in_place;
	mt_command(&vm->pager, direct_set, &in_place);
	direct_tell(vm, in_place ? name : NULL);
}

void mt_vm_direct_io(struct mt_vm *vm, int fd)
{
	char name[DIRECT_NAME_MAX];

	if (!mt_direct_io_risky(fd))
		return;
	mt_direct_io_name(fd, name, sizeof(name));
	pthread_mutex_lock(&vm->direct_lock);
	vm->direct_clean_looks = 0;
	direct_switch(vm, true, name);
	pthread_mutex_unlock(&vm->direct_lock);
}

/* [direct_lock] It does not happen, but were it to, nobody would know why no page goes. */
static void direct_tell_unsettled(struct mt_vm *vm)
{
	uint64_t since_ns = atomic_load(&vm->pager.unsettled_ns);

	if (!since_ns || vm->direct_in_place || vm->direct_told_unsettled ||
	    mt_pager_now_ns() - since_ns < DIRECT_UNSETTLED_NS)
		return;
	vm->direct_told_unsettled = true;
	mt_vm_tell(vm, "the VMM's open files can't be told (/proc, or a seccomp filter?): no page "
		       "is taken away, as there may be direct I/O that the kernel does not report");
}

static void direct_look(struct mt_vm *vm, bool may_clear)
{
	char name[DIRECT_NAME_MAX] = "";
	int found;

	pthread_mutex_lock(&vm->direct_lock);
	found = mt_direct_io_find(&vm->direct_lists, name, sizeof(name));
	/* A list that can't be read says nothing. */
	vm->direct_clean_looks = found > 0 ? 0 : vm->direct_clean_looks + (may_clear && !found);
	if (found > 0)
		direct_switch(vm, true, name);
	else if (vm->direct_clean_looks >= DIRECT_CLEAN_LOOKS)
		direct_switch(vm, false, NULL);
	if (may_clear)
		direct_tell_unsettled(vm);
	pthread_mutex_unlock(&vm->direct_lock);
}

void mt_vm_direct_first(struct mt_vm *vm)
{
	direct_look(vm, false);
}

void mt_vm_direct_look(void *vm, bool due)
{
	direct_look(vm, due);
}
