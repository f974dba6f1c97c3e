/* SPDX-License-Identifier: Apache-2.0 */
/* The paged KV cache: append tokens, copy pages, index arithmetic.
 *
 * Every <op>_prepare checks the arguments' dtypes, shapes and strides (data may
 * be absent) and makes ready what the op needs, so that the op itself compiles
 * nothing.  Errors of all: INVALID_ARGUMENT, UNSUPPORTED.  Threads: any number
 * at once on outputs of their own. */
#ifndef FLASHINFER_PAGE_H
#define FLASHINFER_PAGE_H

#include "attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes row t of k and v as token positions[t] of request batch_indices[t].  A
 * row with a negative batch index or position is skipped (the padding of
 * fli_get_batch_indices_positions).  The pages must be in the table already; on
 * the CPU every id is checked before anything is written.  k and v are
 * converted to the cache's dtype, rounding to nearest even.  No two
 * rows may name the same slot.
 * Source: FlashInfer's append_paged_kv_cache. */
typedef struct fli_append_args {
    size_t size;
    fli_tensor k; /* f32, f16, bf16 [n_rows, n_kv_heads, head_dim_qk] */
    fli_tensor v; /* [n_rows, n_kv_heads, head_dim_vo], dtype of k */
    fli_tensor batch_indices; /* i32 [n_rows] */
    fli_tensor positions;     /* i32 [n_rows] */
    fli_kv cache;             /* paged; its k and v are written */
} fli_append_args;

#define FLI_APPEND_ARGS_INIT { sizeof(fli_append_args) }

FLI_API fli_status fli_append(fli_context *ctx, const fli_append_args *args,
                              fli_stream stream);
FLI_API fli_status fli_append_prepare(fli_context *ctx,
                                      const fli_append_args *args);

/* cache[to[i]] = cache[from[i]] for whole pages of k and v (copy-on-write).  No
 * page may be in to twice, nor in both lists. */
typedef struct fli_page_copy_args {
    size_t size;
    fli_tensor k;    /* [n_pages, ..., head_dim_qk], 4 dimensions */
    fli_tensor v;    /* [n_pages, ..., head_dim_vo] */
    fli_tensor from; /* i32 [n] */
    fli_tensor to;   /* i32 [n] */
} fli_page_copy_args;

#define FLI_PAGE_COPY_ARGS_INIT { sizeof(fli_page_copy_args) }

FLI_API fli_status fli_page_copy(fli_context *ctx,
                                 const fli_page_copy_args *args,
                                 fli_stream stream);
FLI_API fli_status fli_page_copy_prepare(fli_context *ctx,
                                         const fli_page_copy_args *args);

/* For row t of request i, the j-th appended of append_indptr[i + 1] -
 * append_indptr[i]: batch_indices[t] = i and positions[t] = seq_lens[i] - that
 * count + j.  Rows from append_indptr[n] on get -1 in both.
 * Source: FlashInfer's get_batch_indices_positions. */
typedef struct fli_batch_indices_positions_args {
    size_t size;
    fli_tensor append_indptr; /* i32 [n_requests + 1] */
    fli_tensor seq_lens;      /* i32 [n_requests], after the append */
    fli_tensor batch_indices; /* i32 [n_rows] */
    fli_tensor positions;     /* i32 [n_rows] */
} fli_batch_indices_positions_args;

#define FLI_BATCH_INDICES_POSITIONS_ARGS_INIT                                  \
    { sizeof(fli_batch_indices_positions_args) }

FLI_API fli_status fli_get_batch_indices_positions(
    fli_context *ctx, const fli_batch_indices_positions_args *args,
    fli_stream stream);
FLI_API fli_status fli_get_batch_indices_positions_prepare(
    fli_context *ctx, const fli_batch_indices_positions_args *args);

#ifdef __cplusplus
}
#endif
#endif
