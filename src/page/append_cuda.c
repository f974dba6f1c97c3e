/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of append. */
#include "abi/append.h"
#include "jit/rows.h"
#include "page/page.h"

#define MAX_THREADS 256 /* append.cu */

static int32_t vec_of(const fli_append_params *p)
{
    uintptr_t addresses = 0;
    int64_t lengths = 0;

    for (int i = 0; i < 2; i++) {
        const fli_append_tensor *t = &p->tensor[i];

        addresses |= (uintptr_t)t->in | (uintptr_t)t->cache;
        lengths |= t->head_dim | t->in_stride[0] | t->in_stride[1]
                   | t->page_stride | t->token_stride | t->head_stride;
    }
    return fli__rows_vec(
        MAX(fli_dtype_bytes(p->dtype), fli_dtype_bytes(p->dtype_cache)),
        addresses, lengths);
}

fli_status fli__append_cuda(const fli__call *call, const void *params)
{
    fli_append_params p = *(const fli_append_params *)params;
    const int32_t vec = vec_of(&p);
    const int64_t head_dim = MAX(p.tensor[0].head_dim, p.tensor[1].head_dim);
    const fli__row_cut cut = fli__rows_cut(head_dim / vec, 1, MAX_THREADS);
    fli__launch launch = {
        .grid = { 0, 1, 1 },
        .block = { cut.threads, cut.rows, 1 },
    };
    const fli__kernel *kernel;
    fli__instance instance;

    fli__instance_init(&instance, "cuda/append.cu", "fli_append",
                       "append_%s_%s", fli_dtype_name(p.dtype),
                       fli_dtype_name(p.dtype_cache));
    fli__instance_define(&instance, "FLI_DTYPE", p.dtype);
    fli__instance_define(&instance, "FLI_DTYPE_CACHE", p.dtype_cache);
    TRY(fli__rows_kernel(call, &instance, vec, &kernel));
    if (call->prepare)
        return FLI_OK;
    TRY(fli__rows_blocks(call, p.n_rows * p.n_kv_heads, cut.rows,
                         &launch.grid[0]));
    return fli__cuda_launch(call, kernel, &launch, &p);
}
