/* SPDX-License-Identifier: Apache-2.0 */
/* The planner's strips: which requests read a shared segment as a group, and into
 * which tiles of rows the others fall.  Groups are found by lane 0 and where there
 * are segments; all else is done by every lane. */
#ifndef FLI_ABI_PLAN_STRIPS_H
#define FLI_ABI_PLAN_STRIPS_H

#include "abi/plan_scan.h"

/* --- groups --------------------------------------------------------------- */

/* End of level `level` of a request's leading shared segments as far as a group
 * may use it, 0 where it may not.  begin is where the segment begins. */
PLAN_FN int32_t plan_shared_end(const fli_plan_input *in, int32_t request,
                                int32_t level, int32_t begin)
{
    const int32_t s = in->segment_indptr[request] + level;
    const int32_t q_len = in->q_indptr[request + 1] - in->q_indptr[request];
    const fli_tile_class *largest = &in->tile_class[in->n_classes - 1];

    if (s >= in->segment_indptr[request + 1] || in->segment_group[s] < 0)
        return 0;
    if (q_len == 0 || plan_rows(in, request) > largest->rows)
        return 0;
    const int32_t length = in->segment_len[s];

    /* a piece that does not begin at 0 would be one chunk: not worth a group */
    if ((in->policy.flags & FLI_PLAN_INVARIANT) && level > 0)
        return 0;
    if (length <= 0 || length > in->kv_len[request] - q_len - begin)
        return 0;
    const int32_t end = begin + length;

    return in->policy.flags & FLI_PLAN_INVARIANT ? end - end % in->policy.chunk
                                                 : end;
}

/* How many leading segments requests i and i + 1 share; their end to *end. */
PLAN_FN int32_t plan_link(const fli_plan_input *in, int32_t i, int32_t *end)
{
    int32_t level = 0;

    *end = 0;
    if (!in->segment_indptr || i < 0 || i + 1 >= in->n_requests)
        return 0;
    for (; level < FLI_PLAN_LEVELS; level++) {
        const int32_t a = plan_shared_end(in, i, level, *end);
        const int32_t b = plan_shared_end(in, i + 1, level, *end);

        if (a == 0 || a != b
            || in->segment_group[in->segment_indptr[i] + level]
                   != in->segment_group[in->segment_indptr[i + 1] + level])
            break;
        *end = a;
    }
    return level;
}

/* Groups need a class of blocks of heads in common. */
PLAN_FN int plan_may_group(const fli_plan_input *in)
{
    if (!PLAN_GROUPS || !in->segment_indptr)
        return 0;
    for (int32_t c = 1; c < in->n_classes; c++)
        if (in->tile_class[c].heads != in->tile_class[0].heads)
            return 0;
    return 1;
}

PLAN_FN int plan_is_grouped(const fli_plan_strip *s)
{
    return PLAN_GROUPS && s->member >= 0;
}

/* Tokens before segment `level` of a request. */
PLAN_FN int32_t plan_segment_begin(const fli_plan_input *in, int32_t request,
                                   int32_t level)
{
    int32_t begin = 0;

    for (int32_t l = 0; l < level; l++)
        begin += in->segment_len[in->segment_indptr[request] + l];
    return begin;
}

/* The segment of a request that holds position, or its last one. */
PLAN_FN int32_t plan_find_segment(const fli_plan_input *in, int32_t request,
                                  int32_t position, int32_t *begin)
{
    *begin = 0;
    if (!PLAN_GROUPS || !in->segment_indptr)
        return request;
    const int32_t last = in->segment_indptr[request + 1] - 1;
    int32_t s = in->segment_indptr[request];

    while (s < last && position - *begin >= in->segment_len[s])
        *begin += in->segment_len[s++];
    return s;
}

PLAN_FN int plan_fits(const fli_plan_input *in, const fli_plan_output *out,
                      const fli_plan_need *n)
{
    return n->strips <= out->max_strips
           && n->tiles + in->n_workers <= in->max_items
           && n->merges <= in->max_merges && n->sources <= in->max_sources
           && n->partial_rows <= in->max_partial_rows;
}

/* Writes strip *s of level `level` that begins at request first of a run ending
 * before `stop`: as many members as its class has rows for. */
PLAN_FN void plan_group_strip(const fli_plan_input *in, fli_plan_strip *s,
                              int32_t level, int32_t first, int32_t stop)
{
    int32_t last = first + 1, unused;
    int64_t rows = plan_rows(in, first);

    while (last < stop && plan_link(in, last - 1, &unused) > level)
        rows += plan_rows(in, last++);
    s->tile_class = plan_class(in, rows);
    const int64_t most = plan_class_of(in, s)->rows;

    for (last = first, rows = 0; last < stop; last++) {
        if (last > first && plan_link(in, last - 1, &unused) <= level)
            break;
        if (rows + plan_rows(in, last) > most)
            break;
        rows += plan_rows(in, last);
    }
    s->request = first;
    s->n_requests = last - first;
    s->row_begin = in->q_indptr[first] * in->group;
    s->row_end = in->q_indptr[last] * in->group;
    s->segment = in->segment_indptr[first] + level;
    s->segment_begin = plan_segment_begin(in, first, level);
    s->kv_begin = s->see_begin = s->segment_begin;
    s->kv_end = s->see_end = plan_shared_end(in, first, level, s->kv_begin);
    s->n_pieces = 1;
}

/* Adds to *n what a strip takes that is dealt in n_pieces fixed pieces and merged
 * with others. */
PLAN_FN void plan_need_pieces(const fli_plan_input *in, const fli_plan_strip *s,
                              int64_t n_pieces, fli_plan_need *n)
{
    const int64_t blocks = plan_blocks(in, s);

    n->tiles += n_pieces * blocks;
    n->sources += n_pieces * s->n_requests * in->n_kv_heads;
    n->partial_rows += n_pieces * blocks * plan_piece_rows(in, s);
}

/* The rest of a grouped request's kv, its own. */
PLAN_FN void plan_own_strip(const fli_plan_input *in, fli_plan_strip *s,
                            int32_t request, int32_t begin)
{
    const int64_t rows = plan_rows(in, request);

    s->request = request;
    s->n_requests = 1;
    s->row_begin = in->q_indptr[request] * in->group;
    s->row_end = s->row_begin + (int32_t)rows;
    s->kv_begin = s->see_begin = begin;
    s->kv_end = s->see_end = in->kv_len[request];
    s->tile_class = plan_class(in, rows);
    s->n_pieces = 1;
    s->segment = plan_find_segment(in, request, begin, &s->segment_begin);
    if (in->policy.flags & FLI_PLAN_INVARIANT) {
        s->piece_tokens = in->policy.chunk;
        s->n_pieces = plan_parts(s->kv_end - begin, s->piece_tokens);
    }
}

/* Adds to *n what a request takes that is neither grouped nor cut. */
PLAN_FN void plan_need_private(const fli_plan_input *in, int32_t request,
                               fli_plan_need *n)
{
    const int64_t rows = plan_rows(in, request);
    const fli_tile_class *c = &in->tile_class[plan_class(in, rows)];
    const int64_t strips = plan_parts((int32_t)rows, c->rows);

    n->strips += strips;
    n->tiles += strips * plan_blocks_of(in, c);
}

/* Strips of requests [first, stop), which share at least their first segment,
 * from strip n->strips on; returns 0 if they do not fit, with the private work of
 * the requests behind them. */
PLAN_FN int plan_group_run(const fli_plan_input *in, const fli_plan_output *out,
                           int32_t first, int32_t stop,
                           const fli_plan_need *behind, fli_plan_need *n)
{
    int32_t open[FLI_PLAN_LEVELS], open_end[FLI_PLAN_LEVELS];

    for (int32_t l = 0; l < FLI_PLAN_LEVELS; l++)
        open_end[l] = first;
    for (int32_t i = first; i < stop; i++) {
        int32_t end_left = 0, end_right = 0;
        const int32_t left = i > first ? plan_link(in, i - 1, &end_left) : 0;
        const int32_t right = i + 1 < stop ? plan_link(in, i, &end_right) : 0;
        const int32_t depth = PLAN_MAX(left, right);

        out->request_sums[i] =
            PLAN_MAKE(fli_plan_sum, { (uint64_t)n->strips, 1 }); /* grouped */
        for (int32_t l = 0; l <= depth; l++) {
            if (l < depth && open_end[l] > i)
                continue;
            if (n->strips >= out->max_strips)
                return 0;
            fli_plan_strip *s = &out->strips[n->strips];

            *s = PLAN_MAKE(fli_plan_strip, 0);
            if (l < depth) {
                plan_group_strip(in, s, l, i, l > 0 ? open_end[l - 1] : stop);
                open[l] = (int32_t)n->strips;
                open_end[l] = i + s->n_requests;
                for (int32_t k = l + 1; k < FLI_PLAN_LEVELS; k++)
                    open_end[k] = i;
            } else {
                plan_own_strip(in, s, i, PLAN_MAX(end_left, end_right));
            }
            s->parent = l > 0 ? open[l - 1] : -1;
            s->member = out->summary->n_grouped + i - first;
            n->strips++;
            plan_need_pieces(in, s, s->n_pieces, n);
        }
        n->merges += in->n_kv_heads;
    }
    fli_plan_need all = *n;

    all.strips += behind->strips;
    all.tiles += behind->tiles;
    return plan_fits(in, out, &all);
}

/* Lane 0: strips of grouped requests, and where those of every other one
 * begin: request_sums are made here, with a 1 beside the strips of a grouped
 * one. */
PLAN_FN void plan_count_grouped(const fli_plan_input *in,
                                const fli_plan_output *out)
{
    fli_plan_summary *sum = out->summary;
    fli_plan_need behind = { 0 }; /* the requests not yet counted, private */
    fli_plan_need n = { 0 };
    int32_t unused, stop;

    for (int32_t i = 0; i < in->n_requests; i++)
        plan_need_private(in, i, &behind);
    for (int32_t i = 0; i < in->n_requests; i = stop) {
        fli_plan_need run = { 0 }, grouped = n;

        for (stop = i + 1; plan_link(in, stop - 1, &unused);)
            stop++;
        for (int32_t k = i; k < stop; k++)
            plan_need_private(in, k, &run);
        behind.strips -= run.strips;
        behind.tiles -= run.tiles;
        if (stop > i + 1
            && plan_group_run(in, out, i, stop, &behind, &grouped)) {
            for (int64_t k = n.strips; k < grouped.strips; k++)
                sum->classes |= 1u << out->strips[k].tile_class;
            sum->n_grouped += stop - i;
            n = grouped;
            continue;
        }
        for (int32_t k = i; k < stop; k++) {
            out->request_sums[k] =
                PLAN_MAKE(fli_plan_sum, { (uint64_t)n.strips });
            if (plan_rows(in, k) > 0)
                sum->classes |= 1u << plan_class(in, plan_rows(in, k));
            plan_need_private(in, k, &n);
        }
    }
    out->request_sums[in->n_requests] =
        PLAN_MAKE(fli_plan_sum, { (uint64_t)n.strips });
    *out->used = n;
}

/* Every lane: how many strips and tiles each request has, and whether each class
 * has any. */
PLAN_FN void plan_count_private(const fli_plan_input *in,
                                const fli_plan_output *out, int32_t lane,
                                int32_t lanes)
{
    const int32_t n = in->n_requests;

    for (int32_t i = lane; i < n; i += lanes) {
        const int32_t rows = (int32_t)plan_rows(in, i);
        const int32_t c = plan_class(in, rows);
        const uint64_t strips =
            (uint64_t)plan_parts(rows, in->tile_class[c].rows);
        const uint64_t blocks =
            (uint64_t)plan_blocks_of(in, &in->tile_class[c]);
        const uint64_t its = (uint64_t)(rows > 0) << c % 2 * 32;

        out->request_sums[i] =
            PLAN_MAKE(fli_plan_sum, { strips, strips * blocks, c < 2 ? its : 0,
                                      c < 2 ? 0 : its });
    }
    PLAN_BARRIER();
    plan_scan(out->request_sums, n, out->lane_sums, lane, lanes);
    if (lane != 0)
        return;
    const fli_plan_sum *all = &out->request_sums[n];

    for (int32_t c = 0; c < in->n_classes; c++)
        if ((uint32_t)(all->n[PLAN_CLASSES + c / 2] >> c % 2 * 32))
            out->summary->classes |= 1u << c;
    *out->used =
        PLAN_MAKE(fli_plan_need, .strips = (int64_t)all->n[PLAN_STRIPS],
                  .tiles = (int64_t)all->n[PLAN_TILES]);
}

/* Every lane: how many strips each request has, and whether uncut work fits. */
PLAN_FN void plan_count_strips(const fli_plan_input *in,
                               const fli_plan_output *out, int32_t lane,
                               int32_t lanes)
{
    if (!plan_may_group(in))
        plan_count_private(in, out, lane, lanes);
    else if (lane == 0)
        plan_count_grouped(in, out);
    if (lane == 0) {
        out->summary->n_strips = (int32_t)out->used->strips;
        out->summary->overflow = !plan_fits(in, out, out->used);
    }
}

/* Which kv the expected mask leaves a strip of one request. */
PLAN_FN void plan_see(const fli_plan_input *in, fli_plan_strip *s)
{
    const int32_t row = in->q_indptr[s->request];
    const int64_t offset =
        (int64_t)in->kv_len[s->request] - in->q_indptr[s->request + 1] + row;
    int64_t begin = s->kv_begin, end = s->kv_end;

    if (in->causal) {
        const int32_t last = (s->row_end - 1) / in->group - row;

        end = PLAN_MIN(end, offset + last + 1);
    }
    if (in->window > 0) {
        const int32_t first = s->row_begin / in->group - row;

        begin = PLAN_MAX(begin, offset + first - in->window + 1);
    }
    s->see_end = (int32_t)PLAN_MAX(end, (int64_t)s->kv_begin);
    s->see_begin = (int32_t)PLAN_MIN(begin, (int64_t)s->see_end);
}

/* Makes *s strip number `index` of a request that is not grouped. */
PLAN_FN void plan_private_strip(const fli_plan_input *in, int32_t request,
                                int32_t index, fli_plan_strip *s)
{
    const int32_t c = plan_class(in, plan_rows(in, request));
    const int32_t rows = in->tile_class[c].rows;
    const int32_t begin = in->q_indptr[request] * in->group + index * rows;
    const int32_t left = in->q_indptr[request + 1] * in->group - begin;
    int32_t segment_begin;
    const int32_t segment = plan_find_segment(in, request, 0, &segment_begin);

    *s = PLAN_MAKE(fli_plan_strip, .request = request, .n_requests = 1,
                   .row_begin = begin, .row_end = begin + PLAN_MIN(rows, left),
                   .kv_end = in->kv_len[request], .tile_class = c,
                   .segment = segment, .segment_begin = segment_begin,
                   .parent = -1, .member = -1);
}

/* Every lane: strips of requests that are not grouped, costs of all. */
PLAN_FN void plan_build_strips(const fli_plan_input *in,
                               const fli_plan_output *out, int32_t lane,
                               int32_t lanes)
{
    const int has_groups = PLAN_GROUPS && out->summary->n_grouped > 0;
    const int32_t n = out->summary->n_strips;
    int32_t request = 0;

    for (int32_t k = lane; k < n; k += lanes) {
        fli_plan_strip *s = &out->strips[k];

        request = plan_find(out->request_sums, PLAN_STRIPS, request,
                            in->n_requests, (uint64_t)k);
        const fli_plan_sum *figures = &out->request_sums[request];

        if (!has_groups || figures->n[1] == 0)
            plan_private_strip(in, request,
                               k - (int32_t)figures->n[PLAN_STRIPS], s);
        if (s->n_requests == 1)
            plan_see(in, s);
        s->cost = plan_cost(in, s);
    }
}

/* What an item is besides its part of a tile. */
typedef struct {
    int32_t next, partial, merge, n_merges;
} plan_place;

/* Writes an item for kv [begin, end) of a strip and a block of heads. */
PLAN_FN void plan_put_item(const fli_plan_input *in, const fli_plan_strip *s,
                           int32_t block, int32_t begin, int32_t end,
                           const plan_place *place, fli_work_item *to)
{
    const int32_t heads = plan_class_of(in, s)->heads;
    int32_t segment = s->segment, segment_begin = s->segment_begin;

    if (begin > s->kv_begin)
        segment = plan_find_segment(in, s->request, begin, &segment_begin);
    PLAN_STORE(to, .tile_class = s->tile_class, .next = place->next,
               .request = s->request, .n_requests = s->n_requests,
               .row_begin = s->row_begin, .row_end = s->row_end,
               .kv_head = block * heads, .n_kv_heads = heads,
               .segment = segment, .segment_begin = segment_begin,
               .kv_begin = begin, .kv_end = end, .partial = place->partial,
               .merge = place->merge, .n_merges = place->n_merges);
}

#endif
