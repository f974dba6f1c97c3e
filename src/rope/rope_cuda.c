/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of rope: one for each FLI_ROPE_PAIRS pairs. */
#include "rope/rope.h"

#include "abi/rope.h"
#include "jit/rows.h"

#define ITEMS       2    /* rope.cu: heads that a thread has under way */
#define MAX_THREADS 256  /* rope.cu */
#define MAX_ROWS    64   /* a block's limit along z */
#define TABLE       1024 /* rope.cu: cosines of a block's rows */

static int32_t vec_of(const fli_rope_params *p)
{
    uintptr_t addresses = 0;
    int64_t lengths = p->rotary_dim / 2 | p->head_dim;

    for (int j = 0; j < 2; j++) {
        const fli_rope_tensor *t = &p->tensor[j];

        if (t->n_heads == 0)
            continue;
        addresses |= (uintptr_t)t->in | (uintptr_t)t->out;
        lengths |= t->in_stride[0] | t->in_stride[1] | t->out_stride[0]
                   | t->out_stride[1];
    }
    return fli__rows_vec(fli_dtype_bytes(p->dtype), addresses, lengths);
}

/* Threads are (vector of pairs, head, row). */
static fli__launch launch_of(const fli_rope_params *p, int32_t vec,
                             int32_t n_pairs)
{
    const int64_t n_heads = p->tensor[0].n_heads + p->tensor[1].n_heads;
    const uint32_t vectors = (uint32_t)(n_pairs / vec);
    const uint32_t heads =
        (uint32_t)MIN((n_heads + ITEMS - 1) / ITEMS, MAX_THREADS / vectors);
    const uint32_t rows =
        MIN(MIN(MAX_THREADS / 2 / (vectors * heads), MAX_ROWS),
            (uint32_t)(TABLE / n_pairs));

    return (fli__launch){
        .grid = { 0, 1, 1 },
        .block = { vectors, heads, MAX(rows, 1) },
    };
}

fli_status fli__rope_cuda(const fli__call *call, const void *params)
{
    fli_rope_launch l = { .p = *(const fli_rope_params *)params };
    const int32_t vec = vec_of(&l.p), n_pairs = l.p.rotary_dim / 2;
    const fli__kernel *kernel;
    fli__instance instance;

    fli__instance_init(&instance, "cuda/rope.cu", "fli_rope", "rope%s_%s",
                       l.p.interleaved ? "_interleaved" : "",
                       fli_dtype_name(l.p.dtype));
    fli__instance_define(&instance, "FLI_DTYPE", l.p.dtype);
    fli__instance_define(&instance, "INTERLEAVED", l.p.interleaved);
    TRY(fli__rows_kernel(call, &instance, vec, &kernel));
    if (call->prepare)
        return FLI_OK;
    for (; l.first < n_pairs; l.first += FLI_ROPE_PAIRS) {
        l.n_pairs = MIN(n_pairs - l.first, FLI_ROPE_PAIRS);
        if (!l.p.cos_sin_cache)
            for (int32_t i = 0; i < l.n_pairs; i++)
                l.frequency[i] = fli__rope_frequency(&l.p, l.first + i);
        fli__launch launch = launch_of(&l.p, vec, l.n_pairs);

        TRY(fli__rows_blocks(call, l.p.n_rows, launch.block[2],
                             &launch.grid[0]));
        TRY(fli__cuda_launch(call, kernel, &launch, &l));
    }
    return FLI_OK;
}
