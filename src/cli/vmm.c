/* SPDX-License-Identifier: MIT */
/* vmm.c - inspect a VMM's program file, find the preload library; see vmm.h */
#include "cli/vmm.h"
#include "base/cleanup.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#ifndef MT_LIBDIR
#define MT_LIBDIR "/usr/local/lib/memtide"
#endif

#define PRELOAD_NAME        "libmemtide-preload.so"
#define PROGRAM_HEADERS_MAX 128

static bool vmm_runnable(const char *path, int *ret_rc)
{
	struct stat st;

	if (stat(path, &st)) {
		*ret_rc = -errno;
		return false;
	}
	if (!S_ISREG(st.st_mode) || access(path, X_OK)) {
		*ret_rc = -EACCES;
		return false;
	}
	return true;
}

/* Like execvp(): the first runnable one; one that is there but may not be run is remembered. */
static int vmm_find_in_path(const char *name, char path[static PATH_MAX])
{
	const char *dir = getenv("PATH");
	int rc = -ENOENT;

	if (!dir || !dir[0])
		dir = "/usr/local/bin:/usr/bin:/bin";
	for (;;) {
		size_t length = strcspn(dir, ":");
		int one = 0;

		if (snprintf(path, PATH_MAX, "%.*s/%s", length ? (int)length : 1,
			     length ? dir : ".", name) < PATH_MAX) {
			if (vmm_runnable(path, &one))
				return 0;
			if (one == -EACCES)
				rc = one;
		}
		if (!dir[length])
			return rc;
		dir += length + 1;
	}
}

int vmm_find(const char *name, char path[static PATH_MAX], struct mt_err *err)
{
	int rc = 0;

	if (strlen(name) >= PATH_MAX)
		return mt_err_set(err, -ENAMETOOLONG, "VMM '%.60s...': name too long", name);
	if (!strchr(name, '/')) {
		rc = name[0] ? vmm_find_in_path(name, path) : -ENOENT;
		if (rc == -ENOENT)
			return mt_err_set(err, rc,
					  "VMM not found: no '%s' in PATH; install it or give "
					  "its path",
					  name);
	} else {
		snprintf(path, PATH_MAX, "%s", name);
		if (!vmm_runnable(path, &rc) && rc != -EACCES)
			return mt_err_set(err, rc,
					  "VMM not found: '%s': %s; give the path of a VMM", name,
					  strerror(-rc));
	}
	if (rc)
		return mt_err_set(err, rc,
				  "VMM '%s' is not a file that may be run; check its mode and "
				  "the name",
				  name);
	return 0;
}

/* Is there a PT_INTERP among the program headers, that is, does a dynamic loader run first? */
static int elf_has_interp(int fd, const Elf64_Ehdr *ehdr, bool *ret)
{
	size_t count = ehdr->e_phnum;

	if (ehdr->e_phentsize != sizeof(Elf64_Phdr) || count > PROGRAM_HEADERS_MAX)
		return -ENOEXEC;
	*ret = false;
	for (size_t i = 0; i < count; i++) {
		Elf64_Phdr phdr;
		off_t at = (off_t)(ehdr->e_phoff + i * sizeof(phdr));

		if (pread(fd, &phdr, sizeof(phdr), at) != sizeof(phdr))
			return -ENOEXEC;
		if (phdr.p_type == PT_INTERP)
			*ret = true;
	}
	return 0;
}

static int vmm_inspect_elf(int fd, const Elf64_Ehdr *ehdr, const char *path, struct mt_err *err)
{
	bool interp = false;

	if (ehdr->e_ident[EI_CLASS] != ELFCLASS64)
		return mt_err_set(err, -ENOEXEC,
				  "VMM '%s' is not a 64-bit program; use a 64-bit build", path);
	if (elf_has_interp(fd, ehdr, &interp))
		return mt_err_set(err, -ENOEXEC, "VMM '%s' is a damaged program; install it again",
				  path);
	if (!interp)
		return mt_err_set(err, -EOPNOTSUPP,
				  "VMM '%s' is statically linked, so LD_PRELOAD "
				  "can't bring the monitor in; use the dynamically "
				  "linked build, or build the VMM with Memtide's C "
				  "API (memtide/memtide.h)",
				  path);
	return 0;
}

/* In "secure execution" the loader takes preloaded libraries from trusted directories only. */
static int vmm_check_privileges(int fd, const char *path, struct mt_err *err)
{
	const char *what = NULL;
	struct stat st;

	if (fstat(fd, &st))
		return mt_err_set(err, -errno, "VMM '%s': %s", path, strerror(errno));
	if (st.st_mode & S_ISUID)
		what = "setuid";
	else if (st.st_mode & S_ISGID)
		what = "setgid";
	else if (geteuid() && fgetxattr(fd, "security.capability", NULL, 0) > 0)
		what = "given file capabilities";
	if (!what)
		return 0;
	return mt_err_set(err, -EPERM,
			  "VMM '%s' is %s, so the loader ignores LD_PRELOAD and the "
			  "monitor can't get in; use a copy without that",
			  path, what);
}

int vmm_inspect(const char *path, enum vmm_kind *ret_kind, struct mt_err *err)
{
	MT_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr ehdr = {0};
	ssize_t got;
	int rc;

	if (fd < 0)
		return mt_err_set(err, -errno, "VMM '%s': %s", path, strerror(errno));
	rc = vmm_check_privileges(fd, path, err);
	if (rc)
		return rc;
	got = pread(fd, &ehdr, sizeof(ehdr), 0);
	if (got >= 2 && !memcmp(ehdr.e_ident, "#!", 2)) {
		*ret_kind = VMM_SCRIPT;
		return 0;
	}
	if (got != sizeof(ehdr) || memcmp(ehdr.e_ident, ELFMAG, SELFMAG))
		return mt_err_set(err, -ENOEXEC,
				  "VMM '%s' is not a program; give a VMM such as "
				  "qemu-system-x86_64",
				  path);
	*ret_kind = VMM_DYNAMIC;
	return vmm_inspect_elf(fd, &ehdr, path, err);
}

/* @pattern is relative to the directory of the running memtide program. */
static bool preload_near(const char *dir, const char *pattern, char path[static PATH_MAX])
{
	char full[PATH_MAX + 64];
	glob_t found = {0};
	bool ok = false;

	snprintf(full, sizeof(full), "%s/%s/" PRELOAD_NAME, dir, pattern);
	if (!glob(full, 0, NULL, &found) && found.gl_pathc)
		ok = realpath(found.gl_pathv[0], path) != NULL;
	globfree(&found);
	return ok;
}

static bool preload_search(char path[static PATH_MAX])
{
	char exe[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (length > 0) {
		exe[length] = '\0';
		*strrchr(exe, '/') = '\0';
		if (preload_near(exe, "../preload", path) ||
		    preload_near(exe, "../lib*/memtide", path) ||
		    preload_near(exe, "../lib*/*/memtide", path))
			return true;
	}
	return realpath(MT_LIBDIR "/" PRELOAD_NAME, path) != NULL;
}

int vmm_preload_find(char path[static PATH_MAX], struct mt_err *err)
{
	const char *given = getenv("MEMTIDE_PRELOAD");

	if (given && given[0]) {
		if (!realpath(given, path) || access(path, R_OK))
			return mt_err_set(err, -ENOENT,
					  "MEMTIDE_PRELOAD='%s': %s; correct or unset it", given,
					  strerror(errno));
	} else if (!preload_search(path)) {
		return mt_err_set(err, -ENOENT,
				  PRELOAD_NAME " not found (near this program or in " MT_LIBDIR
					       "); install Memtide, or give its path in "
					       "MEMTIDE_PRELOAD");
	}
	/* The loader splits LD_PRELOAD at these and would quietly run the VMM without it. */
	if (strpbrk(path, ": \t"))
		return mt_err_set(err, -EINVAL,
				  "'%s' has a space or colon in its path, which LD_PRELOAD "
				  "can't express; move it",
				  path);
	return 0;
}
