/* SPDX-License-Identifier: Apache-2.0 */
/* Files: whole reads, atomic writes. */
#define _GNU_SOURCE /* mkostemp, pread */

#include "jit/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int fli__file_read(int fd, void *to, size_t bytes, int64_t offset)
{
    char *at = to;

    while (bytes) {
        const ssize_t n = pread(fd, at, bytes, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? errno : EIO;
        at += n;
        offset += n;
        bytes -= (size_t)n;
    }
    return 0;
}

static int read_image(const fli_context *ctx, int fd, fli__image *out)
{
    struct stat stat;

    if (fstat(fd, &stat))
        return errno;
    if (stat.st_size > FLI__IMAGE_MAX_BYTES)
        return EFBIG;
    if (fli__image_alloc(ctx, (size_t)stat.st_size, out))
        return ENOMEM;
    const int error = fli__file_read(fd, out->header, out->bytes, 0);

    if (error)
        fli__image_free(ctx, out);
    return error;
}

int fli__file_read_image(const fli_context *ctx, const char *path,
                         fli__image *out)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return errno;
    const int error = read_image(ctx, fd, out);

    close(fd);
    return error;
}

static int write_all(int fd, const fli__span *span)
{
    const char *at = span->data;
    size_t rest = span->bytes;

    while (rest) {
        const ssize_t n = write(fd, at, rest);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        at += n;
        rest -= (size_t)n;
    }
    return 0;
}

int fli__file_replace(const char *path, const fli__span *spans, int32_t n)
{
    char name[1024];
    int error = 0;

    if ((size_t)snprintf(name, sizeof(name), "%s.XXXXXX", path) >= sizeof(name))
        return ENAMETOOLONG;
    const int fd = mkostemp(name, O_CLOEXEC);

    if (fd < 0)
        return errno;
    for (int32_t i = 0; i < n && !error; i++)
        error = write_all(fd, &spans[i]);
    if (close(fd) && !error)
        error = errno;
    if (!error && rename(name, path))
        error = errno;
    if (error)
        unlink(name);
    return error;
}
