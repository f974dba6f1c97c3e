/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of silu_and_mul, gelu_and_mul and gelu_tanh_and_mul. */
#include "activation/activation.h"

#include "abi/activation.h"
#include "jit/rows.h"

#define ITEMS       2   /* activation.cu */
#define MAX_THREADS 256 /* activation.cu */

fli_status fli__activation_cuda(const fli__call *call, const void *params)
{
    static const char *const names[] = { "silu", "gelu", "gelu_tanh" };
    fli_activation_params p = *(const fli_activation_params *)params;
    const int32_t vec = fli__rows_vec(fli_dtype_bytes(p.dtype),
                                      (uintptr_t)p.x | (uintptr_t)p.out,
                                      p.h | p.x_stride | p.out_stride);
    const fli__row_cut cut = fli__rows_cut(p.h / vec, ITEMS, MAX_THREADS);
    fli__launch launch = {
        .grid = { 0, cut.parts, 1 },
        .block = { cut.threads, cut.rows, 1 },
    };
    const fli__kernel *kernel;
    fli__instance instance;

    fli__instance_init(&instance, "cuda/activation.cu", "fli_activation",
                       "%s_and_mul_%s", names[p.act], fli_dtype_name(p.dtype));
    fli__instance_define(&instance, "FLI_DTYPE", p.dtype);
    fli__instance_define(&instance, "ACT", p.act);
    TRY(fli__rows_kernel(call, &instance, vec, &kernel));
    if (call->prepare)
        return FLI_OK;
    TRY(fli__rows_blocks(call, p.n_rows, cut.rows, &launch.grid[0]));
    return fli__cuda_launch(call, kernel, &launch, &p);
}
