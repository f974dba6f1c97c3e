/* SPDX-License-Identifier: Apache-2.0 */
/* The cache folder: finding and checking it, one entry's files and lock. */
#define _GNU_SOURCE /* O_CLOEXEC, mkostemp */

#include "jit/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/env.h"

/* --- the folder ------------------------------------------------------------- */

fli_status fli__cache_name(char *out, size_t n)
{
    const char *const given = fli__env_get(FLI__ENV_FLI_CACHE);
    const char *const xdg = fli__env_get(FLI__ENV_XDG_CACHE_HOME);
    const char *const home = fli__env_get(FLI__ENV_HOME);
    int length = 0;

    if (given)
        length = snprintf(out, n, "%s", given);
    else if (xdg)
        length = snprintf(out, n, "%s/flashinfer", xdg);
    else if (home)
        length = snprintf(out, n, "%s/.cache/flashinfer", home);
    CHECK(length, IO,
          "cache: none of FLI_CACHE, XDG_CACHE_HOME and HOME is set");
    CHECK((size_t)length < n, IO, "cache: the folder's name has %d bytes",
          length);
    return FLI_OK;
}

/* Makes path and what is missing above it, for this user alone. */
static int make_folders(const char *path)
{
    char part[FLI__PATH_BYTES];

    snprintf(part, sizeof(part), "%s", path);
    for (char *at = strchr(part + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        if (mkdir(part, 0700) && errno != EEXIST)
            return errno;
        *at = '/';
    }
    return mkdir(path, 0700) && errno != EEXIST ? errno : 0;
}

fli_status fli__cache_folder(char *out, size_t n)
{
    struct stat status;

    TRY(fli__cache_name(out, n));
    if (stat(out, &status)) {
        const int error = make_folders(out);

        CHECK(!error, IO, "cache: %s cannot be made: %s", out, strerror(error));
        CHECK(!stat(out, &status), IO, "cache: %s: %s", out, strerror(errno));
    }
    CHECK(S_ISDIR(status.st_mode), IO, "cache: %s is no folder", out);
    CHECK(status.st_uid == geteuid(), IO,
          "cache: %s belongs to user %ld, expected %ld", out,
          (long)status.st_uid, (long)geteuid());
    CHECK(!(status.st_mode & 022), IO,
          "cache: %s has mode %03o, others may write there", out,
          (unsigned)status.st_mode & 0777);
    return FLI_OK;
}

/* --- looking through -------------------------------------------------------- */

fli_status fli__cache_opendir(char folder[FLI__PATH_BYTES], DIR **out)
{
    TRY(fli__cache_name(folder, FLI__PATH_BYTES));
    *out = opendir(folder);
    CHECK(*out || errno == ENOENT, IO, "cache: %s: %s", folder,
          strerror(errno));
    return FLI_OK;
}

/* "<name>-<16 digits>." and anything. */
static int is_ours(const char *name)
{
    const char *const dash = strrchr(name, '-');

    return dash && strspn(dash + 1, "0123456789abcdef") == 16
           && dash[17] == '.';
}

int fli__cache_next(DIR *dir, const char *folder,
                    char path[FLI__PATH_BYTES + 256])
{
    const struct dirent *entry;

    do
        entry = readdir(dir);
    while (entry && !is_ours(entry->d_name));
    if (entry)
        snprintf(path, FLI__PATH_BYTES + 256, "%s/%s", folder, entry->d_name);
    return !!entry;
}

fli_status fli__cache_each(const fli_context *ctx, fli__image_fn *visit,
                           void *arg)
{
    static const char ending[] = ".cubin";
    char folder[FLI__PATH_BYTES], path[FLI__PATH_BYTES + 256];
    fli_status status = FLI_OK;
    DIR *dir;

    TRY(fli__cache_opendir(folder, &dir));
    while (dir && !status && fli__cache_next(dir, folder, path)) {
        const size_t n = strlen(path);
        fli__image image;

        /* one that is gone or cannot be read is as good as not there */
        if (strcmp(path + n - MIN(n, sizeof(ending) - 1), ending)
            || fli__file_read_image(ctx, path, &image))
            continue;
        status = visit(arg, path, &image);
        fli__image_free(ctx, &image);
    }
    if (dir)
        closedir(dir);
    return status;
}

/* --- an entry --------------------------------------------------------------- */

void fli__cache_open(const fli_context *ctx, const fli__key *key,
                     fli__cache_entry *out)
{
    char folder[FLI__PATH_BYTES - 128], hash[17];

    *out = (fli__cache_entry){ .ctx = ctx, .key = key, .lock = -1 };
    if (fli__cache_folder(folder, sizeof(folder))) {
        fli__log(ctx, FLI__LOG_JIT, "jit: %s; going on without",
                 fli_last_error());
        return;
    }
    fli__hash_text(key->hash, 8, hash);
    snprintf(out->base, sizeof(out->base), "%s/%s-%s", folder, key->name, hash);
}

static void path_of(const fli__cache_entry *entry, const char *suffix,
                    char out[FLI__PATH_BYTES + 8])
{
    snprintf(out, FLI__PATH_BYTES + 8, "%s%s", entry->base, suffix);
}

int fli__cache_read(const fli__cache_entry *entry, fli__image *out)
{
    char path[FLI__PATH_BYTES + 8];

    if (!*entry->base)
        return 0;
    path_of(entry, ".cubin", path);
    const int error = fli__file_read_image(entry->ctx, path, out);

    if (error) {
        if (error != ENOENT)
            fli__log(entry->ctx, FLI__LOG_JIT, "jit: %s: %s", path,
                     strerror(error));
        return 0;
    }
    const char *const problem = fli__image_problem(out, entry->key->hash);

    if (!problem) {
        fli__log(entry->ctx, FLI__LOG_JIT, "jit: %s from the cache",
                 entry->key->name);
        return 1;
    }
    fli__image_free(entry->ctx, out);
    fli__log(entry->ctx, FLI__LOG_JIT, "jit: %s %s; compiling again", path,
             problem);
    unlink(path);
    return 0;
}

static int replace(const fli__cache_entry *entry, const char *suffix,
                   const fli__span *spans, int32_t n)
{
    char path[FLI__PATH_BYTES + 8];

    if (!*entry->base)
        return 0;
    path_of(entry, suffix, path);
    const int error = fli__file_replace(path, spans, n);

    if (error)
        fli__log(entry->ctx, FLI__LOG_JIT, "jit: %s cannot be written: %s",
                 path, strerror(error));
    return !error;
}

void fli__cache_write(const fli__cache_entry *entry, const fli__image *image)
{
    const fli__span span = { image->header, image->bytes };

    replace(entry, ".cubin", &span, 1);
}

int fli__cache_write_log(const fli__cache_entry *entry, const char *text,
                         const char *log)
{
    const fli__span spans[] = { { text, strlen(text) },
                                { "\n", 1 },
                                { log, strlen(log) } };

    return replace(entry, ".log", spans, 3);
}

/* --- the lock --------------------------------------------------------------- */

void fli__cache_lock(fli__cache_entry *entry)
{
    char path[FLI__PATH_BYTES + 8];

    if (!*entry->base)
        return;
    path_of(entry, ".lock", path);
    entry->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (entry->lock < 0)
        return;
    while (flock(entry->lock, LOCK_EX) && errno == EINTR)
        ;
}

/* Whoever waits still has the file that is removed here, and finds the image. */
void fli__cache_unlock(fli__cache_entry *entry)
{
    char path[FLI__PATH_BYTES + 8];

    if (entry->lock < 0)
        return;
    path_of(entry, ".lock", path);
    unlink(path);
    close(entry->lock);
    entry->lock = -1;
}
