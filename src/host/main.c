/* SPDX-License-Identifier: MIT */
/* main.c - memtided: options to settings, settings to a server */
#include "host/config.h"
#include "host/sandbox.h"
#include "host/server.h"

#include <stdlib.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define EXIT_USAGE 2

static const char main_help[] =
	"Usage: memtided [--pool SIZE|auto] [--socket PATH] [--swap-dir DIR] [--config FILE]\n"
	"                [--group NAME] [--zip-max-pct N]\n"
	"\n"
	"Shares a pool of this host's memory among virtual machines. Runs in the foreground.\n"
	"\n"
	"  --pool SIZE       machine memory for VMs, like 16G; auto (default): all but a tenth,\n"
	"                    and at least 512M, of this host's memory\n"
	"  --socket PATH     control socket (" MT_CONFIG_SOCKET "); monitors use PATH.vm\n"
	"  --swap-dir DIR    where VMs' swap files go (" MT_CONFIG_SWAP_DIR ")\n"
	"  --swap-encrypt on|off  VMs encrypt what they swap, each with a key of its own (off)\n"
	"  --group NAME      whose members may connect besides root (" MT_CONFIG_GROUP
	", if there)\n"
	"  --config FILE     lines 'key = value' with these options' names; options win\n"
	"  --zip-max-pct N   most of a VM's memory its compressed pages may take (10)\n"
	"  --foreground      accepted; it is the only way to run\n"
	"  --help, --version\n";

static const struct option main_options[] = {
	{"pool", required_argument, NULL, 's'},
	{"socket", required_argument, NULL, 's'},
	{"swap-dir", required_argument, NULL, 's'},
	{"group", required_argument, NULL, 's'},
	{"zip-max-pct", required_argument, NULL, 's'},
	{"config", required_argument, NULL, 'c'},
	{"swap-encrypt", required_argument, NULL, 's'},
	{"foreground", no_argument, NULL, 'f'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'v'},
	{NULL, 0, NULL, 0},
};

static int main_usage(const char *message)
{
	fprintf(stderr, "memtided: %s; see memtided --help\n", message);
	return EXIT_USAGE;
}

/* The file first, so that options win wherever they stand. Return: -1, or the status to end with.
 */
static int main_config_file(int argc, char **argv, struct mt_config *config)
{
	struct mt_err err = {0};
	int option;

	opterr = 0;
	optind = 1;
	while ((option = getopt_long(argc, argv, "", main_options, NULL)) != -1) {
		if (option != 'c' || !mt_config_read(config, optarg, &err))
			continue;
		fprintf(stderr, "memtided: %s\n", err.msg);
		return EXIT_FAILURE;
	}
	return -1;
}

/* Return: -1, or the status to end with. */
static int main_parse(int argc, char **argv, struct mt_config *config)
{
	struct mt_err err = {0};
	int option, place = 0;
	char text[160];

	optind = 1;
	while ((option = getopt_long(argc, argv, "", main_options, &place)) != -1) {
		switch (option) {
		case 's':
			if (mt_config_set(config, main_options[place].name, optarg, &err))
				return main_usage(err.msg);
			break;
		case 'c':
		case 'f':
			break;
		case 'h':
			fputs(main_help, stdout);
			return EXIT_SUCCESS;
		case 'v':
			printf("memtided %s\n", MT_VERSION);
			return EXIT_SUCCESS;
		default:
			snprintf(text, sizeof(text), "'%.100s' is no option, or lacks its value",
				 argv[optind - 1]);
			return main_usage(text);
		}
	}
	if (optind < argc) {
		snprintf(text, sizeof(text), "'%.100s' is no option", argv[optind]);
		return main_usage(text);
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct mt_server *server;
	struct mt_config config;
	struct mt_err err = {0};
	int status;

	mt_config_init(&config);
	status = main_config_file(argc, argv, &config);
	if (status < 0)
		status = main_parse(argc, argv, &config);
	if (status >= 0)
		return status;
	if (mt_config_finish(&config, &err)) {
		fprintf(stderr, "memtided: %s\n", err.msg);
		return EXIT_FAILURE;
	}
	server = mt_server_new(&config, &err);
	if (!server || (config.sandbox && mt_sandbox_enter(&err)) || mt_server_run(server, &err)) {
		fprintf(stderr, "memtided: %s\n", err.msg);
		mt_server_free(server);
		return EXIT_FAILURE;
	}
	mt_server_free(server);
	return EXIT_SUCCESS;
}
