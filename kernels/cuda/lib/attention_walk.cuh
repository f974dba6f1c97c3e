/* SPDX-License-Identifier: Apache-2.0 */
/* attention: a warp's walk over the items of its worker, ahead of the products.
 *
 *   TILE   tokens of a warp in a step, 16
 *   STEP   tokens of a block in a step, TILE for each warp
 *
 * Before a tile of K and V can be loaded its page ids must be there, before them
 * the request's part of the page table, before that the item, and each must be
 * loaded.  So page ids are asked for one tile ahead and items three ahead: when
 * the walk comes to an item, the next one's first page ids, the lengths of the one
 * after it and the work item behind that are asked for.  All loads are of the
 * whole warp, with a field or a token a lane, and cost it a register each. */
#ifndef FLI_CUDA_ATTENTION_WALK_CUH
#define FLI_CUDA_ATTENTION_WALK_CUH

#include "cuda/lib/attention.cuh"

/* This thread's place.  Asked for anew where it is needed, so that what follows
 * from it is not kept in registers all along. */
typedef struct {
    int32_t thread, lane, warp, g, t;
} place;

DEVICE place here(void)
{
    uint32_t thread;

    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    const place at = { (int32_t)thread, (int32_t)(thread % 32),
                       (int32_t)(thread / 32), (int32_t)(thread % 32 / 4),
                       (int32_t)(thread % 4) };

    return at;
}

/* --- items ----------------------------------------------------------------- */

/* An item as a warp has it: lane f % 16 holds field f of the work item, lane f % 4
 * field f of the others. */
typedef struct {
    int32_t work;
    int32_t request; /* kv_len, q_indptr of the next, page_indptr of both */
    int32_t span;    /* token_span */
} warp_item;

#define FIELD(name)     ((int32_t)(size_t)(&((const fli_work_item *)0)->name) / 4)
#define GET(item, name) get((item).work, FIELD(name))

DEVICE int32_t get(int32_t fields, int32_t f)
{
    return __shfl_sync(ALL_LANES, fields, f);
}

DEVICE int32_t is_item(int32_t work)
{
    return get(work, FIELD(tile_class)) >= 0;
}

/* -1 is no item. */
DEVICE int32_t fetch_work(const fli_attention_params *p, int32_t index)
{
    int32_t work = -1;

    if (index >= 0)
        work = ((const int32_t *)(p->items + index))[threadIdx.x % 16];
    return work;
}

DEVICE int32_t fetch_request(const fli_attention_params *p, int32_t work)
{
    int32_t fields = 0;

    if (is_item(work)) {
        const int32_t request = get(work, FIELD(request));
        const int32_t f = threadIdx.x % 4;
        const int32_t *const indptr =
            p->page_indptr ? p->page_indptr : p->kv_indptr;
        const int32_t *const from = f == 0   ? p->kv_len + request
                                    : f == 1 ? p->q_indptr + request + 1
                                             : indptr + request + (f - 2);

        fields = *from;
    }
    return fields;
}

/* The position of a packed row. */
DEVICE int32_t item_position(const fli_attention_params *p,
                             const warp_item *item, int32_t packed_row)
{
    return get(item->request, 0) - get(item->request, 1)
           + query_row(p, packed_row);
}

DEVICE page_range item_pages(const fli_attention_params *p,
                             const warp_item *item)
{
    return page_range_of(p, get(item->request, 2), get(item->request, 3));
}

/* Sets item->span. */
DEVICE void clip_item(const fli_attention_params *p, warp_item *item)
{
    const int32_t first = item_position(p, item, GET(*item, row_begin));
    const int32_t last = item_position(p, item, GET(*item, row_end) - 1);
    const int32_t begin = GET(*item, kv_begin), end = GET(*item, kv_end);
    token_span s = span_of(p, first, last, begin, end);
    const int32_t f = threadIdx.x % 4;

    if (!has_pages(p, item_pages(p, item), s.end - s.begin))
        s.end = s.begin;
    item->span = f == 0   ? s.begin
                 : f == 1 ? s.end
                 : f == 2 ? s.full_begin
                          : s.full_end;
}

/* --- loader ---------------------------------------------------------------- */

/* The page of a lane's token, as far as the table knows. */
typedef struct {
    int32_t id, slot;
} lane_page;

/* Runs ahead of the products.  Lanes 0 to 15 look up the tokens of the warp's tile
 * in K, lanes 16 to 31 in V. */
typedef struct {
    divisor page;

    warp_item item; /* none: all is loaded */
    int32_t at;     /* the step to load */
    int32_t begin, end;
    page_range pages;
    int64_t head;   /* offset of the item's head */
    int64_t offset; /* of the lane's token of the tile being loaded */
    lane_page here,
        ahead; /* of the tile at `at`, and of the next in the item */

    warp_item next;  /* the item behind it */
    lane_page first; /* of its first tile */
    warp_item after; /* behind that, without its span */
    int32_t last;    /* behind that, only its work */
} loader;

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

/* What the lane looks up: tokens of K, or of V. */
DEVICE kv_side lane_side(const fli_attention_params *p)
{
    const place me = here();

    return me.lane < 16 ? k_side(p) : v_side(p);
}

/* Where the chunk of a step ends, or before that the item. */
DEVICE int32_t chunk_end(const fli_attention_params *p, int32_t step,
                         int32_t end)
{
    if (p->chunk == 0)
        return end;
    return (int32_t)MIN((int64_t)end,
                        (int64_t)step - step % p->chunk + p->chunk);
}

/* The lane's token of a tile; at an edge another one of [begin, end). */
DEVICE int32_t lane_token(const place *at, int32_t tile, int32_t begin,
                          int32_t end)
{
    return MAX(begin, MIN(tile + at->lane % 16, end - 1));
}

DEVICE lane_page look_up(const fli_attention_params *p, const loader *a,
                         page_range pages, int32_t token)
{
    lane_page page;
    const int32_t entry = page_entry(p, pages, a->page, token, &page.slot);

    page.id = page_id(p, entry);
    return page;
}

/* On to the next item; each stage behind it makes a step too. */
DEVICE void next_item(const fli_attention_params *p, const place *at, loader *a)
{
    a->item = a->next;
    a->begin = a->end = 0;
    if (is_item(a->item.work)) {
        a->begin = get(a->item.span, 0);
        a->end = get(a->item.span, 1);
        a->at = first_step(a->begin);
        a->pages = item_pages(p, &a->item);
        a->head = GET(a->item, kv_head) * lane_side(p).head_stride;
        a->here = a->first;
    }
    a->next = a->after;
    if (is_item(a->next.work)) {
        clip_item(p, &a->next);
        const int32_t begin = get(a->next.span, 0), end = get(a->next.span, 1);
        const int32_t tile = first_step(begin) + TILE * at->warp;

        if (is_active(tile, begin, end))
            a->first = look_up(p, a, item_pages(p, &a->next),
                               lane_token(at, tile, begin, end));
    }
    a->after.work = a->last;
    a->after.request = fetch_request(p, a->last);
    a->last = fetch_work(p, is_item(a->last) ? get(a->last, FIELD(next)) : -1);
}

DEVICE void start_loader(const fli_attention_params *p, const place *at,
                         int32_t worker, loader *a)
{
    a->page = page_divisor(p);
    a->next.work = a->after.work = -1;
    a->last = fetch_work(p, worker);
#pragma unroll 1
    for (int32_t i = 0; i < 3; i++)
        next_item(p, at, a);
}

/* Asks for the page ids of the item's next tile. */
DEVICE void look_ahead(const fli_attention_params *p, const place *at,
                       loader *a)
{
    const int32_t tile = a->at + STEP + TILE * at->warp;

    if (is_active(tile, a->begin, a->end))
        a->ahead =
            look_up(p, a, a->pages, lane_token(at, tile, a->begin, a->end));
}

/* On to the next step, of the item or the next one. */
DEVICE void next_step(const fli_attention_params *p, const place *at, loader *a)
{
    a->at += STEP;
    a->here = a->ahead;
    if (a->at >= a->end)
        next_item(p, at, a);
}

#endif
