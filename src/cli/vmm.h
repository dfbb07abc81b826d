/* SPDX-License-Identifier: MIT */
/*
 * vmm.h - look at a VMM's program file before it is run
 *
 * The monitor gets into an unmodified VMM by LD_PRELOAD, which the dynamic loader ignores or never
 * sees for some programs. Those run well and unmanaged, so that is told up front. Also finds the
 * library to preload.
 */
#ifndef MT_CLI_VMM_H
#define MT_CLI_VMM_H

#include "base/err.h"

#include <limits.h>

enum vmm_kind {
	VMM_DYNAMIC, /* LD_PRELOAD works */
	VMM_SCRIPT,  /* "#!": what it runs is not known; only trying tells */
};

/**
 * vmm_find() - the file that running @name would run: through PATH unless it has a slash
 * Return: 0; -ENOENT, -EACCES, -ENAMETOOLONG with the reason in @err
 */
MT_MUST_CHECK int vmm_find(const char *name, char path[static PATH_MAX], struct mt_err *err);

/**
 * vmm_inspect() - can LD_PRELOAD get into @path?
 *
 * Return: 0 and the kind; -ENOEXEC when it is no program, -EOPNOTSUPP when it is statically linked,
 * -EPERM when it changes its privileges (the loader ignores LD_PRELOAD then); or another -errno.
 */
MT_MUST_CHECK int vmm_inspect(const char *path, enum vmm_kind *ret_kind, struct mt_err *err);

/** vmm_preload_find() - where libmemtide-preload.so is. Return: 0 or -ENOENT, -EINVAL. */
MT_MUST_CHECK int vmm_preload_find(char path[static PATH_MAX], struct mt_err *err);

#endif
