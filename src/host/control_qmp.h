/* SPDX-License-Identifier: MIT */
/*
 * control_qmp.h - how the daemon learns where a VM's QMP is
 *
 * From whoever makes the VM: a socket that QEMU serves, or will. Or later, from a program that
 * serves QMP for a VMM whose own socket belongs to somebody else; memtide-libvirt does.
 */
#ifndef MT_HOST_CONTROL_QMP_H
#define MT_HOST_CONTROL_QMP_H

#include "host/client.h"

/**
 * mt_control_qmp_new() - the QMP of a VM to be made: a socket that is there ("qmp") or one to be
 * made ("qmp_new")
 * @ret_path: empty on entry, and empty if there is to be none
 *
 * Return: 0, also when no directory can be made: a VM runs without it; -EINVAL, -ENAMETOOLONG
 */
MT_MUST_CHECK int mt_control_qmp_new(struct mt_client *client, struct json_object *request,
				     char ret_path[static MT_QMP_PATH_MAX],
				     struct json_object *answer, struct mt_err *err);

/**
 * mt_control_qmp_for() - @client serves QMP for @vm from now on, at "path"
 *
 * "pid" must be the VM's process: names are given anew. The state file is not told, as who serves
 * comes again when the daemon does.
 *
 * Return: 0; -EPERM; -ESRCH for another process; -EEXIST when the VM has a socket of its own, or
 * another client's; -EINVAL, -ENAMETOOLONG
 */
MT_MUST_CHECK int mt_control_qmp_for(struct mt_client *client, struct mt_vmrec *vm,
				     struct json_object *request, struct mt_err *err);

#endif
