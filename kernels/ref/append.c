/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of append. */
#include "abi/append.h"

#include "ref/real.h"

static void append_row(const fli_append_params *p, const fli_append_tensor *t,
                       int64_t row)
{
    const int64_t position = p->positions[row];
    const int64_t page = p->page_indices[p->page_indptr[p->batch_indices[row]]
                                         + position / p->page_size];

    for (int64_t head = 0; head < p->n_kv_heads; head++)
        for (int64_t i = 0; i < t->head_dim; i++)
            store(t->cache, p->dtype_cache,
                  page * t->page_stride
                      + position % p->page_size * t->token_stride
                      + head * t->head_stride + i,
                  load(t->in, p->dtype,
                       row * t->in_stride[0] + head * t->in_stride[1] + i));
}

void REF(append)(void *params, int32_t ith, int32_t nth)
{
    const fli_append_params *p = params;

    for (int64_t row = ith; row < p->n_rows; row += nth)
        if (p->batch_indices[row] >= 0 && p->positions[row] >= 0) {
            append_row(p, &p->tensor[0], row);
            append_row(p, &p->tensor[1], row);
        }
}
