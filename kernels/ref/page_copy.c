/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of page_copy. */
#include "abi/page_copy.h"

#include "ref/real.h"

static void copy_page(const fli_page_copy_params *p,
                      const fli_page_copy_tensor *t, int64_t from, int64_t to)
{
    const int64_t bytes = p->element_bytes;
    char *data = t->data;

    for (int64_t i = 0; i < t->shape[0]; i++)
        for (int64_t j = 0; j < t->shape[1]; j++) {
            const int64_t head = i * t->stride[1] + j * t->stride[2];

            memcpy(data + (to * t->stride[0] + head) * bytes,
                   data + (from * t->stride[0] + head) * bytes,
                   (size_t)(t->head_dim * bytes));
        }
}

void REF(page_copy)(void *params, int32_t ith, int32_t nth)
{
    const fli_page_copy_params *p = params;

    for (int64_t i = ith; i < p->n; i += nth) {
        copy_page(p, &p->tensor[0], p->from[i], p->to[i]);
        copy_page(p, &p->tensor[1], p->from[i], p->to[i]);
    }
}
