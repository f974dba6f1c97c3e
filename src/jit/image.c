/* SPDX-License-Identifier: Apache-2.0 */
/* Images: allocation, checksum, what may be wrong with one. */
#include "jit/image.h"

#include <string.h>

_Static_assert(sizeof(fli__image_header) == 256,
               "payloads are aligned and the layout is that of files");

fli_status fli__image_alloc(const fli_context *ctx, size_t bytes,
                            fli__image *out)
{
    const size_t room = MAX(bytes, sizeof(*out->header));

    out->header = fli__alloc(ctx, room);
    out->bytes = bytes;
    CHECK(out->header, OUT_OF_MEMORY, "jit: the allocator has no %zu bytes",
          room);
    return FLI_OK;
}

void fli__image_free(const fli_context *ctx, fli__image *image)
{
    fli__free(ctx, image->header, MAX(image->bytes, sizeof(*image->header)));
    image->header = NULL;
}

static void checksum(const fli__image *image, uint8_t *out)
{
    fli__image_header header = *image->header;
    fli__hash hash;

    memset(header.checksum, 0, sizeof(header.checksum));
    fli__hash_begin(&hash);
    fli__hash_add(&hash, &header, sizeof(header));
    fli__hash_add(&hash, image->header + 1, image->bytes - sizeof(header));
    fli__hash_end(&hash, out);
}

void fli__image_seal(fli__image *image)
{
    checksum(image, image->header->checksum);
}

const char *fli__image_problem(const fli__image *image, const uint8_t *hash)
{
    const fli__image_header *const header = image->header;
    uint8_t sum[FLI__HASH_BYTES];

    if (image->bytes < sizeof(*header))
        return "is cut short";
    if (memcmp(header->magic, FLI__IMAGE_MAGIC, sizeof(header->magic)))
        return "is no kernel file";
    if (header->version != FLI__IMAGE_VERSION)
        return "is of another version";
    if (header->payload_bytes != image->bytes - sizeof(*header))
        return "is cut short";
    checksum(image, sum);
    if (memcmp(sum, header->checksum, sizeof(sum)))
        return "is damaged";
    if (hash && memcmp(header->key.hash, hash, FLI__HASH_BYTES))
        return "is of another kernel";
    return NULL;
}
