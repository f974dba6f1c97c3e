/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and atomic writes of files.  Results are 0 or errno. */
#ifndef FLI_JIT_FILE_H
#define FLI_JIT_FILE_H

#include "jit/image.h"

typedef struct {
    const void *data;
    size_t bytes;
} fli__span;

/* bytes of the open file fd from offset on, into to; EIO where it ends before. */
int fli__file_read(int fd, void *to, size_t bytes, int64_t offset);

/* The whole file as an image, not yet checked; to be freed if 0. */
int fli__file_read_image(const fli_context *ctx, const char *path,
                         fli__image *out);

/* Writes the spans one behind the other to a file of its own beside path, and
 * renames it to path: readers see the old file or the new one. */
int fli__file_replace(const char *path, const fli__span *spans, int32_t n);

#endif
