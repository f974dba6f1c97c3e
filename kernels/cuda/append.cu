/* SPDX-License-Identifier: Apache-2.0 */
/* append: threads are (vector, head of a row); the data of a head is under way
 * while its page is looked up.  Rows whose page is not to be found are skipped:
 * nothing outside of the cache is written.
 *
 *   FLI_DTYPE, FLI_DTYPE_CACHE, VEC */
#include "abi/append.h"
#include "cuda/lib/vector.cuh"

#define MAX_THREADS 256

/* The page that holds a position of request; -1 if there is none. */
DEVICE int64_t page_of(const fli_append_params *p, int32_t request,
                       int64_t page_number)
{
    if (request >= p->n_requests) {
        raise_sticky(p->sticky, FLI_STICKY_INDEX);
        return -1;
    }
    const int64_t begin = p->page_indptr[request];
    const int64_t end = MIN(p->page_indptr[request + 1], p->n_indices);

    if (begin < 0 || begin + page_number >= end) {
        raise_sticky(p->sticky, FLI_STICKY_TABLE);
        return -1;
    }
    const int64_t page = p->page_indices[begin + page_number];

    if (page < 0 || page >= p->n_pages) {
        raise_sticky(p->sticky, FLI_STICKY_PAGE);
        return -1;
    }
    return page;
}

/* Element i of a head of a row; zeros behind the last. */
DEVICE vec_bits load_head(const fli_append_tensor *t, int64_t row, int64_t head,
                          int64_t i)
{
    const int64_t at = row * t->in_stride[0] + head * t->in_stride[1];

    return load_vec_below(t->in, FLI_DTYPE, at + i, at + t->head_dim);
}

DEVICE vec_bits convert(vec_bits v)
{
    float x[VEC];

    if (FLI_DTYPE == FLI_DTYPE_CACHE)
        return v;
    unpack_vec(v, FLI_DTYPE, x);
    return pack_vec(x, FLI_DTYPE_CACHE);
}

DEVICE void store_head(const fli_append_tensor *t, int64_t page, int64_t slot,
                       int64_t head, int64_t i, vec_bits v)
{
    if (i < t->head_dim)
        store_vec(t->cache, FLI_DTYPE_CACHE,
                  page * t->page_stride + slot * t->token_stride
                      + head * t->head_stride + i,
                  convert(v));
}

KERNEL __launch_bounds__(MAX_THREADS)
    fli_append(const __grid_constant__ fli_append_params p)
{
    const int64_t item = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    const int64_t row = item / p.n_kv_heads, head = item - row * p.n_kv_heads;
    const int64_t head_dim = MAX(p.tensor[0].head_dim, p.tensor[1].head_dim);
    /* a position has 31 bits, and so has what divides it */
    const uint32_t page_size = (uint32_t)MIN(p.page_size, 0x80000000ll);
    int64_t i = threadIdx.x * VEC;

    pdl_wait();
    pdl_launch();
    if (row >= p.n_rows)
        return;
    const int32_t request = p.batch_indices[row], position = p.positions[row];
    vec_bits k = load_head(&p.tensor[0], row, head, i);
    vec_bits v = load_head(&p.tensor[1], row, head, i);

    if (request < 0 || position < 0)
        return;
    const int64_t page = page_of(&p, request, (uint32_t)position / page_size);
    const int64_t slot = (uint32_t)position % page_size;

    if (page < 0)
        return;
    while (i < head_dim) {
        store_head(&p.tensor[0], page, slot, head, i, k);
        store_head(&p.tensor[1], page, slot, head, i, v);
        i += blockDim.x * VEC;
        k = load_head(&p.tensor[0], row, head, i);
        v = load_head(&p.tensor[1], row, head, i);
    }
}
