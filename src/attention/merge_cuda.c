/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of merge_states. */
#include "attention/merge.h"

#include "abi/merge.h"
#include "jit/rows.h"

#define MAX_THREADS 256 /* merge.cu */

fli_status fli__merge_cuda(const fli__call *call, const void *params)
{
    fli_merge_params p = *(const fli_merge_params *)params;
    const int32_t vec = fli__rows_vec(
        fli_dtype_bytes(p.dtype), (uintptr_t)p.v | (uintptr_t)p.v_out,
        p.head_dim | p.v_stride[0] | p.v_stride[1] | p.v_stride[2]
            | p.v_out_stride[0] | p.v_out_stride[1]);
    const fli__row_cut cut = fli__rows_cut(p.head_dim / vec, 1, MAX_THREADS);
    fli__launch launch = {
        .grid = { 0, 1, 1 },
        .block = { cut.threads, cut.rows, 1 },
    };
    const fli__kernel *kernel;
    fli__instance instance;

    fli__instance_init(&instance, "cuda/merge.cu", "fli_merge", "merge_%s",
                       fli_dtype_name(p.dtype));
    fli__instance_define(&instance, "FLI_DTYPE", p.dtype);
    TRY(fli__rows_kernel(call, &instance, vec, &kernel));
    if (call->prepare)
        return FLI_OK;
    TRY(fli__rows_blocks(call, p.n_rows * p.n_heads, cut.rows,
                         &launch.grid[0]));
    return fli__cuda_launch(call, kernel, &launch, &p);
}
