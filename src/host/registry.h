/* SPDX-License-Identifier: MIT */
/*
 * registry.h - which VMs there are: names are taken, found and freed here
 *
 * Also the judge of a VM's settings, because whether a reservation can be kept depends on what
 * all the others were promised.
 */
#ifndef MT_HOST_REGISTRY_H
#define MT_HOST_REGISTRY_H

#include "host/server.h"

struct mt_vmrec *mt_registry_find(const struct mt_server *server, const char *name);
struct mt_vmrec *mt_registry_find_id(const struct mt_server *server, uint32_t id);
struct mt_vmrec *mt_registry_find_token(const struct mt_server *server, const char *token);

/**
 * mt_registry_add() - take @name for a new VM
 *
 * Return: 0; -EINVAL for a bad name or settings that can't be, -EEXIST, -ENOMEM when the pool
 * can't keep the reservation, -EMFILE above MT_VMS_MAX.
 */
MT_MUST_CHECK int mt_registry_add(struct mt_server *server, const char *name,
				  const struct mt_vm_settings *settings, struct mt_vmrec **ret_vm,
				  struct mt_err *err);

/** mt_registry_returned() - @vm has let go of @pages. Return: 0, or -EINVAL if it had fewer. */
MT_MUST_CHECK int mt_registry_returned(struct mt_vmrec *vm, uint64_t pages);

/** mt_registry_remove() - the VM is gone: its name and its grant are free again */
void mt_registry_remove(struct mt_server *server, struct mt_vmrec *vm, const char *why);

/** mt_registry_watch() - @vm is process @pid: see it end. Takes over @pidfd, also on failure. */
MT_MUST_CHECK int mt_registry_watch(struct mt_server *server, struct mt_vmrec *vm, pid_t pid,
				    int pidfd, struct mt_err *err);

/** mt_registry_client_gone() - names that @client created and nobody came for are free again */
void mt_registry_client_gone(struct mt_server *server, const struct mt_client *client);

/** mt_registry_expire() - say what has been held back: connections that stayed lost */
void mt_registry_expire(struct mt_server *server);

/** mt_registry_check_settings() - may @vm (NULL: a new one) have @settings? 0, -EINVAL or -ENOMEM.
 */
MT_MUST_CHECK int mt_registry_check_settings(const struct mt_server *server,
					     const struct mt_vmrec *vm,
					     const struct mt_vm_settings *settings,
					     struct mt_err *err);

/**
 * mt_registry_admit() - do what @vm (NULL: a new one) is promised with @settings and what the
 * others were promised fit the pool?
 *
 * Return: 0; -EINVAL: settings contradict each other; -ENOMEM: they do not fit
 */
MT_MUST_CHECK int mt_registry_admit(const struct mt_server *server, const struct mt_vmrec *vm,
				    const struct mt_vm_settings *settings, struct mt_err *err);

/** mt_registry_promised_pages() - sum of promises to all VMs but @except (may be NULL) */
uint64_t mt_registry_promised_pages(const struct mt_server *server, const struct mt_vmrec *except);

/** mt_registry_check_promises() - can a pool of @pool_pages keep what was promised? */
MT_MUST_CHECK int mt_registry_check_promises(const struct mt_server *server, uint64_t pool_pages,
					     struct mt_err *err);

/** mt_random_token() - 128 random bits in hex. 0 or -errno. */
MT_MUST_CHECK int mt_random_token(char ret[static MT_WIRE_TOKEN_MAX], struct mt_err *err);

#endif
