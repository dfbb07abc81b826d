/* SPDX-License-Identifier: MIT */
/*
 * config.h - the daemon's settings: defaults, configuration file, options
 *
 * One table of keys serves both the file ("key = value" lines) and the command line ("--key
 * value"). The command line wins over the file wherever it stands.
 */
#ifndef MT_HOST_CONFIG_H
#define MT_HOST_CONFIG_H

#include "base/err.h"
#include "base/types.h"
#include "policy/settings.h"

#include <limits.h>

#define MT_CONFIG_SOCKET   "/run/memtide/control.sock"
#define MT_CONFIG_GROUP    "memtide"
#define MT_CONFIG_SWAP_DIR "/var/lib/memtide/swap"

struct mt_config {
	char socket[PATH_MAX];
	char swap_dir[PATH_MAX];
	char group[64];      /* whose members may connect; empty: MT_CONFIG_GROUP if there is one */
	uint64_t pool_bytes; /* 0: auto */
	uint64_t own_bytes;  /* the daemon's own part of the pool */
	bool sandbox;        /* only the system calls it needs, see sandbox.h */
	bool swap_encrypt;   /* VMs encrypt what they swap */
	uint32_t zip_max_pct;
	uint32_t check_timeout_ms;
	uint32_t qmp_timeout_ms;  /* for an answer */
	uint32_t qmp_retry_ms;    /* first pause after a fault */
	uint32_t balloon_poll_ms; /* between two looks at a busy balloon */
	struct mt_sched_config sched;
	uint32_t region_wait_ms; /* how long a starting VM waits for others to return memory */
};

void mt_config_init(struct mt_config *config);

/** mt_config_set() - set @key (dash or underscore) from text. 0 or -EINVAL, -ERANGE; -ENOENT: no
 * such key */
MT_MUST_CHECK int mt_config_set(struct mt_config *config, const char *key, const char *value,
				struct mt_err *err);

/** mt_config_read() - read the file at @path; a bad line is refused with "path:line:" before the
 * reason */
MT_MUST_CHECK int mt_config_read(struct mt_config *config, const char *path, struct mt_err *err);

/** mt_config_finish() - turn "auto" into a size and check what only makes sense together */
MT_MUST_CHECK int mt_config_finish(struct mt_config *config, struct mt_err *err);

/** mt_config_check_pool() - may the pool have this size? Used for live changes too. */
MT_MUST_CHECK int mt_config_check_pool(const struct mt_config *config, uint64_t pool_bytes,
				       struct mt_err *err);

#endif
