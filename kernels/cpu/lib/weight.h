/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of logits or probabilities as docs/sampling.md sees them, VL elements
 * at a time: order-preserving keys, integer weights, the greatest value.
 *
 * kind is a constant after inlining: the dtype of logits, or PROBS (f32). */
#ifndef FLI_CPU_WEIGHT_H
#define FLI_CPU_WEIGHT_H

#include "abi/sample.h"
#include "cpu/lib/vec.h"

enum {
    PROBS = 0,
    KEY_INF = 0x7f800000 /* of +inf; minus that of -inf */
};

/* Instantiates CALL(KIND), a statement. */
#define FOR_KIND(is_probs, dtype, CALL)                                        \
    do {                                                                       \
        if (is_probs)                                                          \
            CALL(PROBS);                                                       \
        else                                                                   \
            FOR_DTYPE(dtype, CALL);                                            \
    } while (0)

typedef struct {
    const void *x;
    int64_t vocab;
    float temperature;
    int32_t top;   /* key of the greatest value */
    float max;     /* of logits */
    float scale;   /* of logits: octaves / T * 2^23 */
    int32_t e_max; /* of probabilities */
} row;

typedef enum {
    ROW_NONE, /* invalid or empty */
    ROW_ONE,  /* T = 0: the first top weighs all */
    ROW_INF,  /* the tops weigh the same, the rest nothing */
    ROW_NORMAL
} row_state;

/* Below every key that weighs something. */
INLINE int32_t bottom_key(int32_t kind)
{
    return kind == PROBS ? 0 : -KEY_INF;
}

/* --- vectors -------------------------------------------------------------- */

INLINE vi vi_max(vi a, vi b)
{
#if VL == 8
    return (vi)_mm256_max_epi32((__m256i)a, (__m256i)b);
#else
    return ((a > b) & a) | (~(a > b) & b);
#endif
}

INLINE vi vi_min(vi a, vi b)
{
#if VL == 8
    return (vi)_mm256_min_epi32((__m256i)a, (__m256i)b);
#else
    return ((a > b) & b) | (~(a > b) & a);
#endif
}

INLINE vu vu_max(vu a, vu b)
{
#if VL == 8
    return (vu)_mm256_max_epu32((__m256i)a, (__m256i)b);
#else
    const vu over = (vu)(a > b);

    return (over & a) | (~over & b);
#endif
}

/* A bit for each lane of mask. */
INLINE uint32_t v_bits(vi mask)
{
#if VL == 8
    return (uint32_t)_mm256_movemask_ps((__m256)mask);
#elif defined(__SSE2__)
    return (uint32_t)_mm_movemask_ps((__m128)mask);
#else
    uint32_t bits = 0;

    for (int i = 0; i < VL; i++)
        bits |= (uint32_t)(mask[i] & 1) << i;
    return bits;
#endif
}

/* v_fma rounded once on every ISA. */
INLINE vf v_fma_exact(vf a, vf b, vf c)
{
#if VL == 8
    return v_fma(a, b, c);
#else
    for (int i = 0; i < VL; i++)
        c[i] = fmaf(a[i], b[i], c[i]);
    return c;
#endif
}

/* To nearest even. */
INLINE vi v_to_int(vf x)
{
#if VL == 8
    return (vi)_mm256_cvtps_epi32(x);
#elif defined(__SSE2__)
    return (vi)_mm_cvtps_epi32(x);
#else
    vi t;

    for (int i = 0; i < VL; i++)
        t[i] = (int32_t)lrintf(x[i]);
    return t;
#endif
}

/* VL 64-bit integers. */
#if VL == 8
typedef struct {
    __m256i even, odd;
} vw;
#else
typedef struct {
    uint64_t lane[VL];
} vw;
#endif

INLINE vw w_zero(void)
{
#if VL == 8
    return (vw){ _mm256_setzero_si256(), _mm256_setzero_si256() };
#else
    return (vw){ { 0 } };
#endif
}

/* mantissa * 2^18 >> shift, shift >= 0. */
INLINE vw w_make(vu mantissa, vi shift)
{
#if VL == 8
    const __m256i low = _mm256_set1_epi64x(0xffffffff);
    const __m256i m = (__m256i)mantissa, s = (__m256i)(shift + 14);

    return (vw){
        _mm256_srlv_epi64(_mm256_slli_epi64(m, 32), _mm256_and_si256(s, low)),
        _mm256_srlv_epi64(_mm256_andnot_si256(low, m),
                          _mm256_srli_epi64(s, 32)),
    };
#else
    vw w;

    for (int i = 0; i < VL; i++)
        w.lane[i] = shift[i] < 64 ? (uint64_t)mantissa[i] << 18 >> shift[i] : 0;
    return w;
#endif
}

INLINE vw w_add(vw a, vw b)
{
#if VL == 8
    return (vw){ _mm256_add_epi64(a.even, b.even),
                 _mm256_add_epi64(a.odd, b.odd) };
#else
    for (int i = 0; i < VL; i++)
        a.lane[i] += b.lane[i];
    return a;
#endif
}

INLINE vw w_and(vw a, vi mask)
{
#if VL == 8
    const __m256i m = (__m256i)mask;

    return (vw){ _mm256_and_si256(a.even, _mm256_shuffle_epi32(m, 0xa0)),
                 _mm256_and_si256(a.odd, _mm256_shuffle_epi32(m, 0xf5)) };
#else
    for (int i = 0; i < VL; i++)
        a.lane[i] &= (uint64_t)(int64_t)mask[i];
    return a;
#endif
}

INLINE void w_store(uint64_t *out, vw a)
{
#if VL == 8
    const __m256i low = _mm256_unpacklo_epi64(a.even, a.odd);
    const __m256i high = _mm256_unpackhi_epi64(a.even, a.odd);
    __m256i *const to = (__m256i *)(void *)out;

    _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
#else
    memcpy(out, a.lane, sizeof(a.lane));
#endif
}

INLINE uint64_t w_sum(vw a)
{
    uint64_t lane[VL], sum = 0;

    w_store(lane, a);
    for (int i = 0; i < VL; i++)
        sum += lane[i];
    return sum;
}

/* --- elements ------------------------------------------------------------- */

INLINE int32_t dtype_of(int32_t kind)
{
    return kind == PROBS ? FLI_ABI_F32 : kind;
}

/* Lanes below n. */
INLINE vi lanes_below(int64_t n)
{
    vi lane = { 0 };

    for (int i = 0; i < VL; i++)
        lane[i] = i;
    return lane < v_seti((int32_t)n);
}

/* n elements are left; lanes behind them weigh nothing. */
INLINE vf x_load(const void *x, int32_t kind, int64_t i, int64_t n)
{
    const int32_t dtype = dtype_of(kind);

    if (n >= VL)
        return v_load(x, dtype, i);
    return v_select(lanes_below(n), v_load_part(x, dtype, i, n),
                    v_set(kind == PROBS ? 0 : -INFINITY));
}

INLINE vi x_keys(vf x, int32_t kind)
{
    const vi bits = (vi)x, sign = bits >> 31;

    if (kind == PROBS)
        return bits & 0x7fffffff;
    return (bits ^ (sign & 0x7fffffff)) - sign;
}

INLINE vf x_of_keys(vi key)
{
    const vi sign = key >> 31;

    return (vf)((key + sign) ^ (sign & 0x7fffffff));
}

/* Of logits: log2 of the weight to the greatest one, * 2^23. */
INLINE vi x_t(const row *r, vf x)
{
    const vf y = (x - v_set(r->max)) * v_set(r->scale);

    return v_to_int(v_max(y, v_set(-0x1p29f)));
}

/* q of logits: their weight * 2^-41 before the floor, but for that of -inf. */
INLINE vf q_of_t(vi t)
{
    const vi n = (t + (1 << 22)) & -(1 << 23); /* octaves * 2^23 */
    const vf f = __builtin_convertvector(t - n, vf) * 0x1p-23f;
    vf p = v_set(1.5403530e-4f);

    p = v_fma_exact(p, f, v_set(1.3333558e-3f));
    p = v_fma_exact(p, f, v_set(9.6181291e-3f));
    p = v_fma_exact(p, f, v_set(5.5504109e-2f));
    p = v_fma_exact(p, f, v_set(2.4022651e-1f));
    p = v_fma_exact(p, f, v_set(6.9314718e-1f));
    p = v_fma_exact(p, f, v_set(1.0f));
    return (vf)((vi)p + n);
}

INLINE vf x_q(const row *r, vf x)
{
    return q_of_t(x_t(r, x));
}

/* Weights of logits by their q; 0 for q = 0. */
INLINE vw w_of_q(vf q)
{
    const vu bits = (vu)q;

    return w_make((bits & 0x7fffff) | 0x800000, 127 - (vi)(bits >> 23));
}

/* Weights of probabilities. */
INLINE vw w_of_prob(const row *r, vf x)
{
    const vi bits = (vi)x & 0x7fffffff;
    const vi e = vi_max(bits >> 23, v_seti(1));

    return w_make((vu)(bits - ((e - 1) << 23)), r->e_max - e);
}

INLINE vw x_weights(const row *r, int32_t kind, vf x)
{
    return kind == PROBS ? w_of_prob(r, x) : w_of_q(x_q(r, x));
}

/* Elements that are taken together.  From logits to weights is a long chain of
 * operations, each waiting for the one before: as three loops over a chunk it
 * is 1.7 times as fast as in one. */
enum { CHUNK = 256 };

/* q of n <= CHUNK logits from i on; q has room for whole vectors. */
INLINE void q_of_chunk(const row *r, int32_t kind, int64_t i, int64_t n,
                       float *q)
{
    for (int64_t j = 0; j < n; j += VL)
        v_store(q, FLI_ABI_F32, j,
                (vf)x_t(r, x_load(r->x, kind, i + j, n - j)));
    for (int64_t j = 0; j < n; j += VL)
        v_store(q, FLI_ABI_F32, j, q_of_t((vi)v_load(q, FLI_ABI_F32, j)));
}

INLINE uint64_t weight_of_key(const row *r, int32_t kind, int32_t key)
{
    uint64_t lane[VL];

    w_store(lane, x_weights(r, kind, x_of_keys(v_seti(key))));
    return lane[0];
}

/* --- rows ----------------------------------------------------------------- */

/* Extremes of the bits of a row. */
typedef struct {
    vi most, least;
    vu most_unsigned;
} extremes;

INLINE extremes extremes_with(extremes e, vf x)
{
    return (extremes){ vi_max(e.most, (vi)x), vi_min(e.least, (vi)x),
                       vu_max(e.most_unsigned, (vu)x) };
}

INLINE extremes find_extremes(const void *x, int32_t kind, int64_t vocab)
{
    const vf none = v_set(kind == PROBS ? 0 : -INFINITY);
    const extremes start = { (vi)none, (vi)none, (vu)none };
    extremes e[4] = { start, start, start, start };
    int64_t i = 0;

    for (; i + 4 * VL <= vocab; i += 4 * VL)
        for (int j = 0; j < 4; j++)
            e[j] = extremes_with(e[j], x_load(x, kind, i + j * VL, VL));
    for (; i < vocab; i += VL)
        e[0] = extremes_with(e[0], x_load(x, kind, i, vocab - i));
    for (int j = 1; j < 4; j++) {
        e[0] = extremes_with(e[0], (vf)e[j].most);
        e[0] = extremes_with(e[0], (vf)e[j].least);
        e[0] = extremes_with(e[0], (vf)e[j].most_unsigned);
    }
    return e[0];
}

/* Row i; NULL stays NULL. */
INLINE void *row_at(const void *x, int32_t kind, int64_t i, int64_t stride)
{
    const int64_t bytes = (int64_t)v_dtype_bytes(dtype_of(kind));

    return x ? (char *)x + i * stride * bytes : NULL;
}

/* Fills all of r but x, vocab and temperature. */
INLINE row_state row_open(row *r, int32_t kind)
{
    const extremes e = find_extremes(r->x, kind, r->vocab);
    const vu limit = (vu)v_seti(0) + (kind == PROBS ? 0x80000000 : 0xff800000);
    int32_t most = e.most[0], least = e.least[0];

    if (!(r->temperature >= 0 && r->temperature < INFINITY))
        return ROW_NONE;
    if (v_bits((e.most > KEY_INF) | (vi)(e.most_unsigned > limit)))
        return ROW_NONE; /* a NaN or a negative probability */
    for (int i = 1; i < VL; i++) {
        most = e.most[i] > most ? e.most[i] : most;
        least = e.least[i] < least ? e.least[i] : least;
    }
    /* where all are negative the least bits are the greatest value */
    const vf max = (vf)v_seti(most >= 0 ? most : least);

    r->top = x_keys(max, kind)[0];
    r->max = max[0];
    r->scale = 0x1.715476p+23f / r->temperature;
    r->e_max = r->top >> 23 > 1 ? r->top >> 23 : 1;
    if (r->top <= bottom_key(kind))
        return ROW_NONE;
    if (r->temperature < 0x1p-64f)
        return ROW_ONE;
    return r->top == KEY_INF ? ROW_INF : ROW_NORMAL;
}

/* The index of the element of key top that nth others precede. */
INLINE int64_t find_top(const row *r, int32_t kind, int64_t nth)
{
    for (int64_t i = 0; i < r->vocab; i += VL) {
        const vf x = x_load(r->x, kind, i, r->vocab - i);
        uint32_t bits = v_bits(x_keys(x, kind) == v_seti(r->top));

        for (; bits; bits &= bits - 1)
            if (nth-- == 0)
                return i + __builtin_ctz(bits);
    }
    return -1;
}

INLINE int64_t count_top(const row *r, int32_t kind)
{
    int64_t n = 0;

    for (int64_t i = 0; i < r->vocab; i += VL) {
        const vf x = x_load(r->x, kind, i, r->vocab - i);

        n += __builtin_popcount(v_bits(x_keys(x, kind) == v_seti(r->top)));
    }
    return n;
}

#endif
