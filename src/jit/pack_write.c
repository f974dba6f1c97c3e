/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a pack from the images of the cache folder. */
#include <flashinfer/jit.h>

#include <stdlib.h>
#include <string.h>

#include "jit/cache.h"
#include "jit/pack.h"

/* Images are in the order they were found, the index is by hash. */
struct part {
    struct part *next;
    fli__image image;
};

typedef struct {
    struct part *first;
    fli__pack_header header;
    fli__pack_line *index;
    fli__span *spans; /* header, index, and two of each image */
} pack;

static const fli_context *const memory = &fli__memory_context;

static fli_status take_image(void *arg, const char *path, fli__image *image)
{
    pack *const to = arg;

    (void)path;
    if (fli__image_problem(image, NULL))
        return FLI_OK;
    struct part *const part = fli__alloc(memory, sizeof(*part));

    CHECK(part, OUT_OF_MEMORY, "pack write: the allocator has no %zu bytes",
          sizeof(*part));
    part->image = *image;
    part->next = to->first;
    image->header = NULL;
    to->first = part;
    to->header.n_images++;
    return FLI_OK;
}

static int by_hash(const void *a, const void *b)
{
    return memcmp(((const fli__pack_line *)a)->hash,
                  ((const fli__pack_line *)b)->hash, FLI__HASH_BYTES);
}

/* Places the images; returns the number of spans. */
static int32_t lay_out(pack *to)
{
    static const char zeros[64];
    const size_t index_bytes = fli__pack_index_bytes(&to->header);
    uint64_t offset = sizeof(to->header) + index_bytes;
    fli__pack_line *line = to->index;
    fli__span *span = to->spans;

    *span++ = (fli__span){ &to->header, sizeof(to->header) };
    *span++ = (fli__span){ to->index, index_bytes };
    for (const struct part *part = to->first; part; part = part->next, line++) {
        const size_t bytes = part->image.bytes;
        const size_t pad = (64 - bytes % 64) % 64;

        memcpy(line->hash, part->image.header->key.hash, sizeof(line->hash));
        line->offset = offset;
        line->bytes = bytes;
        *span++ = (fli__span){ part->image.header, bytes };
        *span++ = (fli__span){ zeros, pad };
        offset += bytes + pad;
    }
    qsort(to->index, to->header.n_images, sizeof(*to->index), by_hash);
    return (int32_t)(span - to->spans);
}

static void seal(pack *to)
{
    fli__hash hash;

    memcpy(to->header.magic, FLI__PACK_MAGIC, sizeof(to->header.magic));
    to->header.version = FLI__PACK_VERSION;
    fli__hash_begin(&hash);
    fli__hash_add(&hash, to->index, fli__pack_index_bytes(&to->header));
    fli__hash_end(&hash, to->header.checksum);
}

static size_t spans_bytes(const pack *of)
{
    return (2 + 2 * (size_t)of->header.n_images) * sizeof(*of->spans);
}

static fli_status write_pack(pack *from, const char *path)
{
    TRY(fli__cache_each(memory, take_image, from));
    CHECK(from->header.n_images, IO,
          "pack write: the cache folder has no kernels");
    from->index = fli__alloc(memory, fli__pack_index_bytes(&from->header));
    from->spans = fli__alloc(memory, spans_bytes(from));
    CHECK(from->index && from->spans, OUT_OF_MEMORY,
          "pack write: the allocator has no memory for %u kernels",
          (unsigned)from->header.n_images);
    const int32_t n = lay_out(from);

    seal(from);
    const int error = fli__file_replace(path, from->spans, n);

    CHECK(!error, IO, "pack write: %s: %s", path, strerror(error));
    return FLI_OK;
}

fli_status fli_pack_write(const char *path, int32_t *n_kernels)
{
    pack from = { 0 };

    CHECK(path, INVALID_ARGUMENT, "pack write: path is NULL, expected a file");
    const fli_status status = write_pack(&from, path);

    fli__free(memory, from.index, fli__pack_index_bytes(&from.header));
    fli__free(memory, from.spans, spans_bytes(&from));
    for (struct part *part = from.first, *next; part; part = next) {
        next = part->next;
        fli__image_free(memory, &part->image);
        fli__free(memory, part, sizeof(*part));
    }
    if (!status && n_kernels)
        *n_kernels = (int32_t)from.header.n_images;
    return status;
}
