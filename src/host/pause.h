/* SPDX-License-Identifier: MIT */
/*
 * pause.h - stop a VM that has lost a page, over QMP
 *
 * Whoever touches a lost page waits there for ever. The rest of the VM - its other processors, its
 * devices - would go on, write to disk what no longer hangs together, and take the wait for a slow
 * machine. So the VMM is told to stop, and told again after each connection until it has answered.
 *
 * Under KVM (Linux 6.2 or newer) a processor that waits at the page is stopped like any other.
 * Under TCG it can't be: then QEMU stops all others and answers nothing more, which is said too.
 * Without QMP nobody can be told, and only who touches the page stands still.
 */
#ifndef MT_HOST_PAUSE_H
#define MT_HOST_PAUSE_H

#include "host/vm.h"

/** mt_pause() - @vm has lost a page, or one more: stop it as soon as its QMP can be reached */
void mt_pause(struct mt_vmrec *vm);

/** mt_pause_ready() - @vm's QMP takes commands: stop the VM if that is still to be done */
void mt_pause_ready(struct mt_vmrec *vm);

/** mt_pause_cut() - @vm's QMP is gone, and with it the answer that may be waited for; @what
 * happened
 */
void mt_pause_cut(struct mt_vmrec *vm, const char *what);

#endif
