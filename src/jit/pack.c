/* SPDX-License-Identifier: Apache-2.0 */
/* Finding kernels in a pack. */
#define _GNU_SOURCE /* dladdr */

#include "jit/pack.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/env.h"

_Static_assert(sizeof(fli__pack_header) == 64 && sizeof(fli__pack_line) == 64,
               "the layout is that of files");

void fli__pack_name(char *out, size_t n)
{
    const char *const given = fli__env_get(FLI__ENV_FLI_PACK);
    static const char here;
    Dl_info info;

    *out = 0;
    if (given) {
        snprintf(out, n, "%s", given);
        return;
    }
    if (!dladdr(&here, &info))
        return;
    const char *const slash = strrchr(info.dli_fname, '/');
    const int folder = slash ? (int)(slash + 1 - info.dli_fname) : 0;

    snprintf(out, n, "%.*sflashinfer.pack", folder, info.dli_fname);
    if (access(out, R_OK))
        *out = 0;
}

static fli_status check_header(const char *path, int fd,
                               fli__pack_header *header)
{
    const int error = fli__file_read(fd, header, sizeof(*header), 0);

    CHECK(!error
              && !memcmp(header->magic, FLI__PACK_MAGIC, sizeof(header->magic)),
          IO, "pack: %s is no pack of kernels", path);
    CHECK(header->version == FLI__PACK_VERSION, IO,
          "pack: %s has version %u, expected %d", path,
          (unsigned)header->version, FLI__PACK_VERSION);
    CHECK(header->n_images >= 1 && header->n_images <= FLI__PACK_MAX_IMAGES, IO,
          "pack: %s says it has %u kernels, expected 1 to %d", path,
          (unsigned)header->n_images, FLI__PACK_MAX_IMAGES);
    return FLI_OK;
}

fli_status fli__pack_open(const char *path, int *fd, fli__pack_header *header)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(*fd >= 0, IO, "pack: %s: %s", path, strerror(errno));
    const fli_status status = check_header(path, *fd, header);

    if (status)
        close(*fd);
    return status;
}

/* True with the line of hash in the index, by bisection. */
static int find_line(int fd, uint32_t n, const uint8_t *hash,
                     fli__pack_line *out)
{
    uint32_t low = 0, high = n;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int64_t offset = (int64_t)sizeof(fli__pack_header)
                               + (int64_t)middle * (int64_t)sizeof(*out);

        if (fli__file_read(fd, out, sizeof(*out), offset))
            return 0;
        const int order = memcmp(hash, out->hash, FLI__HASH_BYTES);

        if (!order)
            return 1;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return 0;
}

fli_status fli__pack_read_index(const fli_context *ctx, const char *path,
                                int fd, const fli__pack_header *header,
                                fli__pack_line **out)
{
    const size_t bytes = fli__pack_index_bytes(header);
    uint8_t checksum[FLI__HASH_BYTES];
    fli__hash hash;

    *out = fli__alloc(ctx, bytes);
    CHECK(*out, OUT_OF_MEMORY, "pack: the allocator has no %zu bytes", bytes);
    const int error = fli__file_read(fd, *out, bytes, sizeof(*header));

    fli__hash_begin(&hash);
    fli__hash_add(&hash, *out, bytes);
    fli__hash_end(&hash, checksum);
    if (error || memcmp(checksum, header->checksum, sizeof(checksum))) {
        fli__free(ctx, *out, bytes);
        return FAIL(IO, "pack: the index of %s is damaged", path);
    }
    return FLI_OK;
}

fli_status fli__pack_read(const fli_context *ctx, int fd,
                          const fli__pack_line *line, fli__image *out)
{
    out->header = NULL;
    CHECK(line->bytes <= FLI__IMAGE_MAX_BYTES, IO,
          "pack: the index says %llu bytes, expected %d at most",
          (unsigned long long)line->bytes, FLI__IMAGE_MAX_BYTES);
    TRY(fli__image_alloc(ctx, line->bytes, out));
    /* bytes that are not there are 0, and the checksum another */
    fli__file_read(fd, out->header, line->bytes, (int64_t)line->offset);
    return FLI_OK;
}

static fli_status take_image(const fli__call *call, int fd,
                             const fli__pack_line *line, fli__image *out)
{
    TRY(fli__pack_read(call->ctx, fd, line, out));
    const char *const problem = fli__image_problem(out, line->hash);

    if (problem) {
        fli__log(call->ctx, FLI__LOG_JIT, "jit: an image of the pack %s",
                 problem);
        fli__image_free(call->ctx, out);
    } else {
        fli__log(call->ctx, FLI__LOG_JIT, "jit: %s from the pack",
                 out->header->key.name);
    }
    return FLI_OK;
}

fli_status fli__pack_find(const fli__call *call, const fli__key *key,
                          fli__image *out)
{
    char path[1024];
    fli__pack_header header;
    fli__pack_line line;
    fli_status status = FLI_OK;
    int fd;

    out->header = NULL;
    fli__pack_name(path, sizeof(path));
    if (!*path)
        return FLI_OK;
    TRY(fli__pack_open(path, &fd, &header));
    if (find_line(fd, header.n_images, key->hash, &line))
        status = take_image(call, fd, &line, out);
    close(fd);
    return status;
}
