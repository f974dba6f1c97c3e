/* SPDX-License-Identifier: Apache-2.0 */
/* A pack: one read-only file of images, found by key without a compiler.
 *
 *   header | index, by hash | images, each at a multiple of 64 bytes */
#ifndef FLI_JIT_PACK_H
#define FLI_JIT_PACK_H

#include "jit/file.h"

#define FLI__PACK_MAGIC   "FLIPACK"
#define FLI__PACK_VERSION 1

/* More is a damaged number. */
#define FLI__PACK_MAX_IMAGES 65536

typedef struct {
    char magic[8];
    uint32_t version;
    uint32_t n_images;
    uint8_t checksum[FLI__HASH_BYTES]; /* of the index */
    char reserved[16];
} fli__pack_header;

typedef struct {
    uint8_t hash[FLI__HASH_BYTES];
    uint64_t offset, bytes;
    char reserved[16];
} fli__pack_line;

/* FLI_PACK, or flashinfer.pack beside the library; "" where there is none. */
void fli__pack_name(char *out, size_t n);

/* Opens and checks the pack at path for reading: IO, with the reason. */
fli_status fli__pack_open(const char *path, int *fd, fli__pack_header *header);

static inline size_t fli__pack_index_bytes(const fli__pack_header *header)
{
    return header->n_images * sizeof(fli__pack_line);
}

/* The whole index, to be freed.  IO where its checksum is another. */
fli_status fli__pack_read_index(const fli_context *ctx, const char *path,
                                int fd, const fli__pack_header *header,
                                fli__pack_line **out);

/* The image of a line, not checked. */
fli_status fli__pack_read(const fli_context *ctx, int fd,
                          const fli__pack_line *line, fli__image *out);

/* Looks for key; out->header is NULL where it is not.  A damaged image is logged
 * and not found.  IO if FLI_PACK is set and is no pack. */
fli_status fli__pack_find(const fli__call *call, const fli__key *key,
                          fli__image *out);

#endif
