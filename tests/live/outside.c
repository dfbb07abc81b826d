/* SPDX-License-Identifier: MIT */
/*
 * outside.c - sample /proc/PID/smaps_rollup of the VMs beside the daemon's claims
 *
 * A grant may change while a process is being measured, so the greater of its values before and
 * after counts. Each process is measured at a moment of its own: the sum of several VMs at once is
 * exact only to what they exchange meanwhile, so the pool is judged by the sum of the smaller of
 * two measurements of each VM, taken one after the other. A sample that took long, as this process
 * or the daemon had to wait, is not judged: memory may have come and gone again meanwhile.
 */
#include "live/outside.h"
#include "base/compiler.h"
#include "common/mt_test.h"

#include <stdio.h>
#include <string.h>

int64_t outside_rollup_kib(pid_t pid, const char *field)
{
	size_t length = strlen(field);
	char path[64], line[256];
	long long kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, field, length) && sscanf(line + length, ": %lld", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib;
}

int64_t outside_anonymous_kib(pid_t pid)
{
	return outside_rollup_kib(pid, "Anonymous");
}

static int64_t held_outside(const struct live_vm *vm)
{
	int64_t kib = outside_anonymous_kib(vm->pid) - (int64_t)vm->baseline_kib;

	return kib > 0 ? kib : 0;
}

static void note_max(int64_t *max, int64_t value)
{
	if (value > *max)
		*max = value;
}

#define SAMPLE_SECONDS_MAX 0.1
#define SAMPLES_MIN        6

struct claim {
	int64_t grant, held;
};

static void read_claims(const struct outside *outside, struct claim *claims)
{
	for (unsigned int i = 0; i < outside->vm_count; i++) {
		json_object *answer = live_ask(outside->daemon, "{\"cmd\":\"show\",\"vm\":\"%s\"}",
					       outside->vms[i]->name);
		json_object *vm = json_object_object_get(answer, "vm");

		claims[i].grant = json_object_get_int64(json_object_object_get(vm, "grant"));
		claims[i].held = json_object_get_int64(json_object_object_get(vm, "held"));
		json_object_put(answer);
	}
}

static void sample(struct outside *outside)
{
	struct claim before[OUTSIDE_VMS_MAX], after[OUTSIDE_VMS_MAX];
	int64_t first[OUTSIDE_VMS_MAX], sum = 0;
	double began = live_now();

	read_claims(outside, before);
	for (unsigned int i = 0; i < outside->vm_count; i++)
		first[i] = held_outside(outside->vms[i]);
	for (unsigned int i = 0; i < outside->vm_count; i++) {
		int64_t held = held_outside(outside->vms[i]);

		sum += held < first[i] ? held : first[i];
		first[i] = held < first[i] ? held : first[i];
	}
	read_claims(outside, after);
	if (live_now() - began > SAMPLE_SECONDS_MAX) {
		outside->slow++;
		return;
	}
	for (unsigned int i = 0; i < outside->vm_count; i++) {
		note_max(&outside->over_grant_kib,
			 first[i] - MT_MAX(before[i].grant, after[i].grant));
		note_max(&outside->off_claim_kib, first[i] - MT_MAX(before[i].held, after[i].held));
	}
	note_max(&outside->used_max_kib, sum);
	note_max(&outside->over_pool_kib, sum - outside->pool_kib);
	outside->samples++;
}

void outside_watch(struct outside *outside, double seconds,
		   void (*each)(struct outside *outside, unsigned int sample))
{
	double end = live_now() + seconds, last = live_now() + LIVE_PATIENCE_SECONDS;
	double next = live_now();

	outside->pool_kib = live_field(outside->daemon, NULL, "pool");
	while (live_now() < end || (outside->samples < SAMPLES_MIN && live_now() < last)) {
		sample(outside);
		if (each)
			each(outside, outside->samples + outside->slow);
		next += 0.1;
		if (next > live_now())
			live_sleep(next - live_now());
		else
			next = live_now();
	}
}

void outside_judge(const struct outside *outside, int64_t slack_kib)
{
	printf("# outside: %u samples, %u more too slow, VMs held at most %lld of %lld KiB; above "
	       "grant %lld, above "
	       "claim %lld KiB\n",
	       outside->samples, outside->slow, (long long)outside->used_max_kib,
	       (long long)outside->pool_kib, (long long)outside->over_grant_kib,
	       (long long)outside->off_claim_kib);
	MT_CHECK(outside->samples >= SAMPLES_MIN);
	if (outside->over_pool_kib > slack_kib * (int64_t)outside->vm_count)
		MT_FAIL("the pool was exceeded by %lld KiB", (long long)outside->over_pool_kib);
	if (outside->over_grant_kib > slack_kib)
		MT_FAIL("a VM held %lld KiB more than its grant",
			(long long)outside->over_grant_kib);
}
