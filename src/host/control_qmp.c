/* SPDX-License-Identifier: MIT */
/* control_qmp.c - see control_qmp.h */
#include "host/control_qmp.h"
#include "host/balance.h"
#include "host/balloon.h"
#include "host/control_api.h"
#include "host/qmp_dir.h"
#include "host/rights.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int mt_control_qmp_new(struct mt_client *client, struct json_object *request,
		       char ret_path[static MT_QMP_PATH_MAX], struct json_object *answer,
		       struct mt_err *err)
{
	struct json_object *fresh = NULL;
	struct mt_err why = {0};
	const char *path;
	int rc = mt_control_text(request, "qmp", &path, err);

	if (!rc && path && path[0]) {
		rc = mt_qmp_path_check(path, err);
		if (!rc)
			snprintf(ret_path, MT_QMP_PATH_MAX, "%s", path);
	}
	if (rc || ret_path[0] || !json_object_object_get_ex(request, "qmp_new", &fresh) ||
	    !json_object_get_boolean(fresh))
		return rc;
	if (mt_qmp_dir_make(client->server, client->uid, ret_path, &why)) {
		ret_path[0] = '\0';
		json_object_object_add(answer, "qmp_why", json_object_new_string(why.msg));
	}
	json_object_object_add(answer, "qmp", json_object_new_string(ret_path));
	return 0;
}

/* Whoever served it before may have died, or been started anew. */
static bool control_qmp_taken(const struct mt_client *client, const struct mt_vmrec *vm)
{
	if (!vm->qmp_path[0] || vm->qmp_pid == client->pid)
		return false;
	if (!vm->qmp_pid)
		return true;
	for (const struct mt_client *c = client->server->clients; c; c = c->next)
		if (c->pid == vm->qmp_pid)
			return true;
	return false;
}

int mt_control_qmp_for(struct mt_client *client, struct mt_vmrec *vm, struct json_object *request,
		       struct mt_err *err)
{
	struct json_object *pid = json_object_object_get(request, "pid");
	const char *path;
	int rc = mt_rights_qmp(client, err);

	if (!rc)
		rc = mt_control_text(request, "path", &path, err);
	if (!rc)
		rc = mt_qmp_path_check(path ? path : "", err);
	if (rc)
		return rc;
	if (!vm->pid || !json_object_is_type(pid, json_type_int) ||
	    json_object_get_int64(pid) != vm->pid)
		return mt_err_set(err, -ESRCH, "VM '%s' is not that process", vm->name);
	if (control_qmp_taken(client, vm))
		return mt_err_set(err, -EEXIST, "VM '%s' has a QMP socket already", vm->name);
	/* what the balloon holds stays, and is found again */
	mt_balloon_stop(vm);
	snprintf(vm->qmp_path, sizeof(vm->qmp_path), "%s", path);
	vm->qmp_pid = client->pid;
	mt_balloon_start(client->server, vm);
	mt_balance_want(client->server);
	return 0;
}
