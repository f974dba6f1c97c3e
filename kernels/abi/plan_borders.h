/* SPDX-License-Identifier: Apache-2.0 */
/* The planner's dealing in the order of the batch, by every lane at once.
 *
 * The tiles stand in a row: by request, then block of heads, then strip.  The
 * border in front of worker i lies where the cost of all before it is i shares, a
 * share being the total over the workers.  Each border is found for itself, by a
 * search in the running sums of the strips' costs:
 *
 *   - within the slack of a tile's edge, or where no cut can be, it moves to the
 *     nearest edge, so that the tile stays whole;
 *   - else it cuts the tile, at the nearest grain of kv.
 *
 * Both are monotone, so borders keep their order, whatever lies between two is one
 * worker's, and a border's error is its two neighbours' alone.  There are fewer
 * cuts than workers; where the capacity does not hold as many, there are none.
 * Running sums over the borders then say where each worker's pieces and merges
 * stand in their lists, and every piece is written for itself. */
#ifndef FLI_ABI_PLAN_BORDERS_H
#define FLI_ABI_PLAN_BORDERS_H

#include "abi/plan_strips.h"

typedef struct {
    plan_range range;
    uint64_t cost; /* of all */
    int32_t n_tiles, n_pieces;
    int32_t pitch; /* partial rows from a source to the next; 0: no cuts */
    int32_t item, merge, source, partial; /* the first of the range's own */
} plan_row;

/* --- borders -------------------------------------------------------------- */

/* The most partial rows that a piece of the range may have. */
PLAN_FN int32_t plan_widest(const plan_range *r)
{
    const fli_plan_input *in = r->in;
    const int32_t all = in->q_indptr[in->n_requests] * in->group;
    int32_t widest = 0;

    PLAN_ROLLED
    for (int32_t i = 0; i < in->n_classes; i++) {
        const fli_tile_class *c = &in->tile_class[i];

        if (c->first_worker == r->first_worker && c->cut < INT32_MAX)
            widest = PLAN_MAX(widest, PLAN_MIN(c->rows, all) * c->heads);
    }
    return widest;
}

/* The pitch of partial rows, 0 where the capacity does not hold a cut at each
 * border. */
PLAN_FN int32_t plan_pitch(const plan_range *r)
{
    const int64_t most = r->n_workers - 1, widest = plan_widest(r);
    fli_plan_need used = *r->out->used;

    used.tiles += most;
    used.merges += most;
    used.sources += 2 * most;
    used.partial_rows += 2 * most * widest;
    return plan_fits(r->in, r->out, &used) ? (int32_t)widest : 0;
}

/* Where to cut a tile so that about `cost` of it is in front: a multiple of the
 * grain, which may be an edge. */
PLAN_FN int32_t plan_nearest(const plan_range *r, const fli_plan_strip *s,
                             uint64_t cost)
{
    const uint32_t kv_tile = (uint32_t)plan_class_of(r->in, s)->kv_tile;
    const uint32_t grain = (uint32_t)plan_grain(r->in, s);
    const uint32_t first =
        (uint32_t)PLAN_MAX(s->kv_begin, s->see_begin) / kv_tile * kv_tile;
    const uint64_t fixed = plan_cost_fixed(r->in, s);
    const uint64_t step = plan_cost_step(r->in, s);
    const uint64_t n =
        cost > fixed && step > 0 ? (cost - fixed + step / 2) / step : 0;

    return (int32_t)((first + (uint32_t)n * kv_tile + grain / 2) / grain
                     * grain);
}

/* Where a border falls that has `before` of the cost of a tile of *s in front. */
PLAN_FN int32_t plan_border_in(const plan_row *row, const fli_plan_strip *s,
                               uint64_t before)
{
    const uint64_t behind = s->cost - before;
    const uint64_t slack = plan_slack(&row->range, s);

    if (row->pitch > 0 && before > slack && behind > slack
        && plan_grain(row->range.in, s) < s->see_end)
        return plan_nearest(&row->range, s, before);
    return before < behind ? -1 : INT32_MAX;
}

/* The border in front of worker i of the range; strip: where one before it is. */
PLAN_FN fli_plan_border plan_border(const plan_row *row, int32_t i,
                                    int32_t *strip)
{
    const fli_plan_output *out = row->range.out;
    const fli_plan_sum *sums = out->strip_sums;
    const uint64_t cost = row->range.share * (uint64_t)i;
    fli_plan_border b = { 0, 0, -1, 0, 0 };

    if (i == 0)
        return b;
    b.cost = row->cost;
    b.tile = row->n_tiles;
    if (cost >= row->cost)
        return b;
    int32_t k =
        plan_find(sums, PLAN_COST, *strip, out->summary->n_strips, cost);
    const fli_plan_strip *s = &out->strips[k];
    const fli_plan_sum *request = &out->request_sums[s->request];
    const int32_t first = (int32_t)request[0].n[PLAN_STRIPS];
    const int32_t last = (int32_t)request[1].n[PLAN_STRIPS];
    const uint64_t blocks = (uint64_t)plan_blocks(row->range.in, s);
    const uint64_t begin = sums[first].n[PLAN_COST];
    uint64_t block_cost = s->cost, before = cost - begin;

    *strip = k;
    if (last - first > 1)
        block_cost = (sums[last].n[PLAN_COST] - begin) / blocks;
    const uint64_t block = before / block_cost;

    before -= block * block_cost;
    if (last - first > 1) {
        k = plan_find(sums, PLAN_COST, first, last, begin + before * blocks);
        before -= (sums[k].n[PLAN_COST] - begin) / blocks;
        s = &out->strips[k];
    }
    b.tile = (int32_t)sums[first].n[PLAN_TILES]
             + (int32_t)block * (last - first) + k - first;
    b.cost = cost - before;
    b.at = plan_border_in(row, s, before);
    if (b.at > s->kv_begin && b.at < s->see_end) {
        b.strip = k;
        b.block = (int32_t)block;
        b.cost += plan_cost_fixed(row->range.in, s)
                  + plan_cost_kv(row->range.in, s, s->kv_begin, b.at);
        return b;
    }
    if (b.at > s->kv_begin) {
        b.tile++;
        b.cost += s->cost;
    }
    b.at = -1;
    return b;
}

/* --- workers -------------------------------------------------------------- */

PLAN_FN int plan_is_same(const fli_plan_border *a, const fli_plan_border *b)
{
    return a->tile == b->tile && a->at == b->at;
}

/* Do both cut the same tile? */
PLAN_FN int plan_share_tile(const fli_plan_border *a, const fli_plan_border *b)
{
    return a->at >= 0 && b->at >= 0 && a->tile == b->tile;
}

/* The figures of a worker between borders b[0] and b[1]; only the first has none
 * before it, and it is no cut. */
PLAN_FN fli_plan_sum plan_worker(const fli_plan_border *b)
{
    fli_plan_sum figures = { { 0, 0, 0, 0 } };

    if (!plan_is_same(&b[0], &b[1])) {
        figures.n[PLAN_FILLED] = 1;
        figures.n[PLAN_PIECES] =
            (uint64_t)(b[1].tile - b[0].tile + (b[1].at >= 0));
    }
    if (b->at >= 0) {
        figures.n[PLAN_CUTS] = !plan_is_same(&b[-1], &b[0]);
        figures.n[PLAN_MERGES] = !plan_share_tile(&b[-1], &b[0]);
    }
    return figures;
}

PLAN_FN uint64_t plan_load(const plan_row *row, const fli_plan_border *b)
{
    const fli_plan_input *in = row->range.in;
    const fli_plan_strip *strips = row->range.out->strips;
    uint64_t load = b[1].cost - b[0].cost;

    if (plan_is_same(&b[0], &b[1]))
        return 0;
    if (b[0].at >= 0)
        load += plan_cost_fixed(in, &strips[b[0].strip])
                + plan_cost_partial(in, &strips[b[0].strip]);
    if (b[1].at >= 0 && !plan_share_tile(&b[0], &b[1]))
        load += plan_cost_partial(in, &strips[b[1].strip]);
    return load;
}

/* The merge of the tile that the border in front of worker w is the first to
 * cut. */
PLAN_FN void plan_put_merge(const plan_row *row, int32_t w)
{
    const fli_plan_output *out = row->range.out;
    const fli_plan_border *b = &out->borders[w];
    const fli_plan_strip *s = &out->strips[b->strip];
    const fli_plan_sum *sums = &out->worker_sums[w];
    const int32_t heads = plan_class_of(row->range.in, s)->heads;
    const int32_t before = (int32_t)sums->n[PLAN_CUTS];
    const int32_t index = (int32_t)sums->n[PLAN_MERGES];
    const int32_t next =
        plan_find(out->worker_sums, PLAN_MERGES, w + 1,
                  row->range.n_workers + 1, (uint64_t)index + 1);
    const int32_t cuts = (int32_t)out->worker_sums[next].n[PLAN_CUTS] - before;

    out->merges[row->merge + index] =
        PLAN_MAKE(fli_merge_item, .row_begin = s->row_begin,
                  .row_end = s->row_end, .kv_head = b->block * heads,
                  .n_kv_heads = heads, .source = row->source + before + index,
                  .n_sources = cuts + 1, .counter = row->merge + index);
}

/* --- pieces --------------------------------------------------------------- */

/* Where a lane is in the row: a worker with its pieces, a request with its
 * tiles. */
typedef struct {
    int32_t worker, piece, piece_end;
    int32_t to_tile, to_item; /* from the number of a piece, the first apart */
    int32_t strip, n_strips, tile, tile_end;
} plan_cursor;

PLAN_FN void plan_seek_worker(const plan_row *row, int32_t p, plan_cursor *at)
{
    const fli_plan_sum *all = row->range.out->worker_sums;

    at->worker = plan_find(all, PLAN_PIECES, at->worker, row->range.n_workers,
                           (uint64_t)p);
    const fli_plan_sum *sums = &all[at->worker];

    at->piece = (int32_t)sums[0].n[PLAN_PIECES];
    at->piece_end = (int32_t)sums[1].n[PLAN_PIECES];
    at->to_tile = row->range.out->borders[at->worker].tile - at->piece;
    at->to_item = row->item - (int32_t)sums[1].n[PLAN_FILLED];
}

PLAN_FN void plan_seek_request(const plan_row *row, int32_t tile,
                               plan_cursor *at)
{
    const fli_plan_output *out = row->range.out;
    const int32_t strip = plan_find(out->strip_sums, PLAN_TILES, at->strip,
                                    out->summary->n_strips, (uint64_t)tile);
    const fli_plan_sum *request =
        &out->request_sums[out->strips[strip].request];
    const int32_t end = (int32_t)request[1].n[PLAN_STRIPS];

    at->strip = (int32_t)request[0].n[PLAN_STRIPS];
    at->n_strips = end - at->strip;
    at->tile = (int32_t)out->strip_sums[at->strip].n[PLAN_TILES];
    at->tile_end = (int32_t)out->strip_sums[end].n[PLAN_TILES];
}

/* The partial result of the piece at the cut of border i, behind it or in
 * front. */
PLAN_FN void plan_put_source(const plan_row *row, int32_t i, int32_t behind,
                             plan_place *place)
{
    const fli_plan_sum *sums = &row->range.out->worker_sums[i + 1];
    const int32_t merge = (int32_t)sums->n[PLAN_MERGES] - 1;
    const int32_t source =
        (int32_t)sums->n[PLAN_CUTS] + merge - (behind ? 0 : 1);

    place->merge = row->merge + merge;
    place->n_merges = 1;
    place->partial = row->partial + source * row->pitch;
    row->range.out->sources[row->source + source] = place->partial;
}

/* Piece p of the row. */
PLAN_FN void plan_put_piece(const plan_row *row, int32_t p, plan_cursor *at)
{
    const fli_plan_output *out = row->range.out;

    if (p >= at->piece_end)
        plan_seek_worker(row, p, at);
    const int32_t tile = p + at->to_tile;

    if (tile >= at->tile_end)
        plan_seek_request(row, tile, at);
    int32_t block = tile - at->tile, index = 0;

    if (at->n_strips > 1) {
        index = block % at->n_strips;
        block /= at->n_strips;
    }
    const fli_plan_strip *s = &out->strips[at->strip + index];
    const int is_last = p + 1 == at->piece_end;
    int32_t item = p + at->to_item, begin = s->kv_begin, end = s->kv_end;
    plan_place place = { is_last ? -1 : item + 1, -1, -1, 0 };

    if (is_last && out->borders[at->worker + 1].tile == tile) {
        end = out->borders[at->worker + 1].at;
        plan_put_source(row, at->worker + 1, 0, &place);
    }
    if (p == at->piece) {
        item = row->range.first_worker + at->worker;
        if (out->borders[at->worker].at >= 0) {
            begin = out->borders[at->worker].at;
            plan_put_source(row, at->worker, 1, &place);
        }
    }
    plan_put_item(row->range.in, s, block, begin, end, &place,
                  &out->items[item]);
}

/* --- the range ------------------------------------------------------------ */

/* Every lane: running sums of the costs and tiles of the range's strips. */
PLAN_FN void plan_sum_strips(plan_row *row, int32_t lane, int32_t lanes)
{
    const fli_plan_output *out = row->range.out;
    const int32_t n = out->summary->n_strips;

    for (int32_t i = lane; i < n; i += lanes) {
        const fli_plan_strip *s = &out->strips[i];
        const uint64_t blocks = plan_in_range(&row->range, s)
                                    ? (uint64_t)plan_blocks(row->range.in, s)
                                    : 0;

        out->strip_sums[i] =
            PLAN_MAKE(fli_plan_sum, { s->cost * blocks, blocks });
    }
    PLAN_BARRIER();
    plan_scan(out->strip_sums, n, out->lane_sums, lane, lanes);
    row->cost = out->strip_sums[n].n[PLAN_COST];
    row->n_tiles = (int32_t)out->strip_sums[n].n[PLAN_TILES];
    row->range.share = row->cost / (uint64_t)row->range.n_workers + 1;
}

/* Lane 0, when no lane reads the figures any more: what the range took. */
PLAN_FN void plan_close_row(const plan_row *row)
{
    const fli_plan_output *out = row->range.out;
    const fli_plan_sum *all = &out->worker_sums[row->range.n_workers];
    const int32_t cuts = (int32_t)all->n[PLAN_CUTS];
    const int32_t merges = (int32_t)all->n[PLAN_MERGES];
    const int32_t rows = (cuts + merges) * row->pitch;

    out->used->tiles += cuts;
    out->used->merges += merges;
    out->used->sources += cuts + merges;
    out->used->partial_rows += rows;
    out->summary->n_pieces += row->n_pieces;
    out->summary->n_items += row->n_pieces - (int32_t)all->n[PLAN_FILLED];
    out->summary->n_merges += merges;
    out->summary->n_sources += cuts + merges;
    out->summary->n_partial_rows += rows;
}

/* Every lane: deals a range in the order of the batch. */
PLAN_FN void plan_deal_row(const plan_range *range, int32_t lane, int32_t lanes)
{
    const fli_plan_output *out = range->out;
    const fli_plan_summary *sum = out->summary;
    const int32_t n = range->n_workers;
    plan_row row = { .range = *range,
                     .pitch = plan_pitch(range),
                     .item = sum->n_items,
                     .merge = sum->n_merges,
                     .source = sum->n_sources,
                     .partial = sum->n_partial_rows };
    plan_cursor at = { 0, 0, 0, 0, 0, 0, 0, 0, 0 };
    int32_t strip = 0;

    plan_sum_strips(&row, lane, lanes);
    for (int32_t i = lane; i <= n; i += lanes)
        out->borders[i] = plan_border(&row, i, &strip);
    PLAN_BARRIER();
    for (int32_t i = lane; i < n; i += lanes) {
        out->worker_sums[i] = plan_worker(&out->borders[i]);
        out->load[range->first_worker + i] = plan_load(&row, &out->borders[i]);
    }
    PLAN_BARRIER();
    plan_scan(out->worker_sums, n, out->lane_sums, lane, lanes);
    row.n_pieces = (int32_t)out->worker_sums[n].n[PLAN_PIECES];
    for (int32_t i = lane; i < n; i += lanes)
        if (out->worker_sums[i + 1].n[PLAN_MERGES]
            > out->worker_sums[i].n[PLAN_MERGES])
            plan_put_merge(&row, i);
    for (int32_t p = lane; p < row.n_pieces; p += lanes)
        plan_put_piece(&row, p, &at);
    if (lane == 0)
        plan_close_row(&row);
}

#endif
