/* SPDX-License-Identifier: Apache-2.0 */
/* append: row t of k and v becomes token positions[t] of request
 * batch_indices[t], that is token position % page_size of page
 * page_indices[page_indptr[request] + position / page_size]; rows with a
 * negative index or position are skipped. */
#ifndef FLI_ABI_APPEND_H
#define FLI_ABI_APPEND_H

#include "abi/types.h"

/* One of k and v. */
typedef struct {
    const void *in; /* [n_rows, n_kv_heads, head_dim] */
    void *cache;    /* pages of page_size tokens */
    int64_t head_dim;
    int64_t in_stride[2]; /* row, head */
    int64_t page_stride, token_stride, head_stride;
} fli_append_tensor;

typedef struct {
    fli_append_tensor tensor[2];              /* k, v */
    const int32_t *batch_indices, *positions; /* [n_rows] */
    const int32_t *page_indptr, *page_indices;
    int64_t n_rows, n_kv_heads, page_size;
    int32_t dtype, dtype_cache; /* f32, f16, bf16 */
    int64_t n_requests, n_indices,
        n_pages; /* CUDA: what ids are held against */
    uint32_t *sticky;
} fli_append_params;

#endif
