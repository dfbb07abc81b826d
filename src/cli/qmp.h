/* SPDX-License-Identifier: MIT */
/*
 * qmp.h - ask QEMU's monitor for what only it knows: a processor's registers, where RAM lies
 *
 * A QMP socket serves one client at a time; opening waits a few seconds for its greeting.
 */
#ifndef MT_CLI_QMP_H
#define MT_CLI_QMP_H

#include "base/err.h"
#include "mmu/walk.h"
#include "qmp/message.h"

#define QMP_RANGES_MAX 512u

struct qmp {
	int fd;
	struct mt_qmp_reader reader;
	const char *at; /* not taken in yet, in bytes */
	size_t left;
	char bytes[4096];
};

/* Guest physical memory of one kind, in one piece. */
struct qmp_range {
	uint64_t gpa, bytes;
};

/** qmp_open() - connect to the QMP server on the unix socket @path. Return: 0 or -errno */
MT_MUST_CHECK int qmp_open(struct qmp *qmp, const char *path, struct mt_err *err);
void qmp_close(struct qmp *qmp);

/** qmp_registers() - what processor @cpu translates by. Return: 0 or -errno */
MT_MUST_CHECK int qmp_registers(struct qmp *qmp, unsigned int cpu, struct mt_regs *regs,
				struct mt_err *err);

/** qmp_host_address() - where QEMU has this byte of RAM. Return: 0; -ENXIO: no RAM there; -errno */
MT_MUST_CHECK int qmp_host_address(struct qmp *qmp, mt_gpa_t gpa, uint64_t *ret,
				   struct mt_err *err);

/**
 * qmp_memory() - what the processors see at which address, devices left out, in order of addresses
 * @ret: room for QMP_RANGES_MAX
 *
 * Return: 0 or -errno
 */
MT_MUST_CHECK int qmp_memory(struct qmp *qmp, struct qmp_range *ret, unsigned int *ret_count,
			     struct mt_err *err);

#endif
