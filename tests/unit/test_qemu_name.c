/* SPDX-License-Identifier: MIT */
/* test_qemu_name.c - a VM's name from QEMU's command line */
#include "preload/qemu_name.h"

#include "common/mt_test.h"

#include <stddef.h>

/* The name on the command line in a string literal with \0 between the arguments. */
#define NAME_OF(args)                                                     \
	({                                                                \
		static char name_[64];                                    \
		qemu_name_find(args, sizeof(args), name_, sizeof(name_)); \
		name_;                                                    \
	})

MT_TEST("the name is found as libvirt writes it, and as people do")
{
	MT_CHECK_STR(NAME_OF("/usr/bin/qemu\0-name\0guest=web,debug-threads=on\0-S"), "web");
	MT_CHECK_STR(NAME_OF("qemu\0-m\0001G\0-name\0db"), "db");
	MT_CHECK_STR(NAME_OF("qemu\0--name\0db,process=q"), "db");
	MT_CHECK_STR(NAME_OF("qemu\0-name\0debug-threads=on,guest=late"), "late");
}

MT_TEST("what can't be in a VM's name is replaced, and two commas are one")
{
	MT_CHECK_STR(NAME_OF("qemu\0-name\0guest=my web,,2/x,debug-threads=on"), "my_web_2_x");
	MT_CHECK_STR(NAME_OF("qemu\0-name\0guest=-x"), "_x");
	MT_CHECK_STR(NAME_OF("qemu\0-name\0guest=.x"), "_x");
	MT_CHECK_EQ(strlen(NAME_OF("qemu\0-name\0guest="
				   "0123456789012345678901234567890123456789012345678901234567890"
				   "123456789")),
		    63);
}

MT_TEST("without a name there is none, and a torn command line is no trouble")
{
	MT_CHECK_STR(NAME_OF("qemu\0-m\0001G"), "");
	MT_CHECK_STR(NAME_OF("qemu\0-name"), "");
	MT_CHECK_STR(NAME_OF("qemu\0-name\0debug-threads=on"), "");
	MT_CHECK_STR(NAME_OF(""), "");
	for (size_t bytes = 0; bytes <= 20; bytes++) {
		char *args = malloc(bytes + 1), name[64];

		memcpy(args, "qemu\0-name\0guest=web", bytes);
		qemu_name_find(args, bytes, name, sizeof(name));
		/* the NUL behind it is missing in all of these */
		MT_CHECK_STR(name, "");
		free(args);
	}
}

MT_TEST("a process that says nothing of a name is called by its number")
{
	char name[64], wanted[64];

	qemu_name_own(name, sizeof(name));
	snprintf(wanted, sizeof(wanted), "vm-%d", (int)getpid());
	MT_CHECK_STR(name, wanted);
}

MT_TEST_MAIN
