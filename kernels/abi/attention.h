/* SPDX-License-Identifier: Apache-2.0 */
/* attention: one run over a planned batch.
 *
 * Logits are kept in log2 units: x = scale_log2 * dot(q, k), or with a soft cap
 * c, x = c * log2(e) * tanh(scale * dot(q, k) / c); a row's state is
 * m = max x, d = sum exp2(x - m), o = sum exp2(x - m) v; lse = m + log2(d). */
#ifndef FLI_ABI_ATTENTION_H
#define FLI_ABI_ATTENTION_H

#include "abi/plan.h"

/* What the op was created for: kernels name their tiles from it. */
typedef struct {
    int32_t n_qo_heads, n_kv_heads, group;
    int32_t head_dim_qk, head_dim_vo;
    int32_t dtype_q, dtype_kv, dtype_out;
    uint32_t flags;       /* FLI_PLAN_* */
    int32_t shared_bytes; /* CUDA: that a block may have */
    int64_t l2_bytes;     /* CUDA */
} fli_attention_shape;

/* The tile classes of an implementation.  first_worker and n_workers are set by
 * the planner's caller. */
typedef struct {
    int32_t n_classes;
    fli_tile_class tile_class[FLI_MAX_CLASSES];
    const char *name[FLI_MAX_CLASSES]; /* "decode"; NULL: none */
    fli_plan_policy policy;
    int64_t scratch_bytes; /* of a worker */
} fli_attention_tiles;

typedef struct {
    fli_attention_shape shape;

    const void *q;       /* [n_rows, n_qo_heads, head_dim_qk] */
    void *out;           /* [n_rows, n_qo_heads, head_dim_vo] */
    float *lse;          /* [n_rows, n_qo_heads], or NULL */
    int64_t q_stride[2]; /* row, head */
    int64_t out_stride[2];
    int64_t lse_stride[2];

    /* Token j of request i: paged, token j % page_size of page
     * page_indices[page_indptr[i] + j / page_size]; ragged (page_indptr NULL),
     * token kv_indptr[i] + j of page 0. */
    const void *k, *v;
    int64_t k_page_stride, k_token_stride, k_head_stride;
    int64_t v_page_stride, v_token_stride, v_head_stride;
    const int32_t *page_indptr, *page_indices;
    const int32_t *kv_indptr;
    int32_t page_size;

    int32_t causal; /* bottom-right */
    int32_t window; /* visible tokens, the row's own included; 0: off */
    float soft_cap; /* 0: off */
    float scale;    /* sm_scale * k_scale */
    float v_scale;

    /* The schedule, in the workspace. */
    int32_t n_requests;
    const int32_t *q_indptr, *kv_len;
    const fli_work_item *items;
    const fli_merge_item *merges;
    const int32_t *sources;
    int32_t *counters; /* zero between runs */
    float *partial_o;  /* [rows][head_dim_vo] */
    float *partial_md; /* [rows][2] */
    char *scratch;     /* [n_workers][scratch_bytes], 64-byte aligned */
    int64_t scratch_bytes;
    int32_t chunk; /* INVARIANT: fold length; else 0 */
    int32_t n_workers;

    /* CUDA: q, out and lse have n_rows rows; page_indptr or kv_indptr has
     * n_requests + 1 entries, the pool n_pages pages (or tokens) and page_indices
     * n_indices entries; see FLI_STICKY_*. */
    int64_t n_rows, n_pages, n_indices;
    uint32_t *sticky;
} fli_attention_params;

#if !defined(__CUDACC_RTC__)
/* Part ith of nth runs workers ith, ith + nth, ... */
void fli__attention_tiles_ref(const fli_attention_shape *,
                              fli_attention_tiles *);
void fli__attention_tiles_plain(const fli_attention_shape *,
                                fli_attention_tiles *);
void fli__attention_tiles_baseline(const fli_attention_shape *,
                                   fli_attention_tiles *);
void fli__attention_tiles_avx2(const fli_attention_shape *,
                               fli_attention_tiles *);
#endif

#endif
