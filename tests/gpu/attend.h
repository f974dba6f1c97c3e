/* SPDX-License-Identifier: Apache-2.0 */
/* Attention for tests on a GPU: a paged cache with the same random contents in host
 * and device memory, steps over it, and what they write. */
#ifndef TESTS_GPU_ATTEND_H
#define TESTS_GPU_ATTEND_H

#include "gpu_unit.h"

enum { ATTEND_MAX_REQUESTS = 64 };

/* Capacity; every request has pages_each pages of a shuffled pool. */
typedef struct {
    fli_dtype dtype; /* f32 or bf16, of all */
    int32_t n_qo_heads, n_kv_heads, dim, page;
    int32_t n_requests, n_rows, pages_each;
} attend_shape;

/* On the host and on the device. */
typedef struct {
    void *host, *device;
    size_t bytes;
} attend_memory;

typedef struct {
    attend_shape s;
    int32_t n_pages;
    attend_memory q, k, v, indptr, ids;
} attend_data;

attend_data *attend_make(const attend_shape *shape, uint64_t seed);
void attend_free(attend_data *d);

/* Lengths of a step. */
typedef struct {
    int32_t n;
    int32_t q_len[ATTEND_MAX_REQUESTS], kv_len[ATTEND_MAX_REQUESTS];
    int32_t q_indptr[ATTEND_MAX_REQUESTS + 1]; /* by attend_sum */
} attend_step;

/* Fills q_indptr; returns the step. */
attend_step *attend_sum(attend_step *step);
/* Random lengths of n requests: decode, now and then more rows, within shape. */
attend_step attend_random(const attend_shape *shape, int32_t n,
                          uint64_t *state);
uint32_t attend_roll(uint64_t *state);

/* An op and its workspace. */
typedef struct {
    fli_attention *op;
    void *workspace;
    size_t bytes;
    gpu_stream stream;
} attend_op;

attend_op attend_create(const attend_data *d, fli_context *ctx, uint32_t flags,
                        gpu_stream stream);
void attend_destroy(attend_op *op);
void attend_plan(const attend_op *op, attend_step *step);
void attend_run(const attend_op *op, const fli_attention_args *args);

/* Memory for out and lse of all rows, one behind the other. */
size_t attend_out_bytes(const attend_data *d);
/* Filled with bytes 0xe5. */
void attend_poison(const attend_data *d, void *out);

/* Causal, over all rows, into out; host memory where ctx is of the CPU. */
fli_attention_args attend_args(const attend_data *d, const fli_context *ctx,
                               void *out);

/* What step gives by an op of its own, called directly, to be freed; rows behind
 * its last one are poison. */
char *attend_fresh(const attend_data *d, fli_context *ctx, uint32_t flags,
                   attend_step *step, gpu_stream stream);

/* got is within rounding what the CPU gives for step. */
void assert_close_to_cpu(const char *name, const attend_data *d,
                         attend_step *step, const char *got);

#endif
