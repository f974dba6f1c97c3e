/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of rmsnorm and fused_add_rmsnorm. */
#include "norm/norm.h"

#include "abi/norm.h"
#include "jit/rows.h"

#define ITEMS         4 /* norm.cu: vectors of a thread that stay in registers */
#define MAX_THREADS   512 /* norm.cu */
#define BLOCK_THREADS 128

static int32_t vec_of(const fli_norm_params *p)
{
    const uintptr_t addresses = (uintptr_t)p->x | (uintptr_t)p->weight
                                | (uintptr_t)p->out | (uintptr_t)p->residual;

    return fli__rows_vec(fli_dtype_bytes(p->dtype), addresses,
                         p->hidden | p->x_stride[0] | p->x_stride[1]
                             | p->out_stride[0] | p->out_stride[1]
                             | p->residual_stride[0] | p->residual_stride[1]);
}

/* Of a row of n vectors: a power of two up to a warp, else whole warps.  Not of
 * how many rows there are, so that a row's bits do not depend on the batch. */
static uint32_t threads_of(int64_t n)
{
    const int64_t want = (n + ITEMS - 1) / ITEMS;
    uint32_t threads = 1;

    if (want > 32)
        return (uint32_t)MIN((want + 31) / 32 * 32, MAX_THREADS);
    while (threads < want)
        threads *= 2;
    return threads;
}

/* residual is an argument, as p.residual is NULL in a prepare. */
static fli_status launch_norm(const fli__call *call, fli_norm_params p,
                              int32_t residual)
{
    const int32_t vec = vec_of(&p);
    const uint32_t threads = threads_of(p.hidden / vec);
    fli__launch launch = {
        .grid = { 0, 1, 1 },
        .block = { threads, MAX(BLOCK_THREADS / threads, 1), 1 },
    };
    const fli__kernel *kernel;
    fli__instance instance;

    fli__instance_init(&instance, "cuda/norm.cu", "fli_norm", "norm%s_%s",
                       residual ? "_residual" : "", fli_dtype_name(p.dtype));
    fli__instance_define(&instance, "FLI_DTYPE", p.dtype);
    fli__instance_define(&instance, "RESIDUAL", residual);
    TRY(fli__rows_kernel(call, &instance, vec, &kernel));
    if (call->prepare)
        return FLI_OK;
    TRY(fli__rows_blocks(call, p.n_outer * p.n_inner, launch.block[1],
                         &launch.grid[0]));
    return fli__cuda_launch(call, kernel, &launch, &p);
}

fli_status fli__norm_cuda(const fli__call *call, const void *params)
{
    return launch_norm(call, *(const fli_norm_params *)params, 0);
}

fli_status fli__norm_residual_cuda(const fli__call *call, const void *params)
{
    return launch_norm(call, *(const fli_norm_params *)params, 1);
}
