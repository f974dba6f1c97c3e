/* SPDX-License-Identifier: Apache-2.0 */
/* The kept set of a row: what top_k, top_p and min_p leave. */
#ifndef FLI_REF_SAMPLE_KEPT_H
#define FLI_REF_SAMPLE_KEPT_H

#include "ref/sample_row.h"

__extension__ typedef unsigned __int128 wide;

typedef struct {
    int32_t least_key;
    uint64_t least_mass, mass;
} kept_set;

static inline int is_kept(const row *r, const kept_set *kept, int64_t i)
{
    return key_of(value(r, i)) >= kept->least_key
           && mass_at(r, i) >= kept->least_mass;
}

/* Elements, or their mass, whose key is above key. */
static inline uint64_t above(const row *r, int64_t key, int by_mass)
{
    uint64_t sum = 0;

    for (int64_t i = 0; i < r->vocab; i++)
        if (key_of(value(r, i)) > key)
            sum += by_mass ? mass_at(r, i) : 1;
    return sum;
}

/* The least key above which there is less than limit: above() falls with the
 * key, so halving the range of keys finds it. */
static inline int32_t threshold(const row *r, uint64_t limit, int by_mass)
{
    int64_t low = INT32_MIN, high = key_of(r->max);

    while (low < high) {
        const int64_t middle = low + (high - low) / 2;

        if (above(r, middle, by_mass) < limit)
            high = middle;
        else
            low = middle + 1;
    }
    return (int32_t)low;
}

/* ceil(share * mass), share being rounded up to 63 bits. */
static inline uint64_t share_of(float share, uint64_t mass)
{
    const double clamped = share < 0 ? 0 : share > 1 ? 1 : (double)share;
    const uint64_t a = (uint64_t)ceil(clamped * 0x1p63);

    return (uint64_t)(((wide)a * mass + INT64_MAX) >> 63);
}

/* 0 for a bad parameter of output row i. */
static inline int keep(const row *r, const fli_filters *f, int64_t i,
                       kept_set *out)
{
    const int32_t k = f->top_ks ? f->top_ks[i] : f->top_k;
    const float top_p = f->top_ps ? f->top_ps[i] : f->top_p;
    const float min_p = f->min_ps ? f->min_ps[i] : f->min_p;

    if (isnan(top_p) || isnan(min_p))
        return 0;
    out->least_key = INT32_MIN;
    out->least_mass = share_of(min_p, mass_at(r, r->first));
    if (k > 0 && k < r->vocab)
        out->least_key = threshold(r, (uint64_t)k, 0);
    if (top_p < 1) {
        const int64_t all = f->joint ? INT32_MIN : out->least_key;
        const uint64_t mass = above(r, all - 1, 1);
        const uint64_t limit = share_of(top_p, mass);
        const int32_t key = threshold(r, limit > 1 ? limit : 1, 1);

        out->least_key = key > out->least_key ? key : out->least_key;
    }
    out->mass = 0;
    for (int64_t j = 0; j < r->vocab; j++)
        out->mass += is_kept(r, out, j) ? mass_at(r, j) : 0;
    return 1;
}

#endif
