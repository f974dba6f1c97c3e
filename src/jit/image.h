/* SPDX-License-Identifier: Apache-2.0 */
/* A compiled kernel as it stands in the cache folder and in packs: a header, and
 * a cubin or PTX behind it. */
#ifndef FLI_JIT_IMAGE_H
#define FLI_JIT_IMAGE_H

#include "core/hash.h"
#include "jit/jit.h"

/* What a kernel is found by: the hash of its instance text, all sources, the
 * arch and the compiler's options.  Not the compiler's version, so that a pack
 * or a warm cache needs no compiler; an image says which one made it. */
typedef struct {
    char name[64]; /* the instance's */
    char arch[16];
    uint8_t hash[FLI__HASH_BYTES];
} fli__key;

#define FLI__IMAGE_MAGIC   "FLIKERN"
#define FLI__IMAGE_VERSION 1

/* Kernels have 10 to 200 KB; more is a damaged length. */
#define FLI__IMAGE_MAX_BYTES (64 << 20)

typedef struct {
    char magic[8];
    uint32_t version;
    int32_t is_ptx;
    fli__key key;
    uint8_t checksum[FLI__HASH_BYTES]; /* of all, itself 0 */
    uint64_t payload_bytes;            /* of PTX with its final 0 */
    int32_t registers;                 /* of a thread; these 0 for PTX */
    int32_t spill_store_bytes, spill_load_bytes;
    int32_t shared_bytes;  /* static */
    int32_t wgmma_serial;  /* ptxas serialised wgmma (C75xx) */
    int32_t nvrtc_version; /* 1000 major + minor */
    float seconds;         /* to compile */
    char reserved[60];
} fli__image_header;

/* An image in memory: one allocation, the payload behind the header. */
typedef struct {
    fli__image_header *header;
    size_t bytes; /* of both */
} fli__image;

/* Room for an image of bytes, and for a header at least.  OUT_OF_MEMORY. */
fli_status fli__image_alloc(const fli_context *ctx, size_t bytes,
                            fli__image *out);
void fli__image_free(const fli_context *ctx, fli__image *image);

/* Sets the checksum. */
void fli__image_seal(fli__image *image);

/* What is wrong with an image, "is ..."; NULL if nothing.  hash NULL: whatever
 * kernel it is. */
const char *fli__image_problem(const fli__image *image, const uint8_t *hash);

#endif
