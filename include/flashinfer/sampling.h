/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling of tokens, and the distributions it samples from.
 *
 * Values decide order, 64-bit integer weights carry mass, one Philox draw keyed
 * by the row's own seed and offset picks the token: a row gives the same token
 * whatever its batch, its place in it, or the device.  docs/sampling.md has the
 * exact definition.  vocab <= 2^20.
 *
 * Filters.  All that are given hold; values equal to a threshold are kept.
 *   top_k  #{j : x_j > x_i} < k                    (k <= 0 or >= vocab: off)
 *   top_p  mass of {j : x_j > x_i} < top_p * Z     (>= 1: off), where Z is the
 *          mass of the top-k set, or of the row with FLI_SAMPLE_JOINT
 *   min_p  p_i >= min_p * max p                    (0: off)
 *
 * Per-row parameters.  Each of temperature, top_k, top_p, min_p, seed, offset
 * is a scalar member, or a tensor [n_out] that replaces it when present.  A bad
 * scalar is INVALID_ARGUMENT; a bad value in a tensor makes its row invalid.
 *
 * Rows.  A NaN, a negative probability or a bad parameter: invalid.  All -inf,
 * or all 0: empty.  Both give token 0, probabilities 0, logits -inf, valid 0.
 * Some +inf: they share the mass.
 *
 * Errors: INVALID_ARGUMENT, UNSUPPORTED.  Threads: any number at once on
 * outputs of their own.  Every <op>_prepare checks everything but data. */
#ifndef FLASHINFER_SAMPLING_H
#define FLASHINFER_SAMPLING_H

#include "context.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    FLI_SAMPLE_JOINT = 1 /* top_p over the row's mass, not the top-k set's */
};

/* probs = softmax(logits / T).  T = 0: 1 at the first greatest logit.
 * Source: FlashInfer's softmax, but for T = 0. */
typedef struct fli_softmax_args {
    size_t size;
    fli_tensor logits;       /* f32, f16, bf16 [n_rows, vocab] */
    fli_tensor probs;        /* f32 [n_rows, vocab]; may be logits (f32) */
    fli_tensor temperatures; /* f32 [n_rows], or absent */
    fli_tensor valid;        /* bool [n_rows], or absent */
    float temperature;       /* see has_temperature */
    int32_t has_temperature; /* 0: temperature is 1 */
} fli_softmax_args;

#define FLI_SOFTMAX_ARGS_INIT { sizeof(fli_softmax_args) }

FLI_API fli_status fli_softmax(fli_context *ctx, const fli_softmax_args *args,
                               fli_stream stream);
FLI_API fli_status fli_softmax_prepare(fli_context *ctx,
                                       const fli_softmax_args *args);

/* One token a row.  x is logits for fli_sample_from_logits, probabilities
 * (which need not sum to 1) for fli_sample_from_probs, where temperature must
 * not be given.  indices present: output row i draws from x[indices[i]].
 * Source: FlashInfer's sampling_from_*, top_k_top_p_sampling_from_*, min_p_...
 * with one seed a row. */
typedef struct fli_sample_args {
    size_t size;
    fli_tensor x;            /* f32, f16, bf16 [n_rows, vocab]; f32 for probs */
    fli_tensor indices;      /* i32 [n_out], or absent: n_out = n_rows */
    fli_tensor tokens;       /* i32 [n_out] */
    fli_tensor valid;        /* bool [n_out], or absent */
    fli_tensor temperatures; /* f32 [n_out] */
    fli_tensor top_ks;       /* i32 [n_out] */
    fli_tensor top_ps;       /* f32 [n_out] */
    fli_tensor min_ps;       /* f32 [n_out] */
    fli_tensor seeds;   /* i64 [n_out] (bits of a u64), or [1]: as the scalar */
    fli_tensor offsets; /* i64 [n_out], or [1] */
    uint64_t seed; /* scalar: one stream of the batch, rows told apart by their
                      index; tensor [n_out]: each row's own */
    uint64_t offset;         /* of the draw: count it up by 1 a call */
    float temperature;       /* see has_temperature */
    int32_t has_temperature; /* 0: temperature is 1 */
    int32_t top_k;           /* 0: off */
    float top_p;             /* 0: off (a tensor may hold 0: the top value) */
    float min_p;             /* 0: off */
    uint32_t flags;          /* FLI_SAMPLE_* */
} fli_sample_args;

#define FLI_SAMPLE_ARGS_INIT { sizeof(fli_sample_args) }

FLI_API fli_status fli_sample_from_logits(fli_context *ctx,
                                          const fli_sample_args *args,
                                          fli_stream stream);
FLI_API fli_status fli_sample_from_probs(fli_context *ctx,
                                         const fli_sample_args *args,
                                         fli_stream stream);
FLI_API fli_status fli_sample_from_logits_prepare(fli_context *ctx,
                                                  const fli_sample_args *args);
FLI_API fli_status fli_sample_from_probs_prepare(fli_context *ctx,
                                                 const fli_sample_args *args);

/* The kept set without a draw.
 *   fli_renorm_probs  out_i = p_i / kept mass where kept, else 0
 *   fli_mask_logits   out_i = x_i where kept, else -inf
 * One filter or several, as in fli_sample_args.  out may be x (same strides).
 * Source: FlashInfer's top_k_renorm_probs, top_p_renorm_probs,
 * top_k_mask_logits; min_p alike. */
typedef struct fli_filter_args {
    size_t size;
    fli_tensor x;      /* probs: f32; logits: f32, f16, bf16; [n_rows, vocab] */
    fli_tensor out;    /* as x */
    fli_tensor valid;  /* bool [n_rows], or absent */
    fli_tensor top_ks; /* i32 [n_rows] */
    fli_tensor top_ps; /* f32 [n_rows] */
    fli_tensor min_ps; /* f32 [n_rows] */
    int32_t top_k;     /* 0: off */
    float top_p;       /* 0: off (a tensor may hold 0: the top value) */
    float min_p;       /* 0: off */
    uint32_t flags;    /* FLI_SAMPLE_* */
} fli_filter_args;

#define FLI_FILTER_ARGS_INIT { sizeof(fli_filter_args) }

FLI_API fli_status fli_renorm_probs(fli_context *ctx,
                                    const fli_filter_args *args,
                                    fli_stream stream);
FLI_API fli_status fli_mask_logits(fli_context *ctx,
                                   const fli_filter_args *args,
                                   fli_stream stream);
FLI_API fli_status fli_renorm_probs_prepare(fli_context *ctx,
                                            const fli_filter_args *args);
FLI_API fli_status fli_mask_logits_prepare(fli_context *ctx,
                                           const fli_filter_args *args);

#ifdef __cplusplus
}
#endif
#endif
