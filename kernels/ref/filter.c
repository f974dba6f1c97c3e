/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of renorm_probs and mask_logits. */
#include "abi/sample.h"

#include "ref/real.h"
#include "ref/sample_kept.h"

/* Element i when it is not kept. */
static void drop(const fli_filter_params *p, void *out, int64_t i)
{
    store(out, p->dtype, i, p->is_probs ? 0 : -(real)INFINITY);
}

static void filter_row(const fli_filter_params *p, const row *r,
                       const kept_set *kept, void *out)
{
    /* out may be x: no element is read after it is written */
    for (int64_t i = 0; i < r->vocab; i++)
        if (!is_kept(r, kept, i))
            drop(p, out, i);
        else if (p->is_probs)
            ((float *)out)[i] = share_at(r, i, kept->mass);
        else
            store(out, p->dtype, i, load(r->x, p->dtype, i));
}

void REF(filter)(void *params, int32_t ith, int32_t nth)
{
    const fli_filter_params *p = params;

    for (int64_t i = ith; i < p->n_rows; i += nth) {
        void *out = element(p->out, p->dtype, i * p->out_stride);
        row r = {
            .x = element(p->x, p->dtype, i * p->x_stride),
            .vocab = p->vocab,
            .temperature = 1,
            .dtype = p->dtype,
            .is_probs = p->is_probs,
        };
        kept_set kept;
        const int valid = open_row(&r) && keep(&r, &p->filters, i, &kept);

        if (valid)
            filter_row(p, &r, &kept, out);
        else
            for (int64_t j = 0; j < p->vocab; j++)
                drop(p, out, j);
        if (p->valid)
            p->valid[i] = (uint8_t)valid;
    }
}
