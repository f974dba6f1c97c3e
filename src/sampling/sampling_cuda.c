/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of softmax, sample and filter on CUDA: a cluster for each row. */
#include "abi/sample.h"
#include "jit/rows.h"
#include "sampling/sampling.h"

#define BLOCK_RESERVED 1024 /* shared memory that the driver takes of a block */
#define LEAST_BYTES    4096 /* of a row, below which a block more gains nothing */

typedef struct {
    fli_row_split split;
    fli__launch launch;
} row_launch;

/* The most dynamic shared memory of n blocks on an SM. */
static int64_t cache_bytes(const fli__cuda_caps *caps, int32_t n)
{
    return (caps->shared_bytes + BLOCK_RESERVED) / n - BLOCK_RESERVED
           - FLI_SAMPLE_STATIC;
}

typedef struct {
    int64_t n, vocab;
    int32_t dtype;
    int32_t is_streamed; /* from memory: a block needs no room for its part */
} rows_shape;

/* Rows that begin wherever they do.  Two blocks of an SM overlap one's loads with
 * the other's work; a row gets more blocks where there are SMs to spare, and where
 * only those have the room to keep it. */
static fli_status split_rows(const fli__call *call, const rows_shape *rows,
                             row_launch *out)
{
    const fli__cuda_caps *caps = &call->ctx->cuda->caps;
    const int64_t bytes =
        rows->vocab * (int64_t)fli_dtype_bytes(rows->dtype) + 32;
    const int64_t most =
        caps->features & FLI__CUDA_CLUSTER ? FLI_SAMPLE_BLOCKS : 1;
    const int64_t room = cache_bytes(caps, rows->is_streamed ? 2 : 1);
    int64_t n = 1;

    while (n < most
           && ((!rows->is_streamed && bytes / n > cache_bytes(caps, 2))
               || (rows->n * n <= caps->n_sms && bytes / n > LEAST_BYTES)))
        n *= 2;
    out->split.vectors = (int32_t)((bytes / 16 + n - 1) / n);
    out->split.is_cached = out->split.vectors * 16 <= room;
    out->launch = (fli__launch){
        .grid = { 0, 1, 1 },
        .block = { FLI_SAMPLE_THREADS, 1, 1 },
        .shared_bytes =
            out->split.is_cached ? (uint32_t)out->split.vectors * 16 : 0,
        .cluster = n > 1 ? (uint32_t)n : 0,
    };
    TRY(fli__rows_blocks(call, rows->n * n, 1, &out->launch.grid[0]));
    return FLI_OK;
}

/* The kernel of instance for the dtype of rows, launched with args, of which *split
 * is a part. */
static fli_status launch_rows(const fli__call *call, fli__instance *instance,
                              const rows_shape *rows, fli_row_split *split,
                              void *args)
{
    const fli__kernel *kernel;
    row_launch cut;

    instance->shared_bytes = (uint32_t)cache_bytes(&call->ctx->cuda->caps, 1);
    fli__instance_define(instance, "FLI_DTYPE", rows->dtype);
    TRY(fli__jit_kernel(call, instance, &kernel));
    if (call->prepare)
        return FLI_OK;
    TRY(split_rows(call, rows, &cut));
    *split = cut.split;
    return fli__cuda_launch(call, kernel, &cut.launch, args);
}

fli_status fli__softmax_cuda(const fli__call *call, const void *params)
{
    fli_softmax_launch a = { .p = *(const fli_softmax_params *)params };
    fli__instance instance;

    fli__instance_init(&instance, "cuda/softmax.cu", "fli_softmax",
                       "softmax_%s", fli_dtype_name(a.p.dtype));
    const rows_shape shape = { a.p.n_rows, a.p.vocab, a.p.dtype, 0 };

    return launch_rows(call, &instance, &shape, &a.split, &a);
}

/* Is a row best read from memory in each pass?  Where top_k is a tensor, it is
 * guessed to be small, which takes one pass.  Beside the work of top_p three hide,
 * once rows fill the SMs. */
static int is_streamed(const fli__call *call, const fli_sample_params *p)
{
    const fli_filters *f = &p->filters;
    const int has_top_p = f->top_ps || f->top_p < 1;
    const int is_few =
        f->top_ks || (f->top_k > 0 && f->top_k <= FLI_SAMPLE_FEW);

    if (!p->temperatures && p->temperature < 0x1p-64f)
        return 1;
    return (is_few && !(f->joint && has_top_p))
           || (has_top_p && p->n_out >= 2 * call->ctx->cuda->caps.n_sms);
}

fli_status fli__sample_cuda(const fli__call *call, const void *params)
{
    fli_sample_launch a = { .p = *(const fli_sample_params *)params };
    fli__instance instance;

    fli__instance_init(&instance, "cuda/sample.cu", "fli_sample",
                       "sample_%s_%s", a.p.is_probs ? "probs" : "logits",
                       fli_dtype_name(a.p.dtype));
    fli__instance_define(&instance, "FLI_PROBS", a.p.is_probs);
    const rows_shape shape = { a.p.n_out, a.p.vocab, a.p.dtype,
                               is_streamed(call, &a.p) };

    return launch_rows(call, &instance, &shape, &a.split, &a);
}

fli_status fli__filter_cuda(const fli__call *call, const void *params)
{
    fli_filter_launch a = { .p = *(const fli_filter_params *)params };
    fli__instance instance;

    fli__instance_init(&instance, "cuda/filter.cu", "fli_filter", "%s_%s",
                       a.p.is_probs ? "renorm_probs" : "mask_logits",
                       fli_dtype_name(a.p.dtype));
    fli__instance_define(&instance, "FLI_PROBS", a.p.is_probs);
    const rows_shape shape = { a.p.n_rows, a.p.vocab, a.p.dtype, 0 };

    return launch_rows(call, &instance, &shape, &a.split, &a);
}
