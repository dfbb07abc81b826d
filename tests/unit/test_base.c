/* SPDX-License-Identifier: MIT */
/* test_base.c - sizes, errors, histograms */
#include "base/err.h"
#include "base/hist.h"
#include "base/size.h"
#include "common/mt_test.h"

#include <errno.h>

static uint64_t parsed(const char *text)
{
	uint64_t bytes = 0;

	MT_CHECK_EQ(mt_size_parse(text, "size", &bytes, NULL), 0);
	return bytes;
}

MT_TEST("sizes accept units in either case and up to three decimals")
{
	MT_CHECK_EQ(parsed("4096"), 4096);
	MT_CHECK_EQ(parsed("512M"), 512LL << 20);
	MT_CHECK_EQ(parsed("512m"), 512LL << 20);
	MT_CHECK_EQ(parsed("2G"), 2LL << 30);
	MT_CHECK_EQ(parsed("2GiB"), 2LL << 30);
	MT_CHECK_EQ(parsed("1.5G"), 3LL << 29);
	MT_CHECK_EQ(parsed("1T"), 1LL << 40);
	MT_CHECK_EQ(parsed("64KB"), 64LL << 10);
}

MT_TEST("what is not a size is refused with the text and an example")
{
	static const char *const bad[] = {
		"",       "12Q",   "-1",  "M",   "1.2345G",
		"1..5G",  "0x10M", "5 M", "1.5", "12MX",
		"12MiBs", "nan",   "1e9", "+5M", "99999999999999999999999"};
	uint64_t bytes = 7;

	for (unsigned int i = 0; i < MT_ARRAY_SIZE(bad); i++) {
		struct mt_err err = {0};

		MT_CHECK(mt_size_parse(bad[i], "--limit", &bytes, &err) < 0);
		MT_CHECK_EQ(bytes, 7);
		MT_CHECK(strstr(err.msg, "--limit"));
	}
}

MT_TEST("zero is refused unless zero is a value, and 256T is the most")
{
	uint64_t bytes = 7;

	MT_CHECK_EQ(mt_size_parse("0", "x", &bytes, NULL), -EINVAL);
	MT_CHECK_EQ(mt_size_parse("0M", "x", &bytes, NULL), -EINVAL);
	MT_CHECK_EQ(mt_size_parse_zero_ok("0M", "x", &bytes, NULL), 0);
	MT_CHECK_EQ(bytes, 0);
	MT_CHECK_EQ(mt_size_parse("256T", "x", &bytes, NULL), 0);
	MT_CHECK_EQ(mt_size_parse("257T", "x", &bytes, NULL), -ERANGE);
}

MT_TEST("sizes print with at most four digits")
{
	char buf[MT_SIZE_TEXT_MAX];

	MT_CHECK_STR(mt_size_text(0, buf), "0B");
	MT_CHECK_STR(mt_size_text(1023, buf), "1023B");
	MT_CHECK_STR(mt_size_text(512ULL << 20, buf), "512M");
	MT_CHECK_STR(mt_size_text(3ULL << 29, buf), "1.5G");
	MT_CHECK_STR(mt_size_text(1ULL << 30, buf), "1G");
	MT_CHECK_STR(mt_size_text(1023ULL << 20, buf), "1023M");
}

MT_TEST("an error carries its context in front and is never longer than its room")
{
	struct mt_err err = {0};

	MT_CHECK_EQ(mt_err_set(&err, -ENOENT, "open '%s'", "/x"), -ENOENT);
	mt_err_prefix(&err, "vm %s", "web");
	MT_CHECK_STR(err.msg, "vm web: open '/x'");
	for (int i = 0; i < 200; i++)
		mt_err_prefix(&err, "context");
	MT_CHECK(strlen(err.msg) < sizeof(err.msg));
	MT_CHECK_EQ(mt_err_set(NULL, -EIO, "nobody listens"), -EIO);
}

MT_TEST("percentiles of a histogram are within a quarter of the truth")
{
	struct mt_hist hist = {0};

	for (uint64_t ns = 1; ns <= 100000; ns++)
		mt_hist_add(&hist, ns);
	MT_CHECK_EQ(mt_hist_total(&hist), 100000);
	MT_CHECK(mt_hist_percentile_ns(&hist, 50) >= 50000);
	MT_CHECK(mt_hist_percentile_ns(&hist, 50) <= 62500);
	MT_CHECK(mt_hist_percentile_ns(&hist, 99) >= 99000);
	MT_CHECK_EQ(mt_hist_max_ns(&hist), 100000);
	mt_hist_add(&hist, UINT64_MAX);
	MT_CHECK_EQ(mt_hist_max_ns(&hist), -1);
}

MT_TEST_MAIN
