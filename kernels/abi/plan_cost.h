/* SPDX-License-Identifier: Apache-2.0 */
/* The planner's classes and costs.  Costs steer the balance alone: coverage and
 * capacity hold for any. */
#ifndef FLI_ABI_PLAN_COST_H
#define FLI_ABI_PLAN_COST_H

#include "abi/plan.h"

#ifndef PLAN_FN
#define PLAN_FN static inline
#endif
#ifndef PLAN_BARRIER
#define PLAN_BARRIER() ((void)0)
#endif

/* PLAN_MAKE(type, .member = value, ..): a value of a struct, in C and in C++. */
#if defined(__cplusplus)
#define PLAN_MAKE(type, ...)                                                   \
    type                                                                       \
    {                                                                          \
        __VA_ARGS__                                                            \
    }
#else
#define PLAN_MAKE(type, ...) ((type){ __VA_ARGS__ })
#endif

#define PLAN_MIN(a, b) ((a) < (b) ? (a) : (b))
#define PLAN_MAX(a, b) ((a) > (b) ? (a) : (b))

PLAN_FN int64_t plan_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

PLAN_FN int32_t plan_n_workers(const fli_plan_input *in)
{
    int32_t n = 0;

    for (int32_t c = 0; c < in->n_classes; c++) {
        const fli_tile_class *t = &in->tile_class[c];

        n = PLAN_MAX(n, t->first_worker + t->n_workers);
    }
    return n;
}

/* True if class c is the first of those that share its range of workers. */
PLAN_FN int plan_opens_range(const fli_plan_input *in, int32_t c)
{
    for (int32_t i = 0; i < c; i++)
        if (in->tile_class[i].first_worker == in->tile_class[c].first_worker)
            return 0;
    return 1;
}

/* The smallest class that takes rows in one tile, else the largest; under
 * INVARIANT always the last, so that rows never change class. */
PLAN_FN int32_t plan_class(const fli_plan_input *in, int64_t rows)
{
    int32_t c = 0;

    if (in->policy.flags & FLI_PLAN_INVARIANT)
        return in->n_classes - 1;
    while (c < in->n_classes - 1 && in->tile_class[c].rows < rows)
        c++;
    return c;
}

PLAN_FN int64_t plan_rows(const fli_plan_input *in, int32_t request)
{
    return ((int64_t)in->q_indptr[request + 1] - in->q_indptr[request])
           * in->group;
}

PLAN_FN const fli_tile_class *plan_class_of(const fli_plan_input *in,
                                            const fli_plan_strip *s)
{
    return &in->tile_class[s->tile_class];
}

PLAN_FN int32_t plan_blocks(const fli_plan_input *in, const fli_plan_strip *s)
{
    return in->n_kv_heads / plan_class_of(in, s)->heads;
}

/* Partial rows of a piece of a strip. */
PLAN_FN int64_t plan_piece_rows(const fli_plan_input *in,
                                const fli_plan_strip *s)
{
    return (int64_t)(s->row_end - s->row_begin) * plan_class_of(in, s)->heads;
}

/* The granularity of cuts. */
PLAN_FN int32_t plan_grain(const fli_plan_input *in, const fli_plan_strip *s)
{
    return in->policy.flags & FLI_PLAN_INVARIANT ? in->policy.chunk
                                                 : plan_class_of(in, s)->cut;
}

/* What a piece costs before its first kv tile. */
PLAN_FN uint64_t plan_cost_fixed(const fli_plan_input *in,
                                 const fli_plan_strip *s)
{
    const fli_tile_class *c = plan_class_of(in, s);

    return c->cost_item + (uint64_t)plan_piece_rows(in, s) * c->cost_row;
}

/* What a kv tile costs. */
PLAN_FN uint64_t plan_cost_step(const fli_plan_input *in,
                                const fli_plan_strip *s)
{
    const fli_tile_class *c = plan_class_of(in, s);

    return (uint64_t)c->heads * c->cost_tile
           + (uint64_t)plan_piece_rows(in, s) * c->cost_cell;
}

/* What kv tokens [begin, end) of a tile cost: a mask hides whole kv tiles. */
PLAN_FN uint64_t plan_cost_kv(const fli_plan_input *in, const fli_plan_strip *s,
                              int32_t begin, int32_t end)
{
    const int32_t kv_tile = plan_class_of(in, s)->kv_tile;
    const int32_t first = PLAN_MAX(begin, s->see_begin);
    const int32_t last = PLAN_MIN(end, s->see_end);

    if (first >= last)
        return 0;
    return plan_cost_step(in, s)
           * (uint64_t)(plan_ceil_div(last, kv_tile) - first / kv_tile);
}

PLAN_FN uint64_t plan_cost(const fli_plan_input *in, const fli_plan_strip *s)
{
    return plan_cost_fixed(in, s) + plan_cost_kv(in, s, s->kv_begin, s->kv_end);
}

/* What a cut adds: another start, and two partial results to merge. */
PLAN_FN uint64_t plan_cost_cut(const fli_plan_input *in,
                               const fli_plan_strip *s)
{
    return plan_cost_fixed(in, s)
           + 2 * (uint64_t)plan_piece_rows(in, s)
                 * plan_class_of(in, s)->cost_merge;
}

#endif
