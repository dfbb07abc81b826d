/* SPDX-License-Identifier: MIT */
/*
 * wire.c - one table of message types; the checks that let a packet be read as a message
 *
 * Everything a peer can get wrong is refused here, in one place, so that the code behind it reads
 * fields without further doubt about lengths or endings. Meaning (is this grant ours to return?)
 * is judged by whoever acts on the message.
 */
#include "wire/wire.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct wire_info {
	const char *name;
	uint32_t length;
	uint8_t fds_max;
	bool to_daemon;
	/* one string field to check: where it is and its room; 0 for none */
	uint16_t text_at;
	uint16_t text_room;
};

#define WIRE_TEXT(type, field) \
	.text_at = offsetof(struct type, field), .text_room = sizeof(((struct type *)0)->field)

static const struct wire_info wire_table[] = {
	[MT_WIRE_HELLO] = {"HELLO", sizeof(struct mt_wire_hello), 1, true,
			   WIRE_TEXT(mt_wire_hello, name)},
	[MT_WIRE_REGION_ADD] = {"REGION_ADD", sizeof(struct mt_wire_region_add), 0, true, 0, 0},
	[MT_WIRE_REGION_DEL] = {"REGION_DEL", sizeof(struct mt_wire_region_del), 0, true, 0, 0},
	[MT_WIRE_UNMANAGED] = {"UNMANAGED", sizeof(struct mt_wire_unmanaged), 0, true, 0, 0},
	[MT_WIRE_STATS] = {"STATS", sizeof(struct mt_wire_stats), 0, true, 0, 0},
	[MT_WIRE_GRANT_RETURN] = {"GRANT_RETURN", sizeof(struct mt_wire_grant_return), 0, true, 0,
				  0},
	[MT_WIRE_EVENT] = {"EVENT", sizeof(struct mt_wire_event), 0, true,
			   WIRE_TEXT(mt_wire_event, text)},
	[MT_WIRE_CHECKED] = {"CHECKED", sizeof(struct mt_wire_checked), 0, true,
			     WIRE_TEXT(mt_wire_checked, text)},
	[MT_WIRE_BYE] = {"BYE", sizeof(struct mt_wire_bye), 0, true, 0, 0},
	[MT_WIRE_WELCOME] = {"WELCOME", sizeof(struct mt_wire_welcome), 1, false,
			     WIRE_TEXT(mt_wire_welcome, secret)},
	[MT_WIRE_REFUSED] = {"REFUSED", sizeof(struct mt_wire_refused), 0, false,
			     WIRE_TEXT(mt_wire_refused, text)},
	[MT_WIRE_REGION_OK] = {"REGION_OK", sizeof(struct mt_wire_region_ok), 1, false, 0, 0},
	[MT_WIRE_GRANT_ADD] = {"GRANT_ADD", sizeof(struct mt_wire_grant_add), 0, false, 0, 0},
	[MT_WIRE_TARGET] = {"TARGET", sizeof(struct mt_wire_target), 0, false, 0, 0},
	[MT_WIRE_SETTINGS] = {"SETTINGS", sizeof(struct mt_wire_settings), 0, false, 0, 0},
	[MT_WIRE_PEEK] = {"PEEK", sizeof(struct mt_wire_peek), 0, false, 0, 0},
	[MT_WIRE_PEEKED] = {"PEEKED", sizeof(struct mt_wire_peeked), 0, true, 0, 0},
	[MT_WIRE_CHECK] = {"CHECK", sizeof(struct mt_wire_check), 0, false, 0, 0},
	[MT_WIRE_SHARE_OFFER] = {"SHARE_OFFER", sizeof(struct mt_wire_share_offer), 0, true, 0, 0},
	[MT_WIRE_SHARE_LOOK] = {"SHARE_LOOK", sizeof(struct mt_wire_share_look), 0, true, 0, 0},
	[MT_WIRE_SHARE_PAGE] = {"SHARE_PAGE", sizeof(struct mt_wire_share_page), 0, true, 0, 0},
	[MT_WIRE_SHARE_RELEASE] = {"SHARE_RELEASE", sizeof(struct mt_wire_share_release), 0, true,
				   0, 0},
	[MT_WIRE_SHARE_KEEP] = {"SHARE_KEEP", sizeof(struct mt_wire_share_keep), 1, true, 0, 0},
	[MT_WIRE_SHARE_START] = {"SHARE_START", sizeof(struct mt_wire_share_start), 1, false, 0, 0},
	[MT_WIRE_SHARE_ANSWER] = {"SHARE_ANSWER", sizeof(struct mt_wire_share_answer), 0, false, 0,
				  0},
	[MT_WIRE_SHARE_LOOKED] = {"SHARE_LOOKED", sizeof(struct mt_wire_share_looked), 0, false, 0,
				  0},
	[MT_WIRE_SHARE_AGAIN] = {"SHARE_AGAIN", sizeof(struct mt_wire_share_again), 0, false, 0, 0},
};

static const struct wire_info *wire_info(unsigned int type)
{
	if (type >= MT_ARRAY_SIZE(wire_table) || !wire_table[type].length)
		return NULL;
	return &wire_table[type];
}

static bool wire_text_ends(const void *msg, size_t at, size_t room)
{
	return memchr((const uint8_t *)msg + at, '\0', room) != NULL;
}

void mt_wire_init(union mt_wire_msg *msg, enum mt_wire_type type, uint32_t serial)
{
	uint32_t length = mt_wire_length(type);

	memset(msg, 0, MT_MAX(length, sizeof(msg->head)));
	msg->head.magic = MT_WIRE_MAGIC;
	msg->head.version = MT_WIRE_VERSION;
	msg->head.type = (uint16_t)type;
	msg->head.length = length;
	msg->head.serial = serial;
}

static uint32_t wire_contents_end(uint32_t count)
{
	return (uint32_t)(offsetof(struct mt_wire_share_page, content) + count * MT_PAGE_SIZE);
}

void mt_wire_contents(struct mt_wire_share_page *msg, uint32_t count)
{
	MT_ASSERT(count && count <= MT_WIRE_SHARE_CONTENTS);
	msg->count = count;
	msg->head.length = wire_contents_end(count);
}

uint32_t mt_wire_length(unsigned int type)
{
	const struct wire_info *info = wire_info(type);

	return info ? info->length : 0;
}

const char *mt_wire_type_name(unsigned int type)
{
	const struct wire_info *info = wire_info(type);

	return info ? info->name : "unknown";
}

static int wire_check_head(const struct mt_wire_head *head, size_t bytes, struct mt_err *err)
{
	if (bytes < sizeof(*head))
		return mt_err_set(err, -EPROTO, "packet of %zu bytes is shorter than a header",
				  bytes);
	if (head->magic != MT_WIRE_MAGIC)
		return mt_err_set(err, -EPROTO, "packet is not a Memtide message");
	if (head->version != MT_WIRE_VERSION)
		return mt_err_set(err, -EPROTO,
				  "message has version %u, this side speaks %u; "
				  "daemon and VM must run the same Memtide",
				  head->version, MT_WIRE_VERSION);
	return 0;
}

/* HELLO has four strings; the table checks the first. */
static bool wire_hello_texts_end(const struct mt_wire_hello *hello)
{
	return wire_text_ends(hello->token, 0, sizeof(hello->token)) &&
	       wire_text_ends(hello->secret, 0, sizeof(hello->secret)) &&
	       wire_text_ends(hello->share_group, 0, sizeof(hello->share_group)) &&
	       wire_text_ends(hello->vmm, 0, sizeof(hello->vmm));
}

/* Are the counts of a SHARE message within its arrays? */
static bool wire_share_fits(const union mt_wire_msg *msg)
{
	switch (msg->head.type) {
	case MT_WIRE_SHARE_OFFER:
		return msg->share_offer.count <= MT_WIRE_SHARE_PAGES;
	case MT_WIRE_SHARE_LOOK:
		return msg->share_look.count <= MT_WIRE_SHARE_LOOKS;
	case MT_WIRE_SHARE_PAGE:
		return msg->share_page.count && msg->share_page.count <= MT_WIRE_SHARE_CONTENTS &&
		       msg->share_page.first < MT_WIRE_SHARE_PAGES &&
		       msg->share_page.count <= MT_WIRE_SHARE_PAGES - msg->share_page.first;
	case MT_WIRE_SHARE_RELEASE:
		return msg->share_release.count <= MT_WIRE_SHARE_RELEASES;
	case MT_WIRE_SHARE_KEEP:
		return msg->share_keep.count <= MT_WIRE_SHARE_KEEPS;
	case MT_WIRE_SHARE_ANSWER:
		return msg->share_answer.first < MT_WIRE_SHARE_PAGES &&
		       msg->share_answer.count <= MT_WIRE_SHARE_PAGES - msg->share_answer.first;
	case MT_WIRE_SHARE_LOOKED:
		return msg->share_looked.count <= MT_WIRE_SHARE_LOOKS;
	case MT_WIRE_SHARE_AGAIN:
		return msg->share_again.count <= MT_WIRE_SHARE_PAGES;
	default:
		return true;
	}
}

/* What a message of this type, @bytes of which have come, must have. */
static uint32_t wire_bytes_due(const union mt_wire_msg *msg, size_t bytes,
			       const struct wire_info *info)
{
	if (msg->head.type != MT_WIRE_SHARE_PAGE || bytes < wire_contents_end(1) ||
	    !msg->share_page.count || msg->share_page.count > MT_WIRE_SHARE_CONTENTS)
		return info->length;
	return wire_contents_end(msg->share_page.count);
}

int mt_wire_check(const union mt_wire_msg *msg, size_t bytes, unsigned int fds, bool to_daemon,
		  struct mt_err *err)
{
	const struct wire_info *info;
	uint32_t due;
	int rc = wire_check_head(&msg->head, bytes, err);

	if (rc)
		return rc;
	info = wire_info(msg->head.type);
	if (!info || info->to_daemon != to_daemon)
		return mt_err_set(err, -EPROTO, "message of type %u does not belong here",
				  msg->head.type);
	due = wire_bytes_due(msg, bytes, info);
	if (bytes != due || msg->head.length != due)
		return mt_err_set(err, -EPROTO, "%s has %zu bytes, says %u, must have %u",
				  info->name, bytes, msg->head.length, due);
	if (fds > info->fds_max)
		return mt_err_set(err, -EPROTO, "%s came with %u descriptors", info->name, fds);
	if ((info->text_room && !wire_text_ends(msg, info->text_at, info->text_room)) ||
	    (msg->head.type == MT_WIRE_HELLO && !wire_hello_texts_end(&msg->hello)))
		return mt_err_set(err, -EPROTO, "%s has a string without an end", info->name);
	if (msg->head.type == MT_WIRE_STATS && msg->stats.count > MT_WIRE_STATS_MAX)
		return mt_err_set(err, -EPROTO, "STATS with %u numbers", msg->stats.count);
	if (msg->head.type == MT_WIRE_PEEKED && msg->peeked.count > MT_PEEK_MAX)
		return mt_err_set(err, -EPROTO, "PEEKED with %u bytes", msg->peeked.count);
	if (!wire_share_fits(msg))
		return mt_err_set(err, -EPROTO, "%s counts beyond its end", info->name);
	return 0;
}

bool mt_wire_name_ok(const char *name)
{
	size_t length =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return length > 0 && length < MT_WIRE_NAME_MAX && !name[length] && name[0] != '.' &&
	       name[0] != '-';
}
