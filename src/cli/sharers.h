/* SPDX-License-Identifier: MIT */
/*
 * sharers.h - whose pages a shared frame is
 *
 * The daemon knows how many pages of each VM use a frame, and tells of VMs the caller may see; each
 * VM's monitor knows which pages those are, and looks for them when it is asked.
 */
#ifndef MT_CLI_SHARERS_H
#define MT_CLI_SHARERS_H

#include "cli/guest_mem.h"

/**
 * sharers_json() - who uses @frame of the share group of the VM
 *
 * Return: an array of {"vm", "pages", "at": [{"gpa" or "hostAddress"}]}, the caller's; at most 64
 * of a VM's pages are named. NULL with @err.
 */
struct json_object *sharers_json(struct guest_mem *mem, uint64_t frame, struct mt_err *err);

/** sharers_print() - the same for people; what can't be found out is said */
void sharers_print(struct guest_mem *mem, uint64_t frame);

#endif
