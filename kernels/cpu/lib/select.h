/* SPDX-License-Identifier: Apache-2.0 */
/* The kept set of a row without sorting it.
 *
 * What top_k or top_p keep are the elements whose key is at least a threshold:
 * the least key above which lies less than a limit, a count or a mass.  A scan
 * with two pivots (lib/scan.h) either lists the elements among which the
 * threshold is, or leaves one of three ranges of keys, as in FlashInfer's
 * dual-pivot rejection.  The pivots are guesses (lib/guess.h), the sums exact.
 */
#ifndef FLI_CPU_SELECT_H
#define FLI_CPU_SELECT_H

#include "cpu/lib/guess.h"

__extension__ typedef unsigned __int128 wide;

/* ceil(share * mass), share being rounded up to 63 bits. */
INLINE uint64_t share_of(float share, uint64_t mass)
{
    const double clamped = share < 0 ? 0 : share > 1 ? 1 : (double)share;
    const uint64_t a = (uint64_t)ceil(clamped * 0x1p63);

    return (uint64_t)(((wide)a * mass + INT64_MAX) >> 63);
}

/* top_p's limit: the top value is always kept. */
static uint64_t limit_of(float top_p, uint64_t mass)
{
    const uint64_t limit = share_of(top_p, mass);

    return limit > 1 ? limit : 1;
}

/* --- the search ----------------------------------------------------------- */

/* Narrows the bracket by an exact pivot. */
static void learn_pivot(bracket *b, const pivot *p)
{
    if (p->sum[b->by] >= b->limit && p->key >= b->low.key) {
        b->low = *p;
        b->low_known = 1;
    } else if (p->sum[b->by] < b->limit && p->key < b->high.key) {
        b->high = *p;
        if (p->key <= b->low.key) /* the threshold is the least key allowed */
            b->high.key = b->low.key + 1;
    }
}

/* True when the last scan told the threshold, up to the list. */
static int learn(const selection *s, bracket *b, int32_t bottom)
{
    if (b->by == BY_MASS && !b->limit) {
        if (!s->mass)
            return 0;
        b->limit = limit_of(b->share, s->mass);
    }
    if (b->by == BY_MASS && s->mass && b->low.key == bottom && !b->low_known) {
        b->low.sum[BY_MASS] = s->mass;
        b->low_known = 1;
    }
    if (b->by == BY_MASS && !s->weighed)
        return 0;
    learn_pivot(b, &s->high);
    if (b->by == BY_COUNT || s->low_weighed)
        learn_pivot(b, &s->low);
    b->may_list = !s->overflowed;
    return b->low.key + 1 >= b->high.key
           || (s->complete && b->low.key >= s->low.key
               && b->high.key <= s->high.key);
}

/* The least key > b.low.key above which there is less than b.limit, or than
 * b.share of the row's mass (b.limit 0).  weigh: that mass is wanted too. */
static int32_t search(selection *s, int32_t kind, bracket b, int weigh)
{
    const int32_t bottom = bottom_key(kind);

    b.high = (pivot){ s->r.top, { 0, 0 } };
    b.low.sum[BY_COUNT] = (uint64_t)s->r.vocab;
    b.may_list = 1;
    for (int round = 0; !s->scanned || !learn(s, &b, bottom); round++) {
        if (s->ratio == 0 && s->r.vocab > MAX_LIST)
            draw_sample(s, kind);
        const guess g = next_guess(s, &b, round);
        const int count_only = g.mode == SCAN_LIST && b.by == BY_COUNT
                               && !(weigh && g.high == s->r.top);

        scan(s, kind, g.low, g.high, count_only ? SCAN_COUNT : g.mode);
    }
    int32_t low = b.low.key, high = b.high.key;

    while (low + 1 < high) {
        const int32_t middle = (int32_t)(((int64_t)low + high) >> 1);

        if (list_above(s, b.by, middle) < b.limit)
            high = middle;
        else
            low = middle;
    }
    return high;
}

/* --- the kept set -------------------------------------------------------- */

/* Makes the last scan tell what has at least key: blocks and list. */
static void cover(selection *s, int32_t kind, int32_t key)
{
    const int covered = s->scanned && s->weighed
                        && (key - 1 == s->high.key
                            || (s->complete && key - 1 >= s->low.key
                                && key - 1 <= s->high.key));

    if (!covered)
        scan(s, kind, key - 1, key - 1, SCAN_ONE);
}

/* The least key whose weight is at least min_p times the greatest. */
static int32_t min_p_key(const selection *s, int32_t kind, float min_p)
{
    int32_t low = bottom_key(kind), high = s->r.top;
    const uint64_t least =
        share_of(min_p, weight_of_key(&s->r, kind, s->r.top));

    if (least == 0)
        return low + 1;
    while (low + 1 < high) {
        const int32_t middle = (int32_t)(((int64_t)low + high) >> 1);

        if (weight_of_key(&s->r, kind, middle) >= least)
            high = middle;
        else
            low = middle;
    }
    return high;
}

/* The parameters of a row, valid ones. */
typedef struct {
    int32_t top_k;
    float top_p, min_p;
    int32_t joint;
} filter;

/* 0 for a bad parameter. */
INLINE int filter_of(const fli_filters *f, int64_t i, filter *out)
{
    *out = (filter){
        .top_k = f->top_ks ? f->top_ks[i] : f->top_k,
        .top_p = f->top_ps ? f->top_ps[i] : f->top_p,
        .min_p = f->min_ps ? f->min_ps[i] : f->min_p,
        .joint = f->joint,
    };
    return out->top_p == out->top_p && out->min_p == out->min_p;
}

/* The key from which on elements are kept; of rows with +inf by top_k alone. */
static int32_t kept_key(selection *s, int32_t kind, const filter *f)
{
    const int32_t bottom = bottom_key(kind);
    const int by_p = f->top_p < 1, by_k = f->top_k > 0 && f->top_k < s->r.vocab;
    int32_t key = bottom + 1, least = bottom + 1;
    bracket b = { .by = BY_COUNT, .low = { .key = bottom } };

    if (f->min_p > 0)
        least = min_p_key(s, kind, f->min_p);
    if (by_k) {
        b.limit = (uint64_t)f->top_k;
        key = search(s, kind, b, by_p && f->joint);
    }
    b = (bracket){ .by = BY_MASS, .share = f->top_p };
    if (by_p && by_k && !f->joint) {
        cover(s, kind, key);
        b.limit = limit_of(f->top_p, list_above(s, BY_MASS, key - 1));
    }
    key = key > least ? key : least;
    if (!by_p)
        return key;
    b.low.key = key - 1;
    return search(s, kind, b, 1);
}

/* Adds up the kept mass of each block; their sum. */
static uint64_t keep_blocks(selection *s, int32_t kind, int32_t key)
{
    uint64_t sum = 0;

    cover(s, kind, key);
    for (int64_t i = 0; i < s->n_listed; i++)
        if (s->list_key[i] >= key)
            s->block_mass[s->list_index[i] / s->block] += s->list_weight[i];
    for (int64_t i = 0; i * s->block < s->r.vocab; i++)
        sum += s->block_mass[i];
    return sum;
}

#endif
