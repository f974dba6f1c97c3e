/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over a paged or ragged KV cache: create, plan, run.
 *
 *   create   once      heads, dims, dtypes, capacity     allocates, compiles
 *   plan     a step    lengths of each request           host integers only
 *   run      a layer   tensors, mask, scales             launches, nothing else
 *
 * A batch is any mix of prefill and decode: request i has q_len[i] query rows
 * and kv_len[i] cached tokens, its rows being the last q_len[i] of them.  For a
 * row at index r of its request, a head h, and each cached token j it may see,
 *
 *   x_j = sm_scale * k_scale * dot(q[r, h], k[j, h / group])
 *   x_j = soft_cap * tanh(x_j / soft_cap)                     if soft_cap > 0
 *   out[r, h] = v_scale * sum_j softmax(x)_j * v[j, h / group]
 *   lse[r, h] = log2(sum_j exp(x_j))
 *
 * where j is seen iff, with p = kv_len - q_len + r its position,
 * FLI_MASK_CAUSAL: j <= p (bottom-right aligned); window w > 0: j > p - w (with
 * FLI_MASK_NONE too).  A row that sees nothing gives out 0 and lse -inf.
 * Everything is accumulated in f32.
 *
 * Any head dimension that is a multiple of 8 up to 576, any group, any page
 * size, any strides with a unit last dimension. */
#ifndef FLASHINFER_ATTENTION_H
#define FLASHINFER_ATTENTION_H

#include "context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fli_attention fli_attention;

typedef enum fli_mask { FLI_MASK_NONE = 0, FLI_MASK_CAUSAL = 1 } fli_mask;

typedef enum fli_layout {
    FLI_NHD = 0, /* [.., tokens, heads, dim] */
    FLI_HND = 1  /* [.., heads, tokens, dim] */
} fli_layout;

enum {
    /* Fixed grid and capacity: what is captured at one batch may be replayed at
     * any other, within the rows and the page table of the captured tensors.
     * Each plan must bring the workspace of the first one. */
    FLI_ATTENTION_GRAPH = 1,
    /* The bits of a row depend on its own q, K, V and position alone, not on
     * the batch, chunking of the prompt or sharing of pages. */
    FLI_ATTENTION_BATCH_INVARIANT = 2
};

/* What never changes. */
typedef struct fli_attention_desc {
    size_t size;
    int32_t n_qo_heads;
    int32_t n_kv_heads; /* divides n_qo_heads */
    int32_t head_dim_qk;
    int32_t head_dim_vo;
    int32_t dtype_q;      /* fli_dtype: f32, f16, bf16 */
    int32_t dtype_kv;     /* 0: dtype_q */
    int32_t dtype_out;    /* 0: dtype_q */
    uint32_t flags;       /* FLI_ATTENTION_* */
    uint32_t masks;       /* bit (1 << fli_mask) of each mask that run may be
                             given; 0: all */
    int32_t max_requests; /* capacity of a batch */
    int32_t max_rows;     /* capacity: query rows of a batch */
    int32_t reserved;
} fli_attention_desc;

#define FLI_ATTENTION_DESC_INIT { sizeof(fli_attention_desc) }

/* The lengths of a step, in host memory; read during plan only. */
typedef struct fli_attention_batch {
    size_t size;
    int32_t n_requests; /* 0: run does nothing */
    int32_t mask;       /* fli_mask and window expected at run: they weigh */
    const int32_t *q_indptr; /* [n_requests + 1], from 0, not decreasing */
    const int32_t *kv_len;   /* [n_requests] */
    int32_t window;          /* the balance only, any mask stays right */
    int32_t reserved;
} fli_attention_batch;

#define FLI_ATTENTION_BATCH_INIT { sizeof(fli_attention_batch) }

/* The lengths of a step, in device memory: read when the stream comes to it. */
typedef struct fli_attention_device_batch {
    size_t size;
    int32_t n_requests; /* requests without rows are legal: padding */
    int32_t mask;       /* as in fli_attention_batch */
    int32_t window;
    int32_t max_rows; /* that q_indptr may end at, and that the tensors of run
                         must have; 0: desc.max_rows */
    fli_tensor q_indptr; /* i32 [n_requests + 1] */
    fli_tensor kv_len;   /* i32 [n_requests] */
} fli_attention_device_batch;

#define FLI_ATTENTION_DEVICE_BATCH_INIT { sizeof(fli_attention_device_batch) }

/* Where keys and values are.  Make one with fli_paged_kv or fli_ragged_kv. */
typedef struct fli_kv {
    fli_tensor k; /* paged NHD [n_pages, page_size, n_kv_heads, head_dim_qk],
                           HND [n_pages, n_kv_heads, page_size, head_dim_qk];
                     ragged NHD [n_tokens, n_kv_heads, head_dim_qk],
                           HND [n_kv_heads, n_tokens, head_dim_qk] */
    fli_tensor v; /* as k, with head_dim_vo; its strides may differ */
    fli_tensor page_indptr;  /* i32 [n_requests + 1] into page_indices */
    fli_tensor page_indices; /* i32 [>= page_indptr[n]] page ids */
    fli_tensor kv_indptr;    /* ragged: i32 [n_requests + 1] into the tokens */
    int32_t layout;          /* fli_layout */
    int32_t reserved[7];
} fli_kv;

/* Token j of request i is token j % page_size of page
 * page_indices[page_indptr[i] + j / page_size]. */
FLI_API fli_kv fli_paged_kv(fli_tensor k, fli_tensor v, fli_tensor page_indptr,
                            fli_tensor page_indices);

/* Token j of request i is token kv_indptr[i] + j. */
FLI_API fli_kv fli_ragged_kv(fli_tensor k, fli_tensor v, fli_tensor kv_indptr);

/* What a run computes on.  Zero is every default. */
typedef struct fli_attention_args {
    size_t size;
    fli_tensor q;   /* dtype_q [>= n_rows, n_qo_heads, head_dim_qk] */
    fli_kv kv;      /* dtype_kv */
    fli_tensor out; /* dtype_out [>= n_rows, n_qo_heads, head_dim_vo]; further
                       rows are not touched */
    fli_tensor lse; /* f32 [>= n_rows, n_qo_heads], or absent */
    int32_t mask;   /* fli_mask */
    int32_t window; /* visible tokens, the row's own included; 0: off */
    float soft_cap; /* 0: off */
    float sm_scale; /* 0: 1 / sqrt(head_dim_qk) */
    float k_scale;  /* 0: 1 */
    float v_scale;  /* 0: 1 */
} fli_attention_args;

#define FLI_ATTENTION_ARGS_INIT { sizeof(fli_attention_args) }

/* Chooses an implementation for desc, which is copied.  ctx must outlive the
 * op.
 * Errors: INVALID_ARGUMENT; UNSUPPORTED with the reason of each implementation;
 * OUT_OF_MEMORY.  Source: FlashInfer's BatchAttention. */
FLI_API fli_status fli_attention_create(fli_attention **out, fli_context *ctx,
                                        const fli_attention_desc *desc);

/* Bytes of workspace, exact, from the capacity and the number of workers; never
 * from lengths.  0 for NULL. */
FLI_API size_t fli_attention_workspace(const fli_attention *op);

/* Balances the step over the workers and writes the schedule to workspace:
 * memory of the caller on the op's device, 256-byte aligned, at least
 * fli_attention_workspace bytes; it must outlive the last run.  One plan is
 * right for every layer, mask and page size.
 * On CUDA the schedule is copied in stream order from memory of the op, without
 * waiting for the device unless four plans are still on their way: behind a run
 * of the last step the next plan may follow at once.  It cannot be captured into
 * a graph; with GRAPH, a plan and then a replay of what was captured is a step.
 * Errors: INVALID_ARGUMENT on lengths or beyond the capacity; WORKSPACE with
 * need and have; INVALID_STATE where GRAPH and workspace is not the first one,
 * or stream is being captured.
 * Threads: plan and run of one op are ordered by the caller (by their stream);
 * concurrent work takes an op and a workspace each. */
FLI_API fli_status fli_attention_plan(fli_attention *op,
                                      const fli_attention_batch *batch,
                                      void *workspace, size_t workspace_bytes,
                                      fli_stream stream);

/* The same of lengths that only the device knows, by a launch that makes the same
 * schedule.  It can be captured; runs behind it launch as with GRAPH.  Its kernel
 * is compiled by create with GRAPH, else by the first call, which then cannot be
 * captured.  Lengths that break a rule of fli_attention_batch, or end beyond
 * max_rows, plan nothing: runs then leave out and lse as they are, and
 * fli_context_check tells.  CUDA only.
 * Errors: as plan, but INVALID_STATE where stream is being captured only as long
 * as the kernel is not compiled; UNSUPPORTED on the CPU; COMPILE.  Threads: as
 * plan. */
FLI_API fli_status fli_attention_plan_device(
    fli_attention *op, const fli_attention_device_batch *batch, void *workspace,
    size_t workspace_bytes, fli_stream stream);

/* Attention of the planned batch.  Writes args->out, args->lse and the
 * workspace.  Never allocates, waits or reads device memory on the host, so it
 * can be captured.  On the CPU the page table is checked before anything is
 * written, on CUDA by the kernels (fli_context_check).  On CUDA tensors whose data
 * and strides are multiples of 16 bytes are the fast ones.
 * Errors: INVALID_STATE before plan; INVALID_ARGUMENT on dtype, shape, stride,
 * device or page table. */
FLI_API fli_status fli_attention_run(const fli_attention *op,
                                     const fli_attention_args *args,
                                     fli_stream stream);

/* Part ith of nth of a run, for engines with threads of their own: every part
 * must be called once, with the same args and nth >= 1, in any order, at once
 * or not.  out is complete when all have returned.  CPU only.
 * Errors: as run, and UNSUPPORTED on CUDA; each part makes the same checks and
 * gives the same answer. */
FLI_API fli_status fli_attention_run_part(const fli_attention *op,
                                          const fli_attention_args *args,
                                          int32_t ith, int32_t nth);

/* NULL is fine. */
FLI_API void fli_attention_destroy(fli_attention *op);

/* Each implementation with yes, its reason for no, or "-" (not needed), a line
 * each, as much as fits in n bytes; returns the length it would have.  desc
 * need not be served by any; buf may be NULL when n is 0.  For invalid
 * arguments it returns 0 and the status is in fli_last_error. */
FLI_API size_t fli_attention_explain(fli_context *ctx,
                                     const fli_attention_desc *desc, char *buf,
                                     size_t n);

/* The op and its last plan as text, in the same way; of a plan made on the
 * device only that it was. */
FLI_API size_t fli_attention_print(const fli_attention *op, char *buf,
                                   size_t n);

/* Figures of the last plan; all zero before it.  INVALID_STATE where it was made
 * on the device. */
typedef struct fli_attention_stats {
    size_t size;
    int32_t n_workers; /* of the tile classes that have work */
    int32_t n_items;   /* pieces of work */
    int32_t n_merges;  /* rows tiles that several pieces share */
    int32_t reserved;
    uint64_t total_cost; /* in the planner's unit */
    uint64_t max_cost;   /* of a worker; imbalance = max * n_workers / total */
} fli_attention_stats;

#define FLI_ATTENTION_STATS_INIT { sizeof(fli_attention_stats) }

FLI_API fli_status fli_attention_get_stats(const fli_attention *op,
                                           fli_attention_stats *stats);

/* Merges attention states of the same rows over different keys:
 *
 *   lse_out = log2(sum_s exp2(lse[s]))
 *   v_out   = sum_s exp2(lse[s] - lse_out) * v[s]
 *
 * v may be any of f32, f16, bf16; v_out has the same dtype.  A state of lse -inf
 * is empty: its v is not read.  All of them empty, or no state: v_out 0, lse_out
 * -inf.  In place (v_out = v[:, 0]) is allowed.
 * Source: FlashInfer's merge_states. */
typedef struct fli_merge_states_args {
    size_t size;
    fli_tensor v;       /* [n_rows, n_states, n_heads, head_dim] */
    fli_tensor lse;     /* f32 [n_rows, n_states, n_heads], base 2 */
    fli_tensor v_out;   /* [n_rows, n_heads, head_dim] */
    fli_tensor lse_out; /* f32 [n_rows, n_heads]; absent: not wanted */
} fli_merge_states_args;

#define FLI_MERGE_STATES_ARGS_INIT { sizeof(fli_merge_states_args) }

FLI_API fli_status fli_merge_states(fli_context *ctx,
                                    const fli_merge_states_args *args,
                                    fli_stream stream);
FLI_API fli_status fli_merge_states_prepare(fli_context *ctx,
                                            const fli_merge_states_args *args);

#ifdef __cplusplus
}
#endif
#endif
