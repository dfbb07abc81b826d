/* SPDX-License-Identifier: MIT */
/* qmp_dir.c - see qmp_dir.h */
#include "host/qmp_dir.h"
#include "host/registry.h"
#include "sys/local_path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QMP_DIR_SUFFIX ".qmp"
#define QMP_DIR_SOCKET "qmp"
/* Hex digits of a directory's name: unguessable it need not be, only its own. */
#define QMP_DIR_NAME 8

/* All that "memtide run" and QEMU put there. */
static const char *const qmp_dir_files[] = {QMP_DIR_SOCKET, "qemu.conf"};

static void qmp_dir_base(const struct mt_server *server, char ret[static PATH_MAX + 8])
{
	snprintf(ret, PATH_MAX + 8, "%s" QMP_DIR_SUFFIX, server->config.socket);
}

static int qmp_dir_create(const char *dir, uid_t uid, struct mt_err *err)
{
	int rc = 0;

	if (mkdir(dir, 0700))
		return mt_err_set(err, -errno, "QMP directory '%s': %s", dir, strerror(errno));
	if (uid != geteuid() && lchown(dir, uid, (gid_t)-1)) {
		rc = mt_err_set(err, -errno, "QMP directory '%s' can't be given to user %u: %s",
				dir, (unsigned int)uid, strerror(errno));
		rmdir(dir);
	}
	return rc;
}

int mt_qmp_dir_make(const struct mt_server *server, uid_t uid,
		    char ret_path[static MT_QMP_PATH_MAX], struct mt_err *err)
{
	char base[PATH_MAX + 8], token[MT_WIRE_TOKEN_MAX], dir[MT_QMP_PATH_MAX];
	int rc = mt_random_token(token, err);
	int length;

	if (rc)
		return rc;
	qmp_dir_base(server, base);
	length = snprintf(ret_path, MT_QMP_PATH_MAX, "%s/%.*s/" QMP_DIR_SOCKET, base, QMP_DIR_NAME,
			  token);
	if (length >= MT_QMP_PATH_MAX)
		return mt_err_set(err, -ENAMETOOLONG,
				  "the daemon's socket has so long a path that QMP sockets beside "
				  "it would exceed %d bytes; give memtided a shorter --socket",
				  MT_QMP_PATH_MAX - 1);
	snprintf(dir, sizeof(dir), "%.*s", length - (int)strlen("/" QMP_DIR_SOCKET), ret_path);
	if (mkdir(base, 0711) && errno != EEXIST)
		return mt_err_set(err, -errno, "QMP directory '%s': %s", base, strerror(errno));
	return qmp_dir_create(dir, uid, err);
}

/* Nothing here follows links, or enters what was mounted: the directory is in the hands of a user.
 */
static void qmp_dir_empty(int base, const char *name)
{
	int dir = mt_local_open_dir(base, name);

	if (dir < 0)
		return;
	for (size_t i = 0; i < MT_ARRAY_SIZE(qmp_dir_files); i++)
		unlinkat(dir, qmp_dir_files[i], 0);
	close(dir);
	unlinkat(base, name, AT_REMOVEDIR);
}

/* The name of the directory of @path, when it is one of ours. */
static bool qmp_dir_name(const char *base, const char *path, char ret[static QMP_DIR_NAME + 1])
{
	size_t length = strlen(base);

	if (strncmp(path, base, length) || path[length] != '/')
		return false;
	path += length + 1;
	if (strspn(path, "0123456789abcdef") != QMP_DIR_NAME ||
	    strcmp(path + QMP_DIR_NAME, "/" QMP_DIR_SOCKET))
		return false;
	snprintf(ret, QMP_DIR_NAME + 1, "%s", path);
	return true;
}

void mt_qmp_dir_remove(const struct mt_server *server, const char *path)
{
	char base[PATH_MAX + 8], name[QMP_DIR_NAME + 1];
	int fd;

	qmp_dir_base(server, base);
	if (!qmp_dir_name(base, path, name))
		return;
	fd = open(base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	qmp_dir_empty(fd, name);
	close(fd);
	/* with the last one */
	rmdir(base);
}

static bool qmp_dir_used(const struct mt_server *server, const char *base, const char *name)
{
	char used[QMP_DIR_NAME + 1];

	for (unsigned int i = 0; i < server->vm_count; i++)
		if (qmp_dir_name(base, server->vms[i]->qmp_path, used) && !strcmp(used, name))
			return true;
	return false;
}

void mt_qmp_dir_sweep(const struct mt_server *server)
{
	char base[PATH_MAX + 8];
	struct dirent *entry;
	DIR *dir;
	int fd;

	qmp_dir_base(server, base);
	fd = open(base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && !qmp_dir_used(server, base, entry->d_name))
			qmp_dir_empty(fd, entry->d_name);
	closedir(dir);
	rmdir(base);
}

int mt_qmp_path_check(const char *path, struct mt_err *err)
{
	if (strlen(path) >= MT_QMP_PATH_MAX)
		return mt_err_set(err, -ENAMETOOLONG, "qmp: a socket's path has at most %d bytes",
				  MT_QMP_PATH_MAX - 1);
	for (const char *p = path; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			path = "";
	if (path[0] != '/')
		return mt_err_set(err, -EINVAL,
				  "qmp: must be the absolute path of a socket, of printable "
				  "characters");
	return 0;
}
