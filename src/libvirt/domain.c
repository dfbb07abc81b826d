/* SPDX-License-Identifier: MIT */
/* domain.c - a table of QMP commands and the libvirt calls that answer them; see domain.h */
#include "libvirt/domain.h"
#include "base/cleanup.h"
#include "base/compiler.h"

#include <libvirt/virterror.h>
#include <stdint.h>
#include <string.h>

#define DOMAIN_KIB 1024ULL

typedef struct json_object *domain_fn(virDomainPtr domain, struct json_object *arguments,
				      const char **ret_error);

/* libvirt's numbers under QEMU's names. */
static const struct {
	int tag;
	const char *name;
	bool kib;
} domain_stats[] = {
	{VIR_DOMAIN_MEMORY_STAT_SWAP_IN, "stat-swap-in", true},
	{VIR_DOMAIN_MEMORY_STAT_SWAP_OUT, "stat-swap-out", true},
	{VIR_DOMAIN_MEMORY_STAT_MAJOR_FAULT, "stat-major-faults", false},
	{VIR_DOMAIN_MEMORY_STAT_MINOR_FAULT, "stat-minor-faults", false},
	{VIR_DOMAIN_MEMORY_STAT_UNUSED, "stat-free-memory", true},
	{VIR_DOMAIN_MEMORY_STAT_AVAILABLE, "stat-total-memory", true},
	{VIR_DOMAIN_MEMORY_STAT_USABLE, "stat-available-memory", true},
	{VIR_DOMAIN_MEMORY_STAT_DISK_CACHES, "stat-disk-caches", true},
	{VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGALLOC, "stat-htlb-pgalloc", false},
	{VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGFAIL, "stat-htlb-pgfail", false},
};

/* The start tag of the balloon: libvirt indents, so what a user put into <metadata> is no match. */
static bool domain_balloon_says(const char *xml, const char *attribute)
{
	const char *tag = strstr(xml, "\n    <memballoon "), *end, *found;

	if (!tag)
		return false;
	end = strchr(tag, '>');
	found = strstr(tag, attribute);
	return end && found && found < end;
}

bool lv_domain_has_balloon(const char *xml)
{
	/* virtio, virtio-transitional, virtio-non-transitional */
	return domain_balloon_says(xml, " model='virtio");
}

bool lv_domain_deflates(const char *xml)
{
	return domain_balloon_says(xml, " autodeflate='on'");
}

static const char *domain_text(struct json_object *arguments, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(arguments, key, &value);
	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

static bool domain_number(struct json_object *arguments, const char *key, uint64_t *ret)
{
	struct json_object *value = NULL;

	if (!json_object_object_get_ex(arguments, key, &value) ||
	    !json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 0)
		return false;
	*ret = json_object_get_uint64(value);
	return true;
}

static struct json_object *domain_capabilities(virDomainPtr domain, struct json_object *arguments,
					       const char **ret_error)
{
	(void)domain;
	(void)arguments;
	(void)ret_error;
	return json_object_new_object();
}

/* Calls @says with the domain's XML. Return: 0 or 1; -1 without XML. */
static int domain_xml(virDomainPtr domain, bool (*says)(const char *xml), const char **ret_error)
{
	char *xml = virDomainGetXMLDesc(domain, 0);
	int answer;

	if (!xml) {
		*ret_error = virGetLastErrorMessage();
		return -1;
	}
	answer = says(xml);
	free(xml);
	return answer;
}

static struct json_object *domain_list(virDomainPtr domain, struct json_object *arguments,
				       const char **ret_error)
{
	bool here = !strcmp(domain_text(arguments, "path"), LV_BALLOON_FOLDER);
	int has = here ? domain_xml(domain, lv_domain_has_balloon, ret_error) : 0;
	struct json_object *list, *item;

	if (has < 0)
		return NULL;
	list = json_object_new_array();
	if (has) {
		item = json_object_new_object();
		json_object_object_add(item, "name", json_object_new_string(LV_BALLOON_NAME));
		json_object_object_add(item, "type",
				       json_object_new_string("child<virtio-balloon>"));
		json_object_array_add(list, item);
	}
	return list;
}

static struct json_object *domain_guest_stats(virDomainPtr domain, const char **ret_error)
{
	virDomainMemoryStatStruct got[VIR_DOMAIN_MEMORY_STAT_NR];
	struct json_object *answer, *stats;
	int count = virDomainMemoryStats(domain, got, VIR_DOMAIN_MEMORY_STAT_NR, 0);
	uint64_t update_s = 0;

	if (count < 0) {
		*ret_error = virGetLastErrorMessage();
		return NULL;
	}
	stats = json_object_new_object();
	for (int i = 0; i < count; i++) {
		if (got[i].tag == VIR_DOMAIN_MEMORY_STAT_LAST_UPDATE)
			update_s = got[i].val;
		for (size_t j = 0; j < MT_ARRAY_SIZE(domain_stats); j++)
			if (got[i].tag == domain_stats[j].tag)
				json_object_object_add(
					stats, domain_stats[j].name,
					json_object_new_uint64(got[i].val * (domain_stats[j].kib
										     ? DOMAIN_KIB
										     : 1)));
	}
	answer = json_object_new_object();
	json_object_object_add(answer, "stats", stats);
	json_object_object_add(answer, "last-update", json_object_new_uint64(update_s));
	return answer;
}

static struct json_object *domain_get(virDomainPtr domain, struct json_object *arguments,
				      const char **ret_error)
{
	const char *property = domain_text(arguments, "property");
	int deflates;

	if (!strcmp(property, "guest-stats"))
		return domain_guest_stats(domain, ret_error);
	if (!strcmp(property, "deflate-on-oom")) {
		deflates = domain_xml(domain, lv_domain_deflates, ret_error);
		return deflates < 0 ? NULL : json_object_new_boolean(deflates);
	}
	*ret_error = "no such property";
	return NULL;
}

static struct json_object *domain_set(virDomainPtr domain, struct json_object *arguments,
				      const char **ret_error)
{
	uint64_t period_s = 0;

	if (strcmp(domain_text(arguments, "property"), "guest-stats-polling-interval") ||
	    !domain_number(arguments, "value", &period_s) || period_s > 3600) {
		*ret_error = "no such property, or not such a value";
		return NULL;
	}
	if (virDomainSetMemoryStatsPeriod(domain, (int)period_s, VIR_DOMAIN_AFFECT_LIVE) < 0) {
		*ret_error = virGetLastErrorMessage();
		return NULL;
	}
	return json_object_new_object();
}

/* Asked for with the statistics, as virDomainGetInfo() tells what events told libvirt, at most once
 * a second. */
static struct json_object *domain_query_balloon(virDomainPtr domain, struct json_object *arguments,
						const char **ret_error)
{
	virDomainMemoryStatStruct got[VIR_DOMAIN_MEMORY_STAT_NR];
	int count = virDomainMemoryStats(domain, got, VIR_DOMAIN_MEMORY_STAT_NR, 0);
	struct json_object *answer;

	(void)arguments;
	*ret_error = count < 0 ? virGetLastErrorMessage() : "libvirt does not tell its size";
	for (int i = 0; i < count; i++) {
		if (got[i].tag != VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON)
			continue;
		answer = json_object_new_object();
		json_object_object_add(answer, "actual",
				       json_object_new_uint64(got[i].val * DOMAIN_KIB));
		return answer;
	}
	return NULL;
}

static struct json_object *domain_balloon(virDomainPtr domain, struct json_object *arguments,
					  const char **ret_error)
{
	uint64_t bytes = 0;

	if (!domain_number(arguments, "value", &bytes)) {
		*ret_error = "a balloon needs a size";
		return NULL;
	}
	if (virDomainSetMemoryFlags(domain, bytes / DOMAIN_KIB, VIR_DOMAIN_AFFECT_LIVE) < 0) {
		*ret_error = virGetLastErrorMessage();
		return NULL;
	}
	return json_object_new_object();
}

/* Of a domain that has lost a page. libvirt is to know that it is paused, so it does it itself. */
static struct json_object *domain_stop(virDomainPtr domain, struct json_object *arguments,
				       const char **ret_error)
{
	(void)arguments;
	if (virDomainSuspend(domain) < 0) {
		*ret_error = virGetLastErrorMessage();
		return NULL;
	}
	return json_object_new_object();
}

static const struct {
	const char *command;
	domain_fn *run;
} domain_table[] = {
	{"qmp_capabilities", domain_capabilities},
	{"qom-list", domain_list},
	{"qom-get", domain_get},
	{"qom-set", domain_set},
	{"query-balloon", domain_query_balloon},
	{"balloon", domain_balloon},
	{"stop", domain_stop},
};

struct json_object *lv_domain_ask(virDomainPtr domain, const char *command,
				  struct json_object *arguments, const char **ret_error)
{
	for (size_t i = 0; i < MT_ARRAY_SIZE(domain_table); i++)
		if (!strcmp(command, domain_table[i].command))
			return domain_table[i].run(domain, arguments, ret_error);
	*ret_error = "no such command here";
	return NULL;
}
