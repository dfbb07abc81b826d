/* SPDX-License-Identifier: MIT */
/* guest_stats.c - see guest_stats.h */
#include "host/guest_stats.h"

#include <string.h>

/* Larger sizes and counts are nonsense; sums and differences of smaller ones stay in 64 bits. */
#define GUEST_VALUE_MAX (1ULL << 60)

static const struct {
	const char *qemu, *libvirt;
	bool size;
} guest_names[MT_GUEST_STATS_MAX] = {
#define X(id, q, l, s) [MT_GUEST_##id] = {.qemu = (q), .libvirt = (l), .size = (s)},
	MT_GUEST_STATS(X)
#undef X
};

void mt_guest_stats_reset(struct mt_guest_stats *stats, int64_t at_s)
{
	/* the old report stays known as old */
	*stats = (struct mt_guest_stats){.last_update_s = stats->last_update_s, .reset_s = at_s};
}

/* Is a report of that time one of the guest before? QEMU keeps only the last, so one at most is,
 * and a clock that is set back costs no more than one. */
static bool guest_before(struct mt_guest_stats *stats, int64_t update_s)
{
	bool before = update_s <= stats->reset_s;

	stats->reset_s = 0;
	if (before)
		stats->last_update_s = update_s;
	return before;
}

static uint64_t guest_value(struct json_object *stats, const char *name)
{
	struct json_object *value = NULL;
	uint64_t number;

	if (!json_object_object_get_ex(stats, name, &value) ||
	    !json_object_is_type(value, json_type_int))
		return MT_GUEST_UNTOLD;
	number = json_object_get_uint64(value);
	return number <= GUEST_VALUE_MAX ? number : MT_GUEST_UNTOLD;
}

bool mt_guest_stats_take(struct mt_guest_stats *stats, struct json_object *object, uint64_t now_ns)
{
	struct json_object *values = NULL, *update = NULL;
	uint64_t swapped = stats->value[MT_GUEST_SWAP_IN];
	bool first = !stats->reported;
	int64_t update_s;

	if (!json_object_object_get_ex(object, "last-update", &update) ||
	    !json_object_object_get_ex(object, "stats", &values) ||
	    !json_object_is_type(values, json_type_object))
		return false;
	update_s = json_object_get_int64(update);
	if (update_s == stats->last_update_s || update_s <= 0 || guest_before(stats, update_s))
		return false;
	for (unsigned int i = 0; i < MT_GUEST_STATS_MAX; i++)
		stats->value[i] = guest_value(values, guest_names[i].qemu);
	stats->last_update_s = update_s;
	stats->seen_ns = now_ns;
	stats->reported = true;
	stats->swapped_in_bytes = 0;
	if (!first && swapped != MT_GUEST_UNTOLD &&
	    stats->value[MT_GUEST_SWAP_IN] != MT_GUEST_UNTOLD &&
	    stats->value[MT_GUEST_SWAP_IN] > swapped)
		stats->swapped_in_bytes = stats->value[MT_GUEST_SWAP_IN] - swapped;
	if (stats->value[MT_GUEST_AVAILABLE] != MT_GUEST_UNTOLD)
		stats->total_max_bytes =
			MT_MAX(stats->total_max_bytes, stats->value[MT_GUEST_AVAILABLE]);
	return true;
}

bool mt_guest_stats_fresh(const struct mt_guest_stats *stats, uint64_t age_ns, uint64_t now_ns)
{
	return stats->reported && now_ns - stats->seen_ns <= age_ns &&
	       stats->value[MT_GUEST_AVAILABLE] != MT_GUEST_UNTOLD &&
	       stats->value[MT_GUEST_USABLE] != MT_GUEST_UNTOLD;
}

void mt_guest_stats_json(const struct mt_guest_stats *stats, bool fresh, struct json_object *object)
{
	json_object_object_add(object, "stale", json_object_new_boolean(!fresh));
	json_object_object_add(object, "last_update", json_object_new_int64(stats->last_update_s));
	if (!fresh)
		return;
	for (unsigned int i = 0; i < MT_GUEST_STATS_MAX; i++) {
		uint64_t value = stats->value[i];

		if (value != MT_GUEST_UNTOLD)
			json_object_object_add(
				object, guest_names[i].libvirt,
				json_object_new_uint64(guest_names[i].size ? value / 1024 : value));
	}
}
