/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of softmax. */
#include "abi/sample.h"

#include "ref/real.h"
#include "ref/sample_row.h"

static int softmax_row(const row *r, float *out)
{
    uint64_t mass = 0;

    for (int64_t i = 0; i < r->vocab; i++)
        mass += mass_at(r, i);
    /* out may be x: no element is read after it is written */
    for (int64_t i = 0; i < r->vocab; i++)
        out[i] = share_at(r, i, mass);
    return 1;
}

static int zero_row(const row *r, float *out)
{
    for (int64_t i = 0; i < r->vocab; i++)
        out[i] = 0;
    return 0;
}

void REF(softmax)(void *params, int32_t ith, int32_t nth)
{
    const fli_softmax_params *p = params;

    for (int64_t i = ith; i < p->n_rows; i += nth) {
        float *out = element(p->probs, FLI_ABI_F32, i * p->probs_stride);
        row r = {
            .x = element(p->logits, p->dtype, i * p->logits_stride),
            .vocab = p->vocab,
            .temperature =
                p->temperatures ? p->temperatures[i] : p->temperature,
            .dtype = p->dtype,
        };
        const int valid =
            open_row(&r) ? softmax_row(&r, out) : zero_row(&r, out);

        if (p->valid)
            p->valid[i] = (uint8_t)valid;
    }
}
