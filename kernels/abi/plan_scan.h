/* SPDX-License-Identifier: Apache-2.0 */
/* Running sums that lanes make together, and the search in them. */
#ifndef FLI_ABI_PLAN_SCAN_H
#define FLI_ABI_PLAN_SCAN_H

#include "abi/plan_cost.h"

/* What the figures of sums are. */
enum {
    PLAN_STRIPS = 0,  /* of requests; */
    PLAN_TILES = 1,   /* of requests and strips; */
    PLAN_CLASSES = 2, /* of requests, two counts of a class in each of two; */
    PLAN_COST = 0,    /* of strips; */
    PLAN_PIECES = 0,  /* of the workers of a range; */
    PLAN_FILLED = 1,  /* those with any; */
    PLAN_CUTS = 2,    /* those that begin at a cut of their own, */
    PLAN_MERGES = 3   /* and it is the first one of its tile */
};

PLAN_FN void plan_add(fli_plan_sum *to, const fli_plan_sum *more)
{
    for (int32_t k = 0; k < 4; k++)
        to->n[k] += more->n[k];
}

/* Turns n elements into the sums of those before them and returns the sum of
 * all. */
PLAN_FN fli_plan_sum plan_add_up(fli_plan_sum *sums, int32_t n)
{
    fli_plan_sum all = { { 0, 0, 0, 0 } };

    for (int32_t i = 0; i < n; i++) {
        const fli_plan_sum before = all;

        plan_add(&all, &sums[i]);
        sums[i] = before;
    }
    return all;
}

/* Every lane: the same, the sum of all to sums[n].  Each lane adds up a stretch of
 * the list, then one of each group of lanes what its lanes have, then each lane
 * adds what the groups and lanes before it have. */
PLAN_FN void plan_scan(fli_plan_sum *sums, int32_t n, fli_plan_sum *lane_sums,
                       int32_t lane, int32_t lanes)
{
    const int32_t n_busy = PLAN_MIN(lanes, (int32_t)FLI_PLAN_SCAN_LANES);
    const int32_t size = FLI_PLAN_SCAN_GROUP;
    const int32_t each = plan_parts(n, n_busy);
    const int32_t first = PLAN_MIN(PLAN_MIN(lane, n_busy) * each, n);
    const int32_t last = PLAN_MIN(first + each, n);
    fli_plan_sum *group_sums = lane_sums + FLI_PLAN_SCAN_LANES;
    fli_plan_sum all = plan_add_up(sums + first, last - first);

    if (lanes > 1) {
        if (lane < n_busy)
            lane_sums[lane] = all;
        PLAN_BARRIER();
        if (lane * size < n_busy)
            group_sums[lane] = plan_add_up(
                lane_sums + lane * size, PLAN_MIN(size, n_busy - lane * size));
        PLAN_BARRIER();
        if (lane < n_busy) {
            fli_plan_sum before = lane_sums[lane];

            PLAN_ROLLED
            for (int32_t g = 0; g < lane / size; g++)
                plan_add(&before, &group_sums[g]);
            PLAN_ROLLED
            for (int32_t i = first; i < last; i++)
                plan_add(&sums[i], &before);
            plan_add(&all, &before);
        }
    }
    if (lane == n_busy - 1)
        sums[n] = all;
    PLAN_BARRIER();
}

/* The last index of [from, n) whose sum k is at most x, as that of `from` is: in
 * growing steps and then shrinking ones, so that what is near is found at once. */
PLAN_FN int32_t plan_find(const fli_plan_sum *sums, int32_t k, int32_t from,
                          int32_t n, uint64_t x)
{
    int32_t step = 1;

    for (; from + step < n && sums[from + step].n[k] <= x; step *= 2)
        from += step;
    for (step /= 2; step > 0; step /= 2)
        if (from + step < n && sums[from + step].n[k] <= x)
            from += step;
    return from;
}

#endif
