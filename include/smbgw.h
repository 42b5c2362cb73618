/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * smbgw: turn a directory into an SMB share, and keep it right.
 *
 * Generated from smbgw-ffi/src by make header; change it there. This file is the manual of the C API.
 *
 *
 * IN SHORT
 *
 *     smbgw_context *ctx = NULL; smbgw_run *run = NULL; smbgw_buffer *event = NULL; smbgw_error *err = NULL;
 *     uint32_t state = SMBGW_RUN_WORKING;
 *
 *     if (smbgw_abi_version() != SMBGW_ABI_VERSION) ...                      another library than this header's
 *     if (smbgw_context_new(NULL, 0, &ctx, &err) != SMBGW_OK) ...            print smbgw_error_message(err), free it
 *     if (smbgw_run_begin(ctx, op, op_len, params, params_len, &run, &err) != SMBGW_OK) ...
 *     while (state == SMBGW_RUN_WORKING && smbgw_run_step(run, &state, &event, &err) == SMBGW_OK) {
 *         puts(smbgw_buffer_data(event));
 *         smbgw_buffer_free(event);
 *     }
 *     smbgw_run_free(run);
 *     smbgw_context_free(ctx);
 *
 * A complete program is tests/c/provision.c of the sources. Link with pkg-config --cflags --libs smbgw.
 *
 *
 * CONVENTIONS
 *
 * Names      smbgw_<noun>_<verb>. Object first, then inputs, then outputs, and the error last.
 * Result     int32_t: SMBGW_OK (0), or one of SMBGW_E_*. New codes may be added: treat an unknown one as a failure.
 * Error      A function that can fail takes smbgw_error **err. On failure *err is an error object that the caller frees with
 *            smbgw_error_free(). On success *err is NULL. err itself may be NULL: then only the code is told.
 *            There is no "last error".
 * Outputs    Each output is set to NULL or 0 before anything else happens, and stays so on failure. (One exception, at
 *            smbgw_run_step().) The old value is not looked at and not freed. An output pointer other than err may not be NULL.
 * Ownership  What _new, _begin, _resume or an output parameter gives belongs to the caller and is given back with the _free of its type.
 *            _free(NULL) is fine. Inputs are borrowed for the call only: nothing points into the caller's memory afterwards.
 * Text       UTF-8 as pointer and length in bytes; it need not end in NUL. Names, identifiers and operations have no NUL inside.
 *            Text that comes back ends in NUL, beside its length.
 * Documents  JSON. A reader ignores keys it does not know; keys may be added, a known key keeps its meaning. Keys are kebab-case.
 *            Numbers and booleans are also taken as text ("1", "0"), as Perl writes them.
 * Units      Bytes; milliseconds where the name ends in _ms.
 * Callbacks  None. The library never calls back.
 *
 *
 * THREADS, FORK, SIGNALS
 *
 * The library starts no thread, has no global state, installs no signal handler, changes neither the environment nor the
 * working directory, and reaps only children it has started itself. Loading it opens, starts and locks nothing.
 *
 * A context and all runs made from it are used by one thread at a time. They may move to another thread together, when the
 * program makes sure that the first has let go. Different contexts are independent. An error or a buffer may be read by any
 * thread, and freed once. const on a handle says that the call does not change what the handle stands for.
 *
 * A context and a run belong to the process that made them. In a child after fork(), every call on them answers
 * SMBGW_E_FORKED; only the _free functions may be used, and then release memory and touch nothing else. Make a new context there.
 * Errors and buffers are plain memory and remain usable.
 *
 *
 * MISTAKES
 *
 * NULL, bad UTF-8, a NUL inside a name, a wrong size and a handle of another type are answered with SMBGW_E_ARGUMENT.
 * Using or freeing a handle after it was freed is undefined, as with free(); the library notices many such cases and then
 * answers SMBGW_E_ARGUMENT or ignores the second free, but nobody may rely on it. Freeing the context or run of a call that
 * is under way in another thread is undefined.
 *
 * A bug inside the library does not end the process: the call answers SMBGW_E_INTERNAL (and a line goes to stderr). If it was a call that
 * changes a run, this run can then only be freed; its operation can be resumed.
 *
 *
 * VERSIONS
 *
 * The SONAME is libsmbgw.so.0. Within it functions are only added. Structs that the caller allocates start with their size and grow
 * at the end. Compare smbgw_abi_version() with SMBGW_ABI_VERSION when the library is loaded at run time.
 */

#ifndef SMBGW_H
#define SMBGW_H


#include <stddef.h>
#include <stdint.h>

/**
 * The version of this header. smbgw_version() tells the library's.
 */
#define SMBGW_VERSION "0.1.0"
#define SMBGW_VERSION_MAJOR 0
#define SMBGW_VERSION_MINOR 1
#define SMBGW_VERSION_PATCH 0

/**
 * A smbgw_usage ready for smbgw_usage_read().
 */
#define SMBGW_USAGE_INIT { sizeof(smbgw_usage), 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * The number of the binary interface this header describes. A program compares it with smbgw_abi_version().
 */
#define SMBGW_ABI_VERSION 1

/**
 * The call did what it says.
 */
#define SMBGW_OK 0

/**
 * The request is wrong: bad value, impossible mix, unknown name. The detail lists the problems by property.
 */
#define SMBGW_E_INVALID 1

/**
 * The named share, user, group or operation does not exist.
 */
#define SMBGW_E_NOT_FOUND 2

/**
 * It exists already, or something that is not ours is in the way.
 */
#define SMBGW_E_CONFLICT 3

/**
 * Somebody else holds the lock; the message names the holder. Try again later.
 */
#define SMBGW_E_BUSY 4

/**
 * An earlier operation could not be undone; nothing is changed until share.repair.
 */
#define SMBGW_E_STUCK 5

/**
 * This build or this machine cannot do that.
 */
#define SMBGW_E_UNSUPPORTED 6

/**
 * A program or the whole operation ran out of time.
 */
#define SMBGW_E_TIMEOUT 7

/**
 * A managed thing was changed by somebody else since it was written.
 */
#define SMBGW_E_DRIFT 8

/**
 * A program of the machine said no, or a service does not answer.
 */
#define SMBGW_E_SERVICE 9

/**
 * The operating system said no: input and output, permission, space.
 */
#define SMBGW_E_IO 10

/**
 * One of the library's own records cannot be read; it was set aside.
 */
#define SMBGW_E_CORRUPT 11

/**
 * The run was interrupted and can be resumed.
 */
#define SMBGW_E_INTERRUPTED 12

/**
 * A security setting could not be applied or verified; nothing is served.
 */
#define SMBGW_E_UNSAFE 13

/**
 * The handle belongs to another process: it was made before a fork.
 */
#define SMBGW_E_FORKED 14

/**
 * The caller broke the contract of this header: NULL, bad UTF-8, NUL inside, wrong size, wrong handle.
 */
#define SMBGW_E_ARGUMENT 15

/**
 * A bug of the library. The message is worth a report.
 */
#define SMBGW_E_INTERNAL 16

/**
 * State of a run: there is more to do, call smbgw_run_step() again.
 */
#define SMBGW_RUN_WORKING 0

/**
 * State of a run: everything is done; the last event carries the result.
 */
#define SMBGW_RUN_DONE 1

/**
 * State of a run: it failed and what it had done was undone, as far as that went; the error says why.
 */
#define SMBGW_RUN_FAILED 2

/**
 * A document, owned by the caller; given back with smbgw_buffer_free(). It refers to nothing else: it may outlive its
 * context, be read by any thread, and in a child process.
 */
typedef struct smbgw_buffer smbgw_buffer;

/**
 * The options of one installation. Making one opens, starts and locks nothing. Given back with smbgw_context_free(); runs and
 * documents made from it may outlive it. It belongs to the process that made it: in a child every call answers SMBGW_E_FORKED.
 */
typedef struct smbgw_context smbgw_context;

/**
 * Why a call failed. Owned by the caller from the moment a function stores it in *err; given back with smbgw_error_free().
 * It refers to nothing else: it may outlive its context, be read by any thread, and in a child process.
 */
typedef struct smbgw_error smbgw_error;

/**
 * An operation under way. It may outlive its context. Given back with smbgw_run_free(). It belongs to the process that
 * made it: in a child every call answers SMBGW_E_FORKED.
 */
typedef struct smbgw_run smbgw_run;

/**
 * The size of a share and how fresh that knowledge is: of its file system, or its limit (smbgw-quota) where it has one. Set size to sizeof(smbgw_usage) before the call;
 * SMBGW_USAGE_INIT does it. Later versions add members at the end only.
 */
typedef struct smbgw_usage {
    /**
     * In: the size of this struct as the caller knows it.
     */
    size_t size;
    /**
     * Bytes in total.
     */
    uint64_t total;
    /**
     * Bytes a user may still write.
     */
    uint64_t avail;
    /**
     * Bytes used.
     */
    uint64_t used;
    /**
     * Age of these numbers in milliseconds; 0 when they were measured by this call, -1 when there are none.
     */
    int64_t age_ms;
    /**
     * 1: the tree is reachable. 0: it is not, or nobody has looked for more than a minute.
     */
    uint32_t active;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * The share's limit in bytes; 0: it has none. total is the same then.
     */
    uint64_t limit;
    /**
     * How much older than age_ms says the numbers may be, in milliseconds: btrfs, ZFS and CephFS count late. 0 without a limit.
     */
    uint64_t lag_ms;
} smbgw_usage;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the loaded library, for example "0.1.0". The text is static: never free it.
 */
const char *smbgw_version(void);

/**
 * The number of the binary interface of the loaded library. If it differs from SMBGW_ABI_VERSION, use nothing else of it.
 */
uint32_t smbgw_abi_version(void);

/**
 * The code: one of SMBGW_E_*. SMBGW_OK for NULL, so that code == SMBGW_OK means "no error".
 */
int32_t smbgw_error_code(const struct smbgw_error *error);

/**
 * What happened, in one line of UTF-8 for a human, ending in NUL. It lives as long as the error object; "" for NULL.
 */
const char *smbgw_error_message(const struct smbgw_error *error);

/**
 * Everything that is known, as JSON in UTF-8 ending in NUL; it lives as long as the error object; "{}" for NULL. Keys:
 * kind (the code as a word), class (configuration, resource, service, infrastructure), code, message, and
 * where they are known remedy (what to do), problems ([{property, message}]), op, step, command, exit,
 * stderr, undone. There is never a secret in it.
 */
const char *smbgw_error_detail(const struct smbgw_error *error);

/**
 * Gives an error object back; its message and detail go with it. NULL is fine.
 */
void smbgw_error_free(struct smbgw_error *error);

/**
 * The text, UTF-8, followed by a NUL that smbgw_buffer_len() does not count. It lives as long as the buffer; "" for NULL.
 */
const char *smbgw_buffer_data(const struct smbgw_buffer *buffer);

/**
 * The length of the text in bytes, without the NUL behind it; 0 for NULL.
 */
size_t smbgw_buffer_len(const struct smbgw_buffer *buffer);

/**
 * Gives a buffer back; the text goes with it. NULL is fine.
 */
void smbgw_buffer_free(struct smbgw_buffer *buffer);

/**
 * Makes a context. options is a JSON object; NULL with length 0 means all defaults. Keys, all optional:
 *
 *   state-dir (/var/lib/smbgw), run-dir (/run/smbgw), record-dir (/etc/pve/priv/smbgw/gateways on Proxmox VE, otherwise gateways
 *   in the state directory), smb-conf (/etc/samba/smb.conf), own-conf (/etc/samba/smbgw.conf), node (the host name): where things are;
 *
 *   log: {to: "auto" (default: journald, or else syslog, or else none), "journald", "syslog", "file", "buffer" or "none";
 *   path: the file, or another socket; level: "error", "warn", "info" (default), "debug" or "trace"}. The tag is pve-smbgw. A log that
 *   cannot be written never makes a call fail or wait.
 *
 * On success *out is a context that the caller frees with smbgw_context_free().
 * Errors: SMBGW_E_ARGUMENT (not JSON), SMBGW_E_INVALID (unknown key, bad value).
 */
int32_t smbgw_context_new(const char *options,
                          size_t options_len,
                          struct smbgw_context **out,
                          struct smbgw_error **err);

/**
 * Takes the text that a context with log: {to: "buffer"} and its runs have logged since the last take: one line
 * per event, at most the last 256 KiB. On success *out is a buffer that the caller frees. Errors: SMBGW_E_INVALID if
 * the context logs elsewhere.
 */
int32_t smbgw_log_take(struct smbgw_context *context,
                       struct smbgw_buffer **out,
                       struct smbgw_error **err);

/**
 * Gives a context back. NULL is fine. In a child process it releases memory and touches nothing else.
 */
void smbgw_context_free(struct smbgw_context *context);

/**
 * Asks anything: op is a query of the operations table (see smbgw_schema()), params a JSON object with its
 * parameters; NULL with length 0 is the empty object. On success *out is a buffer with a JSON document that the caller
 * frees with smbgw_buffer_free(). Errors: SMBGW_E_INVALID (no such query, or its parameters are wrong),
 * SMBGW_E_NOT_FOUND, and what the query itself meets.
 */
int32_t smbgw_query(const struct smbgw_context *context,
                    const char *op,
                    size_t op_len,
                    const char *params,
                    size_t params_len,
                    struct smbgw_buffer **out,
                    struct smbgw_error **err);

/**
 * Checks a section without changing anything. params: {id, section: {property: text}, sections?: all sections
 * by id, create?: bool}. *out: {problems: [{property, message}], warnings: [text], effective: {property:
 * value}}; a wrong section is an answer, not an error. Otherwise as smbgw_query().
 */
int32_t smbgw_spec_check(const struct smbgw_context *context,
                         const char *params,
                         size_t params_len,
                         struct smbgw_buffer **out,
                         struct smbgw_error **err);

/**
 * Renders the Samba configuration that sections would give. params: {sections: all sections by id}. *out: {text}. Otherwise as
 * smbgw_query().
 */
int32_t smbgw_config_render(const struct smbgw_context *context,
                            const char *params,
                            size_t params_len,
                            struct smbgw_buffer **out,
                            struct smbgw_error **err);

/**
 * Says what an operation would do, step by step, and does nothing. params: {op, params: the parameters of that
 * operation}. *out: {op, target, phases: [{name, steps: [{id, title, place, effect, undo,
 * class}]}], text: the same for a human}. Otherwise as smbgw_query().
 */
int32_t smbgw_plan(const struct smbgw_context *context,
                   const char *params,
                   size_t params_len,
                   struct smbgw_buffer **out,
                   struct smbgw_error **err);

/**
 * The status of a share: as last observed, or with fresh observed now. params: {id, fresh?: bool}. *out: the
 * status document; its schema number changes when a key changes its meaning. Errors: SMBGW_E_NOT_FOUND,
 * SMBGW_E_CORRUPT. Otherwise as smbgw_query(). For totals alone, every few seconds, use smbgw_usage_read().
 */
int32_t smbgw_status(const struct smbgw_context *context,
                     const char *params,
                     size_t params_len,
                     struct smbgw_buffer **out,
                     struct smbgw_error **err);

/**
 * The limits of shares and what is used of them, asked now; of no share a process is started for it. params: {id?}. *out: {node, shares:
 * [{id, gateway, path, file-system, reachable, limit (bytes, null: none), means ("project", "qgroup", "refquota", "cephfs",
 * "volume"), object (the means in the file system's own words), used, free (bytes), files (inodes, null where the mechanism does not count them), at
 * (milliseconds since 1970), lag-ms (how much older than at the figures may be), users: [{name, uid (on the disk), limit, used (null
 * on ZFS)}]}]}. Errors: SMBGW_E_NOT_FOUND. Otherwise as smbgw_query().
 */
int32_t smbgw_quota(const struct smbgw_context *context,
                    const char *params,
                    size_t params_len,
                    struct smbgw_buffer **out,
                    struct smbgw_error **err);

/**
 * The users of a gateway. params: {gateway?: its name; default: the node's own, or the only one}. Otherwise as smbgw_query().
 */
int32_t smbgw_users(const struct smbgw_context *context,
                    const char *params,
                    size_t params_len,
                    struct smbgw_buffer **out,
                    struct smbgw_error **err);

/**
 * Who did what, when, and with what result. params: {id?, since?, limit?}. Otherwise as smbgw_query().
 */
int32_t smbgw_audit(const struct smbgw_context *context,
                    const char *params,
                    size_t params_len,
                    struct smbgw_buffer **out,
                    struct smbgw_error **err);

/**
 * The properties of a section and all operations and queries, with types, limits, defaults and texts. params may be
 * NULL with length 0. *out: {properties: [...], operations: [...]}. Otherwise as smbgw_query().
 */
int32_t smbgw_schema(const struct smbgw_context *context,
                     const char *params,
                     size_t params_len,
                     struct smbgw_buffer **out,
                     struct smbgw_error **err);

/**
 * Reads the numbers of the share id, without starting a process and without waiting for anything that may hang.
 * *out is the caller's: the library fills in what both sides know, sets the rest to 0, and keeps size. On failure
 * all members but size are 0. A share that nobody has looked at yet is no failure: it is not active, and age_ms is
 * -1. Errors: SMBGW_E_INVALID, SMBGW_E_IO, SMBGW_E_ARGUMENT (also for a wrong size, and then *out is left alone).
 */
int32_t smbgw_usage_read(const struct smbgw_context *context,
                         const char *id,
                         size_t id_len,
                         struct smbgw_usage *out,
                         struct smbgw_error **err);

/**
 * Prepares an operation. op is a mutating operation of the operations table (see smbgw_schema()), for example
 * "share.create"; params is a JSON object with its parameters; NULL with length 0 is the empty object. A secret
 * never goes here: see smbgw_run_secret().
 *
 * On success *out is a run; step it with smbgw_run_step() until it is done or failed, and free it with
 * smbgw_run_free(). Errors: SMBGW_E_INVALID (with problems by property), SMBGW_E_BUSY, SMBGW_E_STUCK,
 * SMBGW_E_NOT_FOUND, SMBGW_E_CONFLICT, SMBGW_E_UNSUPPORTED, SMBGW_E_IO.
 */
int32_t smbgw_run_begin(struct smbgw_context *context,
                        const char *op,
                        size_t op_len,
                        const char *params,
                        size_t params_len,
                        struct smbgw_run **out,
                        struct smbgw_error **err);

/**
 * Takes up an interrupted operation where its journal ends; opid is the opid of its events and of the audit trail.
 *
 * On success *out is a run as from smbgw_run_begin(); its secrets have to be given again.
 * Errors: SMBGW_E_NOT_FOUND, SMBGW_E_BUSY (it is still being worked on), SMBGW_E_CORRUPT.
 */
int32_t smbgw_run_resume(struct smbgw_context *context,
                         const char *opid,
                         size_t opid_len,
                         struct smbgw_run **out,
                         struct smbgw_error **err);

/**
 * Gives the run a secret, before its first step. name is for example "password"; data are data_len bytes, any
 * but for what the operation refuses. The library copies them, overwrites its copy when the run ends, and writes them
 * to no argument list, environment, journal, log or plan. The caller's memory stays the caller's.
 */
int32_t smbgw_run_secret(struct smbgw_run *run,
                         const char *name,
                         size_t name_len,
                         const char *data,
                         size_t data_len,
                         struct smbgw_error **err);

/**
 * Works on the run for at most about a second. *state becomes one of SMBGW_RUN_*; *event becomes a buffer that the
 * caller frees, with {opid?, events: [{event: ...}, ...], result?: {...}}; the list is empty when the second passed
 * inside a step. opid names the operation under way, for smbgw_run_resume().
 *
 * Events: planned {phase, steps}, replanned {phase, because}, warning {text}, begun {step, title},
 * done {step, title, changed, ms}, failed {step?, error}, undo-begun {step, title}, undo-done {step,
 * title, ms}, undo-failed {step, error}, finished {result}. More may come.
 *
 * Returns SMBGW_OK while it works and when it is done. When the run failed (and was unwound), it returns the code of
 * that failure with *state SMBGW_RUN_FAILED, *event the last events, and *err why: the only case in which a pointer
 * output is set beside an error. Any other error says that this call could not be made: *state is 0, *event NULL, and
 * the run is as it was.
 */
int32_t smbgw_run_step(struct smbgw_run *run,
                       uint32_t *state,
                       struct smbgw_buffer **event,
                       struct smbgw_error **err);

/**
 * Asks the run to stop and to undo what it has done. It returns at once; the undoing is done by the smbgw_run_step()
 * calls that follow, until the state is SMBGW_RUN_FAILED.
 */
int32_t smbgw_run_unwind(struct smbgw_run *run,
                         struct smbgw_error **err);

/**
 * Stops where it is, for good as far as this run goes: ends the program that is running, records interrupted in the journal. For a process that has to
 * end, on SIGTERM for example. The operation waits for smbgw_run_resume(), which may be called in another process.
 */
int32_t smbgw_run_interrupt(struct smbgw_run *run,
                            struct smbgw_error **err);

/**
 * Gives a run back. NULL is fine. A run that was neither done nor failed is left as a crash would leave it: it can be resumed.
 * In a child process it releases memory and touches nothing else: no journal, no lock, no process.
 */
void smbgw_run_free(struct smbgw_run *run);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SMBGW_H */
