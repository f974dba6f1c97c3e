/* SPDX-License-Identifier: Apache-2.0 */
/* Small calls of every op on device memory, whose inputs can be replaced in place:
 * for tests that do the same with all ops. */
#ifndef TESTS_GPU_OPS_H
#define TESTS_GPU_OPS_H

#include <flashinfer/flashinfer.h>

#include "gpu.h"

enum { OPS_MAX_BLOCKS = 16 };

typedef enum {
    OPS_NORMAL,   /* N(0, 1), about */
    OPS_UNIFORM,  /* [0, 1) */
    OPS_RANGE,    /* integers of [low, high) */
    OPS_SHUFFLED, /* 0 .. n - 1 */
    OPS_FIXED,    /* as they were made */
    OPS_POISON    /* bytes 0xe5 */
} ops_fill_kind;

/* Device memory of a call. */
typedef struct {
    ops_fill_kind fill;
    int32_t dtype;
    int64_t n;
    int64_t low, high;
    const void *fixed; /* OPS_FIXED: static host memory */
    int is_out;        /* written by the call; OPS_POISON always is */
    void *device;
} ops_block;

typedef struct ops_case ops_case;

/* One kind of call. */
typedef struct {
    const char *name; /* "gemm, few rows" */
    const char *op;   /* of src/ops.def */
    void (*make)(ops_case *c);
    fli_status (*call)(const ops_case *c, fli_stream stream);
    fli_status (*prepare)(const ops_case *c);
} ops_kind;

struct ops_case {
    const ops_kind *kind;
    fli_context *ctx;
    fli_stream stream; /* that plan was called on */
    int n_blocks;
    ops_block blocks[OPS_MAX_BLOCKS];
    size_t out_bytes;
    fli_attention *attention; /* and its workspace */
    void *workspace;
    union {
        fli_attention_args attention;
        fli_merge_states_args merge;
        fli_append_args append;
        fli_page_copy_args page_copy;
        fli_batch_indices_positions_args positions;
        fli_rope_args rope;
        fli_rmsnorm_args norm;
        fli_fused_add_rmsnorm_args fused;
        fli_act_and_mul_args act;
        fli_gemm_args gemm;
        fli_packbits_args packbits;
        fli_segment_packbits_args segments;
        fli_softmax_args softmax;
        fli_sample_args sample;
        fli_filter_args filter;
    } args;
};

extern const ops_kind ops_kinds[];
extern const int ops_n_kinds;

/* A call on memory of its own, inputs of seed 1; for attention planned on stream.
 * Fails the test that calls it. */
ops_case *ops_make(const ops_kind *kind, fli_context *ctx, fli_stream stream);
void ops_free(ops_case *c);

/* All inputs anew, of seed; outputs are poison. */
void ops_fill(const ops_case *c, uint64_t seed);

/* The outputs, out_bytes of them, to be freed. */
char *ops_read(const ops_case *c);

static inline fli_status ops_call(const ops_case *c, fli_stream stream)
{
    return c->kind->call(c, stream);
}

#endif
