/* SPDX-License-Identifier: MIT */
/* pin.h - direct I/O from and to guest pages: pages a device works on must never be lost */
#ifndef MT_TESTVM_PIN_H
#define MT_TESTVM_PIN_H

#include "guest.h"

/* Works until guest->stop. @number makes files and random numbers differ between threads. */
void tv_pin_run(struct tv_guest *guest, unsigned int number);

#endif
