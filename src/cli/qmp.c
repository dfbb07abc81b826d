/* SPDX-License-Identifier: MIT */
/* qmp.c - a client of QEMU's monitor protocol, as far as it is needed; see qmp.h */
#include "cli/qmp.h"
#include "sys/sock.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define QMP_WAIT_MS 5000
/* A map of all buses' memory may be long. */
#define QMP_OBJECT_MAX (1u << 20)
#define CR0_WP         (1u << 16)
#define CR0_PG         (1u << 31)
#define CR4_PSE        (1u << 4)
#define CR4_PAE        (1u << 5)
#define CR4_LA57       (1u << 12)
#define CR4_SMEP       (1u << 20)
#define CR4_SMAP       (1u << 21)
#define EFER_LMA       (1u << 10)
#define EFER_NXE       (1u << 11)

/* The next object; the caller puts it. */
static int qmp_next(struct qmp *qmp, struct json_object **ret, struct mt_err *err)
{
	for (;;) {
		struct pollfd fd = {.fd = qmp->fd, .events = POLLIN};
		int rc = mt_qmp_read(&qmp->reader, &qmp->at, &qmp->left, ret, err);
		ssize_t got;

		if (rc < 0)
			mt_err_prefix(err, "QEMU");
		if (rc)
			return MT_MIN(rc, 0);
		if (poll(&fd, 1, QMP_WAIT_MS) <= 0)
			return mt_err_set(err, -ETIMEDOUT,
					  "QEMU does not answer; does another program use this QMP "
					  "socket?");
		got = read(qmp->fd, qmp->bytes, sizeof(qmp->bytes));
		if (got <= 0)
			return mt_err_set(err, -EPIPE, "QEMU closed its QMP socket");
		qmp->at = qmp->bytes;
		qmp->left = (size_t)got;
	}
}

/* Sends a command and takes the value of its answer, which the caller puts. Events are passed over.
 */
static int qmp_ask(struct qmp *qmp, const char *command, struct json_object *arguments,
		   struct json_object **ret_value, struct mt_err *err)
{
	struct json_object *object = mt_qmp_command(command, arguments, 1), *value;
	size_t length = 0;
	const char *text = mt_qmp_text(object, &length);
	int rc = 0;

	*ret_value = NULL;
	if (send(qmp->fd, text, length, MSG_NOSIGNAL) != (ssize_t)length)
		rc = mt_err_set(err, -EPIPE, "QEMU's QMP socket takes no request");
	json_object_put(object);
	while (!rc && !*ret_value) {
		rc = qmp_next(qmp, &object, err);
		if (rc)
			return rc;
		if (json_object_object_get_ex(object, "return", &value))
			*ret_value = json_object_get(value);
		else if (mt_qmp_error(object))
			rc = mt_err_set(err, -EPROTO, "QEMU: %.200s", mt_qmp_error(object));
		json_object_put(object);
	}
	return rc;
}

static int qmp_negotiate(struct qmp *qmp, struct mt_err *err)
{
	struct json_object *object = NULL;
	int rc = qmp_next(qmp, &object, err);

	if (!rc && !mt_qmp_is_greeting(object))
		rc = mt_err_set(err, -EPROTO, "what answers there is not QMP");
	json_object_put(object);
	if (rc)
		return rc;
	rc = qmp_ask(qmp, "qmp_capabilities", NULL, &object, err);
	json_object_put(object);
	return rc;
}

int qmp_open(struct qmp *qmp, const char *path, struct mt_err *err)
{
	int rc;

	*qmp = (struct qmp){.fd = mt_sock_connect(path, SOCK_STREAM, err)};
	if (qmp->fd < 0)
		return qmp->fd;
	rc = mt_qmp_reader_init(&qmp->reader, QMP_OBJECT_MAX)
		     ? mt_err_set(err, -ENOMEM, "no memory")
		     : qmp_negotiate(qmp, err);
	if (rc) {
		mt_err_prefix(err, "%s", path);
		qmp_close(qmp);
	}
	return rc;
}

void qmp_close(struct qmp *qmp)
{
	if (qmp->fd >= 0)
		close(qmp->fd);
	qmp->fd = -1;
	mt_qmp_reader_fini(&qmp->reader);
}

/* A command of the monitor for people; the caller puts the answer, which holds the text. */
static int qmp_human(struct qmp *qmp, unsigned int cpu, const char *command,
		     struct json_object **ret_answer, const char **ret_text, struct mt_err *err)
{
	struct json_object *arguments = json_object_new_object();
	int rc;

	json_object_object_add(arguments, "command-line", json_object_new_string(command));
	json_object_object_add(arguments, "cpu-index", json_object_new_int((int)cpu));
	rc = qmp_ask(qmp, "human-monitor-command", arguments, ret_answer, err);
	if (!rc)
		*ret_text = json_object_get_string(*ret_answer);
	return rc;
}

static bool read_register(const char *text, const char *name, uint64_t *ret)
{
	const char *at = strstr(text, name);

	return at && sscanf(at + strlen(name), "=%" SCNx64, ret) == 1;
}

int qmp_registers(struct qmp *qmp, unsigned int cpu, struct mt_regs *regs, struct mt_err *err)
{
	struct json_object *answer = NULL;
	uint64_t cr0, cr4, efer;
	const char *text;
	bool known;
	int rc = qmp_human(qmp, cpu, "info registers", &answer, &text, err);

	if (rc)
		return rc;
	*regs = (struct mt_regs){.phys_bits = 52, .pages_1g = true};
	known = read_register(text, "CR0", &cr0) && read_register(text, "CR3", &regs->cr3) &&
		read_register(text, "CR4", &cr4) && read_register(text, "EFER", &efer);
	json_object_put(answer);
	if (!known)
		return mt_err_set(err, -EPROTO, "QEMU does not tell the registers of processor %u",
				  cpu);
	regs->wp = cr0 & CR0_WP;
	regs->pse = cr4 & CR4_PSE;
	regs->smep = cr4 & CR4_SMEP;
	regs->smap = cr4 & CR4_SMAP;
	regs->nxe = efer & EFER_NXE;
	if (!(cr0 & CR0_PG))
		regs->paging = MT_PAGING_OFF;
	else if (efer & EFER_LMA)
		regs->paging = cr4 & CR4_LA57 ? MT_PAGING_5LEVEL : MT_PAGING_4LEVEL;
	else
		regs->paging = cr4 & CR4_PAE ? MT_PAGING_PAE : MT_PAGING_32BIT;
	return 0;
}

int qmp_host_address(struct qmp *qmp, mt_gpa_t gpa, uint64_t *ret, struct mt_err *err)
{
	struct json_object *answer = NULL;
	const char *text, *at;
	char command[64];
	int rc;

	snprintf(command, sizeof(command), "gpa2hva 0x%" PRIx64, gpa.a);
	rc = qmp_human(qmp, 0, command, &answer, &text, err);
	if (rc)
		return rc;
	at = strstr(text, " is 0x");
	if (!at || sscanf(at, " is 0x%" SCNx64, ret) != 1)
		rc = -ENXIO;
	json_object_put(answer);
	return rc;
}

/*
 * The lines of the processors' view in "info mtree -f":
 *
 *	FlatView #1
 *	 AS "memory", root: system
 *	 ...
 *	  0000000000000000-000000000009ffff (prio 0, ram): pc.ram
 */
static int read_view(const char *text, struct qmp_range *ret, unsigned int *ret_count,
		     struct mt_err *err)
{
	bool ours = false;

	*ret_count = 0;
	for (; text; text = strchr(text, '\n'), text = text ? text + 1 : NULL) {
		uint64_t first, last;
		char kind[8];

		if (!strncmp(text, "FlatView", 8)) {
			if (ours)
				break;
		} else if (!strncmp(text, " AS \"memory\",", 13)) {
			ours = true;
		} else if (ours && sscanf(text, " %" SCNx64 "-%" SCNx64 " (prio %*d, %7[a-z/]",
					  &first, &last, kind) == 3) {
			if (!strcmp(kind, "i/o") || last < first)
				continue;
			if (*ret_count == QMP_RANGES_MAX)
				return mt_err_set(err, -E2BIG,
						  "QEMU has memory in too many pieces");
			ret[(*ret_count)++] = (struct qmp_range){first, last - first + 1};
		}
	}
	return ours ? 0
		    : mt_err_set(err, -EPROTO,
				 "QEMU does not tell where its memory is; give "
				 "--below-4g");
}

int qmp_memory(struct qmp *qmp, struct qmp_range *ret, unsigned int *ret_count, struct mt_err *err)
{
	struct json_object *answer = NULL;
	const char *text;
	int rc = qmp_human(qmp, 0, "info mtree -f", &answer, &text, err);

	if (!rc)
		rc = read_view(text, ret, ret_count, err);
	json_object_put(answer);
	return rc;
}
