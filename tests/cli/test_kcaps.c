/* SPDX-License-Identifier: MIT */
/* test_kcaps.c - the probes tell apart what is there, forbidden, absent */
#include "common/mt_test.h"
#include "sys/kcaps.h"
#include "sys/linux_compat.h"

#include <errno.h>
#include <fcntl.h>

MT_TEST("each probe ends with a state and a reason")
{
	struct mt_kcaps caps;
	const struct mt_kcap *all = (const struct mt_kcap *)&caps;

	mt_kcaps_probe(&caps);
	for (size_t i = 0; i < sizeof(caps) / sizeof(*all); i++) {
		printf("# %s: %s\n", mt_kcap_state_name(all[i].state), all[i].reason);
		MT_CHECK(all[i].reason[0]);
	}
}

/* The probes wait for a fault so long. Return: did this one end later, and may that be the
 * machine's fault, which may happen twice? */
static bool was_slow(double began)
{
	static unsigned int times;

	return mt_now_s() - began >= MT_KCAPS_WAIT_MS / 1e3 && times++ < 2;
}

MT_TEST("with /dev/userfaultfd a page is moved and a kernel fault served, again and again")
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	struct mt_err err = {0};

	if (dev < 0)
		MT_SKIP("/dev/userfaultfd can't be opened");
	for (int i = 0; i < 200; i++) {
		double began = mt_now_s();

		if (mt_kcaps_uffd_move(dev, &err) && !was_slow(began))
			MT_FAIL("%s", err.msg);
	}
}

MT_TEST("a shared frame is mapped, read, written to and taken away, again and again")
{
	struct mt_err err = {0};

	for (int i = 0; i < 100; i++) {
		double began = mt_now_s();
		int rc = mt_kcaps_frames(&err);

		if (!i && (rc == -EOPNOTSUPP || rc == -ENOENT || rc == -EACCES))
			MT_SKIP("this kernel can't, or we may not");
		if (rc && !was_slow(began))
			MT_FAIL("%s", err.msg);
	}
}

MT_TEST("a descriptor that is not /dev/userfaultfd is an error with a reason")
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct mt_err err = {0};

	MT_CHECK_EQ(mt_kcaps_uffd_move(null, &err), -ENOTTY);
	MT_CHECK(strstr(err.msg, "/dev/userfaultfd"));
	MT_CHECK_EQ(mt_kcaps_uffd_move(-1, NULL), -EBADF);
}

MT_TEST("without privileges the device is forbidden, not absent")
{
	struct mt_kcaps caps;

	if (geteuid())
		MT_SKIP("needs root to become nobody");
	if (access("/dev/userfaultfd", F_OK))
		MT_SKIP("no /dev/userfaultfd");
	MT_CHECK(!setegid(65534) && !seteuid(65534));
	mt_kcaps_probe(&caps);
	MT_CHECK(caps.uffd_dev.state == MT_KCAP_FORBIDDEN || caps.uffd_dev.state == MT_KCAP_OK);
}

MT_TEST_MAIN
