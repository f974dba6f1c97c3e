/* SPDX-License-Identifier: Apache-2.0 */
/* The weight of one probability or logit, as docs/sampling.md has it.
 * Everything is exact: real is not used. */
#ifndef FLI_REF_SAMPLE_WEIGHT_H
#define FLI_REF_SAMPLE_WEIGHT_H

#include "ref/real.h"

/* A weight: mantissa * 2^18 >> shift, or without the floor q = mantissa *
 * 2^(-23 - shift). */
typedef struct {
    uint32_t mantissa;
    int32_t shift;
} weight;

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

static inline weight weight_of_prob(float x, float max)
{
    const uint32_t bits = bits_of(x) & 0x7fffffff, bits_max = bits_of(max);
    const int32_t e = bits >> 23 ? (int32_t)(bits >> 23) : 1;
    const int32_t e_max = bits_max >> 23 ? (int32_t)(bits_max >> 23) : 1;

    return (weight){ (bits & 0x7fffff) | (bits >> 23 ? 0x800000 : 0),
                     e_max - e };
}

static inline weight weight_of_logit(float x, float max, float temperature)
{
    static const float c[] = { 1.5403530e-4f, 1.3333558e-3f, 9.6181291e-3f,
                               5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f,
                               1.0f };
    const float s = 0x1.715476p+23f / temperature;
    const float y = (x - max) * s;
    const int32_t t = y > -0x1p29f ? (int32_t)rintf(y) : -(1 << 29);
    const int32_t n = (t + (1 << 22)) >> 23;
    const float f = (float)(t - n * (1 << 23)) * 0x1p-23f;
    float p = c[0];

    for (int i = 1; i < 7; i++)
        p = fmaf(p, f, c[i]);
    return (weight){ (bits_of(p) & 0x7fffff) | 0x800000,
                     127 - (int32_t)(bits_of(p) >> 23) - n };
}

#endif
