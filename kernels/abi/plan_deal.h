/* SPDX-License-Identifier: Apache-2.0 */
/* The planner's dealing: which worker gets which tile, and where tiles are cut.
 *
 * In the order of the batch, worker w ends where the running cost comes nearest to
 * w + 1 shares of the total: `room` is what is left to that point, and the error of
 * one border is made good by the next worker.  Longest first, a tile goes to the
 * worker with the least load, and is cut where it fills a share; a share includes a
 * cut's cost, so the work is used up before the shares are.  Either way a worker is
 * cut at most once at its end: fewer cuts than workers. */
#ifndef FLI_ABI_PLAN_DEAL_H
#define FLI_ABI_PLAN_DEAL_H

#include "abi/plan_strips.h"

/* --- order ----------------------------------------------------------------- */

/* Longest first in steps of an eighth of an octave; costs in one bucket are
 * equal to the order. */
PLAN_FN int32_t plan_bucket(uint64_t cost)
{
    int32_t octave = 0;

    for (int32_t shift = 32; shift > 0; shift /= 2)
        if (cost >> (octave + shift))
            octave += shift;
    const uint64_t eighth =
        octave >= 3 ? cost >> (octave - 3) : cost << (3 - octave);

    return FLI_PLAN_BUCKETS - 1 - (octave * 8 + (int32_t)(eighth & 7));
}

/* --- dealing -------------------------------------------------------------- */

typedef struct {
    const fli_plan_input *in;
    const fli_plan_output *out;
    plan_need used;
    int32_t first_worker, n_workers;
    int32_t longest; /* the range is dealt longest first */
    uint64_t share;
    int32_t worker; /* order of the batch: the one being filled */
    int64_t room;   /* and what is left of its share */
    int32_t merge;  /* of the tile being cut, or -1 */
} plan_deal;

PLAN_FN int64_t plan_clamp(uint64_t cost)
{
    return (int64_t)PLAN_MIN(cost, (uint64_t)1 << 62);
}

/* By how much a worker may miss its share so that a tile stays whole: the snap, or
 * what a cut costs. */
PLAN_FN uint64_t plan_slack(const plan_deal *d, const fli_plan_strip *s)
{
    const uint64_t snap = (uint64_t)d->in->policy.snap;
    const uint64_t part =
        d->share / 1024 * snap + d->share % 1024 * snap / 1024;

    return PLAN_MAX(part, plan_cost_cut(d->in, s));
}

/* Restores the order of the heap (least load, then lowest worker, on top) after
 * the top one's load grew. */
PLAN_FN void plan_sift(const plan_deal *d)
{
    int32_t *heap = d->out->heap;
    const uint64_t *load = d->out->load;
    const int32_t top = heap[0];
    int32_t at = 0;

    for (;;) {
        int32_t child = 2 * at + 1;

        if (child + 1 < d->n_workers
            && (load[heap[child + 1]] < load[heap[child]]
                || (load[heap[child + 1]] == load[heap[child]]
                    && heap[child + 1] < heap[child])))
            child++;
        if (child >= d->n_workers || load[heap[child]] > load[top]
            || (load[heap[child]] == load[top] && heap[child] > top))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = top;
}

PLAN_FN int plan_last_worker(const plan_deal *d)
{
    return d->worker == d->first_worker + d->n_workers - 1;
}

PLAN_FN void plan_advance(plan_deal *d)
{
    d->worker++;
    d->room += plan_clamp(d->share);
}

/* Position of the cut that leaves about `budget` worth of kv before it: a multiple
 * of the grain, the nearest or the next above. */
PLAN_FN int64_t plan_cut_at(const plan_deal *d, const fli_plan_strip *s,
                            int32_t begin, int64_t budget)
{
    const int64_t kv_tile = plan_class_of(d->in, s)->kv_tile;
    const int64_t grain = plan_grain(d->in, s);
    const int64_t step =
        PLAN_MAX(plan_clamp(plan_cost_step(d->in, s)), (int64_t)1);
    const int64_t most = INT32_MAX / kv_tile + 1;
    const int64_t first = PLAN_MAX(begin, s->see_begin);
    const int64_t n = budget > 0 ? budget / step : 0;
    const int64_t at = first - first % kv_tile + PLAN_MIN(n, most) * kv_tile;

    if (!d->longest)
        return (at + grain / 2) / grain * grain;
    const int64_t above =
        (at / grain + (n == 0 || budget % step != 0 || at % grain != 0))
        * grain;

    return above > begin ? above : above + grain;
}

/* Takes capacity for a cut at `at` and all that must follow it: a merge if it is
 * the tile's first, a source and partial rows for each piece, an item.  INVARIANT:
 * behind the cut every piece is one chunk; where they are too many, the cut moves
 * up.  Returns where the cut falls, kv_end for none. */
PLAN_FN int32_t plan_reserve(plan_deal *d, const fli_plan_strip *s, int64_t at)
{
    const fli_plan_input *in = d->in;
    const int64_t rows = plan_piece_rows(in, s);
    const int first = d->merge < 0;
    int64_t more = 1;

    if (in->policy.flags & FLI_PLAN_INVARIANT) {
        const int64_t chunk = in->policy.chunk;
        const int64_t end = plan_ceil_div(s->kv_end, chunk) * chunk;
        int64_t most =
            PLAN_MIN(in->max_sources - d->used.sources,
                     (in->max_partial_rows - d->used.partial_rows) / rows)
            - 1;

        most =
            PLAN_MIN(most, in->max_items - plan_n_workers(in) - d->used.tiles);
        at = PLAN_MAX(at, end - most * chunk);
        more = (end - at) / chunk;
    }
    if (at >= s->see_end || more < 1)
        return s->kv_end;
    plan_need used = d->used;

    used.merges += first;
    used.tiles += more;
    used.sources += first + more;
    used.partial_rows += (first + more) * rows;
    if (!plan_fits(in, d->out, &used))
        return s->kv_end;
    d->used = used;
    if (first) {
        d->merge = d->out->summary->n_merges++;
        d->out->merges[d->merge] = PLAN_MAKE(
            fli_merge_item, .row_begin = s->row_begin, .row_end = s->row_end,
            .source = d->out->summary->n_sources, .counter = d->merge);
    }
    return (int32_t)at;
}

/* Chooses d->worker for the piece of a tile that begins at `begin` and returns
 * where it ends; fixed_end > 0 if that is settled.  In the order of the batch. */
PLAN_FN int32_t plan_next_in_order(plan_deal *d, const fli_plan_strip *s,
                                   int32_t begin, int32_t fixed_end)
{
    const int32_t end = fixed_end ? fixed_end : s->kv_end;
    const uint64_t fixed = begin == s->kv_begin ? plan_cost_fixed(d->in, s) : 0;
    const int64_t cost =
        begin == s->kv_begin && end == s->kv_end
            ? plan_clamp(s->cost)
            : plan_clamp(fixed + plan_cost_kv(d->in, s, begin, end));
    const int64_t slack = plan_clamp(plan_slack(d, s));

    for (; !plan_last_worker(d); plan_advance(d)) {
        const int64_t over = cost - d->room;

        if (over <= 0)
            break;
        if (!fixed_end && over > slack && d->room > slack) {
            const int64_t at =
                plan_cut_at(d, s, begin,
                            d->room - (int64_t)fixed
                                + plan_clamp(plan_cost_step(d->in, s) / 2));

            if (at > begin && at < s->see_end)
                return plan_reserve(d, s, at);
            if (at >= s->see_end)
                break;
        } else if (d->room >= over) {
            break;
        }
    }
    return end;
}

/* The same, longest first. */
PLAN_FN int32_t plan_next_longest(plan_deal *d, const fli_plan_strip *s,
                                  int32_t begin, int32_t fixed_end)
{
    const int32_t end = fixed_end ? fixed_end : s->kv_end;
    const uint64_t fixed = plan_cost_fixed(d->in, s);

    d->worker = d->out->heap[0];
    const uint64_t load = d->out->load[d->worker];

    if (fixed_end || load >= d->share)
        return end;
    const uint64_t cost = begin == s->kv_begin
                              ? s->cost
                              : fixed + plan_cost_kv(d->in, s, begin, end);

    if (cost <= d->share - load + plan_slack(d, s))
        return end;
    return plan_reserve(
        d, s,
        plan_cut_at(d, s, begin,
                    plan_clamp(d->share - load) - plan_clamp(fixed)));
}

/* Appends a piece of kv to the worker's list. */
PLAN_FN void plan_emit(plan_deal *d, const fli_plan_strip *s, int32_t block,
                       int32_t begin, int32_t end, fli_work_item *piece)
{
    const fli_plan_output *out = d->out;
    const fli_tile_class *c = plan_class_of(d->in, s);
    const int32_t w = d->worker;
    const int first = begin == s->kv_begin;
    const uint64_t kv = first && end == s->kv_end
                            ? s->cost - plan_cost_fixed(d->in, s)
                            : plan_cost_kv(d->in, s, begin, end);
    const uint64_t fixed = plan_cost_fixed(d->in, s);
    int32_t at = w;

    if (out->items[w].tile_class >= 0) {
        at = out->summary->n_items++;
        out->items[out->tail[w]].next = at;
    }
    out->tail[w] = at;
    piece->segment = s->segment;
    piece->segment_begin = s->segment_begin;
    if (!first)
        piece->segment =
            plan_find_segment(d->in, s->request, begin, &piece->segment_begin);
    piece->tile_class = s->tile_class;
    piece->next = -1;
    piece->request = s->request;
    piece->n_requests = s->n_requests;
    piece->row_begin = s->row_begin;
    piece->row_end = s->row_end;
    piece->kv_head = block * c->heads;
    piece->n_kv_heads = c->heads;
    piece->kv_begin = begin;
    piece->kv_end = end;
    piece->reserved = 0;
    out->items[at] = *piece;
    out->summary->n_pieces++;
    out->load[w] += fixed + kv
                    + (piece->partial >= 0
                           ? (uint64_t)plan_piece_rows(d->in, s) * c->cost_merge
                           : 0);
    if (d->longest)
        plan_sift(d);
    else
        d->room -= plan_clamp(kv + (first ? fixed : 0));
}

PLAN_FN int32_t plan_next(plan_deal *d, const fli_plan_strip *s, int32_t begin,
                          int32_t fixed_end)
{
    return d->longest ? plan_next_longest(d, s, begin, fixed_end)
                      : plan_next_in_order(d, s, begin, fixed_end);
}

/* A tile of a strip that is not grouped: whole, or in pieces where shares end. */
PLAN_FN void plan_deal_tile(plan_deal *d, const fli_plan_strip *s,
                            int32_t block)
{
    const int invariant = d->in->policy.flags & FLI_PLAN_INVARIANT;
    fli_plan_summary *sum = d->out->summary;
    int32_t begin = s->kv_begin, end;

    d->merge = -1;
    do {
        int32_t fixed_end = 0;

        if (invariant && begin > s->kv_begin)
            fixed_end = s->kv_end - begin > d->in->policy.chunk
                            ? begin + d->in->policy.chunk
                            : s->kv_end;
        end = plan_next(d, s, begin, fixed_end);
        fli_work_item piece = { .partial = -1, .merge = -1 };

        if (d->merge >= 0) {
            piece.merge = d->merge;
            piece.n_merges = 1;
            piece.partial = sum->n_partial_rows;
            sum->n_partial_rows += (int32_t)plan_piece_rows(d->in, s);
            d->out->sources[sum->n_sources++] = piece.partial;
            d->out->merges[d->merge].n_sources++;
        }
        plan_emit(d, s, block, begin, end, &piece);
        begin = end;
    } while (end < s->kv_end);
    if (d->merge >= 0) {
        d->out->merges[d->merge].kv_head =
            block * plan_class_of(d->in, s)->heads;
        d->out->merges[d->merge].n_kv_heads = plan_class_of(d->in, s)->heads;
    }
}

/* The pieces of a grouped strip: their ends were settled before. */
PLAN_FN void plan_deal_grouped(plan_deal *d, const fli_plan_strip *s,
                               int32_t block)
{
    const int32_t heads = plan_class_of(d->in, s)->heads;
    const int32_t n_grouped = d->out->summary->n_grouped;
    int32_t begin = s->kv_begin;

    for (int32_t p = 0; p < s->n_pieces; p++) {
        const int32_t grain = plan_grain(d->in, s);
        const int64_t at = s->kv_begin - s->kv_begin % grain
                           + (int64_t)(p + 1) * s->piece_tokens;
        const int32_t end = p + 1 < s->n_pieces ? (int32_t)at : s->kv_end;
        fli_work_item piece = {
            .partial = s->partial
                       + (block * s->n_pieces + p)
                             * (int32_t)plan_piece_rows(d->in, s),
            .merge =
                heads == 1 ? block * n_grouped + s->member : s->member * heads,
            .n_merges = s->n_requests * heads,
        };

        plan_next(d, s, begin, end);
        plan_emit(d, s, block, begin, end, &piece);
        begin = end;
    }
}

PLAN_FN int plan_in_range(const plan_deal *d, const fli_plan_strip *s)
{
    return plan_class_of(d->in, s)->first_worker == d->first_worker;
}

/* Lists the strips of the range in order[], in the order of the batch or longest
 * first (a counting sort, ties in the order of the batch); returns how many. */
PLAN_FN int32_t plan_order(const plan_deal *d)
{
    const fli_plan_output *out = d->out;
    int32_t *buckets = out->buckets;
    int32_t n = 0, sum = 0;

    for (int32_t b = 0; b < FLI_PLAN_BUCKETS && d->longest; b++)
        buckets[b] = 0;
    for (int32_t i = 0; i < out->summary->n_strips; i++) {
        if (!plan_in_range(d, &out->strips[i]))
            continue;
        if (d->longest)
            buckets[plan_bucket(out->strips[i].cost)]++;
        else
            out->order[n] = i;
        n++;
    }
    for (int32_t b = 0; b < FLI_PLAN_BUCKETS && d->longest; b++) {
        const int32_t count = buckets[b];

        buckets[b] = sum;
        sum += count;
    }
    for (int32_t i = 0; i < out->summary->n_strips && d->longest; i++)
        if (plan_in_range(d, &out->strips[i]))
            out->order[buckets[plan_bucket(out->strips[i].cost)]++] = i;
    return n;
}

/* Settles in how many pieces a grouped strip is dealt: about a quarter of a share
 * each,
 * while there is capacity.  INVARIANT settled it already. */
PLAN_FN int64_t plan_settle(plan_deal *d, fli_plan_strip *s)
{
    const int64_t grain = plan_grain(d->in, s);
    const int64_t tokens = s->kv_end - s->kv_begin + s->kv_begin % grain;
    const uint64_t part = PLAN_MAX(d->share / 4, (uint64_t)1);
    int64_t n = plan_clamp(s->cost / part) + 1;

    if (d->in->policy.flags & FLI_PLAN_INVARIANT)
        return s->n_pieces;
    n = PLAN_MIN(n, plan_ceil_div(tokens, grain));
    n = PLAN_MIN(n, 4 * (int64_t)d->n_workers);
    for (; n > 1; n /= 2) {
        const int64_t length =
            plan_ceil_div(plan_ceil_div(tokens, n), grain) * grain;
        const int64_t n_pieces = plan_ceil_div(tokens, length);
        plan_need used = d->used;

        plan_need_pieces(d->in, s, n_pieces - 1, &used);
        if (!plan_fits(d->in, d->out, &used))
            continue;
        d->used = used;
        s->piece_tokens = (int32_t)PLAN_MIN(length, (int64_t)INT32_MAX);
        return n_pieces;
    }
    return 1;
}

/* The grouped strips of a range: their pieces and partial rows.  Returns what
 * the pieces cost more. */
PLAN_FN uint64_t plan_settle_grouped(plan_deal *d)
{
    fli_plan_summary *sum = d->out->summary;
    uint64_t more = 0;

    for (int32_t i = 0; i < sum->n_strips; i++) {
        fli_plan_strip *s = &d->out->strips[i];

        if (s->member < 0 || !plan_in_range(d, s))
            continue;
        s->n_pieces = (int32_t)plan_settle(d, s);
        s->partial = sum->n_partial_rows;
        sum->n_partial_rows += s->n_pieces * plan_blocks(d->in, s)
                               * (int32_t)plan_piece_rows(d->in, s);
        more += (uint64_t)(s->n_pieces - 1) * plan_cost_fixed(d->in, s)
                * (uint64_t)plan_blocks(d->in, s);
    }
    return more;
}

/* Heads whose K and V of the batch's tokens fit the L2, as blocks of `heads`:
 * those of a group are walked together. */
PLAN_FN int32_t plan_blocks_together(const fli_plan_input *in, uint64_t tokens,
                                     int32_t heads)
{
    const int32_t blocks = in->n_kv_heads / heads;

    if (in->policy.l2_bytes <= 0 || in->policy.token_bytes <= 0)
        return blocks;
    const uint64_t bytes = PLAN_MAX(tokens, (uint64_t)1)
                           * (uint64_t)in->policy.token_bytes * (uint64_t)heads;
    const uint64_t n = (uint64_t)in->policy.l2_bytes / bytes;

    return (int32_t)PLAN_MIN(PLAN_MAX(n, (uint64_t)1), (uint64_t)blocks);
}

/* Deals the tiles of strips order[from, to), all of one request and class:
 * heads first, then rows. */
PLAN_FN void plan_deal_blocks(plan_deal *d, int32_t from, int32_t to,
                              int32_t block, int32_t last_block)
{
    for (; block < last_block; block++)
        for (int32_t k = from; k < to; k++) {
            const fli_plan_strip *s = &d->out->strips[d->out->order[k]];

            if (s->member >= 0)
                plan_deal_grouped(d, s, block);
            else
                plan_deal_tile(d, s, block);
        }
}

/* How far the strips from order[from] on are dealt together. */
PLAN_FN int32_t plan_alike(const plan_deal *d, int32_t from, int32_t n)
{
    const int32_t *order = d->out->order;
    const fli_plan_strip *s = &d->out->strips[order[from]];
    int32_t to = from + 1;

    for (; to < n; to++) {
        const fli_plan_strip *t = &d->out->strips[order[to]];

        if (t->request != s->request || t->tile_class != s->tile_class
            || (d->longest && plan_bucket(t->cost) != plan_bucket(s->cost)))
            break;
    }
    return to;
}

/* Lane 0: everything for one range of workers. */
PLAN_FN void plan_deal_range(plan_deal *d)
{
    const fli_plan_input *in = d->in;
    const fli_plan_output *out = d->out;
    const int32_t n = plan_order(d);
    uint64_t total = 0, cut = 0, tokens = 0;
    int32_t blocks = 0, together = 0;

    if (n == 0)
        return;
    for (int32_t i = 0; i < in->n_requests && d->longest; i++)
        tokens += (uint64_t)in->kv_len[i];
    for (int32_t k = 0; k < n; k++) {
        const fli_plan_strip *s = &out->strips[out->order[k]];

        total += s->cost * (uint64_t)plan_blocks(in, s);
        cut = PLAN_MAX(cut, plan_cost_cut(in, s));
        blocks = PLAN_MAX(blocks, plan_blocks(in, s));
        together = PLAN_MAX(
            together,
            plan_blocks_together(in, tokens, plan_class_of(in, s)->heads));
    }
    d->share = total / (uint64_t)d->n_workers + 1 + (d->longest ? cut : 0);
    if (out->summary->n_grouped > 0)
        d->share += plan_settle_grouped(d) / (uint64_t)d->n_workers;
    d->worker = d->first_worker;
    d->room = plan_clamp(d->share);
    for (int32_t w = 0; w < d->n_workers; w++)
        out->heap[w] = d->first_worker + w;
    if (!d->longest)
        together = blocks;
    for (int32_t b = 0; b < blocks; b += together)
        for (int32_t from = 0, to; from < n; from = to) {
            const fli_plan_strip *s = &out->strips[out->order[from]];

            to = plan_alike(d, from, n);
            plan_deal_blocks(d, from, to, b,
                             PLAN_MIN(b + together, plan_blocks(in, s)));
        }
}

#endif
