/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of page_copy. */
#include "abi/page_copy.h"
#include "jit/rows.h"
#include "page/page.h"

#define ITEMS       4   /* page_copy.cu */
#define MAX_THREADS 256 /* page_copy.cu */

/* What lies end to end becomes one head. */
static void join(fli_page_copy_tensor *t)
{
    if (t->stride[2] == t->head_dim || t->shape[1] == 1) {
        t->head_dim *= t->shape[1];
        t->shape[1] = 1;
        t->stride[2] = 0;
    }
    if (t->shape[1] == 1 && (t->stride[1] == t->head_dim || t->shape[0] == 1)) {
        t->head_dim *= t->shape[0];
        t->shape[0] = 1;
        t->stride[1] = 0;
    }
}

static int32_t vec_of(const fli_page_copy_params *p)
{
    uintptr_t addresses = 0;
    int64_t lengths = 0;

    for (int i = 0; i < 2; i++) {
        const fli_page_copy_tensor *t = &p->tensor[i];

        addresses |= (uintptr_t)t->data;
        lengths |= t->head_dim | t->stride[0] | t->stride[1] | t->stride[2];
    }
    return fli__rows_vec((size_t)p->element_bytes, addresses, lengths);
}

fli_status fli__page_copy_cuda(const fli__call *call, const void *params)
{
    fli_page_copy_params p = *(const fli_page_copy_params *)params;

    join(&p.tensor[0]);
    join(&p.tensor[1]);
    const fli_page_copy_tensor *k = &p.tensor[0], *v = &p.tensor[1];
    const int32_t vec = vec_of(&p);
    const int64_t rows =
        MAX(k->shape[0] * k->shape[1], v->shape[0] * v->shape[1]);
    const fli__row_cut cut =
        fli__rows_cut(MAX(k->head_dim, v->head_dim) / vec, ITEMS, MAX_THREADS);
    fli__launch launch = {
        .grid = { 0, cut.parts, 2 },
        .block = { cut.threads, cut.rows, 1 },
    };
    const fli__kernel *kernel;
    fli__instance instance;

    fli__instance_init(&instance, "cuda/page_copy.cu", "fli_page_copy",
                       "page_copy_%d", (int)p.element_bytes);
    fli__instance_define(&instance, "FLI_DTYPE",
                         p.element_bytes == 4 ? FLI_ABI_F32 : FLI_ABI_BF16);
    TRY(fli__rows_kernel(call, &instance, vec, &kernel));
    if (call->prepare)
        return FLI_OK;
    TRY(fli__rows_blocks(call, p.n * rows, cut.rows, &launch.grid[0]));
    return fli__cuda_launch(call, kernel, &launch, &p);
}
