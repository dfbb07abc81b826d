/* SPDX-License-Identifier: MIT */
/*
 * domain.h - a libvirt domain's balloon in QMP's words
 *
 * The daemon asks QEMU a handful of questions about a VM's balloon, and to stop a VM that has lost
 * a page. Here each of them becomes the call of libvirt that answers it, so that the daemon need
 * not know that libvirt stands between. The calls are RPCs and wait for libvirt's answer, which may
 * take long while libvirt does something else with the domain.
 */
#ifndef MT_LIBVIRT_DOMAIN_H
#define MT_LIBVIRT_DOMAIN_H

#include <json-c/json.h>
#include <libvirt/libvirt.h>
#include <stdbool.h>

/* Where the balloon is in QEMU's tree of devices, as far as the daemon is told. */
#define LV_BALLOON_FOLDER "/machine/peripheral"
#define LV_BALLOON_NAME   "balloon0"

/** lv_domain_has_balloon() - is there, by the domain's XML, a virtio balloon? */
bool lv_domain_has_balloon(const char *xml);
/** lv_domain_deflates() - and does it deflate before the guest's OOM killer acts? */
bool lv_domain_deflates(const char *xml);

/**
 * lv_domain_ask() - carry out a QMP command
 * @arguments: of the command, borrowed, may be NULL
 * @ret_error: set when there is no answer: for people, valid until the next call of this thread
 *
 * Return: the value to answer with, the caller's; or NULL
 */
struct json_object *lv_domain_ask(virDomainPtr domain, const char *command,
				  struct json_object *arguments, const char **ret_error);

#endif
