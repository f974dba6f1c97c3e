/* SPDX-License-Identifier: Apache-2.0 */
/* The cache folder: <name>-<hash16>.cubin (an image) and .log (its text and what
 * the compiler said).  A folder that cannot be trusted or written costs speed,
 * never correctness: what went wrong is logged, and compiling goes on. */
#ifndef FLI_JIT_CACHE_H
#define FLI_JIT_CACHE_H

#include <dirent.h>

#include "jit/file.h"

#define FLI__PATH_BYTES 768

/* FLI_CACHE, $XDG_CACHE_HOME/flashinfer or ~/.cache/flashinfer, as far as it is
 * set; IO if none is. */
fli_status fli__cache_name(char *out, size_t n);

/* The same, made if it is not there.  IO, with the reason, unless it belongs to
 * this user and no other may write there. */
fli_status fli__cache_folder(char *out, size_t n);

/* Opens the folder for looking through; *out is NULL where there is none. */
fli_status fli__cache_opendir(char folder[FLI__PATH_BYTES], DIR **out);

/* The next file of ours, into path; false after the last. */
int fli__cache_next(DIR *dir, const char *folder,
                    char path[FLI__PATH_BYTES + 256]);

/* Calls visit with every image of the folder, checked by nobody yet; it may keep
 * one by taking its header away.  Ends with visit's first failure. */
typedef fli_status fli__image_fn(void *arg, const char *path,
                                 fli__image *image);
fli_status fli__cache_each(const fli_context *ctx, fli__image_fn *visit,
                           void *arg);

/* The files of one kernel. */
typedef struct {
    const fli_context *ctx;
    const fli__key *key;
    char base[FLI__PATH_BYTES]; /* path without .cubin; "": no folder */
    int lock;                   /* file; -1 */
} fli__cache_entry;

void fli__cache_open(const fli_context *ctx, const fli__key *key,
                     fli__cache_entry *out);

/* True with the image if a sound one is there; what is not is removed. */
int fli__cache_read(const fli__cache_entry *entry, fli__image *out);

void fli__cache_write(const fli__cache_entry *entry, const fli__image *image);

/* Writes text and log; true if the file "<base>.log" is there. */
int fli__cache_write_log(const fli__cache_entry *entry, const char *text,
                         const char *log);

/* One process at a time: a second one waits, then finds the image. */
void fli__cache_lock(fli__cache_entry *entry);
void fli__cache_unlock(fli__cache_entry *entry);

#endif
