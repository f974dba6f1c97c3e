/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of sample_from_logits and sample_from_probs. */
#include "abi/philox.h"
#include "abi/sample.h"

#include "ref/real.h"
#include "ref/sample_kept.h"

/* The least kept element whose inclusive prefix sum exceeds r. */
static int32_t pick(const row *r, const kept_set *kept, uint64_t u)
{
    const uint64_t target = (uint64_t)(((wide)u * kept->mass) >> 64);
    uint64_t sum = 0;
    int64_t i = 0;

    for (;; i++) {
        sum += is_kept(r, kept, i) ? mass_at(r, i) : 0;
        if (sum > target)
            return (int32_t)i;
    }
}

static uint64_t draw(const fli_sample_params *p, int64_t i)
{
    const uint64_t seed = p->seeds ? p->seeds[p->row_seeds ? i : 0] : p->seed;
    const uint64_t offset =
        p->offsets ? p->offsets[p->row_offsets ? i : 0] : p->offset;
    const int own_seed = p->seeds && p->row_seeds;

    return fli_philox_draw(seed, offset, own_seed ? 0 : (uint32_t)i, 0);
}

void REF(sample)(void *params, int32_t ith, int32_t nth)
{
    const fli_sample_params *p = params;

    for (int64_t i = ith; i < p->n_out; i += nth) {
        const int64_t from = p->indices ? p->indices[i] : i;
        row r = {
            .x = element(p->x, p->dtype, from * p->x_stride),
            .vocab = p->vocab,
            .temperature =
                p->temperatures ? p->temperatures[i] : p->temperature,
            .dtype = p->dtype,
            .is_probs = p->is_probs,
        };
        kept_set kept;
        const int valid = open_row(&r) && keep(&r, &p->filters, i, &kept);

        p->tokens[i] = valid ? pick(&r, &kept, draw(p, i)) : 0;
        if (p->valid)
            p->valid[i] = (uint8_t)valid;
    }
}
