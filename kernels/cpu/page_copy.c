/* SPDX-License-Identifier: Apache-2.0 */
/* page_copy: what lies end to end in a page is one memcpy.  The parts share
 * the slices (page, outer index) of k and v, so that one page serves all
 * threads. */
#include <string.h>

#include "abi/kernels.h"
#include "abi/page_copy.h"
#include "cpu/lib/vec.h"

/* Slice i, [shape[1], head_dim] of a page. */
static void copy_slice(const fli_page_copy_params *p,
                       const fli_page_copy_tensor *t, int64_t i)
{
    const int64_t bytes = p->element_bytes;
    const int64_t page = i / t->shape[0], outer = i % t->shape[0];
    const char *from =
        (const char *)t->data
        + (p->from[page] * t->stride[0] + outer * t->stride[1]) * bytes;
    char *to = (char *)t->data
               + (p->to[page] * t->stride[0] + outer * t->stride[1]) * bytes;

    if (t->stride[2] == t->head_dim) {
        memcpy(to, from, (size_t)(t->shape[1] * t->head_dim * bytes));
        return;
    }
    for (int64_t j = 0; j < t->shape[1]; j++)
        memcpy(to + j * t->stride[2] * bytes, from + j * t->stride[2] * bytes,
               (size_t)(t->head_dim * bytes));
}

void KERNEL(page_copy)(void *params, int32_t ith, int32_t nth)
{
    const fli_page_copy_params *p = params;

    for (int k = 0; k < 2; k++) {
        const int64_t n = p->n * p->tensor[k].shape[0];

        for (int64_t i = n * ith / nth; i < n * (ith + 1) / nth; i++)
            copy_slice(p, &p->tensor[k], i);
    }
}
