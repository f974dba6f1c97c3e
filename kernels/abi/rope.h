/* SPDX-License-Identifier: Apache-2.0 */
/* rope: pair i of the first rotary_dim elements of each head of row t turns
 * by positions[t] * f_i, see flashinfer/rope.h; the elements behind pass
 * through. */
#ifndef FLI_ABI_ROPE_H
#define FLI_ABI_ROPE_H

#include "abi/types.h"

/* One of q and k. */
typedef struct {
    const void *in; /* [n_rows, n_heads, head_dim], or NULL */
    void *out;      /* as in; may be in */
    int64_t n_heads;
    int64_t in_stride[2], out_stride[2]; /* row, head */
} fli_rope_tensor;

typedef struct {
    fli_rope_tensor tensor[2];  /* q, k */
    const void *positions;      /* [n_rows] */
    const float *cos_sin_cache; /* [n_positions, rotary_dim], or NULL */
    int64_t n_rows, head_dim;
    int64_t cache_stride;
    int32_t rotary_dim; /* even */
    int32_t
        interleaved; /* pairs (2 i, 2 i + 1), else (i, i + rotary_dim / 2) */
    int32_t llama31;
    float theta, scale;
    float low_freq_factor, high_freq_factor, old_context_len;
    int32_t dtype;           /* of q and k: f32, f16, bf16 */
    int32_t dtype_positions; /* i32, i64 */
    int64_t n_positions; /* CUDA: what positions are held against where there
                                is a cache */
    uint32_t *sticky;
} fli_rope_params;

/* What a CUDA launch turns: some of the pairs, so that their frequencies fit the
 * 4 KiB of a kernel's parameters. */
enum { FLI_ROPE_PAIRS = 256 };

typedef struct {
    fli_rope_params p;
    int32_t first, n_pairs; /* of the launch */
    double frequency[FLI_ROPE_PAIRS];
} fli_rope_launch;

#if !defined(__CUDACC_RTC__)
/* The reference's radians a position of pair i, scaled. */
double fli__rope_frequency(const fli_rope_params *, int32_t i);
#endif

#endif
