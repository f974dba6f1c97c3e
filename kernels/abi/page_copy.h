/* SPDX-License-Identifier: Apache-2.0 */
/* page_copy: page to[i] = page from[i] of k and of v, bit for bit. */
#ifndef FLI_ABI_PAGE_COPY_H
#define FLI_ABI_PAGE_COPY_H

#include "abi/types.h"

/* One of k and v: pages of [shape[0], shape[1]] heads. */
typedef struct {
    void *data;
    int64_t shape[2], head_dim;
    int64_t stride[3]; /* page, then as shape */
} fli_page_copy_tensor;

typedef struct {
    fli_page_copy_tensor tensor[2]; /* k, v */
    const int32_t *from, *to;       /* [n] */
    int64_t n;
    int64_t element_bytes;
    int64_t n_pages; /* CUDA: what ids are held against */
    uint32_t *sticky;
} fli_page_copy_params;

#endif
