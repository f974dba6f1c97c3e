/* SPDX-License-Identifier: Apache-2.0 */
/* The references are compiled twice: in double as <stem>_ref, the specification
 * and last implementation, and in float as <stem>_plain, from which the checker
 * takes its tolerance.  tgmath picks the functions. */
#ifndef FLI_REF_REAL_H
#define FLI_REF_REAL_H

#include <math.h>
#include <string.h>
#include <tgmath.h>

#include "abi/kernels.h"

#if defined(FLI_PLAIN)
typedef float real;
#define REF(stem) fli__##stem##_plain
#else
typedef double real;
#define REF(stem) fli__##stem##_ref
#endif

/* The value of element i of a tensor of f32, f16 or bf16. */
static inline real load(const void *data, int32_t dtype, int64_t i)
{
    if (dtype == FLI_ABI_F32)
        return ((const float *)data)[i];
    const uint16_t h = ((const uint16_t *)data)[i];
    uint32_t bits;
    float f;

    if (dtype == FLI_ABI_BF16) {
        bits = (uint32_t)h << 16;
    } else {
        const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
        const int exponent = (h >> 10) & 31;
        const uint32_t fraction = h & 0x3ff;

        if (exponent == 0) /* zero and subnormals: fraction * 2^-24 */
            return (sign ? -1 : 1) * (real)fraction * (real)0x1p-24;
        bits =
            sign
            | (exponent == 31 ? 0x7f800000u : (uint32_t)(exponent + 112) << 23)
            | fraction << 13;
    }
    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* value rounded to nearest even in f16: 11 bits, exponents -14 .. 15. */
static inline uint16_t f16_bits(double value)
{
    if (isnan(value))
        return 0x7e00;
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    const double a = fabs(value);

    if (a < 0x1p-14) /* rint may carry into the first normal number */
        return (uint16_t)(sign | (uint16_t)rint(a * 0x1p24));
    if (a >= 65520)
        return sign | 0x7c00;
    const int e = ilogb(a);
    const int m = (int)rint(ldexp(a, 10 - e)); /* 1024 .. 2048 */

    return (uint16_t)(sign | (((e + 14) << 10) + m));
}

/* value rounded to nearest even in bf16: 8 bits, the exponents of f32. */
static inline uint16_t bf16_bits(double value)
{
    if (isnan(value))
        return 0x7fc0;
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    const double a = fabs(value);

    if (a < 0x1p-126)
        return (uint16_t)(sign | (uint16_t)rint(ldexp(a, 133)));
    if (a >= ldexp(511, 119)) /* halfway from the greatest to 2^128 */
        return sign | 0x7f80;
    const int e = ilogb(a);
    const int m = (int)rint(ldexp(a, 7 - e)); /* 128 .. 256 */

    return (uint16_t)(sign | (((e + 126) << 7) + m));
}

/* Rounds once, to nearest even. */
static inline void store(void *data, int32_t dtype, int64_t i, real value)
{
    if (dtype == FLI_ABI_F32)
        ((float *)data)[i] = (float)value;
    else
        ((uint16_t *)data)[i] =
            dtype == FLI_ABI_F16 ? f16_bits(value) : bf16_bits(value);
}

#endif
