/* SPDX-License-Identifier: Apache-2.0 */
/* The planner's dealing of longest tiles first, by lane 0: of prefill, of grouped
 * requests and under INVARIANT.
 *
 * A tile goes to the worker with the least load, and is cut where it fills a
 * share; a share includes a cut's cost, so the work is used up before the shares
 * are.  A worker is cut at most once at its end: fewer cuts than workers.  What is
 * dealt is noted in the items themselves, and every lane then writes them out. */
#ifndef FLI_ABI_PLAN_DEAL_H
#define FLI_ABI_PLAN_DEAL_H

#include "abi/plan_strips.h"

/* Lane 0's: what it counts here, the summary gets at the end. */
typedef struct {
    plan_range range;
    fli_plan_need used;
    int32_t n_pieces, n_items, n_merges, n_sources, n_partial_rows;
    int32_t n_begun; /* workers that have any work */
    int32_t merge;   /* of the tile being cut, or -1 */
} plan_deal;

typedef struct {
    int32_t strip, block, begin, end;
    int32_t partial, merge, n_merges;
} plan_piece;

/* --- workers -------------------------------------------------------------- */

/* Puts a turn at `at` of the heap, above turns that are in order: the least load
 * comes up.  Behind the last one stand FLI_PLAN_FAN - 1 that never do. */
PLAN_FN void plan_sift(fli_plan_turn *turns, int32_t n, int32_t at,
                       fli_plan_turn turn)
{
    for (int32_t child = at * FLI_PLAN_FAN + 1; child < n;
         child = at * FLI_PLAN_FAN + 1) {
        int32_t least = child;
        uint64_t load = turns[child].load;

        for (int32_t i = 1; i < FLI_PLAN_FAN; i++) {
            const uint64_t other = turns[child + i].load;

            least = other < load ? child + i : least;
            load = PLAN_MIN(other, load);
        }
        if (load >= turn.load)
            break;
        turns[at] = turns[least];
        at = least;
    }
    turns[at] = turn;
}

/* Whose turn it is: the next one's that has nothing yet, then the least load's, on
 * top of a heap. */
PLAN_FN int32_t plan_next(const plan_deal *d)
{
    return d->n_begun < d->range.n_workers ? d->n_begun : 0;
}

/* Puts the turn back that plan_next gave, with more load.  When all have begun,
 * they become a heap. */
PLAN_FN void plan_put_back(plan_deal *d, fli_plan_turn turn)
{
    fli_plan_turn *turns = d->range.out->turns;
    const int32_t n = d->range.n_workers;

    if (d->n_begun == n) {
        plan_sift(turns, n, 0, turn);
        return;
    }
    turns[d->n_begun++] = turn;
    for (int32_t at = n / FLI_PLAN_FAN; at >= 0 && d->n_begun == n; at--)
        plan_sift(turns, n, at, turns[at]);
}

/* Gives a piece to the worker whose turn it is.  Its item gets its strip and block
 * for a request and a head, see plan_write_items. */
PLAN_FN void plan_give(plan_deal *d, const plan_piece *piece, uint64_t cost)
{
    const fli_plan_output *out = d->range.out;
    fli_plan_turn turn = out->turns[plan_next(d)];
    int32_t at = turn.worker;

    if (turn.tail >= 0) {
        at = d->n_items++;
        out->items[turn.tail].next = at;
    }
    fli_work_item *item = &out->items[at];

    item->tile_class = 0; /* any: no longer idle */
    item->next = -1;
    item->request = piece->strip;
    item->kv_head = piece->block;
    item->kv_begin = piece->begin;
    item->kv_end = piece->end;
    item->partial = piece->partial;
    item->merge = piece->merge;
    item->n_merges = piece->n_merges;
    d->n_pieces++;
    turn.tail = at;
    turn.load += cost;
    plan_put_back(d, turn);
}

/* --- tiles ---------------------------------------------------------------- */

/* The cut that leaves about `budget` worth of kv before it, as a number of grains:
 * the next one above. */
PLAN_FN int32_t plan_cut_at(const plan_deal *d, const fli_plan_strip *s,
                            int32_t begin, uint64_t budget)
{
    const uint32_t kv_tile = (uint32_t)plan_class_of(d->range.in, s)->kv_tile;
    const uint32_t grain = (uint32_t)plan_grain(d->range.in, s);
    const uint32_t first = (uint32_t)PLAN_MAX(begin, s->see_begin);
    const uint64_t step = PLAN_MAX(plan_cost_step(d->range.in, s), (uint64_t)1);
    const uint64_t n = budget / step; /* less than there are */
    const uint32_t at = first / kv_tile * kv_tile + (uint32_t)n * kv_tile;
    const uint32_t grains = at / grain;
    const int is_inside = n == 0 || budget != n * step || at != grains * grain;
    const uint32_t above = is_inside ? grains + 1 : grains;

    return (int32_t)(above * grain > (uint32_t)begin ? above : above + 1);
}

/* Takes capacity for a cut behind `grains` and all that must follow it: a merge if
 * it is the tile's first, a source and partial rows for each piece, an item.
 * INVARIANT: behind the cut every piece is one chunk; where they are too many, the
 * cut moves up.  Returns where the cut falls, kv_end for none. */
PLAN_FN int32_t plan_reserve(plan_deal *d, const fli_plan_strip *s,
                             int32_t grains)
{
    const fli_plan_input *in = d->range.in;
    const int32_t rows = (int32_t)plan_piece_rows(in, s);
    const int32_t grain = plan_grain(in, s);
    const int32_t first = d->merge < 0;
    fli_plan_need used = d->used;
    int32_t more = 1;

    if (in->policy.flags & FLI_PLAN_INVARIANT) {
        const int32_t partial =
            in->max_partial_rows - (int32_t)used.partial_rows;
        const int32_t sources = in->max_sources - (int32_t)used.sources;
        const int32_t tiles =
            in->max_items - in->n_workers - (int32_t)used.tiles;
        const int32_t all = plan_parts(s->kv_end, grain);
        const int32_t most =
            PLAN_MIN(PLAN_MIN(sources, partial / rows) - 1, tiles);

        grains = PLAN_MAX(grains, all - most);
        more = all - grains;
    }
    const int64_t at = (int64_t)grains * grain;

    if (at >= s->see_end || more < 1)
        return s->kv_end;
    used.merges += first;
    used.tiles += more;
    used.sources += first + more;
    used.partial_rows += (int64_t)(first + more) * rows;
    if (!plan_fits(in, d->range.out, &used))
        return s->kv_end;
    d->used = used;
    if (first)
        d->merge = d->n_merges++;
    return (int32_t)at;
}

/* Where the piece of a tile ends that begins at `begin`, all from there on costing
 * `cost`. */
PLAN_FN int32_t plan_piece_end(plan_deal *d, const fli_plan_strip *s,
                               int32_t begin, uint64_t cost)
{
    const fli_plan_input *in = d->range.in;
    const uint64_t load = d->range.out->turns[plan_next(d)].load;

    if (begin > s->kv_begin && in->policy.flags & FLI_PLAN_INVARIANT)
        return s->kv_end - begin > in->policy.chunk ? begin + in->policy.chunk
                                                    : s->kv_end;
    if (load >= d->range.share)
        return s->kv_end;
    const uint64_t room = d->range.share - load;

    if (cost <= room || cost - room <= plan_slack(&d->range, s))
        return s->kv_end;
    const uint64_t fixed = plan_cost_fixed(in, s);

    return plan_reserve(
        d, s, plan_cut_at(d, s, begin, room > fixed ? room - fixed : 0));
}

PLAN_FN uint64_t plan_cost_piece(const plan_deal *d, const fli_plan_strip *s,
                                 int32_t begin, int32_t end)
{
    return plan_cost_fixed(d->range.in, s)
           + plan_cost_kv(d->range.in, s, begin, end);
}

/* A tile of a strip that is not grouped: whole, or in pieces where shares end. */
PLAN_FN void plan_deal_tile(plan_deal *d, int32_t strip, int32_t block)
{
    const fli_plan_input *in = d->range.in;
    const fli_plan_output *out = d->range.out;
    const fli_plan_strip *s = &out->strips[strip];
    const int32_t source = d->n_sources;
    plan_piece piece = { strip, block, 0, s->kv_begin, -1, -1, 0 };

    d->merge = -1;
    do {
        piece.begin = piece.end;
        uint64_t cost = piece.begin == s->kv_begin
                            ? s->cost
                            : plan_cost_piece(d, s, piece.begin, s->kv_end);

        piece.end = plan_piece_end(d, s, piece.begin, cost);
        if (piece.end < s->kv_end)
            cost = plan_cost_piece(d, s, piece.begin, piece.end);
        if (d->merge >= 0) {
            piece.merge = d->merge;
            piece.n_merges = 1;
            piece.partial = d->n_partial_rows;
            d->n_partial_rows += (int32_t)plan_piece_rows(in, s);
            out->sources[d->n_sources++] = piece.partial;
            cost += plan_cost_partial(in, s);
        }
        plan_give(d, &piece, cost);
    } while (piece.end < s->kv_end);
    if (d->merge < 0)
        return;
    const int32_t heads = plan_class_of(in, s)->heads;

    out->merges[d->merge] = PLAN_MAKE(
        fli_merge_item, .row_begin = s->row_begin, .row_end = s->row_end,
        .kv_head = block * heads, .n_kv_heads = heads, .source = source,
        .n_sources = d->n_sources - source, .counter = d->merge);
}

/* The pieces of a grouped strip: their ends were settled before. */
PLAN_FN void plan_deal_grouped(plan_deal *d, int32_t strip, int32_t block)
{
    const fli_plan_input *in = d->range.in;
    const fli_plan_strip *s = &d->range.out->strips[strip];
    const int32_t heads = plan_class_of(in, s)->heads;
    const int32_t n_grouped = d->range.out->summary->n_grouped;
    const int64_t grain = plan_grain(in, s);
    plan_piece piece = {
        strip,
        block,
        0,
        s->kv_begin,
        s->partial + block * s->n_pieces * (int32_t)plan_piece_rows(in, s),
        heads == 1 ? block * n_grouped + s->member : s->member * heads,
        s->n_requests * heads,
    };

    for (int32_t p = 0; p < s->n_pieces; p++) {
        const int64_t at = s->kv_begin - s->kv_begin % grain
                           + (int64_t)(p + 1) * s->piece_tokens;

        piece.begin = piece.end;
        piece.end = p + 1 < s->n_pieces ? (int32_t)at : s->kv_end;
        plan_give(d, &piece,
                  plan_cost_piece(d, s, piece.begin, piece.end)
                      + plan_cost_partial(in, s));
        piece.partial += (int32_t)plan_piece_rows(in, s);
    }
}

/* --- grouped strips --------------------------------------------------------- */

/* Settles in how many pieces a grouped strip is dealt: about a quarter of a share
 * each, while there is capacity.  INVARIANT settled it already. */
PLAN_FN int64_t plan_settle(plan_deal *d, fli_plan_strip *s)
{
    const fli_plan_input *in = d->range.in;
    const int64_t grain = plan_grain(in, s);
    const int64_t tokens = s->kv_end - s->kv_begin + s->kv_begin % grain;
    const uint64_t part = PLAN_MAX(d->range.share / 4, (uint64_t)1);
    const uint64_t parts = s->cost / part;
    int64_t n =
        PLAN_MIN(plan_ceil_div(tokens, grain), 4 * (int64_t)d->range.n_workers);

    if (in->policy.flags & FLI_PLAN_INVARIANT)
        return s->n_pieces;
    if (parts < (uint64_t)n)
        n = (int64_t)parts + 1;
    for (; n > 1; n /= 2) {
        const int64_t length =
            plan_ceil_div(plan_ceil_div(tokens, n), grain) * grain;
        const int64_t n_pieces = plan_ceil_div(tokens, length);
        fli_plan_need used = d->used;

        plan_need_pieces(in, s, n_pieces - 1, &used);
        if (!plan_fits(in, d->range.out, &used))
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
    const fli_plan_input *in = d->range.in;
    uint64_t more = 0;

    for (int32_t i = 0; i < d->range.out->summary->n_strips; i++) {
        fli_plan_strip *s = &d->range.out->strips[i];

        if (!plan_is_grouped(s) || !plan_in_range(&d->range, s))
            continue;
        s->n_pieces = (int32_t)plan_settle(d, s);
        s->partial = d->n_partial_rows;
        d->n_partial_rows +=
            s->n_pieces * plan_blocks(in, s) * (int32_t)plan_piece_rows(in, s);
        more += (uint64_t)(s->n_pieces - 1) * plan_cost_fixed(in, s)
                * (uint64_t)plan_blocks(in, s);
    }
    return more;
}

/* --- order ---------------------------------------------------------------- */

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

/* Lists the strips of the range in order[], longest first: a counting sort, ties
 * in the order of the batch.  The buckets are empty.  Returns how many. */
PLAN_FN int32_t plan_order(const plan_range *r)
{
    const fli_plan_output *out = r->out;
    const int32_t n_strips = out->summary->n_strips;
    int32_t *buckets = out->buckets;
    int32_t n = 0;

    PLAN_ROLLED
    for (int32_t i = 0; i < n_strips; i++)
        if (plan_in_range(r, &out->strips[i]))
            buckets[out->strips[i].bucket]++;
    for (int32_t b = 0; b < FLI_PLAN_BUCKETS; b++) {
        const int32_t count = buckets[b];

        buckets[b] = n;
        n += count;
    }
    PLAN_ROLLED
    for (int32_t i = 0; i < n_strips; i++)
        if (plan_in_range(r, &out->strips[i]))
            out->order[buckets[out->strips[i].bucket]++] = i;
    return n;
}

/* How far the strips from order[from] on are dealt together. */
PLAN_FN int32_t plan_alike(const plan_range *r, int32_t from, int32_t n)
{
    const int32_t *order = r->out->order;
    const fli_plan_strip *s = &r->out->strips[order[from]];
    int32_t to = from + 1;

    for (; to < n; to++) {
        const fli_plan_strip *t = &r->out->strips[order[to]];

        if (t->request != s->request || t->tile_class != s->tile_class
            || t->bucket != s->bucket)
            break;
    }
    return to;
}

/* Blocks of heads that a range walks together: as many as have their K and V of
 * the batch's tokens in the L2. */
PLAN_FN int32_t plan_blocks_together(const plan_range *r, int32_t blocks)
{
    const fli_plan_input *in = r->in;
    uint64_t tokens = 0;

    if (in->policy.l2_bytes <= 0 || in->policy.token_bytes <= 0)
        return blocks;
    for (int32_t i = 0; i < in->n_requests; i++)
        tokens += (uint64_t)in->kv_len[i];
    const uint64_t bytes = tokens * (uint64_t)in->policy.token_bytes;
    int32_t n = 1;

    while (n < blocks
           && (uint64_t)(n + 1) * bytes <= (uint64_t)in->policy.l2_bytes)
        n++;
    return n;
}

/* --- the range ------------------------------------------------------------ */

/* The range's share, with its grouped strips settled; returns its most blocks of
 * heads. */
PLAN_FN int32_t plan_measure(plan_deal *d, int32_t n)
{
    const fli_plan_input *in = d->range.in;
    const fli_plan_output *out = d->range.out;
    uint64_t total = 0, cut = 0;
    int32_t blocks = 0;

    for (int32_t k = 0; k < n; k++) {
        const fli_plan_strip *s = &out->strips[out->order[k]];
        const uint64_t its_cut = plan_cost_cut(in, s);

        total += s->cost * (uint64_t)plan_blocks(in, s);
        cut = PLAN_MAX(cut, its_cut);
        blocks = PLAN_MAX(blocks, plan_blocks(in, s));
    }
    d->range.share = total / (uint64_t)d->range.n_workers + 1 + cut;
    if (PLAN_GROUPS && out->summary->n_grouped > 0)
        d->range.share += plan_settle_grouped(d) / (uint64_t)d->range.n_workers;
    return blocks;
}

/* Deals the tiles of strips order[from, to), all of one request and class:
 * heads first, then rows. */
PLAN_FN void plan_deal_blocks(plan_deal *d, int32_t from, int32_t to,
                              int32_t block, int32_t last_block)
{
    const fli_plan_output *out = d->range.out;

    for (; block < last_block; block++)
        for (int32_t k = from; k < to; k++) {
            const int32_t strip = out->order[k];

            if (plan_is_grouped(&out->strips[strip]))
                plan_deal_grouped(d, strip, block);
            else
                plan_deal_tile(d, strip, block);
        }
}

PLAN_FN void plan_deal_tiles(plan_deal *d)
{
    const fli_plan_output *out = d->range.out;
    const int32_t n = plan_order(&d->range);
    const int32_t blocks = plan_measure(d, n);
    const int32_t together = plan_blocks_together(&d->range, blocks);

    for (int32_t b = 0; b < blocks; b += together)
        for (int32_t from = 0, to; from < n; from = to) {
            const fli_plan_strip *s = &out->strips[out->order[from]];
            const int32_t last = plan_blocks(d->range.in, s);

            to = plan_alike(&d->range, from, n);
            plan_deal_blocks(d, from, to, b, PLAN_MIN(b + together, last));
        }
}

/* Lane 0: the range, counted in the summary. */
PLAN_FN void plan_deal_longest(const plan_range *range)
{
    const fli_plan_output *out = range->out;
    fli_plan_summary *sum = out->summary;
    plan_deal d = { .range = *range,
                    .used = *out->used,
                    .n_pieces = sum->n_pieces,
                    .n_items = sum->n_items,
                    .n_merges = sum->n_merges,
                    .n_sources = sum->n_sources,
                    .n_partial_rows = sum->n_partial_rows,
                    .merge = -1 };

    plan_deal_tiles(&d);
    *out->used = d.used;
    sum->n_pieces = d.n_pieces;
    sum->n_items = d.n_items;
    sum->n_merges = d.n_merges;
    sum->n_sources = d.n_sources;
    sum->n_partial_rows = d.n_partial_rows;
}

/* An item as it was dealt, written out. */
PLAN_FN void plan_write_item(const plan_range *r, fli_work_item *item)
{
    const plan_place place = { item->next, item->partial, item->merge,
                               item->n_merges };

    if (item->tile_class >= 0)
        plan_put_item(r->in, &r->out->strips[item->request], item->kv_head,
                      item->kv_begin, item->kv_end, &place, item);
}

/* Every lane: deals a range, longest first. */
PLAN_FN void plan_deal_heap(const plan_range *range, int32_t lane,
                            int32_t lanes)
{
    const fli_plan_output *out = range->out;
    const int32_t n = range->n_workers, from = out->summary->n_items;

    for (int32_t i = lane; i < out->summary->n_strips; i += lanes)
        out->strips[i].bucket = plan_bucket(out->strips[i].cost);
    for (int32_t i = lane; i < FLI_PLAN_BUCKETS; i += lanes)
        out->buckets[i] = 0;
    for (int32_t i = lane; i < n + FLI_PLAN_FAN - 1; i += lanes)
        out->turns[i] =
            PLAN_MAKE(fli_plan_turn, .load = i < n ? 0 : ~(uint64_t)0,
                      .worker = range->first_worker + i, .tail = -1);
    PLAN_BARRIER();
    if (lane == 0)
        plan_deal_longest(range);
    PLAN_BARRIER();
    for (int32_t i = lane; i < n; i += lanes) {
        out->load[out->turns[i].worker] = out->turns[i].load;
        plan_write_item(range, &out->items[range->first_worker + i]);
    }
    for (int32_t i = from + lane; i < out->summary->n_items; i += lanes)
        plan_write_item(range, &out->items[i]);
}

#endif
