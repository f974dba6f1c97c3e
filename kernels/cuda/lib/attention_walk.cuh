/* SPDX-License-Identifier: Apache-2.0 */
/* attention: a warp's walk over the tokens of its worker, ahead of the products.
 *
 *   TILE   tokens of a warp in a step, 16
 *   STEP   tokens of a block in a step, TILE for each warp
 *
 * Before K and V of a tile can be copied its page ids must be there, before them
 * the request's part of the page table, before that the item: three loads in
 * series, of which each starts as soon as the one before it has arrived, and none
 * of which anything waits for but the first time.  Page ids are asked for two
 * tiles at a time, a token a lane, while the two before them are copied; items
 * three ahead.
 *
 * Every warp walks every item, also one in which it has no tokens: all warps
 * stand at the same step, and an item has one at least. */
#ifndef FLI_CUDA_ATTENTION_WALK_CUH
#define FLI_CUDA_ATTENTION_WALK_CUH

#include "cuda/lib/attention.cuh"

DEVICE int32_t lane_index(void)
{
    return (int32_t)threadIdx.x % 32;
}

DEVICE int32_t warp_index(void)
{
    return (int32_t)threadIdx.x / 32;
}

/* --- items ----------------------------------------------------------------- */

/* An item is one register of a warp: lanes 0 to 15 hold the fields of its
 * fli_work_item, the others what belongs to it. */
enum {
    ITEM_SHIFT = 16, /* from a query row to its position */
    ITEM_PAGES = 18, /* its page_range */
    ITEM_SPAN = 20,  /* its token_span */
    ITEM_MERGE = 24, /* its fli_merge_item, if it has one */
};

#define FIELD(name)     ((int32_t)(size_t)(&((const fli_work_item *)0)->name) / 4)
#define GET(item, name) get(item, FIELD(name))

DEVICE int32_t get(int32_t item, int32_t field)
{
    return __shfl_sync(ALL_LANES, item, field);
}

DEVICE int32_t is_item(int32_t work)
{
    return GET(work, tile_class) >= 0;
}

/* An item comes in two loads.  The work item first; -1 is no item. */
DEVICE int32_t fetch_work(const fli_attention_params *p, int32_t index)
{
    int32_t work = -1;

    if (index >= 0)
        work = ((const int32_t *)(p->items + index))[lane_index() % 16];
    return work;
}

/* Then what it refers to: the same in all lanes, but for the merge. */
typedef struct {
    int32_t kv_len, q_end; /* q_indptr of the next request */
    int32_t pages[2];      /* page_indptr of both */
    int32_t merge;         /* field i in lane ITEM_MERGE + i */
} item_rest;

DEVICE item_rest fetch_rest(const fli_attention_params *p, int32_t work)
{
    const int32_t request = GET(work, request), merge = GET(work, merge);
    const int32_t n_merges = GET(work, n_merges), lane = lane_index();
    const int32_t *const pages =
        (p->page_indptr ? p->page_indptr : p->kv_indptr) + request;
    item_rest rest = { 0, 0, { 0, 0 }, 0 };

    if (is_item(work)) {
        rest.kv_len = p->kv_len[request];
        rest.q_end = p->q_indptr[request + 1];
        rest.pages[0] = pages[0];
        rest.pages[1] = pages[1];
        if (n_merges > 0 && lane >= ITEM_MERGE)
            rest.merge =
                ((const int32_t *)(p->merges + merge))[lane - ITEM_MERGE];
    }
    return rest;
}

DEVICE token_span item_span(int32_t item)
{
    const token_span span = {
        get(item, ITEM_SPAN),
        get(item, ITEM_SPAN + 1),
        get(item, ITEM_SPAN + 2),
        get(item, ITEM_SPAN + 3),
    };

    return span;
}

/* Both loads together: what the item's rows see, and where. */
DEVICE int32_t complete_item(const fli_attention_params *p, divisor group,
                             int32_t work, const item_rest *rest)
{
    const int32_t lane = lane_index(), shift = rest->kv_len - rest->q_end;
    const int32_t row_begin = GET(work, row_begin),
                  row_end = GET(work, row_end);
    const int32_t begin = GET(work, kv_begin), end = GET(work, kv_end);
    const page_range pages = page_range_of(p, rest->pages[0], rest->pages[1]);
    int32_t head;
    token_span s =
        span_of(p, shift + (int32_t)divide((uint32_t)row_begin, group, &head),
                shift + (int32_t)divide((uint32_t)row_end - 1, group, &head),
                begin, end);

    if (!is_item(work))
        return -1;
    if (!has_pages(p, pages, s.end - s.begin))
        s.end = s.begin;
    int32_t item = lane < ITEM_SHIFT ? work : rest->merge;

    item = lane == ITEM_SHIFT ? shift : item;
    item = lane == ITEM_PAGES ? pages.first : item;
    item = lane == ITEM_PAGES + 1 ? pages.last : item;
    item = lane == ITEM_SPAN ? s.begin : item;
    item = lane == ITEM_SPAN + 1 ? s.end : item;
    item = lane == ITEM_SPAN + 2 ? s.full_begin : item;
    return lane == ITEM_SPAN + 3 ? s.full_end : item;
}

/* --- tiles ----------------------------------------------------------------- */

/* The first step of an item: steps begin at multiples of STEP. */
DEVICE int32_t first_step(int32_t begin)
{
    return begin & ~(STEP - 1);
}

/* Does the warp's tile of a step hold tokens of [begin, end)? */
DEVICE int32_t is_active(int32_t tile, int32_t begin, int32_t end)
{
    return MAX(tile, begin) < MIN(tile + TILE, end);
}

/* The lane's token: its page, as far as the table knows, and its rows as if that
 * were page 0. */
typedef struct {
    int32_t id;
    const char *k, *v;
} lane_token;

typedef struct {
    divisor page, group;

    int32_t item;
    int32_t begin, end;
    int32_t at;        /* the step to copy */
    int32_t is_second; /* of two tiles */
    int32_t is_v;      /* the half of the tile */
    int32_t is_done;   /* all is copied */
    const char *k, *v; /* rows of the lane's token: lanes 0 to 15 have those of
                           the first tile, 16 to 31 of the second */
    lane_token ahead;  /* of the two tiles behind those */
    int32_t next;      /* the item behind this one */
    int32_t work;      /* behind that, incomplete */
    item_rest rest;
    int32_t last; /* behind that, only its work item */
} loader;

/* Row `slot` of page 0. */
DEVICE const char *first_page_row(const kv_side *side, int32_t kv_head,
                                  int32_t slot)
{
    return (const char *)side->data
           + 2 * (kv_head * side->head_stride + slot * side->token_stride);
}

/* Asks for the pages of the tiles at `step` and the next.  Where the item has no
 * such token, one that it has is in its place. */
DEVICE lane_token look_up(const fli_attention_params *p, divisor page,
                          int32_t item, int32_t step)
{
    const int32_t begin = get(item, ITEM_SPAN), end = get(item, ITEM_SPAN + 1);
    const page_range pages = { get(item, ITEM_PAGES),
                               get(item, ITEM_PAGES + 1) };
    const int32_t kv_head = GET(item, kv_head), lane = lane_index();
    const int32_t token =
        step + lane / 16 * STEP + TILE * warp_index() + lane % 16;
    const kv_side k = k_side(p), v = v_side(p);
    lane_token at = { 0, NULL, NULL };

    if (begin < end) {
        int32_t slot;

        at.id = page_id(p, page_entry(p, pages, page,
                                      MAX(begin, MIN(token, end - 1)), &slot));
        at.k = first_page_row(&k, kv_head, slot);
        at.v = first_page_row(&v, kv_head, slot);
    }
    return at;
}

/* The first two tiles of an item. */
DEVICE lane_token look_up_first(const fli_attention_params *p, divisor page,
                                int32_t item)
{
    return look_up(p, page, item, first_step(get(item, ITEM_SPAN)));
}

/* Asks for the pages of two tiles once the copies of the first of those before
 * them are under way.  Does it come to a new item, a->next? */
DEVICE int32_t look_ahead(const fli_attention_params *p, loader *a)
{
    if (!a->is_v || a->is_second)
        return 0;
    if (a->at + 2 * STEP < a->end) {
        a->ahead = look_up(p, a->page, a->item, a->at + 2 * STEP);
        return 0;
    }
    a->next = complete_item(p, a->group, a->work, &a->rest);
    if (is_item(a->next))
        a->ahead = look_up_first(p, a->page, a->next);
    a->work = a->last;
    a->rest = fetch_rest(p, a->last);
    a->last = fetch_work(p, is_item(a->last) ? GET(a->last, next) : -1);
    return 1;
}

/* What was ahead is here: its page ids have arrived. */
DEVICE void begin_two_tiles(const fli_attention_params *p, loader *a)
{
    const kv_side k = k_side(p), v = v_side(p);

    if (a->begin < a->end) {
        a->k = a->ahead.k + 2 * page_offset(p, &k, a->ahead.id, 0);
        a->v = a->ahead.v + 2 * page_offset(p, &v, a->ahead.id, 0);
    }
}

DEVICE void next_tile(const fli_attention_params *p, loader *a)
{
    a->at += STEP;
    a->is_second ^= 1;
    if (a->at >= a->end) {
        a->item = a->next;
        a->is_done = !is_item(a->item);
        a->begin = get(a->item, ITEM_SPAN);
        a->end = get(a->item, ITEM_SPAN + 1);
        a->at = first_step(a->begin);
        a->is_second = 0;
    }
    if (!a->is_second)
        begin_two_tiles(p, a);
}

/* From K to V of a tile, or to K of the next, if there is one. */
DEVICE int32_t next_half(const fli_attention_params *p, loader *a)
{
    a->is_v ^= 1;
    if (!a->is_v && !a->is_done)
        next_tile(p, a);
    return !a->is_done;
}

/* Row r of the half tile. */
DEVICE const char *lane_row(const loader *a, int32_t r)
{
    const char *const row = a->is_v ? a->v : a->k;

    return (const char *)__shfl_sync(ALL_LANES, (unsigned long long)row,
                                     TILE * a->is_second + r);
}

/* Stands before the first item, of which both loads are under way. */
DEVICE void start_loader(const fli_attention_params *p, int32_t work,
                         const item_rest *rest, loader *a)
{
    a->work = fetch_work(p, GET(work, next));
    a->item = -1;
    a->at = a->begin = a->end = a->is_second = a->is_done = 0;
    a->is_v = 1;
    a->k = a->v = NULL;
    a->next = complete_item(p, a->group, work, rest);
    a->ahead = look_up_first(p, a->page, a->next);
    a->rest = fetch_rest(p, a->work);
    a->last = fetch_work(p, is_item(a->work) ? GET(a->work, next) : -1);
}

#endif
