/* SPDX-License-Identifier: Apache-2.0 */
/* The planner's strips: which requests read a shared segment as a group, and into
 * which tiles of rows the others fall. */
#ifndef FLI_ABI_PLAN_STRIPS_H
#define FLI_ABI_PLAN_STRIPS_H

#include "abi/plan_cost.h"

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
    for (int32_t c = 1; c < in->n_classes; c++)
        if (in->tile_class[c].heads != in->tile_class[0].heads)
            return 0;
    return in->segment_indptr != 0;
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
    if (!in->segment_indptr)
        return request;
    const int32_t last = in->segment_indptr[request + 1] - 1;
    int32_t s = in->segment_indptr[request];

    while (s < last && position - *begin >= in->segment_len[s])
        *begin += in->segment_len[s++];
    return s;
}

/* Capacity that uncut work takes, counted before it is promised. */
typedef struct {
    int64_t strips, tiles, merges, sources, partial_rows;
} plan_need;

PLAN_FN int plan_fits(const fli_plan_input *in, const fli_plan_output *out,
                      const plan_need *n)
{
    return n->strips <= out->max_strips
           && n->tiles + plan_n_workers(in) <= in->max_items
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
                              int64_t n_pieces, plan_need *n)
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
        s->n_pieces =
            (int32_t)plan_ceil_div((int64_t)s->kv_end - begin, s->piece_tokens);
    }
}

/* Adds to *n what a request takes that is neither grouped nor cut. */
PLAN_FN void plan_need_private(const fli_plan_input *in, int32_t request,
                               plan_need *n)
{
    const int64_t rows = plan_rows(in, request);
    const fli_tile_class *c = &in->tile_class[plan_class(in, rows)];
    const int64_t tiles = plan_ceil_div(rows, c->rows);

    n->strips += tiles;
    n->tiles += tiles * (in->n_kv_heads / c->heads);
}

/* Strips of requests [first, stop), which share at least their first segment,
 * from strip n->strips on; returns 0 if they do not fit, with the private work of
 * the requests behind them. */
PLAN_FN int plan_group_run(const fli_plan_input *in, const fli_plan_output *out,
                           int32_t first, int32_t stop, const plan_need *behind,
                           plan_need *n)
{
    int32_t open[FLI_PLAN_LEVELS], open_end[FLI_PLAN_LEVELS];

    for (int32_t l = 0; l < FLI_PLAN_LEVELS; l++)
        open_end[l] = first;
    for (int32_t i = first; i < stop; i++) {
        int32_t end_left = 0, end_right = 0;
        const int32_t left = i > first ? plan_link(in, i - 1, &end_left) : 0;
        const int32_t right = i + 1 < stop ? plan_link(in, i, &end_right) : 0;
        const int32_t depth = PLAN_MAX(left, right);

        out->request_strip[i] = (int32_t)n->strips;
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
    plan_need all = *n;

    all.strips += behind->strips;
    all.tiles += behind->tiles;
    return plan_fits(in, out, &all);
}

/* Lane 0: strips of grouped requests, and how many every other one has. */
PLAN_FN void plan_count_strips(const fli_plan_input *in,
                               const fli_plan_output *out, plan_need *n)
{
    const int may_group = plan_may_group(in);
    plan_need behind = { 0 }; /* the requests not yet counted, private */
    int32_t unused, stop;

    for (int32_t i = 0; i < in->n_requests; i++)
        plan_need_private(in, i, &behind);
    for (int32_t i = 0; i < in->n_requests; i = stop) {
        plan_need run = { 0 }, grouped = *n;

        for (stop = i + 1; may_group && plan_link(in, stop - 1, &unused);)
            stop++;
        for (int32_t k = i; k < stop; k++)
            plan_need_private(in, k, &run);
        behind.strips -= run.strips;
        behind.tiles -= run.tiles;
        if (stop > i + 1
            && plan_group_run(in, out, i, stop, &behind, &grouped)) {
            out->summary->n_grouped += stop - i;
            *n = grouped;
            continue;
        }
        for (int32_t k = i; k < stop; k++) {
            out->request_strip[k] = (int32_t)n->strips;
            plan_need_private(in, k, n);
            if (n->strips > out->max_strips)
                break; /* plan_fits will say so */
            if (n->strips > out->request_strip[k])
                out->strips[n->strips - 1].member = -1;
        }
    }
    out->request_strip[in->n_requests] = (int32_t)n->strips;
    out->summary->n_strips = (int32_t)n->strips;
    out->summary->overflow = !plan_fits(in, out, n);
}

/* Which kv the expected mask leaves a strip of one request. */
PLAN_FN void plan_see(const fli_plan_input *in, fli_plan_strip *s)
{
    const int32_t first = s->row_begin / in->group
                          - in->q_indptr[s->request]; /* rows of the request */
    const int32_t last =
        (s->row_end - 1) / in->group - in->q_indptr[s->request];
    const int64_t kv_len = in->kv_len[s->request];
    const int64_t offset =
        kv_len - in->q_indptr[s->request + 1] + in->q_indptr[s->request];
    int64_t begin = s->kv_begin, end = s->kv_end;

    if (in->causal)
        end = PLAN_MIN(end, offset + last + 1);
    if (in->window > 0)
        begin = PLAN_MAX(begin, offset + first - in->window + 1);
    s->see_end = (int32_t)PLAN_MAX(end, (int64_t)s->kv_begin);
    s->see_begin = (int32_t)PLAN_MIN(begin, (int64_t)s->see_end);
}

/* Every lane: strips of requests that are not grouped, costs of all. */
PLAN_FN void plan_build_strips(const fli_plan_input *in,
                               const fli_plan_output *out, int32_t lane,
                               int32_t lanes)
{
    for (int32_t i = lane; i < in->n_requests; i += lanes) {
        const int32_t first = out->request_strip[i];
        const int32_t last = out->request_strip[i + 1];

        if (first == last)
            continue;
        const int grouped = out->strips[last - 1].member >= 0;
        const int32_t tile_class = plan_class(in, plan_rows(in, i));
        const int64_t begin = (int64_t)in->q_indptr[i] * in->group;
        const int64_t end = (int64_t)in->q_indptr[i + 1] * in->group;
        const int64_t rows = in->tile_class[tile_class].rows;

        for (int32_t k = first; k < last; k++) {
            fli_plan_strip *s = &out->strips[k];

            if (!grouped) {
                const int64_t row = begin + (k - first) * rows;

                *s =
                    PLAN_MAKE(fli_plan_strip, .request = i, .n_requests = 1,
                              .row_begin = (int32_t)row,
                              .row_end = (int32_t)PLAN_MIN(row + rows, end),
                              .kv_end = in->kv_len[i], .tile_class = tile_class,
                              .parent = -1, .member = -1);
                s->segment = plan_find_segment(in, i, 0, &s->segment_begin);
            }
            if (s->n_requests == 1)
                plan_see(in, s);
            s->cost = plan_cost(in, s);
        }
    }
}

#endif
