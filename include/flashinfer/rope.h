/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary position embedding of queries and keys. */
#ifndef FLASHINFER_ROPE_H
#define FLASHINFER_ROPE_H

#include "context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rotates the first rotary_dim elements of each head by its row's position p;
 * the rest pass through.  Pair i of rotary_dim / 2, elements (a, b), turns by
 * angle p * f_i:
 *
 *   a' = a cos - b sin,  b' = a sin + b cos
 *   f_i = theta^(-2 i / rotary_dim) / scale
 *
 * Half rotation pairs i with i + rotary_dim / 2 (NeoX, Llama in Hugging Face's
 * form); interleaved pairs 2 i with 2 i + 1 (GPT-J).
 *
 * llama31: with g = theta^(-2 i / rotary_dim) and
 * s = clamp((old_context * g / (2 pi) - low_freq) / (high_freq - low_freq), 0,
 * 1), f_i = (1 - s) * g / scale + s * g.
 *
 * cos_sin_cache present: cos and sin of pair i at position p are
 * cache[p, i] and cache[p, rotary_dim / 2 + i]; theta, scale and llama31 must
 * be 0 then.  On the CPU a position outside the cache is refused before
 * anything is written.
 *
 * In place (q_out = q, k_out = k, same strides) is allowed; k and k_out may be
 * absent.  Angles are formed from f64 frequencies.
 * Errors: INVALID_ARGUMENT, UNSUPPORTED.  Threads: any number at once.
 * Source: FlashInfer's apply_rope_pos_ids, apply_llama31_rope_pos_ids and
 * apply_rope_with_cos_sin_cache. */
typedef struct fli_rope_args {
    size_t size;
    fli_tensor q;         /* f32, f16, bf16 [n_rows, n_qo_heads, head_dim] */
    fli_tensor k;         /* dtype of q [n_rows, n_kv_heads, head_dim] */
    fli_tensor q_out;     /* as q */
    fli_tensor k_out;     /* as k */
    fli_tensor positions; /* i32 or i64 [n_rows] */
    fli_tensor cos_sin_cache; /* f32 [n_positions, rotary_dim], or absent */
    int32_t rotary_dim;       /* even; 0: head_dim */
    int32_t interleaved;      /* 0: half rotation; 1: interleaved */
    float theta;              /* 0: 1e4 */
    float scale;              /* 0: 1 */
    int32_t llama31;          /* 1: Llama-3.1 scaling */
    float low_freq_factor;    /* 0: 1; llama31 only, as the next two */
    float high_freq_factor;   /* 0: 4 */
    float old_context_len;    /* 0: 8192 */
} fli_rope_args;

#define FLI_ROPE_ARGS_INIT { sizeof(fli_rope_args) }

FLI_API fli_status fli_rope(fli_context *ctx, const fli_rope_args *args,
                            fli_stream stream);

/* Checks everything but data and makes ready what the op needs. */
FLI_API fli_status fli_rope_prepare(fli_context *ctx,
                                    const fli_rope_args *args);

#ifdef __cplusplus
}
#endif
#endif
