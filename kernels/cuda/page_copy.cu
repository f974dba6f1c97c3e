/* SPDX-License-Identifier: Apache-2.0 */
/* page_copy: what lies end to end in a page is one row (the host joins it), of
 * which blockIdx.y takes a part; blockIdx.z is k or v.  Pages that are not in
 * the pool are skipped.
 *
 *   FLI_DTYPE   any of the element's size
 *   VEC */
#include "abi/page_copy.h"
#include "cuda/lib/vector.cuh"

#define ITEMS       4 /* vectors that a thread has under way */
#define MAX_THREADS 256

DEVICE bool is_page(const fli_page_copy_params *p, int32_t page)
{
    if (page >= 0 && page < p->n_pages)
        return true;
    raise_sticky(p->sticky, FLI_STICKY_PAGE);
    return false;
}

KERNEL __launch_bounds__(MAX_THREADS)
    fli_page_copy(const __grid_constant__ fli_page_copy_params p)
{
    const fli_page_copy_tensor *const t = &p.tensor[blockIdx.z];
    const int64_t row = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    const int64_t outer = row / t->shape[1], inner = row - outer * t->shape[1];
    const int64_t i = outer / t->shape[0];
    const int64_t at =
        (outer - i * t->shape[0]) * t->stride[1] + inner * t->stride[2];
    const int64_t step = blockDim.x * VEC;
    int64_t first = blockIdx.y * ITEMS * step + threadIdx.x * VEC;

    pdl_wait();
    pdl_launch();
    if (i >= p.n)
        return;
    const int32_t from_page = p.from[i], to_page = p.to[i];

    if (!is_page(&p, from_page) || !is_page(&p, to_page))
        return;
    const int64_t from = from_page * t->stride[0] + at;
    const int64_t to = to_page * t->stride[0] + at;

    for (; first < t->head_dim; first += gridDim.y * ITEMS * step) {
        vec_bits v[ITEMS];

#pragma unroll
        for (int32_t k = 0; k < ITEMS; k++)
            v[k] = load_vec_below(t->data, FLI_DTYPE, from + first + k * step,
                                  from + t->head_dim);
#pragma unroll
        for (int32_t k = 0; k < ITEMS; k++)
            if (first + k * step < t->head_dim)
                store_vec(t->data, FLI_DTYPE, to + first + k * step, v[k]);
    }
}
