/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of VL floats for the CPU kernels, one spelling for every ISA.
 *
 * A kernel file is compiled once per ISA with -DFLI_ISA=<name> and that ISA's
 * flags; KERNEL(stem) is its entry.  GCC's vector types do the arithmetic (a + b,
 * a * b, comparisons); what they cannot say is here.  The width is the native
 * one: wider types spill on gcc 12.
 *
 * dtype arguments are meant to be constants after inlining, see FOR_DTYPE. */
#ifndef FLI_CPU_VEC_H
#define FLI_CPU_VEC_H

#include <math.h>
#include <string.h>

#include "abi/types.h"

#define VEC_CAT_(a, b, c) a##b##_##c
#define VEC_CAT(a, b, c)  VEC_CAT_(a, b, c)
#define KERNEL(stem)      VEC_CAT(fli__, stem, FLI_ISA)

/* Under a sanitizer nothing is inlined or unrolled by force: the checks in every
 * copy would take minutes to compile. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif

#if defined(SANITIZED)
#define INLINE static inline __attribute__((unused))
#else
#define INLINE static inline __attribute__((always_inline))
#endif

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
#define VL 8
#elif defined(__SSE2__)
#include <emmintrin.h>
#define VL 4
#else
#define VL 4
#endif

/* Unrolls the loop behind it whole. */
#if defined(SANITIZED)
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Makes the compiler keep a vector used several times in a register: gcc else
 * loads it again for each use. */
#if defined(__SSE2__)
#define V_KEEP(x) __asm__("" : "+x"(x))
#else
#define V_KEEP(x) ((void)(x))
#endif

typedef float vf __attribute__((vector_size(4 * VL)));
typedef int32_t vi __attribute__((vector_size(4 * VL)));
typedef uint32_t vu __attribute__((vector_size(4 * VL)));
typedef uint16_t vh __attribute__((vector_size(2 * VL)));

/* Instantiates CALL(DTYPE), a statement, for a float dtype known at run time. */
#define FOR_DTYPE(dtype, CALL)                                                 \
    do {                                                                       \
        if ((dtype) == FLI_ABI_F32)                                            \
            CALL(FLI_ABI_F32);                                                 \
        else if ((dtype) == FLI_ABI_BF16)                                      \
            CALL(FLI_ABI_BF16);                                                \
        else                                                                   \
            CALL(FLI_ABI_F16);                                                 \
    } while (0)

INLINE int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

INLINE int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

INLINE vf v_set(float x)
{
    return x - (vf){ 0 }; /* not 0 + x, which would lose -0 */
}

INLINE vi v_seti(int32_t x)
{
    return (vi){ 0 } + x;
}

/* mask ? a : b, mask being all ones or all zeros in each lane. */
INLINE vf v_select(vi mask, vf a, vf b)
{
#if VL == 8
    return _mm256_blendv_ps(b, a, (vf)mask);
#else
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
#endif
}

/* Is any lane of a mask set? */
INLINE int v_any(vi mask)
{
#if VL == 8
    return _mm256_movemask_ps((vf)mask) != 0;
#elif defined(__SSE2__)
    return _mm_movemask_ps((vf)mask) != 0;
#else
    return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}

/* a * b + c, rounded once where the ISA has it. */
INLINE vf v_fma(vf a, vf b, vf c)
{
#if VL == 8
    return _mm256_fmadd_ps(a, b, c);
#else
    return a * b + c;
#endif
}

/* The greater; b if either is NaN. */
INLINE vf v_max(vf a, vf b)
{
#if VL == 8
    return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
    return _mm_max_ps(a, b);
#else
    return v_select(a > b, a, b);
#endif
}

INLINE vf v_min(vf a, vf b)
{
#if VL == 8
    return _mm256_min_ps(a, b);
#elif defined(__SSE2__)
    return _mm_min_ps(a, b);
#else
    return v_select(a < b, a, b);
#endif
}

/* Sum of the lanes, in a fixed order. */
INLINE float v_sum(vf a)
{
#if VL == 8
    const __m128 b =
        _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
#else
    const vf b = a;
#endif
    return (b[0] + b[2]) + (b[1] + b[3]);
}

INLINE float v_max_lane(vf a)
{
    float m = a[0];

    for (int i = 1; i < VL; i++)
        m = a[i] > m ? a[i] : m;
    return m;
}

/* Lane i is the sum of the lanes of x[i], in a fixed order. */
INLINE vf v_sums(const vf x[VL])
{
#if VL == 8
    vf pair[4], quad[2];

    UNROLL
    for (int i = 0; i < 4; i++)
        pair[i] = _mm256_hadd_ps(x[2 * i], x[2 * i + 1]);
    UNROLL
    for (int i = 0; i < 2; i++)
        quad[i] = _mm256_hadd_ps(pair[2 * i], pair[2 * i + 1]);
    return _mm256_permute2f128_ps(quad[0], quad[1], 0x20)
           + _mm256_permute2f128_ps(quad[0], quad[1], 0x31);
#else
    vf sums;

    for (int i = 0; i < VL; i++)
        sums[i] = (x[i][0] + x[i][1]) + (x[i][2] + x[i][3]);
    return sums;
#endif
}

/* Lane i becomes the greatest of the lanes i % n, n = 1, 2, 4 or VL apart. */
INLINE vf v_max_apart(vf x, int n)
{
#if VL == 8
    if (n <= 4)
        x = v_max(x, _mm256_permute2f128_ps(x, x, 1));
    if (n <= 2)
        x = v_max(x, _mm256_permute_ps(x, 0x4e));
    if (n <= 1)
        x = v_max(x, _mm256_permute_ps(x, 0xb1));
#else
    if (n <= 2)
        x = v_max(x, (vf){ x[2], x[3], x[0], x[1] });
    if (n <= 1)
        x = v_max(x, (vf){ x[1], x[0], x[3], x[2] });
#endif
    return x;
}

/* x[i][j] becomes x[j][i]. */
INLINE void v_transpose(vf x[VL])
{
#if VL == 8
    vf y[8];

    UNROLL
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            x[i + 2 * j] = _mm256_shuffle_ps(y[i + j], y[i + j + 2], 0x44);
            x[i + 2 * j + 1] = _mm256_shuffle_ps(y[i + j], y[i + j + 2], 0xee);
        }
    UNROLL
    for (int i = 0; i < 4; i++) {
        y[i] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x20);
        y[i + 4] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x31);
    }
    UNROLL
    for (int i = 0; i < 8; i++)
        x[i] = y[i];
#elif defined(__SSE2__)
    _MM_TRANSPOSE4_PS(x[0], x[1], x[2], x[3]);
#else
    vf y[4];

    for (int i = 0; i < 4; i++)
        y[i] = (vf){ x[0][i], x[1][i], x[2][i], x[3][i] };
    for (int i = 0; i < 4; i++)
        x[i] = y[i];
#endif
}

/* --- conversion --------------------------------------------------------- */

INLINE vf v_from_bf16(vh h)
{
#if VL == 8 /* gcc 12 takes two halves for the conversion */
    return (vf)((vu)_mm256_cvtepu16_epi32((__m128i)h) << 16);
#else
    return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}

/* To nearest even; NaN stays NaN. */
INLINE vh v_to_bf16(vf x)
{
    const vu bits = (vu)x;
    const vu rounded = bits + 0x7fff + ((bits >> 16) & 1);
    const vu high =
        (vu)v_select((vi)(x == x), (vf)rounded, (vf)(bits | 0x400000)) >> 16;

#if VL == 8 /* gcc 12 masks and permutes more */
    const __m256i packed = _mm256_packus_epi32((__m256i)high, (__m256i)high);

    return (vh)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
#else
    return __builtin_convertvector(high, vh);
#endif
}

INLINE vf v_from_f16(vh h)
{
#if VL == 8
    return _mm256_cvtph_ps((__m128i)h);
#else
    const vu wide = __builtin_convertvector(h, vu);
    const vu sign = (wide & 0x8000) << 16;
    const vu magnitude = (wide & 0x7fff) << 13;
    const vu special = (vu)((wide & 0x7c00) == 0x7c00);
    const vu finite = (vu)((vf)magnitude * 0x1p112f);

    return (vf)(sign | (special & (magnitude | 0x7f800000))
                | (~special & finite));
#endif
}

INLINE vh v_to_f16(vf x)
{
#if VL == 8
    return (vh)_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
#else
    const vu bits = (vu)x & 0x7fffffff;
    const vu sign = ((vu)x >> 16) & 0x8000;
    const vu normal = (bits + 0xfff + ((bits >> 13) & 1) - (112u << 23)) >> 13;
    /* below 2^-14 the addition of 0.5 leaves the rounded fraction in place */
    const vu tiny = (vu)((vf)bits + 0.5f) - 0x3f000000;
    const vu is_tiny = (vu)(bits < (113u << 23));
    const vu is_big = (vu)(bits >= 0x477ff000); /* 65520 */
    const vu is_nan = (vu)(bits > 0x7f800000);
    vu h = (is_tiny & tiny) | (~is_tiny & normal);

    h = (is_big & 0x7c00) | (~is_big & h);
    h |= is_nan & 0x200;
    return __builtin_convertvector(sign | h, vh);
#endif
}

/* --- memory ------------------------------------------------------------- */

/* VL elements of dtype from element i on; any alignment. */
INLINE vf v_load(const void *data, int32_t dtype, int64_t i)
{
    vf x;
    vh h;

    if (dtype == FLI_ABI_F32) {
        memcpy(&x, (const float *)data + i, sizeof(x));
        return x;
    }
    memcpy(&h, (const uint16_t *)data + i, sizeof(h));
    return dtype == FLI_ABI_BF16 ? v_from_bf16(h) : v_from_f16(h);
}

INLINE void v_store(void *data, int32_t dtype, int64_t i, vf x)
{
    if (dtype == FLI_ABI_F32) {
        memcpy((float *)data + i, &x, sizeof(x));
    } else {
        const vh h = dtype == FLI_ABI_BF16 ? v_to_bf16(x) : v_to_f16(x);

        memcpy((uint16_t *)data + i, &h, sizeof(h));
    }
}

INLINE size_t v_dtype_bytes(int32_t dtype)
{
    return dtype == FLI_ABI_F32 ? 4 : 2;
}

/* The first n < VL elements, zeros behind them; touches no byte beyond. */
INLINE vf v_load_part(const void *data, int32_t dtype, int64_t i, int64_t n)
{
    const size_t bytes = v_dtype_bytes(dtype);
    vf part = { 0 };

    memcpy(&part, (const char *)data + i * (int64_t)bytes, (size_t)n * bytes);
    return v_load(&part, dtype, 0);
}

INLINE void v_store_part(void *data, int32_t dtype, int64_t i, int64_t n, vf x)
{
    const size_t bytes = v_dtype_bytes(dtype);
    vf part;

    v_store(&part, dtype, 0, x);
    memcpy((char *)data + i * (int64_t)bytes, &part, (size_t)n * bytes);
}

/* v_load or v_load_part, n being the elements left. */
INLINE vf v_load_upto(const void *data, int32_t dtype, int64_t i, int64_t n)
{
    return n >= VL ? v_load(data, dtype, i) : v_load_part(data, dtype, i, n);
}

INLINE void v_store_upto(void *data, int32_t dtype, int64_t i, int64_t n, vf x)
{
    if (n >= VL)
        v_store(data, dtype, i, x);
    else
        v_store_part(data, dtype, i, n, x);
}

/* One element. */
INLINE float s_load(const void *data, int32_t dtype, int64_t i)
{
    return v_load_part(data, dtype, i, 1)[0];
}

INLINE void s_store(void *data, int32_t dtype, int64_t i, float x)
{
    v_store_part(data, dtype, i, 1, v_set(x));
}

/* --- functions ---------------------------------------------------------- */

/* Nearest even integer of |x| < 2^22. */
INLINE vf v_rint(vf x)
{
    const vf magic = v_set(0x1.8p23f);

    return (x + magic) - magic;
}

/* 2^x within 1.25 ulp for x < 127.5; 0 below -126.5, -inf included; NaN stays NaN.
 * Range reduction to [-1/2, 1/2] and a minimax polynomial of degree 6. */
INLINE vf v_exp2(vf x)
{
    const vf y = v_max(v_set(-127.0f), x);
    const vf n = v_rint(y);
    const vf f = y - n;
    const vi scale = (__builtin_convertvector(n, vi) + 127) << 23;
    vf p = v_set(0x1.448d98p-13f);

    p = v_fma(p, f, v_set(0x1.5f47c8p-10f));
    p = v_fma(p, f, v_set(0x1.3b29aep-7f));
    p = v_fma(p, f, v_set(0x1.c6aed0p-5f));
    p = v_fma(p, f, v_set(0x1.ebfbe0p-3f));
    p = v_fma(p, f, v_set(0x1.62e430p-1f));
    p = v_fma(p, f, v_set(1.0f));
    return p * (vf)scale;
}

/* tanh within 2.5 ulp; NaN stays NaN.  Below 0.625 an odd minimax polynomial of
 * degree 11, above it 1 - 2 / (e^2x + 1). */
INLINE vf v_tanh(vf x)
{
    const vf sign = (vf)((vi)x & INT32_MIN);
    const vf a = v_max(x, -x);
    const vf z = a * a;
    const vf e = v_exp2(v_min(v_set(10.0f), a) * 0x1.715476p+1f);
    vf p = v_set(-0x1.75e1c2p-8f);

    p = v_fma(p, z, v_set(0x1.522698p-6f));
    p = v_fma(p, z, v_set(-0x1.b83c5ap-5f));
    p = v_fma(p, z, v_set(0x1.110726p-3f));
    p = v_fma(p, z, v_set(-0x1.555532p-2f));
    p = v_fma(p * z, a, a);
    p = v_select(a < 0.625f, p, 1.0f - 2.0f / (e + 1.0f));
    return (vf)((vi)p | (vi)sign);
}

/* v_exp2 of one float. */
INLINE float s_exp2(float x)
{
    return v_exp2(v_set(x))[0];
}

#endif
