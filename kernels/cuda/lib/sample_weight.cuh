/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and weights of docs/sampling.md, bit for bit: nothing is fused that the
 * page does not fuse, whatever the compiler may contract.
 *
 *   FLI_PROBS   1: values are probabilities, else logits */
#ifndef FLI_CUDA_SAMPLE_WEIGHT_CUH
#define FLI_CUDA_SAMPLE_WEIGHT_CUH

#include "cuda/lib/base.cuh"

#define WEIGHT_ONE ((uint64_t)1 << 41) /* of the greatest logit */

/* All values but -inf, or zero, have keys above it. */
#define BOTTOM_KEY (FLI_PROBS ? 0 : -0x7f800000)

/* What weights of a row are relative to. */
typedef struct {
    float max;
    int32_t top;      /* its key */
    float scale;      /* logits: units of 2^-23 octaves */
    int32_t exponent; /* probabilities: the exponent field of max, 1 for 0 */
} weigher;

/* Ascends with x; -0 is +0. */
DEVICE int32_t key_of(float x)
{
    const int32_t bits = __float_as_int(x), magnitude = bits & 0x7fffffff;

    return bits < 0 ? -magnitude : magnitude;
}

DEVICE float float_of_key(int32_t key)
{
    return __int_as_float(key < 0 ? (int32_t)(0x80000000u | (uint32_t)-key)
                                  : key);
}

/* x >> n; 0 from n = 64 on. */
DEVICE uint64_t shift_right(uint64_t x, int32_t n)
{
    asm("shr.u64 %0, %0, %1;" : "+l"(x) : "r"(n));
    return x;
}

DEVICE void weigher_init(weigher *w, float max, float temperature)
{
    const int32_t exponent = __float_as_int(max) >> 23;

    w->max = max;
    w->top = key_of(max);
    w->scale = __fdiv_rn(0x1.715476p+23f, temperature);
    w->exponent = MAX(exponent, 1);
}

/* A weight: mantissa * 2^18 >> shift, or without the floor mantissa * 2^(-23 -
 * shift).  mantissa has 24 bits. */
typedef struct {
    uint32_t mantissa;
    int32_t shift;
} weight;

/* The weight of a probability. */
DEVICE weight weight_of_prob(const weigher *w, float x)
{
    const int32_t bits = __float_as_int(x) & 0x7fffffff;
    const int32_t exponent = bits >> 23;
    weight y;

    y.mantissa = (uint32_t)(bits & 0x7fffff) | (exponent ? 0x800000u : 0);
    y.shift = w->exponent - MAX(exponent, 1);
    return y;
}

/* A logit's weight without the floor: a normal float, at least 2^-64.  So is that
 * of -inf, whose mass is 0.  In a row with +inf the difference of two is NaN, which
 * becomes 0: the weight of the greatest. */
DEVICE float q_of_logit(const weigher *w, float x)
{
    const float y = __fmul_rn(__fsub_rn(x, w->max), w->scale);
    const int32_t t = max(__float2int_rn(y), -(1 << 29));
    const uint32_t rounded = (uint32_t)(t + (1 << 22));
    const uint32_t rest = rounded & 0x7fffff;
    const float f = __fsub_rn(__uint_as_float(0x3f800000 | rest), 1.5f);
    float p = 1.5403530e-4f;

    p = __fmaf_rn(p, f, 1.3333558e-3f);
    p = __fmaf_rn(p, f, 9.6181291e-3f);
    p = __fmaf_rn(p, f, 5.5504109e-2f);
    p = __fmaf_rn(p, f, 2.4022651e-1f);
    p = __fmaf_rn(p, f, 6.9314718e-1f);
    p = __fmaf_rn(p, f, 1.0f);
    /* the whole octaves go to the exponent */
    return __uint_as_float(__float_as_uint(p) + (rounded & 0xff800000u));
}

/* The weight as an integer, of a normal q or of 0. */
DEVICE uint64_t mass_of_q(float q)
{
    const uint32_t bits = __float_as_uint(q);
    const uint32_t mantissa = bits << 8 | 0x80000000u;

    /* the mantissa is 40 bits too high; the high word alone is shifted */
    return shift_right((uint64_t)mantissa << 32,
                       22 + 127 - (int32_t)(bits >> 23));
}

/* The weight as an integer below 2^42. */
DEVICE uint64_t mass_of(const weigher *w, float x)
{
#if FLI_PROBS
    const weight y = weight_of_prob(w, x);

    return shift_right((uint64_t)y.mantissa << 18, y.shift);
#else
    return mass_of_q(q_of_logit(w, x));
#endif
}

/* --- shares of a mass ---------------------------------------------------- */

/* ceil(clamp(share, 0, 1) * 2^63). */
DEVICE uint64_t share_bits(float share)
{
    const uint32_t bits = __float_as_uint(share);
    const int32_t exponent = (int32_t)(bits >> 23);
    const uint64_t mantissa = (bits & 0x7fffff) | (exponent ? 0x800000u : 0);
    const int32_t shift = MAX(exponent, 1) - 87;

    if (!(share > 0))
        return 0;
    if (share >= 1)
        return (uint64_t)1 << 63;
    if (shift >= 0)
        return mantissa << shift;
    if (shift <= -24)
        return 1;
    return (mantissa + ((uint64_t)1 << -shift) - 1) >> -shift;
}

/* ceil(share * mass), share being rounded up to 63 bits. */
DEVICE uint64_t share_of(float share, uint64_t mass)
{
    const uint64_t a = share_bits(share);
    const uint64_t low = a * mass, high = __umul64hi(a, mass);

    return (high << 1 | low >> 63) + (low << 1 != 0);
}

/* top_p's limit: the greatest value is always kept. */
DEVICE uint64_t limit_of(float top_p, uint64_t mass)
{
    const uint64_t limit = share_of(top_p, mass);

    return MAX(limit, 1);
}

/* --- shares as floats ---------------------------------------------------- */

/* 1 / mass, in units of 2^-41. */
DEVICE float inverse_of(uint64_t mass)
{
    return __fdiv_rn(0x1p41f, __ull2float_rn(mass));
}

/* Rounded once, subnormals included; then what is below 2^-126 becomes 0. */
DEVICE float share_rounded(float q, float inverse)
{
    const float share = __fmul_rn(q, inverse);

    return share < 0x1p-126f ? 0 : share;
}

/* A probability's: q is exact in a float down to a shift of 126.  Below, inverse
 * is at most 1, and of all products only this one is rounded up to 2^-126. */
DEVICE float share_of_prob(const weigher *w, float x, float inverse)
{
    const weight y = weight_of_prob(w, x);

    if (y.shift > 126)
        return y.shift == 127 && y.mantissa == 0xffffff && inverse == 1
                   ? 0x1p-126f
                   : 0;
    const float q = __fmul_rn(__fmul_rn(__uint2float_rn(y.mantissa), 0x1p-23f),
                              __int_as_float((127 - y.shift) << 23));

    return share_rounded(q, inverse);
}

#endif
