/* SPDX-License-Identifier: Apache-2.0 */
/* The planner's classes, ranges of workers and costs.  Costs steer the balance
 * alone: coverage and capacity hold for any. */
#ifndef FLI_ABI_PLAN_COST_H
#define FLI_ABI_PLAN_COST_H

#include "abi/plan.h"

/* What a device defines before: how functions are compiled, what its lanes wait
 * at, how an item is
 * written, and 0 where there are no segments. */
#ifndef PLAN_FN
#define PLAN_FN static inline
#endif
#ifndef PLAN_BARRIER
#define PLAN_BARRIER() ((void)0)
#endif
#ifndef PLAN_STORE
#define PLAN_STORE(item, ...) (*(item) = PLAN_MAKE(fli_work_item, __VA_ARGS__))
#endif
#ifndef PLAN_ROLLED
#define PLAN_ROLLED
#endif
#ifndef PLAN_GROUPS
#define PLAN_GROUPS 1
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

/* How many parts of `of` hold n, none of them negative: in 32 bits, whose division
 * is a fraction of that in 64. */
PLAN_FN int32_t plan_parts(int32_t n, int32_t of)
{
    return (int32_t)(((uint32_t)n + (uint32_t)of - 1) / (uint32_t)of);
}

/* The same in 64 bits. */
PLAN_FN int64_t plan_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* --- classes -------------------------------------------------------------- */

/* The classes that share class c's range of workers, as bits; 0 if c is not the
 * first of them. */
PLAN_FN uint32_t plan_opens_range(const fli_plan_input *in, int32_t c)
{
    uint32_t classes = 0;

    for (int32_t i = 0; i < in->n_classes; i++) {
        if (in->tile_class[i].first_worker != in->tile_class[c].first_worker)
            continue;
        if (i < c)
            return 0;
        classes |= 1u << i;
    }
    return classes;
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

/* Blocks of heads: a class takes one head at a time, or all. */
PLAN_FN int32_t plan_blocks_of(const fli_plan_input *in,
                               const fli_tile_class *c)
{
    return c->heads == 1 ? in->n_kv_heads : 1;
}

PLAN_FN int32_t plan_blocks(const fli_plan_input *in, const fli_plan_strip *s)
{
    return plan_blocks_of(in, plan_class_of(in, s));
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

/* --- costs ---------------------------------------------------------------- */

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
           * (uint64_t)(plan_parts(last, kv_tile) - first / kv_tile);
}

PLAN_FN uint64_t plan_cost(const fli_plan_input *in, const fli_plan_strip *s)
{
    return plan_cost_fixed(in, s) + plan_cost_kv(in, s, s->kv_begin, s->kv_end);
}

/* What a partial result costs more than a final one. */
PLAN_FN uint64_t plan_cost_partial(const fli_plan_input *in,
                                   const fli_plan_strip *s)
{
    return (uint64_t)plan_piece_rows(in, s) * plan_class_of(in, s)->cost_merge;
}

/* What a cut adds: another start, and two partial results to merge. */
PLAN_FN uint64_t plan_cost_cut(const fli_plan_input *in,
                               const fli_plan_strip *s)
{
    return plan_cost_fixed(in, s) + 2 * plan_cost_partial(in, s);
}

/* --- a range of workers --------------------------------------------------- */

typedef struct {
    const fli_plan_input *in;
    const fli_plan_output *out;
    int32_t first_worker, n_workers;
    uint64_t share; /* of its work: a worker's */
} plan_range;

PLAN_FN int plan_in_range(const plan_range *r, const fli_plan_strip *s)
{
    return plan_class_of(r->in, s)->first_worker == r->first_worker;
}

/* By how much a worker may miss its share so that a tile stays whole: the snap, or
 * what a cut costs. */
PLAN_FN uint64_t plan_slack(const plan_range *r, const fli_plan_strip *s)
{
    const uint64_t snap = (uint64_t)r->in->policy.snap;
    const uint64_t part =
        r->share / 1024 * snap + r->share % 1024 * snap / 1024;
    const uint64_t cut = plan_cost_cut(r->in, s);

    return PLAN_MAX(part, cut);
}

#endif
