/* SPDX-License-Identifier: Apache-2.0 */
/* Where the threshold of a row may be: pivots for the next scan, from a sample
 * of the row that is drawn once.  Guesses cost time when wrong, never
 * exactness: they may use floats. */
#ifndef FLI_CPU_GUESS_H
#define FLI_CPU_GUESS_H

#include "cpu/lib/scan.h"

enum { MAX_GUESSES = 6 };

/* What is searched: the least key above which lies less than limit.  It is
 * above low and at most high. */
typedef struct {
    measure by;
    uint64_t limit; /* 0: share of the row's mass, which is not known yet */
    float share;
    pivot low, high;
    int low_known; /* low.sum[by] is exact */
    int may_list;  /* the last list had room */
} bracket;

typedef struct {
    int32_t low, high;
    scan_mode mode;
} guess;

/* Vectors at even distances, and the greatest value in its true proportion. */
static void draw_sample(selection *s, int32_t kind)
{
    const int64_t n = MAX_SAMPLE / VL - 1, vectors = s->r.vocab / VL;

    for (int64_t j = 0; j < n; j++) {
        const int64_t i = j * vectors / n * VL;
        vf x = v_set(0);
        uint64_t weight[VL];

#define LOAD(KIND) x = x_load(s->r.x, KIND, i, VL)
        FOR_KIND(kind == PROBS, kind, LOAD);
#undef LOAD
        const vi key = x_keys(x, kind);

        w_store(weight, x_weights(&s->r, kind, x));
        memcpy(s->sample_key + j * VL, &key, sizeof(key));
        for (int64_t l = 0; l < VL; l++)
            s->sample_weight[j * VL + l] = (float)(int64_t)weight[l];
    }
    for (int64_t l = n * VL; l < MAX_SAMPLE; l++) {
        s->sample_key[l] = INT32_MIN;
        s->sample_weight[l] = 0;
    }
    s->ratio = (float)s->r.vocab / (float)(n * VL);
    s->sample_key[n * VL] = s->r.top;
    s->sample_weight[n * VL] =
        (float)(int64_t)weight_of_key(&s->r, kind, s->r.top) / s->ratio;
}

INLINE vi sample_keys(const selection *s, int64_t i)
{
    vi key;

    memcpy(&key, s->sample_key + i, sizeof(key));
    return key;
}

INLINE vf sample_weights(const selection *s, measure by, int64_t i)
{
    return by == BY_MASS ? v_load(s->sample_weight, FLI_ABI_F32, i) : v_set(1);
}

INLINE float sample_sum(const selection *s, measure by, int32_t key)
{
    vf sum[4] = { { 0 } };

    for (int64_t i = 0; i < MAX_SAMPLE; i += 4 * VL)
        for (int j = 0; j < 4; j++) {
            const vi above = sample_keys(s, i + j * VL) > v_seti(key);

            sum[j] += (vf)((vi)sample_weights(s, by, i + j * VL) & above);
        }
    return v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* What the sample has above key. */
static float sample_above(const selection *s, measure by, int32_t key)
{
    return by == BY_MASS ? sample_sum(s, BY_MASS, key)
                         : sample_sum(s, BY_COUNT, key);
}

/* Neighbouring keys, or keys with at most slack of the sample between them, of
 * which high has less than limit of the sample above it and low has not. */
static guess sample_quantile(const selection *s, measure by, float limit,
                             float slack, guess g)
{
    float over_low = INFINITY, over_high = 0;

    while ((int64_t)g.low + 1 < g.high && over_low - over_high > slack) {
        const int32_t middle = (int32_t)(((int64_t)g.low + g.high) >> 1);
        const float over = sample_above(s, by, middle);

        if (over < limit) {
            g.high = middle;
            over_high = over;
        } else {
            g.low = middle;
            over_low = over;
        }
    }
    return g;
}

/* Standard deviation of the mass above key, a part f of what the sample has in
 * the bracket. */
static float mass_deviation(const selection *s, const bracket *b, float f,
                            int32_t key)
{
    vf square = { 0 };

    for (int64_t i = 0; i < MAX_SAMPLE; i += VL) {
        const vi k = sample_keys(s, i);
        const vf d = sample_weights(s, BY_MASS, i)
                     * v_select(k > v_seti(key), v_set(1 - f), v_set(f));
        const vi inside = (k > v_seti(b->low.key)) & ~(k > v_seti(b->high.key));

        square += (vf)((vi)(d * d) & inside);
    }
    return sqrtf(v_sum(square));
}

/* How much of the sample lies above the threshold, presumably. */
static float wanted(const selection *s, const bracket *b, float over_low,
                    float over_high)
{
    if (!b->limit)
        return b->share * sample_above(s, BY_MASS, INT32_MIN);
    const float above = (float)(b->limit - b->high.sum[b->by]);

    if (!b->low_known)
        return over_high + above / s->ratio;
    return over_high
           + above / (float)(b->low.sum[b->by] - b->high.sum[b->by])
                 * (over_low - over_high);
}

/* Elements in (low, high] by the sample. */
static float expected(const selection *s, int32_t low, int32_t high)
{
    return (sample_above(s, BY_COUNT, low) - sample_above(s, BY_COUNT, high))
           * s->ratio;
}

/* The greatest elements up to high, as many as half of the list holds. */
static guess guess_heads(const selection *s, const bracket *b)
{
    const float count = sample_above(s, BY_COUNT, b->high.key);
    guess g = { b->low.key, b->high.key, SCAN_LIST };

    g = sample_quantile(s, BY_COUNT, count + 0.5f * MAX_LIST / s->ratio, 1, g);
    return (guess){ g.low, b->high.key, SCAN_LIST };
}

/* Pivots around middle that have spread of the sample between them and want. */
static guess guess_around(const selection *s, const bracket *b, guess middle,
                          float want, float spread)
{
    const float slack = b->by == BY_MASS ? spread / 8 : 1;
    const guess above = { middle.low, b->high.key, SCAN_LIST };
    const guess below = { b->low.key, middle.high, SCAN_LIST };

    return (guess){
        sample_quantile(s, b->by, want + spread, slack, below).low,
        sample_quantile(s, b->by, want - spread, slack, above).high,
        SCAN_LIST,
    };
}

/* A list costs little: at least 0.3 of what it holds on each side of middle. */
static guess widened(const selection *s, const bracket *b, guess middle,
                     guess g)
{
    const float margin = 0.3f * MAX_LIST / s->ratio;
    const float count = sample_above(s, BY_COUNT, middle.high);
    const guess below = { b->low.key, middle.high, SCAN_LIST };
    const guess above = { middle.low, b->high.key, SCAN_LIST };
    const int32_t low =
        sample_quantile(s, BY_COUNT, count + margin, 1, below).low;
    const int32_t high =
        sample_quantile(s, BY_COUNT, count - margin, 1, above).high;

    g.low = low < g.low ? low : g.low;
    g.high = high > g.high ? high : g.high;
    return g;
}

/* Mode SCAN_ONE when the sample tells nothing. */
static guess guess_by_sample(const selection *s, const bracket *b)
{
    const guess whole = { b->low.key, b->high.key, SCAN_ONE };
    const float over_low = sample_above(s, b->by, b->low.key);
    const float over_high = sample_above(s, b->by, b->high.key);
    const float inside = over_low - over_high;
    const float want = wanted(s, b, over_low, over_high);
    const float f = fminf(fmaxf((want - over_high) / inside, 0), 1);

    if (!(inside > 0))
        return whole;
    const guess middle = sample_quantile(s, b->by, want, inside / 256, whole);
    float spread = b->by == BY_MASS ? 3 * mass_deviation(s, b, f, middle.high)
                                    : 3 * sqrtf(f * (1 - f) * inside) + 2;
    /* few elements of the sample carry its mass, or the row has far more than
     * the sample shows: the threshold is probably among the greatest */
    const int is_heavy =
        b->by == BY_MASS
        && (spread > 0.25f * inside
            || (b->low_known
                && (float)(b->low.sum[BY_MASS] - b->high.sum[BY_MASS])
                       > 1.5f * inside * s->ratio));

    if (b->may_list && is_heavy && b->high.key == s->r.top)
        return guess_heads(s, b);
    for (int i = 0; i < 3 && b->may_list; i++) {
        const guess g = guess_around(s, b, middle, want, spread);
        const float n = expected(s, g.low, g.high);

        if (n < 0.4f * MAX_LIST)
            return widened(s, b, middle, g);
        if (n < 0.75f * MAX_LIST)
            return g;
        spread *= 0.6f * MAX_LIST / n;
    }
    return (guess){ middle.low, middle.high,
                    middle.low > b->low.key || middle.high < b->high.key
                        ? SCAN_BOTH
                        : SCAN_ONE };
}

/* Pivots for the next scan.  Each narrows the bracket or lists all of it. */
static guess next_guess(const selection *s, const bracket *b, int round)
{
    const int32_t low = b->low.key, high = b->high.key;

    if (b->low.sum[BY_COUNT] - b->high.sum[BY_COUNT] <= MAX_LIST)
        return (guess){ low, high, SCAN_LIST };
    if (round < MAX_GUESSES) {
        const guess g = guess_by_sample(s, b);

        if (g.mode != SCAN_ONE)
            return g;
    }
    const int32_t width = (int32_t)(((int64_t)high - low) / 3);
    const int32_t third = width > 1 ? width : 1;

    return (guess){ low + third, high - third, SCAN_BOTH };
}

#endif
