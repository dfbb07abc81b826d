/* SPDX-License-Identifier: MIT */
/* fields.c - fields of VM and host objects; see fields.h */
#include "cli/fields.h"
#include "base/compiler.h"
#include "wire/counters.h"

#include <string.h>

#define BAR_CELLS 64

int64_t field_i64(struct json_object *object, const char *name)
{
	return json_object_get_int64(json_object_object_get(object, name));
}

uint64_t field_u64(struct json_object *object, const char *name)
{
	int64_t value = field_i64(object, name);

	return value < 0 ? 0 : (uint64_t)value;
}

/* Length of the control character at @p: 1 for C0 and DEL, 2 for C1 in UTF-8, otherwise 0. */
static unsigned int control_length(const unsigned char *p)
{
	if (p[0] < 0x20 || p[0] == 0x7f)
		return 1;
	if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
		return 2;
	return 0;
}

const char *field_text(struct json_object *object, const char *name,
		       char buf[static FIELD_TEXT_MAX])
{
	struct json_object *field = json_object_object_get(object, name);
	const unsigned char *p =
		(const unsigned char *)(field ? json_object_get_string(field) : "");
	size_t n = 0;

	while (*p && n < FIELD_TEXT_MAX - 1) {
		unsigned int control = control_length(p);

		buf[n++] = control ? '?' : (char)*p;
		p += control ? control : 1;
	}
	buf[n] = '\0';
	return buf;
}

const char *field_size(struct json_object *object, const char *name,
		       char buf[static MT_SIZE_TEXT_MAX])
{
	return mt_size_text(field_u64(object, name) << 10, buf);
}

const char *field_count_text(uint64_t count, char buf[static MT_SIZE_TEXT_MAX])
{
	if (count < 100000)
		snprintf(buf, MT_SIZE_TEXT_MAX, "%u", (unsigned int)count);
	else if (count < 100000000)
		snprintf(buf, MT_SIZE_TEXT_MAX, "%uk", (unsigned int)(count / 1000));
	else if (count < 100000000000ULL)
		snprintf(buf, MT_SIZE_TEXT_MAX, "%uM", (unsigned int)(count / 1000000));
	else
		snprintf(buf, MT_SIZE_TEXT_MAX, "%lluG", (unsigned long long)(count / 1000000000));
	return buf;
}

const char *field_ns_text(uint64_t ns, char buf[static MT_SIZE_TEXT_MAX])
{
	if (ns < 1000)
		snprintf(buf, MT_SIZE_TEXT_MAX, "%uns", (unsigned int)ns);
	else if (ns < 1000000)
		snprintf(buf, MT_SIZE_TEXT_MAX, "%.1fus", (double)ns / 1e3);
	else if (ns < 1000000000)
		snprintf(buf, MT_SIZE_TEXT_MAX, "%.1fms", (double)ns / 1e6);
	else
		snprintf(buf, MT_SIZE_TEXT_MAX, "%.1fs", (double)ns / 1e9);
	return buf;
}

/* faultWaited counts a second time faults that are in another count already. */
uint64_t field_faults(struct json_object *vm)
{
	static const enum mt_counter kinds[] = {
		MT_C_FAULT_NEW,    MT_C_FAULT_NOMINATED, MT_C_FAULT_ZERO,    MT_C_FAULT_ZIPPED,
		MT_C_FAULT_SHARED, MT_C_FAULT_SWAPPED,   MT_C_FAULT_PRESENT, MT_C_FAULT_UNSEEN,
	};
	uint64_t sum = 0;

	for (size_t i = 0; i < MT_ARRAY_SIZE(kinds); i++)
		sum += field_u64(vm, mt_counter_info[kinds[i]].name);
	return sum;
}

void field_print_json(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
							    JSON_C_TO_STRING_SPACED |
							    JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* A part that is there at all gets at least one cell; the largest part makes up for rounding. */
static void bar_cells(const struct field_part *parts, unsigned int count, uint64_t whole_kib,
		      unsigned int *cells)
{
	unsigned int used = 0, largest = 0;

	for (unsigned int i = 0; i < count; i++) {
		cells[i] =
			(unsigned int)((double)parts[i].kib / (double)whole_kib * BAR_CELLS + 0.5);
		if (parts[i].kib && !cells[i])
			cells[i] = 1;
		cells[i] = MT_MIN(cells[i], BAR_CELLS);
		used += cells[i];
		if (cells[i] > cells[largest])
			largest = i;
	}
	if (used > BAR_CELLS)
		cells[largest] -= MT_MIN(used - BAR_CELLS, cells[largest]);
}

void field_print_parts(const struct field_part *parts, unsigned int count, uint64_t whole_kib)
{
	unsigned int cells[16], used = 0;
	char size[MT_SIZE_TEXT_MAX];

	MT_ASSERT(count <= MT_ARRAY_SIZE(cells));
	if (!whole_kib)
		return;
	bar_cells(parts, count, whole_kib, cells);
	printf("  [");
	for (unsigned int i = 0; i < count; i++)
		for (unsigned int n = 0; n < cells[i]; n++, used++)
			putchar(parts[i].letter);
	printf("%*s]\n", used < BAR_CELLS ? (int)(BAR_CELLS - used) : 0, "");
	for (unsigned int i = 0; i < count; i++) {
		if (!parts[i].kib)
			continue;
		printf("  %c %-11s %7s  %3u %%  %s\n", parts[i].letter, parts[i].name,
		       mt_size_text(parts[i].kib << 10, size),
		       (unsigned int)((double)parts[i].kib * 100.0 / (double)whole_kib + 0.5),
		       parts[i].meaning);
	}
}
