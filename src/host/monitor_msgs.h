/* SPDX-License-Identifier: MIT */
/*
 * monitor_msgs.h - what monitors say, one function for each message
 *
 * Messages come here checked for form. Their meaning is judged here: a monitor that says what
 * can't be (returns more than it has, speaks before its HELLO) is dropped.
 */
#ifndef MT_HOST_MONITOR_MSGS_H
#define MT_HOST_MONITOR_MSGS_H

#include "host/monitor_link.h"

/**
 * mt_monitor_message() - act on a message that has passed mt_wire_check()
 * @passed: descriptor that came with it (borrowed), or -1
 */
void mt_monitor_message(struct mt_link *link, const union mt_wire_msg *msg, int passed);

#endif
