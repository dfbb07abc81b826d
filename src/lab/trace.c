/* SPDX-License-Identifier: MIT */
/* trace.c - reading traces; see trace.h for what is in them */
#include "lab/trace.h"
#include "lab/text.h"

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
};

static const struct {
	const char *word;
	enum lab_op_kind kind;
	unsigned int least, most; /* arguments */
} words[] = {{"map", LAB_OP_MAP, 2, 3},  {"unmap", LAB_OP_UNMAP, 2, 2},
	     {"hit", LAB_OP_HIT, 1, 1},  {"fork", LAB_OP_FORK, 1, 1},
	     {"run", LAB_OP_RUN, 1, 1},  {"exec", LAB_OP_EXEC, 0, 0},
	     {"exit", LAB_OP_EXIT, 0, 0}};

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

/* The words behind "a". */
static int read_accesses(struct reader *reader, char **rest)
{
	static const char kinds[] = {
		[LAB_OP_READ] = 'r', [LAB_OP_WRITE] = 'w', [LAB_OP_FETCH] = 'x'};
	const char *text;
	unsigned int found = 0;

	for (; (text = strtok_r(NULL, BLANKS, rest)); found++) {
		struct lab_op op = {.kind = LAB_OP_READ};
		int rc;

		while (op.kind <= LAB_OP_FETCH && text[0] != kinds[op.kind])
			op.kind++;
		if (op.kind > LAB_OP_FETCH)
			return bad_line(reader, "an access is r, w or x and a page, not", text);
		rc = read_number(reader, text + 1, 16, LAB_USER_PAGES - 1, &op.first);
		if (!rc)
			rc = add_op(reader, &op);
		if (rc)
			return rc;
	}
	return found ? 0 : bad_line(reader, "no accesses after", "a");
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
	} else if (count) {
		rc = read_number(reader, args[0], 10, kind == LAB_OP_HIT ? HIT_MAX : UINT32_MAX,
				 &op.first);
	}
	return rc ? rc : add_op(reader, &op);
}

static int read_line(struct reader *reader, char *line)
{
	const char *args[3] = {"", "", ""};
	unsigned int count = 0;
	char *rest, *word = strtok_r(line, BLANKS, &rest), *arg;

	if (!word || word[0] == '#')
		return 0;
	if (!strcmp(word, "a"))
		return read_accesses(reader, &rest);
	if (!strcmp(word, "loop")) {
		if (reader->trace->loop || !reader->trace->count)
			return bad_line(reader, "once, and after something else, can stand", word);
		reader->trace->loop = reader->trace->count;
		return 0;
	}
	for (size_t i = 0; i < MT_ARRAY_SIZE(words); i++) {
		if (strcmp(word, words[i].word))
			continue;
		while ((arg = strtok_r(NULL, BLANKS, &rest)) && count < 3)
			args[count++] = arg;
		if (arg || count < words[i].least || count > words[i].most)
			return bad_line(reader, "too few or too many words after", word);
		return read_op(reader, words[i].kind, args, count);
	}
	return bad_line(reader, "unknown word", word);
}

static int read_text(struct reader *reader, char *text)
{
	int rc = 0;

	if (!text[0])
		return bad_line(reader, "empty; a trace begins with", TRACE_HEADER);
	for (char *line = text, *next; !rc && line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		reader->line++;
		if (reader->line > 1)
			rc = read_line(reader, line);
		else if (strcmp(line, TRACE_HEADER))
			rc = bad_line(reader, "not a trace: it must begin with", TRACE_HEADER);
	}
	return rc;
}

/* All of a file, unpacked, with a NUL behind it. Return: 0 or -errno */
static int read_file(const char *path, struct lab_text *text, struct mt_err *err)
{
	FILE *file = fopen(path, "re");
	char chunk[65536];
	size_t got;
	int rc = 0;

	if (!file)
		return mt_err_set(err, -errno, "%s: %s", path, strerror(errno));
	while (!rc && (got = fread(chunk, 1, sizeof(chunk), file)))
		rc = lab_text_add(text, chunk, got);
	if (!rc && ferror(file))
		rc = -EIO;
	fclose(file);
	if (!rc)
		rc = lab_text_unpack(text);
	if (rc)
		return mt_err_set(err, rc, "%s: %s", path,
				  rc == -EBADMSG
					  ? "damaged: it begins like an LZ4 file, but can't be "
					    "unpacked"
				  : rc == -EFBIG ? "larger than any trace"
						 : strerror(-rc));
	if (memchr(text->bytes, '\0', text->length))
		return mt_err_set(err, -EINVAL, "%s: not a text", path);
	return 0;
}

int lab_trace_read(struct lab_trace *trace, const char *path, struct mt_err *err)
{
	struct reader reader = {.trace = trace, .err = err};
	const char *slash = strrchr(path, '/');
	struct lab_text text = {0};
	int rc;

	memset(trace, 0, sizeof(*trace));
	trace->path = path;
	snprintf(trace->name, sizeof(trace->name), "%s", slash ? slash + 1 : path);
	if (strchr(trace->name, '.'))
		*strchr(trace->name, '.') = '\0';
	rc = read_file(path, &text, err);
	if (!rc)
		rc = read_text(&reader, text.bytes);
	free(text.bytes);
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
