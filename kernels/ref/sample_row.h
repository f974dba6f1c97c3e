/* SPDX-License-Identifier: Apache-2.0 */
/* A row of logits or probabilities, as docs/sampling.md has it. */
#ifndef FLI_REF_SAMPLE_ROW_H
#define FLI_REF_SAMPLE_ROW_H

#include "abi/sample.h"

#include "ref/sample_weight.h"

typedef struct {
    const void *x; /* the row's first element */
    int64_t vocab;
    float temperature, max;
    int64_t first; /* of max */
    int32_t dtype, is_probs;
} row;

/* Element i of x; NULL stays NULL. */
static inline void *element(const void *x, int32_t dtype, int64_t i)
{
    return x ? (char *)x + i * (dtype == FLI_ABI_F32 ? 4 : 2) : NULL;
}

static inline float value(const row *r, int64_t i)
{
    return (float)load(r->x, r->dtype, i);
}

/* Finds max; 0 for a row that is invalid or empty. */
static inline int open_row(row *r)
{
    const float none = r->is_probs ? 0 : -INFINITY;

    r->max = none;
    r->first = 0;
    if (!(r->temperature >= 0 && r->temperature < INFINITY))
        return 0;
    for (int64_t i = 0; i < r->vocab; i++) {
        const float x = value(r, i);

        if (isnan(x) || (r->is_probs && key_of(x) < 0))
            return 0;
        if (key_of(x) > key_of(r->max)) {
            r->max = x;
            r->first = i;
        }
    }
    return key_of(r->max) > key_of(none);
}

static inline weight weight_at(const row *r, int64_t i)
{
    static const weight zero = { 0, 0 }, one = { 0x800000, 0 };
    const float x = value(r, i);

    if (r->temperature < 0x1p-64f)
        return i == r->first ? one : zero;
    if (isinf(r->max))
        return x == r->max ? one : zero;
    if (isinf(x))
        return zero;
    return r->is_probs ? weight_of_prob(x, r->max)
                       : weight_of_logit(x, r->max, r->temperature);
}

static inline uint64_t mass_at(const row *r, int64_t i)
{
    const weight w = weight_at(r, i);

    return w.shift < 64 ? (uint64_t)w.mantissa << 18 >> w.shift : 0;
}

/* What softmax and renorm write: q over the kept mass. */
static inline float share_at(const row *r, int64_t i, uint64_t kept_mass)
{
    const weight w = weight_at(r, i);
    const double q = ldexp((double)w.mantissa, -23 - w.shift);
    const float scale = 0x1p41f / (float)kept_mass;
    const float share = (float)(q * (double)scale); /* the product is exact */

    return share < 0x1p-126f ? 0 : share;
}

#endif
