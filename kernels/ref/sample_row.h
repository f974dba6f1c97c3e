/* SPDX-License-Identifier: Apache-2.0 */
/* A row of logits or probabilities and its kept set, as docs/sampling.md has
 * them.  Everything is exact: real is not used. */
#ifndef FLI_REF_SAMPLE_ROW_H
#define FLI_REF_SAMPLE_ROW_H

#include "abi/sample.h"

#include "ref/real.h"

/* A weight: mantissa * 2^18 >> shift, or without the floor q = mantissa *
 * 2^(-23 - shift). */
typedef struct {
    uint32_t mantissa;
    int32_t shift;
} weight;

typedef struct {
    const void *x; /* the row's first element */
    int64_t vocab;
    float temperature, max;
    int64_t first; /* of max */
    int32_t dtype, is_probs;
} row;

static inline float value(const row *r, int64_t i)
{
    return (float)load(r->x, r->dtype, i);
}

static inline uint32_t bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

/* Ascends with x; -0 is +0. */
static inline int32_t key_of(float x)
{
    const int32_t magnitude = (int32_t)(bits_of(x) & 0x7fffffff);

    return bits_of(x) >> 31 ? -magnitude : magnitude;
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

static inline weight weight_of_prob(const row *r, float x)
{
    const uint32_t bits = bits_of(x) & 0x7fffffff, max = bits_of(r->max);
    const int32_t e = bits >> 23 ? (int32_t)(bits >> 23) : 1;
    const int32_t e_max = max >> 23 ? (int32_t)(max >> 23) : 1;

    return (weight){ (bits & 0x7fffff) | (bits >> 23 ? 0x800000 : 0),
                     e_max - e };
}

static inline weight weight_of_logit(const row *r, float x)
{
    static const float c[] = { 1.5403530e-4f, 1.3333558e-3f, 9.6181291e-3f,
                               5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f,
                               1.0f };
    const float s = 0x1.715476p+23f / r->temperature;
    const float y = (x - r->max) * s;
    const int32_t t = y > -0x1p29f ? (int32_t)rintf(y) : -(1 << 29);
    const int32_t n = (t + (1 << 22)) >> 23;
    const float f = (float)(t - n * (1 << 23)) * 0x1p-23f;
    float p = c[0];

    for (int i = 1; i < 7; i++)
        p = fmaf(p, f, c[i]);
    return (weight){ (bits_of(p) & 0x7fffff) | 0x800000,
                     127 - (int32_t)(bits_of(p) >> 23) - n };
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
    return r->is_probs ? weight_of_prob(r, x) : weight_of_logit(r, x);
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
