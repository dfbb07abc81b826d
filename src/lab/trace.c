/* SPDX-License-Identifier: MIT */
/* trace.c - reading traces; see trace.h for what is in them */
#include "lab/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRACE_HEADER "memtide-trace 1"
#define OPS_MAX      (64u << 20)
#define BLANKS       " \t\r\n"
#define HIT_MAX      1000000000000ULL

struct reader {
	struct lab_trace *trace;
	struct mt_err *err;
	unsigned int line;
	uint64_t base;
};

static const struct {
	const char *word;
	enum lab_op_kind kind;
	unsigned int least, most; /* arguments */
} words[] = {{"map", LAB_OP_MAP, 2, 3},   {"unmap", LAB_OP_UNMAP, 2, 2},
	     {"r", LAB_OP_READ, 1, 0},    {"w", LAB_OP_WRITE, 1, 0},
	     {"x", LAB_OP_FETCH, 1, 0},   {"hit", LAB_OP_HIT, 1, 1},
	     {"fork", LAB_OP_FORK, 1, 1}, {"run", LAB_OP_RUN, 1, 1},
	     {"exec", LAB_OP_EXEC, 0, 0}, {"exit", LAB_OP_EXIT, 0, 0}};

static int bad_line(const struct reader *reader, const char *what, const char *word)
{
	return mt_err_set(reader->err, -EINVAL, "%s:%u: %s '%.40s'", reader->trace->path,
			  reader->line, what, word);
}

static int read_number(const struct reader *reader, const char *text, int base, uint64_t most,
		       uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, base);
	if (!strspn(text, "0123456789abcdefABCDEF") || *end || errno || *ret > most)
		return bad_line(reader, "not a number that can be here:", text);
	return 0;
}

static int add_op(struct reader *reader, const struct lab_op *op)
{
	struct lab_trace *trace = reader->trace;

	if (trace->count == trace->room) {
		size_t room = trace->room ? trace->room * 2 : 4096;
		struct lab_op *more;

		if (room > OPS_MAX)
			return bad_line(reader, "the trace is too long", "");
		more = realloc(trace->ops, room * sizeof(*more));
		if (!more)
			return mt_err_set(reader->err, -ENOMEM, "no memory for %s", trace->path);
		trace->ops = more;
		trace->room = room;
	}
	trace->ops[trace->count] = *op;
	trace->ops[trace->count++].line = reader->line;
	return 0;
}

/* The pages of r, w and x. */
static int read_pages(struct reader *reader, struct lab_op *op, char **rest)
{
	const char *text;
	unsigned int found = 0;

	for (; (text = strtok_r(NULL, BLANKS, rest)); found++) {
		int rc = read_number(reader, text, 16, UINT64_MAX, &op->first);

		op->first += reader->base;
		if (!rc && op->first >= LAB_USER_PAGES)
			rc = bad_line(reader, "no page of a process:", text);
		if (!rc)
			rc = add_op(reader, op);
		if (rc)
			return rc;
	}
	return found ? 0 : bad_line(reader, "no pages after", "r, w or x");
}

static int read_op(struct reader *reader, enum lab_op_kind kind, const char *const *args,
		   unsigned int count)
{
	struct lab_op op = {.kind = (uint8_t)kind};
	int rc = 0;

	if (kind == LAB_OP_MAP || kind == LAB_OP_UNMAP) {
		rc = read_number(reader, args[0], 16, LAB_USER_PAGES, &op.first);
		if (!rc)
			rc = read_number(reader, args[1], 16, LAB_USER_PAGES, &op.count);
		op.read_only = count == 3 && !strcmp(args[2], "ro");
		if (!rc && count == 3 && !op.read_only)
			rc = bad_line(reader, "only 'ro' can stand here, not", args[2]);
		if (kind == LAB_OP_MAP)
			reader->trace->pages += op.count;
	} else if (count) {
		rc = read_number(reader, args[0], 10, kind == LAB_OP_HIT ? HIT_MAX : UINT32_MAX,
				 &op.first);
	}
	return rc ? rc : add_op(reader, &op);
}

static int read_line(struct reader *reader, char *line)
{
	const char *args[3];
	unsigned int count = 0;
	char *rest, *word = strtok_r(line, BLANKS, &rest), *arg;

	if (!word || word[0] == '#')
		return 0;
	if (!strcmp(word, "base")) {
		arg = strtok_r(NULL, BLANKS, &rest);
		return arg ? read_number(reader, arg, 16, LAB_USER_PAGES, &reader->base)
			   : bad_line(reader, "no page after", word);
	}
	for (size_t i = 0; i < MT_ARRAY_SIZE(words); i++) {
		struct lab_op op = {.kind = (uint8_t)words[i].kind};

		if (strcmp(word, words[i].word))
			continue;
		if (!words[i].most && words[i].least)
			return read_pages(reader, &op, &rest);
		while ((arg = strtok_r(NULL, BLANKS, &rest)) && count < 3)
			args[count++] = arg;
		if (arg || count < words[i].least || count > words[i].most)
			return bad_line(reader, "too few or too many words after", word);
		return read_op(reader, words[i].kind, args, count);
	}
	return bad_line(reader, "unknown word", word);
}

static int read_all(struct reader *reader, FILE *file)
{
	char *line = NULL;
	size_t room = 0;
	int rc = 0;

	while (!rc && getline(&line, &room, file) >= 0) {
		reader->line++;
		if (reader->line > 1)
			rc = read_line(reader, line);
		else if (strcmp(strtok(line, "\r\n") ? line : "", TRACE_HEADER))
			rc = bad_line(reader, "not a trace: it must begin with", TRACE_HEADER);
	}
	free(line);
	if (!rc && ferror(file))
		rc = mt_err_set(reader->err, -EIO, "%s: cannot be read", reader->trace->path);
	if (!rc && !reader->line)
		rc = bad_line(reader, "empty; a trace begins with", TRACE_HEADER);
	return rc;
}

int lab_trace_read(struct lab_trace *trace, const char *path, struct mt_err *err)
{
	struct reader reader = {.trace = trace, .err = err};
	const char *slash = strrchr(path, '/');
	FILE *file = fopen(path, "re");
	int rc;

	memset(trace, 0, sizeof(*trace));
	trace->path = path;
	snprintf(trace->name, sizeof(trace->name), "%s", slash ? slash + 1 : path);
	if (strrchr(trace->name, '.'))
		*strrchr(trace->name, '.') = '\0';
	if (!file)
		return mt_err_set(err, -errno, "%s: %s", path, strerror(errno));
	rc = read_all(&reader, file);
	fclose(file);
	if (rc)
		lab_trace_free(trace);
	return rc;
}

void lab_trace_free(struct lab_trace *trace)
{
	free(trace->ops);
	trace->ops = NULL;
	trace->count = trace->room = 0;
}
