/* SPDX-License-Identifier: MIT */
/*
 * state_file.h - what a daemon started anew must know: who holds how much
 *
 * A small text file beside the control socket, replaced as a whole by rename. It never understates
 * what a VM may hold: a grant above what the file says is sent only after the file says more, and
 * then it says a little too much, so that grants in small pieces don't write it each time. What
 * it overstates is put right within seconds, and by the monitor itself when it says hello again.
 */
#ifndef MT_HOST_STATE_FILE_H
#define MT_HOST_STATE_FILE_H

#include "host/server.h"

/** mt_state_file_load() - VMs of an earlier daemon that still live come back as away */
MT_MUST_CHECK int mt_state_file_load(struct mt_server *server, struct mt_err *err);

/** mt_state_file_touch() - something in it has changed; written within a second */
void mt_state_file_touch(struct mt_server *server);

/** mt_state_file_secure() - write it now if it understates any grant. 0 or -errno. */
MT_MUST_CHECK int mt_state_file_secure(struct mt_server *server);

/** mt_state_file_rewrite() - write it now, with room for more shared frames. 0 or -errno. */
MT_MUST_CHECK int mt_state_file_rewrite(struct mt_server *server);

/** mt_state_file_expire() - write what is due */
void mt_state_file_expire(struct mt_server *server);

/** mt_state_file_finish() - at the end: keep it for the next daemon, or remove it when no VM is
 * left */
void mt_state_file_finish(struct mt_server *server);

#endif
