/* SPDX-License-Identifier: MIT */
/*
 * reason.c - a decision in one line, for people
 *
 * Apart from scheduler.c because words change more often than decisions. The formatter of err.h
 * puts the text together: the policy itself does without stdio.
 */
#include "policy/scheduler.h"
#include "base/size.h"

#include <string.h>

static const char *reason_copy(const struct mt_err *text, char *buf)
{
	size_t length = strnlen(text->msg, MT_SCHED_TEXT_MAX - 1);

	memcpy(buf, text->msg, length);
	buf[length] = '\0';
	return buf;
}

static const char *reason_size(uint64_t pages, char *buf)
{
	return mt_size_text(pages * MT_PAGE_SIZE, buf);
}

/* "idle 71 %, taxed 4x"; "idle 71 %"; "all in use". */
static void reason_idle(const struct mt_sched_reason *reason, struct mt_err *text)
{
	if (!reason->idle_pct)
		mt_err_set(text, 0, "all in use");
	else if (reason->idle_cost > 1.0)
		mt_err_set(text, 0, "idle %u %%, taxed %.3gx", reason->idle_pct, reason->idle_cost);
	else
		mt_err_set(text, 0, "idle %u %%", reason->idle_pct);
}

static void reason_price(const struct mt_sched_reason *reason, struct mt_err *text)
{
	bool down = reason->after_pages < reason->before_pages;
	double apart = down ? reason->rho_next - reason->rho : reason->rho - reason->rho_next;
	struct mt_err idle;

	reason_idle(reason, &idle);
	if (reason->rho_next > 0.0 && apart > 0.0)
		mt_err_set(text, 0, "%s, %.2g shares/page %s the next", idle.msg, apart,
			   down ? "below" : "above");
	else
		mt_err_set(text, 0, "%s, %.2g shares/page", idle.msg, reason->rho);
}

static void reason_why(const struct mt_sched_reason *reason, struct mt_err *text)
{
	char bound[MT_SIZE_TEXT_MAX];

	reason_size(reason->bound_pages, bound);
	switch (reason->why) {
	case MT_WHY_SHORT:
		mt_err_set(text, 0, "the pool is smaller than all reservations");
		break;
	case MT_WHY_LIMIT:
		mt_err_set(text, 0, "limit %s", bound);
		break;
	case MT_WHY_ALL:
		mt_err_set(text, 0, "all it can use");
		break;
	case MT_WHY_FIXED:
		mt_err_set(text, 0, "%s can't leave memory, as a file is open for direct I/O",
			   bound);
		break;
	case MT_WHY_RESERVATION:
		mt_err_set(text, 0, "kept by its reservation of %s", bound);
		break;
	case MT_WHY_MINIMUM:
		mt_err_set(text, 0, "the least it needs to run");
		break;
	case MT_WHY_WANT:
		mt_err_set(text, 0, "uses %s and may grow", bound);
		break;
	case MT_WHY_SPARE:
		mt_err_set(text, 0, "its part of memory that nobody uses");
		break;
	case MT_WHY_TAX:
	case MT_WHY_SHARES:
	case MT_WHY_GAIN:
		reason_price(reason, text);
		break;
	}
}

const char *mt_sched_why_text(const struct mt_sched_reason *reason,
			      char buf[static MT_SCHED_TEXT_MAX])
{
	struct mt_err text;

	reason_why(reason, &text);
	return reason_copy(&text, buf);
}

const char *mt_sched_reason_text(const struct mt_sched_reason *reason,
				 char buf[static MT_SCHED_TEXT_MAX])
{
	char from[MT_SIZE_TEXT_MAX], to[MT_SIZE_TEXT_MAX];
	struct mt_err why, text;

	reason_why(reason, &why);
	reason_size(reason->before_pages, from);
	reason_size(reason->after_pages, to);
	if (reason->before_pages)
		mt_err_set(&text, 0, "target %s → %s: %s", from, to, why.msg);
	else
		mt_err_set(&text, 0, "target %s: %s", to, why.msg);
	return reason_copy(&text, buf);
}
