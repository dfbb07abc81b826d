/* SPDX-License-Identifier: MIT */
/* config.c - one setter for each key; see config.h */
#include "host/config.h"
#include "base/cleanup.h"
#include "base/size.h"
#include "policy/proportional.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

/* What "auto" leaves to the host: a tenth, and at least this. */
#define CONFIG_HOST_PART  10
#define CONFIG_HOST_BYTES (512ULL << 20)
#define CONFIG_OWN_BYTES  (8ULL << 20)
#define CONFIG_OWN_MAX    (1ULL << 40)
#define CONFIG_LINE_MAX   8192

typedef int config_set_fn(struct mt_config *config, const char *value, struct mt_err *err);

static int config_number(const char *what, const char *value, uint32_t low, uint32_t high,
			 uint32_t *ret, struct mt_err *err)
{
	char *end;
	unsigned long number;

	errno = 0;
	number = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end || errno || number < low || number > high)
		return mt_err_set(err, -EINVAL, "%s: '%s' is not a number from %u to %u", what,
				  value, low, high);
	*ret = (uint32_t)number;
	return 0;
}

static int config_path(const char *what, const char *value, char ret[static PATH_MAX],
		       struct mt_err *err)
{
	if (!value[0] || strlen(value) >= PATH_MAX)
		return mt_err_set(err, -EINVAL, "%s: path is empty or too long", what);
	snprintf(ret, PATH_MAX, "%s", value);
	return 0;
}

static int config_set_pool(struct mt_config *config, const char *value, struct mt_err *err)
{
	if (!strcmp(value, "auto")) {
		config->pool_bytes = 0;
		return 0;
	}
	return mt_size_parse(value, "pool", &config->pool_bytes, err);
}

static int config_set_socket(struct mt_config *config, const char *value, struct mt_err *err)
{
	return config_path("socket", value, config->socket, err);
}

static int config_set_swap_dir(struct mt_config *config, const char *value, struct mt_err *err)
{
	return config_path("swap-dir", value, config->swap_dir, err);
}

static int config_set_group(struct mt_config *config, const char *value, struct mt_err *err)
{
	if (!value[0] || strlen(value) >= sizeof(config->group))
		return mt_err_set(err, -EINVAL, "group: the name is empty or too long");
	snprintf(config->group, sizeof(config->group), "%s", value);
	return 0;
}

static int config_switch(const char *what, const char *value, bool *ret, struct mt_err *err)
{
	if (strcmp(value, "on") && strcmp(value, "off"))
		return mt_err_set(err, -EINVAL, "%s: '%.40s' is neither on nor off", what, value);
	*ret = !strcmp(value, "on");
	return 0;
}

static int config_set_sandbox(struct mt_config *config, const char *value, struct mt_err *err)
{
	return config_switch("sandbox", value, &config->sandbox, err);
}

static int config_set_encrypt(struct mt_config *config, const char *value, struct mt_err *err)
{
	return config_switch("swap-encrypt", value, &config->swap_encrypt, err);
}

static int config_set_zip(struct mt_config *config, const char *value, struct mt_err *err)
{
	return config_number("zip-max-pct", value, 0, 100, &config->zip_max_pct, err);
}

static int config_set_own(struct mt_config *config, const char *value, struct mt_err *err)
{
	uint64_t bytes = 0;
	int rc = mt_size_parse_zero_ok(value, "own", &bytes, err);

	if (!rc && bytes > CONFIG_OWN_MAX)
		rc = mt_err_set(err, -ERANGE, "own: '%s' is too large; the most is 1T", value);
	if (!rc)
		config->own_bytes = bytes;
	return rc;
}

static int config_set_check_timeout(struct mt_config *config, const char *value, struct mt_err *err)
{
	return config_number("check-timeout-ms", value, 1, 3600000, &config->check_timeout_ms, err);
}

static int config_set_region_wait(struct mt_config *config, const char *value, struct mt_err *err)
{
	return config_number("region-wait-ms", value, 1, 3600000, &config->region_wait_ms, err);
}

static int config_set_qmp_timeout(struct mt_config *config, const char *value, struct mt_err *err)
{
	return config_number("qmp-timeout-ms", value, 1, 3600000, &config->qmp_timeout_ms, err);
}

static int config_set_qmp_retry(struct mt_config *config, const char *value, struct mt_err *err)
{
	return config_number("qmp-retry-ms", value, 1, 60000, &config->qmp_retry_ms, err);
}

static int config_set_poll(struct mt_config *config, const char *value, struct mt_err *err)
{
	return config_number("balloon-poll-ms", value, 1, 60000, &config->balloon_poll_ms, err);
}

static const struct config_key {
	const char *name;
	config_set_fn *set;
} config_keys[] = {
	{"pool", config_set_pool},
	{"socket", config_set_socket},
	{"swap-dir", config_set_swap_dir},
	{"group", config_set_group},
	{"sandbox", config_set_sandbox},
	{"swap-encrypt", config_set_encrypt},
	{"zip-max-pct", config_set_zip},
	{"own", config_set_own},
	{"check-timeout-ms", config_set_check_timeout},
	{"region-wait-ms", config_set_region_wait},
	{"qmp-timeout-ms", config_set_qmp_timeout},
	{"qmp-retry-ms", config_set_qmp_retry},
	{"balloon-poll-ms", config_set_poll},
};

static bool config_key_is(const char *name, const char *key)
{
	while (*name && (*name == *key || (*name == '-' && *key == '_'))) {
		name++;
		key++;
	}
	return !*name && !*key;
}

void mt_config_init(struct mt_config *config)
{
	*config = (struct mt_config){.socket = MT_CONFIG_SOCKET,
				     .swap_dir = MT_CONFIG_SWAP_DIR,
				     .own_bytes = CONFIG_OWN_BYTES,
				     .sandbox = true,
				     .zip_max_pct = 10,
				     .check_timeout_ms = 30000,
				     .qmp_timeout_ms = 5000,
				     .qmp_retry_ms = 250,
				     .balloon_poll_ms = 1000,
				     .region_wait_ms = 10000};
	mt_sched_config_init(&config->sched);
}

int mt_config_set(struct mt_config *config, const char *key, const char *value, struct mt_err *err)
{
	for (size_t i = 0; i < MT_ARRAY_SIZE(config_keys); i++)
		if (config_key_is(config_keys[i].name, key))
			return config_keys[i].set(config, value, err);
	if (mt_setting_find(key))
		return mt_sched_config_parse(&config->sched, key, value, err);
	return mt_err_set(err, -ENOENT, "'%s' is not a setting", key);
}

/* Without blanks at either end, in place. */
static char *config_trim(char *text)
{
	size_t length;

	text += strspn(text, " \t\r\n");
	length = strlen(text);
	while (length && strchr(" \t\r\n", text[length - 1]))
		text[--length] = '\0';
	return text;
}

static int config_line(struct mt_config *config, char *line, struct mt_err *err)
{
	char *equals;

	line = config_trim(line);
	if (!line[0] || line[0] == '#')
		return 0;
	equals = strchr(line, '=');
	if (!equals)
		return mt_err_set(err, -EINVAL, "'%s' is not a line like key = value", line);
	*equals = '\0';
	return mt_config_set(config, config_trim(line), config_trim(equals + 1), err);
}

int mt_config_read(struct mt_config *config, const char *path, struct mt_err *err)
{
	FILE *file = fopen(path, "re");
	char line[CONFIG_LINE_MAX];
	int rc = 0;

	if (!file)
		return mt_err_set(err, -errno, "configuration file '%s': %s", path,
				  strerror(errno));
	for (unsigned int number = 1; !rc && fgets(line, sizeof(line), file); number++) {
		if (!strchr(line, '\n') && !feof(file))
			rc = mt_err_set(err, -EINVAL, "line is too long");
		else
			rc = config_line(config, line, err);
		if (rc)
			mt_err_prefix(err, "%s:%u", path, number);
	}
	if (!rc && ferror(file))
		rc = mt_err_set(err, -EIO, "configuration file '%s' can't be read", path);
	fclose(file);
	return rc;
}

static int config_mem_total(uint64_t *ret_bytes, struct mt_err *err)
{
	struct sysinfo info;

	if (sysinfo(&info))
		return mt_err_set(err, -errno, "sysinfo: %s", strerror(errno));
	*ret_bytes = (uint64_t)info.totalram * info.mem_unit;
	return 0;
}

int mt_config_check_pool(const struct mt_config *config, uint64_t pool_bytes, struct mt_err *err)
{
	/* own part, room to start a VM, and one VM */
	uint64_t least = config->own_bytes + 2 * MT_POLICY_START_PAGES * MT_PAGE_SIZE;
	char least_text[MT_SIZE_TEXT_MAX], pool_text[MT_SIZE_TEXT_MAX], host_text[MT_SIZE_TEXT_MAX];
	uint64_t total = 0;
	int rc = config_mem_total(&total, err);

	if (rc)
		return rc;
	mt_size_text(pool_bytes, pool_text);
	if (pool_bytes < least)
		return mt_err_set(err, -EINVAL,
				  "a pool of %s is too small for a VM; give it at least %s",
				  pool_text, mt_size_text(least, least_text));
	if (pool_bytes > total)
		return mt_err_set(err, -EINVAL,
				  "a pool of %s is more than this host's memory of %s; "
				  "give a smaller pool or 'auto'",
				  pool_text, mt_size_text(total, host_text));
	return 0;
}

int mt_config_finish(struct mt_config *config, struct mt_err *err)
{
	uint64_t total = 0, keep;
	int rc = mt_sched_config_check(&config->sched, err);

	if (rc)
		return rc;
	if (!config->pool_bytes) {
		rc = config_mem_total(&total, err);
		if (rc)
			return rc;
		keep = MT_MAX(total / CONFIG_HOST_PART, CONFIG_HOST_BYTES);
		if (total <= keep)
			return mt_err_set(err, -EINVAL,
					  "this host has too little memory for an automatic pool; "
					  "name a size with --pool");
		config->pool_bytes = mt_align_down(total - keep, MT_PAGE_SIZE);
	}
	return mt_config_check_pool(config, config->pool_bytes, err);
}
