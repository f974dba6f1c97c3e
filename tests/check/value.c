/* SPDX-License-Identifier: Apache-2.0 */
/* Elements of any dtype as doubles, and random numbers: written here anew, so
 * that the library's own conversions are checked by something else. */
#include <math.h>
#include <string.h>

#include "flicheck.h"

/* A float dtype: significand bits with the hidden one, exponents. */
typedef struct {
    int bits, min_exponent, max_exponent;
} format;

static format format_of(int32_t dtype)
{
    if (dtype == FLI_F16)
        return (format){ 11, -14, 15 };
    return (format){ dtype == FLI_BF16 ? 8 : 24, -126, 127 };
}

int check_is_float(int32_t dtype)
{
    return dtype == FLI_F32 || dtype == FLI_F16 || dtype == FLI_BF16;
}

double check_ulp(int32_t dtype, double x)
{
    const format f = format_of(dtype);
    const double a = fabs(x);
    int e = f.min_exponent;

    if (a >= ldexp(1, f.min_exponent))
        e = ilogb(a);
    if (e > f.max_exponent) /* inf too */
        e = f.max_exponent;
    return ldexp(1, e - f.bits + 1);
}

static double decode_half(uint16_t half, int32_t dtype)
{
    const format f = format_of(dtype);
    const int fraction_bits = f.bits - 1;
    const int fraction = half & ((1 << fraction_bits) - 1);
    const int exponent = (half & 0x7fff) >> fraction_bits;
    const int greatest = 2 * f.max_exponent + 1;
    double a;

    if (exponent == greatest)
        a = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        a = ldexp(fraction, f.min_exponent - fraction_bits);
    else
        a = ldexp(fraction | 1 << fraction_bits,
                  exponent - f.max_exponent - fraction_bits);
    return half & 0x8000 ? -a : a;
}

static uint16_t encode_half(double value, int32_t dtype)
{
    const format f = format_of(dtype);
    const int fraction_bits = f.bits - 1;
    const int greatest = 2 * f.max_exponent + 1;
    const int sign = signbit(value) ? 0x8000 : 0;

    if (isnan(value))
        return (uint16_t)(greatest << fraction_bits | 1 << (fraction_bits - 1));
    /* in units of the spacing, to nearest even; a carry moves the exponent */
    const double unit = check_ulp(dtype, value);
    const double rounded = rint(fabs(value) / unit) * unit;

    if (rounded >= ldexp(1, f.max_exponent + 1))
        return (uint16_t)(sign | greatest << fraction_bits);
    if (rounded < ldexp(1, f.min_exponent))
        return (
            uint16_t)(sign
                      | (int)ldexp(rounded, fraction_bits - f.min_exponent));
    const int e = ilogb(rounded);
    const int m = (int)ldexp(rounded, fraction_bits - e);

    /* m has the hidden bit, which counts the exponent up by one */
    return (uint16_t)(sign | (((e + f.max_exponent - 1) << fraction_bits) + m));
}

double check_decode(const void *data, int32_t dtype, int64_t i)
{
    switch (dtype) {
    case FLI_F32:
        return ((const float *)data)[i];
    case FLI_F16:
    case FLI_BF16:
        return decode_half(((const uint16_t *)data)[i], dtype);
    case FLI_I32:
        return ((const int32_t *)data)[i];
    case FLI_I64:
        return (double)((const int64_t *)data)[i];
    default:
        return ((const uint8_t *)data)[i];
    }
}

void check_encode(void *data, int32_t dtype, int64_t i, double value)
{
    switch (dtype) {
    case FLI_F32:
        ((float *)data)[i] = (float)value;
        break;
    case FLI_F16:
    case FLI_BF16:
        ((uint16_t *)data)[i] = encode_half(value, dtype);
        break;
    case FLI_I32:
        ((int32_t *)data)[i] = (int32_t)value;
        break;
    case FLI_I64:
        ((int64_t *)data)[i] = (int64_t)value;
        break;
    default:
        ((uint8_t *)data)[i] = (uint8_t)value;
    }
}

double check_get(const fli_tensor *tensor, int64_t i)
{
    return check_decode(tensor->data, tensor->dtype, i);
}

void check_set(fli_tensor *tensor, int64_t i, double value)
{
    check_encode(tensor->data, tensor->dtype, i, value);
}

/* --- random numbers: splitmix64 ------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t check_hash(uint64_t seed, const char *text)
{
    uint64_t hash = mix(seed + 0x9e3779b97f4a7c15u);

    for (; *text; text++)
        hash = mix(hash ^ (uint8_t)*text) + 0x9e3779b97f4a7c15u;
    return hash;
}

uint64_t check_random(check *c)
{
    c->random += 0x9e3779b97f4a7c15u;
    return mix(c->random);
}

int64_t check_below(check *c, int64_t n)
{
    return n > 0 ? (int64_t)(check_random(c) % (uint64_t)n) : 0;
}

double check_normal(check *c)
{
    const double u = ((double)(check_random(c) >> 11) + 0.5) * 0x1p-53;
    const double v = (double)(check_random(c) >> 11) * 0x1p-53;

    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}
