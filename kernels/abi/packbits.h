/* SPDX-License-Identifier: Apache-2.0 */
/* packbits: bits of nonzero bytes, each segment filled to whole bytes.
 * packbits is one segment and writes no out_indptr. */
#ifndef FLI_ABI_PACKBITS_H
#define FLI_ABI_PACKBITS_H

#include "abi/types.h"

typedef struct {
    const uint8_t *x;      /* [n], n = indptr[n_segments] */
    const int32_t *indptr; /* [n_segments + 1]; NULL: 0, n */
    uint8_t *out;
    int32_t *out_indptr; /* [n_segments + 1] prefix sums of bytes, or NULL */
    int64_t n, n_segments;
    int32_t little; /* the first element is bit 0, else bit 7 */
    int32_t reserved;
    int64_t n_out; /* CUDA: bytes that out holds */
    uint32_t *sticky;
} fli_packbits_params;

#endif
