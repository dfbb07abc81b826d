/* SPDX-License-Identifier: MIT */
/* fuzz_wire.c - any packet at either end of the monitors' socket; what passes is read as the other
 * end would */
#include "fuzz/fuzz_input.h"
#include "wire/wire.h"

/* Strings of a message that passed have an end; numbers of STATS are as many as it says. */
static void read_message(const union mt_wire_msg *msg)
{
	volatile size_t sum = 0;

	switch (msg->head.type) {
	case MT_WIRE_HELLO:
		sum = strlen(msg->hello.name) + strlen(msg->hello.token) +
		      strlen(msg->hello.secret) + strlen(msg->hello.vmm);
		MT_ASSERT(!mt_wire_name_ok(msg->hello.name) || msg->hello.name[0] != '.');
		break;
	case MT_WIRE_EVENT:
		sum = strlen(msg->event.text);
		break;
	case MT_WIRE_CHECKED:
		sum = strlen(msg->checked.text);
		break;
	case MT_WIRE_REFUSED:
		sum = strlen(msg->refused.text);
		break;
	case MT_WIRE_WELCOME:
		sum = strlen(msg->welcome.secret);
		break;
	case MT_WIRE_STATS:
		for (uint32_t i = 0; i < msg->stats.count; i++)
			sum += msg->stats.value[i];
		break;
	case MT_WIRE_SHARE_PAGE:
		for (uint32_t i = 0; i < msg->share_page.count; i++)
			sum += msg->share_page.content[i][0] +
			       msg->share_page.content[i][MT_PAGE_SIZE - 1];
		MT_ASSERT(msg->share_page.content[msg->share_page.count] ==
			  msg->bytes + msg->head.length);
		return;
	}
	MT_ASSERT(msg->head.length == mt_wire_length(msg->head.type));
	(void)sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	size_t length = bytes ? bytes - 1 : 0;
	union mt_wire_msg *msg;
	struct mt_err err = {0};

	/* A buffer of just this length, so that a look behind its end is seen. */
	if (!bytes || length > sizeof(*msg))
		return 0;
	msg = aligned_alloc(8, mt_align_up(length + 8, 8));
	MT_ASSERT(msg);
	memset(msg, 0xa5, mt_align_up(length + 8, 8));
	memcpy(msg, data + 1, length);
	/* Inputs kept outlive versions; only bit 3 lets the version be any. */
	if (!(data[0] & 8) && length >= sizeof(msg->head))
		msg->head.version = MT_WIRE_VERSION;
	if (!mt_wire_check(msg, length, data[0] & 3, data[0] & 4, &err))
		read_message(msg);
	else
		MT_ASSERT(err.msg[0]);
	free(msg);
	return 0;
}
