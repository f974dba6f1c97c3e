/* SPDX-License-Identifier: Apache-2.0 */
/* The planner: from the lengths of a step to a list of work for each worker.
 *
 * Freestanding, integers only, no recursion, no allocation, so that the same text
 * can be a CUDA kernel of one CTA: every lane calls fli__plan_core; loops are
 * `for (i = lane; i < n; i += lanes)` between barriers, what is sequential is
 * lane 0's.  The host is lane 0 of 1.
 *
 * Phases: clear; find groups and count strips (plan_strips.h); build strips; deal
 * the tiles of each range of workers that has any, all at once in the order of the
 * batch (plan_borders.h), or one by one, longest first (plan_deal.h); list the
 * sources of grouped rows. */
#ifndef FLI_ABI_PLAN_CORE_H
#define FLI_ABI_PLAN_CORE_H

#include "abi/plan_borders.h"
#include "abi/plan_deal.h"

/* Every lane: all workers idle, counters zero. */
PLAN_FN void plan_clear(const fli_plan_input *in, const fli_plan_output *out,
                        int32_t lane, int32_t lanes)
{
    for (int32_t i = lane; i < in->n_workers; i += lanes) {
        if (i < in->max_items)
            PLAN_STORE(&out->items[i], .tile_class = -1, .next = -1);
        out->load[i] = 0;
    }
    for (int32_t i = lane; i < in->max_merges; i += lanes)
        out->counters[i] = 0;
    if (lane == 0)
        *out->summary = PLAN_MAKE(fli_plan_summary, .n_workers = in->n_workers,
                                  .n_items = in->n_workers);
}

/* --- merges of grouped rows ------------------------------------------------ */

/* Is it a grouped request's own strip, the last one in kv? */
PLAN_FN int plan_is_own(const fli_plan_input *in, const fli_plan_strip *s)
{
    return plan_is_grouped(s) && s->kv_end == in->kv_len[s->request];
}

/* Lane 0: where the sources of each grouped request begin, kept in the order[]
 * entry of its rank, which dealing no longer needs. */
PLAN_FN void plan_place_sources(const fli_plan_input *in,
                                const fli_plan_output *out)
{
    fli_plan_summary *sum = out->summary;

    for (int32_t i = 0; i < sum->n_strips; i++) {
        const fli_plan_strip *s = &out->strips[i];
        int32_t n = s->n_pieces;

        if (!plan_is_own(in, s))
            continue;
        for (int32_t up = s->parent; up >= 0; up = out->strips[up].parent)
            n += out->strips[up].n_pieces;
        out->order[s->member] = sum->n_sources;
        sum->n_sources += n * in->n_kv_heads;
    }
}

/* The merge of one grouped request and head, ascending in kv: from the request's
 * own strip s up through its groups, filled from the back. */
PLAN_FN void plan_list_sources(const fli_plan_input *in,
                               const fli_plan_output *out,
                               const fli_plan_strip *s, int32_t head)
{
    const int32_t heads = plan_class_of(in, s)->heads;
    const int32_t merge = heads == 1
                              ? head * out->summary->n_grouped + s->member
                              : s->member * heads + head;
    int32_t n = s->n_pieces;

    for (int32_t up = s->parent; up >= 0; up = out->strips[up].parent)
        n += out->strips[up].n_pieces;
    const int32_t source = out->order[s->member] + head * n;

    out->merges[merge] =
        PLAN_MAKE(fli_merge_item, .row_begin = s->row_begin,
                  .row_end = s->row_end, .kv_head = head, .n_kv_heads = 1,
                  .source = source, .n_sources = n, .counter = merge);
    for (const fli_plan_strip *t = s;;) {
        const int32_t rows = t->row_end - t->row_begin;
        const int32_t block = head / heads, in_block = head % heads;

        for (int32_t p = t->n_pieces - 1; p >= 0; p--)
            out->sources[source + --n] =
                t->partial
                + ((block * t->n_pieces + p) * heads + in_block) * rows
                + s->row_begin - t->row_begin;
        if (t->parent < 0)
            break;
        t = &out->strips[t->parent];
    }
}

/* Every lane, when all is dealt: grouped rows. */
PLAN_FN void plan_merge_grouped(const fli_plan_input *in,
                                const fli_plan_output *out, int32_t lane,
                                int32_t lanes)
{
    if (lane == 0)
        plan_place_sources(in, out);
    PLAN_BARRIER();
    for (int32_t i = lane; i < out->summary->n_strips; i += lanes)
        if (plan_is_own(in, &out->strips[i]))
            for (int32_t h = 0; h < in->n_kv_heads; h++)
                plan_list_sources(in, out, &out->strips[i], h);
}

/* --- all -------------------------------------------------------------------- */

/* Every lane: the range that class c opens.  Where pieces are settled before they
 * are dealt, borders have no say. */
PLAN_FN void plan_deal_range(const fli_plan_input *in,
                             const fli_plan_output *out, int32_t c,
                             int32_t lane, int32_t lanes)
{
    const fli_tile_class *opens = &in->tile_class[c];
    const plan_range range = { in, out, opens->first_worker, opens->n_workers,
                               0 };

    if (opens->longest_first || in->policy.flags & FLI_PLAN_INVARIANT
        || (PLAN_GROUPS && out->summary->n_grouped > 0))
        plan_deal_heap(&range, lane, lanes);
    else
        plan_deal_row(&range, lane, lanes);
    PLAN_BARRIER();
}

/* Plans *in into *out; see out->summary->overflow. */
PLAN_FN void fli__plan_core(const fli_plan_input *in,
                            const fli_plan_output *out, int32_t lane,
                            int32_t lanes)
{
    plan_clear(in, out, lane, lanes);
    PLAN_BARRIER();
    plan_count_strips(in, out, lane, lanes);
    if (lane == 0)
        out->summary->n_merges = out->summary->n_grouped * in->n_kv_heads;
    PLAN_BARRIER();
    if (out->summary->overflow)
        return;
    plan_build_strips(in, out, lane, lanes);
    PLAN_BARRIER();
    for (int32_t c = 0; c < in->n_classes; c++)
        if (plan_opens_range(in, c) & out->summary->classes)
            plan_deal_range(in, out, c, lane, lanes);
    if (PLAN_GROUPS && out->summary->n_grouped > 0) {
        plan_merge_grouped(in, out, lane, lanes);
        PLAN_BARRIER();
    }
}

/* The figures that only the host makes, of a plan without overflow. */
PLAN_FN void fli__plan_sum_up(const fli_plan_input *in,
                              const fli_plan_output *out)
{
    fli_plan_summary *sum = out->summary;

    for (int32_t c = 0; c < in->n_classes; c++)
        if (plan_opens_range(in, c) & sum->classes)
            sum->n_busy += in->tile_class[c].n_workers;
    for (int32_t w = 0; w < sum->n_workers; w++) {
        sum->total_cost += out->load[w];
        sum->max_cost = PLAN_MAX(sum->max_cost, out->load[w]);
    }
}

#endif
