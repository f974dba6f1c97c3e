/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4): keys of compiled kernels, checksums of their files. */
#ifndef FLI_CORE_HASH_H
#define FLI_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define FLI__HASH_BYTES 32

typedef struct {
    uint32_t state[8];
    uint64_t n_bytes;
    uint8_t block[64];
} fli__hash;

void fli__hash_begin(fli__hash *hash);
void fli__hash_add(fli__hash *hash, const void *data, size_t bytes);
void fli__hash_end(fli__hash *hash, uint8_t out[FLI__HASH_BYTES]);

/* The text with its final 0, so that neighbours cannot run together. */
void fli__hash_add_text(fli__hash *hash, const char *text);

/* The first n bytes of a hash as 2 n hexadecimal digits and a final 0. */
void fli__hash_text(const uint8_t *hash, int32_t n, char *out);

#endif
