/* SPDX-License-Identifier: Apache-2.0 */
/* attention: tiles of many packed rows on mma.sync (sm_80 on), for prefill.
 *
 *   FLI_DTYPE_KV              f16 or bf16, of q too
 *   HEAD_DIM_QK, HEAD_DIM_VO  multiples of 8, at most 256
 *   ROWS                      packed rows of a tile: 64 or 128
 *   KV_TILE                   tokens of a step, a multiple of 16
 *
 * A block walks its worker's items.  Q of an item lies in shared memory, K and V
 * come in tiles of KV_TILE tokens through two stages: one barrier a step, behind
 * which the tile has landed, the stage of the tile before it is free, and the
 * copies of the next begin.  A row of shared memory is a token or a query row,
 * padded by 16 bytes: eight consecutive rows then start in different banks for
 * ldmatrix, whatever the head dim, and every address is a base of the lane plus
 * a constant.  Eight threads copy a row, 16 bytes each at a time, from the place
 * that another thread looked up in the page table two steps before: pages of any
 * size cost the same.
 *
 * A warp owns 16 rows, or 32 where its registers hold that much output, which
 * halves the shared memory traffic of K and V.  It computes S = Q K^T, turns it
 * into weights P and adds P V; P goes from accumulators to operands within the
 * registers.  The maximum m that weights refer to stays until a row exceeds it by
 * SLACK: weights up to 2^SLACK are as exact as those up to 1, and most steps then
 * neither share a maximum nor touch the output.  Whether a row raises its m is
 * its own affair, so that its bits do not depend on its neighbours.
 *
 * Tiles of tokens that no row sees are skipped; a tile that some row sees in part
 * is masked element by element. */
#include "cuda/lib/attention.cuh"
#include "cuda/lib/mma.cuh"

/* 16 x 8 blocks of a warp's output and logits: 4 registers each. */
#define WARP_TILES   (ROWS == 128 && HEAD_DIM_VO <= 128 ? 2 : 1)
#define LOGIT_BLOCKS (KV_TILE / 8)
#define OUT_BLOCKS   (PAD_16(HEAD_DIM_VO) / 8)

#define WARP_ROWS (16 * WARP_TILES)
#define THREADS   (ROWS / WARP_ROWS * 32)
#define ROW_LANES 8 /* threads that copy a row */

/* Bytes of a row in shared memory. */
#define PAD_16(n) (((n) + 15) / 16 * 16)
#define PITCH_QK  (2 * PAD_16(HEAD_DIM_QK) + 16)
#define PITCH_VO  (2 * PAD_16(HEAD_DIM_VO) + 16)

#define SLACK 8.0f

/* Rows of states on their way out; the padding keeps threads of a fragment in
 * different banks. */
typedef struct {
    float o[ROWS][PAD_16(HEAD_DIM_VO) + 8];
    float md[ROWS][2];
} state_rows;

/* An item, once for all threads: registers are for the tiles. */
typedef struct {
    int32_t request, kv_head;
    int32_t row_begin, n_rows;
    int32_t partial;
    token_span span;
    int32_t first, n_tiles; /* token of tile 0, at or before span.begin */
    page_range pages;
    divisor page;
} prefill_item;

typedef struct {
    prefill_item item;
    const char *k_row[2][KV_TILE], *v_row[2][KV_TILE]; /* tokens of a tile */
    int32_t lo[ROWS], hi[ROWS];                        /* what a row sees */
    union {
        struct {
            char q[ROWS * PITCH_QK];
            char k[2][KV_TILE * PITCH_QK], v[2][KV_TILE * PITCH_VO];
        };
        state_rows rows; /* when the last tile has been read */
    };
} prefill_shared;

/* INVARIANT: in the worker's scratch. */
typedef struct {
    state_rows chunk, sum;
} prefill_scratch;

static_assert(sizeof(prefill_shared)
                  == FLI_ATTENTION_PREFILL_SHARED(ROWS, KV_TILE, HEAD_DIM_QK,
                                                  HEAD_DIM_VO),
              "the host asks for what the kernel uses");
static_assert(sizeof(prefill_scratch)
                  == FLI_ATTENTION_PREFILL_SCRATCH(ROWS, HEAD_DIM_VO),
              "the host asks for what the kernel uses");

/* Rows g and g + 8 of each block; d is this thread's part of the sum. */
typedef struct {
    float o[WARP_TILES][OUT_BLOCKS][4];
    float m[WARP_TILES][2], d[WARP_TILES][2];
} row_states;

typedef float logit_blocks[WARP_TILES][LOGIT_BLOCKS][4];

DEVICE prefill_shared *shared_memory(void)
{
    extern __shared__ __align__(16) char bytes[];

    return (prefill_shared *)bytes;
}

/* --- rows of a warp ------------------------------------------------------- */

/* Row of the tile: row g + 8 half of block i. */
DEVICE int32_t tile_row(int32_t i, int32_t half)
{
    return (int32_t)threadIdx.x / 32 * WARP_ROWS + 16 * i + 8 * half
           + (int32_t)threadIdx.x % 32 / 4;
}

/* Over the four threads of a row. */
DEVICE float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

DEVICE float quad_sum(float x)
{
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

/* --- an item -------------------------------------------------------------- */

/* An item whose rows see nothing walks one tile of nothing. */
DEVICE void begin_item(const fli_attention_params *p, const fli_work_item *item,
                       prefill_item *w)
{
    const int32_t request = item->request;
    const page_range pages = request_pages(p, request);
    token_span span = span_of(p, row_position(p, request, item->row_begin),
                              row_position(p, request, item->row_end - 1),
                              item->kv_begin, item->kv_end);

    if (!has_pages(p, pages, span.end - span.begin))
        span.end = span.full_end = span.begin;
    w->request = request;
    w->kv_head = item->kv_head;
    w->row_begin = item->row_begin;
    w->n_rows = item->row_end - item->row_begin;
    w->partial = item->partial;
    w->span = span;
    w->first = span.begin - (span.begin - item->kv_begin) % KV_TILE;
    w->n_tiles = MAX(1, (span.end - w->first + KV_TILE - 1) / KV_TILE);
    w->pages = pages;
    w->page = page_divisor(p);
}

/* --- copies to shared memory ---------------------------------------------- */

/* Copies a row of dim elements, or zeros, and zeros up to a multiple of 16; to and
 * from are where this lane begins. */
DEVICE void copy_row(uint32_t to, const char *from, int32_t dim,
                     int32_t is_seen)
{
    const int32_t lane = threadIdx.x % ROW_LANES, n = PAD_16(dim) / 8;

#pragma unroll
    for (int32_t i = 0; i < n; i += ROW_LANES)
        if (i + ROW_LANES <= n || i + lane < n) {
            const int32_t is_dim =
                (i + ROW_LANES) * 8 <= dim || (i + lane) * 8 < dim;

            cp_async_16_zfill(to + 16 * i, from + 16 * i,
                              is_seen && is_dim ? 16 : 0);
        }
}

DEVICE void copy_queries(const fli_attention_params *p, const prefill_item *w)
{
    const int32_t lane = threadIdx.x % ROW_LANES;
    const uint32_t to = shared_address(shared_memory()->q) + 16 * lane;

#pragma unroll 1
    for (int32_t r = threadIdx.x / ROW_LANES; r < ROWS;
         r += THREADS / ROW_LANES) {
        const int32_t row = w->row_begin + MIN(r, w->n_rows - 1);

        copy_row(to + r * PITCH_QK,
                 (const char *)p->q + 2 * q_offset(p, row, w->kv_head)
                     + 16 * lane,
                 HEAD_DIM_QK, r < w->n_rows);
    }
}

/* Tokens that no row sees become zeros: a weight of 0 would not hide what is no
 * number. */
DEVICE void copy_tile(const prefill_item *w, int32_t tile)
{
    prefill_shared *s = shared_memory();
    const int32_t stage = tile % 2, lane = threadIdx.x % ROW_LANES;
    const int32_t row = threadIdx.x / ROW_LANES;
    const int32_t begin = w->span.begin - w->first - tile * KV_TILE;
    const int32_t end = w->span.end - w->first - tile * KV_TILE;
    const uint32_t k = shared_address(s->k) + stage * (KV_TILE * PITCH_QK)
                       + row * PITCH_QK + 16 * lane;
    const uint32_t v = shared_address(s->v) + stage * (KV_TILE * PITCH_VO)
                       + row * PITCH_VO + 16 * lane;

#pragma unroll
    for (int32_t i = 0; i < KV_TILE; i += THREADS / ROW_LANES) {
        const int32_t r = i + row, is_seen = r >= begin && r < end;

        if (i + THREADS / ROW_LANES > KV_TILE && r >= KV_TILE)
            break;
        copy_row(k + i * PITCH_QK, s->k_row[stage][r] + 16 * lane, HEAD_DIM_QK,
                 is_seen);
        copy_row(v + i * PITCH_VO, s->v_row[stage][r] + 16 * lane, HEAD_DIM_VO,
                 is_seen);
    }
    cp_async_commit();
}

/* Where this thread's token of a tile is; slot -1: there is none. */
typedef struct {
    int32_t id, slot;
} token_place;

/* Loads the page id; nothing waits for it before store_place. */
DEVICE token_place find_token(const fli_attention_params *p,
                              const prefill_item *w, int32_t tile)
{
    const int32_t token = w->first + tile * KV_TILE + (int32_t)threadIdx.x;
    token_place at = { 0, -1 };

    if (threadIdx.x < KV_TILE && token < w->span.end)
        at.id = page_id(p, page_entry(p, w->pages, w->page, token, &at.slot));
    return at;
}

DEVICE const char *address_of(const fli_attention_params *p,
                              const kv_side *side, int32_t kv_head,
                              token_place at)
{
    const int64_t token =
        at.slot < 0 ? 0 : page_offset(p, side, at.id, at.slot);

    return (const char *)side->data + 2 * (token + kv_head * side->head_stride);
}

DEVICE void store_place(const fli_attention_params *p, int32_t tile,
                        token_place at)
{
    const kv_side k = k_side(p), v = v_side(p);
    prefill_shared *s = shared_memory();

    if (threadIdx.x >= KV_TILE)
        return;
    s->k_row[tile % 2][threadIdx.x] = address_of(p, &k, s->item.kv_head, at);
    s->v_row[tile % 2][threadIdx.x] = address_of(p, &v, s->item.kv_head, at);
}

/* --- a step --------------------------------------------------------------- */

/* s = Q K^T; q and k are the lane's addresses. */
DEVICE void multiply_qk(logit_blocks s, uint32_t q, uint32_t k)
{
#pragma unroll
    for (int32_t i = 0; i < WARP_TILES; i++)
#pragma unroll
        for (int32_t n = 0; n < LOGIT_BLOCKS; n++)
            s[i][n][0] = s[i][n][1] = s[i][n][2] = s[i][n][3] = 0;
#pragma unroll
    for (int32_t d = 0; d < PAD_16(HEAD_DIM_QK); d += 16) {
        uint32_t a[WARP_TILES][4], b[4];

#pragma unroll
        for (int32_t i = 0; i < WARP_TILES; i++)
            ldmatrix_x4(a[i], q + 16 * i * PITCH_QK + 2 * d);
#pragma unroll
        for (int32_t n = 0; n < LOGIT_BLOCKS; n += 2) {
            ldmatrix_x4(b, k + 8 * n * PITCH_QK + 2 * d);
#pragma unroll
            for (int32_t i = 0; i < WARP_TILES; i++) {
                mma_m16n8k16(s[i][n], a[i], b, FLI_DTYPE_KV);
                mma_m16n8k16(s[i][n + 1], a[i], b + 2, FLI_DTYPE_KV);
            }
        }
    }
}

/* Dot products become logits, where a positive factor would not do. */
DEVICE void form_logits(logit_blocks s, const logit_form *form)
{
#pragma unroll
    for (int32_t i = 0; i < WARP_TILES; i++)
#pragma unroll
        for (int32_t n = 0; n < LOGIT_BLOCKS; n++)
#pragma unroll
            for (int32_t e = 0; e < 4; e++)
                s[i][n][e] *= form->scale;
    if (form->cap == 0)
        return;
#pragma unroll
    for (int32_t i = 0; i < WARP_TILES; i++)
#pragma unroll
        for (int32_t n = 0; n < LOGIT_BLOCKS; n++)
#pragma unroll
            for (int32_t e = 0; e < 4; e++)
                s[i][n][e] = form->cap * tanh_f32(s[i][n][e]);
}

/* Takes away what a row does not see of the tile whose first token is first. */
DEVICE void hide(logit_blocks s, int32_t first)
{
    const prefill_shared *shared = shared_memory();

#pragma unroll
    for (int32_t i = 0; i < WARP_TILES; i++)
#pragma unroll
        for (int32_t half = 0; half < 2; half++) {
            const int32_t r = tile_row(i, half);
            const int32_t lo = shared->lo[r] - first - threadIdx.x % 4 * 2;
            const uint32_t n_seen = shared->hi[r] - shared->lo[r];

#pragma unroll
            for (int32_t n = 0; n < LOGIT_BLOCKS; n++)
#pragma unroll
                for (int32_t e = 0; e < 2; e++)
                    if ((uint32_t)(8 * n + e - lo) >= n_seen)
                        s[i][n][2 * half + e] = -INFINITY_F;
        }
}

/* Raises m of the rows that outgrow it. */
DEVICE void raise_maximum(row_states *state, logit_blocks s, float scale)
{
    float top[WARP_TILES][2];
    int32_t outgrown = 0;

#pragma unroll
    for (int32_t i = 0; i < WARP_TILES; i++)
#pragma unroll
        for (int32_t half = 0; half < 2; half++) {
            float x = -INFINITY_F;

#pragma unroll
            for (int32_t n = 0; n < LOGIT_BLOCKS; n++)
                x = fmaxf(x, fmaxf(s[i][n][2 * half], s[i][n][2 * half + 1]));
            top[i][half] = x * scale;
            outgrown |= top[i][half] > state->m[i][half] + SLACK;
        }
    if (!__any_sync(ALL_LANES, outgrown))
        return;
#pragma unroll
    for (int32_t i = 0; i < WARP_TILES; i++)
#pragma unroll
        for (int32_t half = 0; half < 2; half++) {
            const float m = state->m[i][half], x = quad_max(top[i][half]);
            const float next = x > m + SLACK ? x : m;
            const float alpha = exp2_approx(m - next); /* 1 where m stays */

            state->m[i][half] = next;
            state->d[i][half] *= alpha;
#pragma unroll
            for (int32_t n = 0; n < OUT_BLOCKS; n++) {
                state->o[i][n][2 * half] *= alpha;
                state->o[i][n][2 * half + 1] *= alpha;
            }
        }
}

/* Weights of 16 tokens, from logit blocks n and n + 1 of warp tile i. */
DEVICE void weigh(uint32_t a[4], row_states *state, int32_t i, float s[2][4],
                  float scale)
{
#pragma unroll
    for (int32_t j = 0; j < 4; j++) {
        const int32_t half = j % 2;
        const float m = state->m[i][half];
        const float x = exp2_approx(fmaf(s[j / 2][2 * half], scale, -m));
        const float y = exp2_approx(fmaf(s[j / 2][2 * half + 1], scale, -m));

        state->d[i][half] += x + y;
        a[j] = pack_f32(x, y, FLI_DTYPE_KV);
    }
}

/* o += P V; v is the lane's address. */
DEVICE void multiply_pv(row_states *state, logit_blocks s, float scale,
                        uint32_t v)
{
#pragma unroll
    for (int32_t t = 0; t < LOGIT_BLOCKS; t += 2) {
        uint32_t a[WARP_TILES][4], b[4];

#pragma unroll
        for (int32_t i = 0; i < WARP_TILES; i++)
            weigh(a[i], state, i, &s[i][t], scale);
#pragma unroll
        for (int32_t n = 0; n < OUT_BLOCKS; n += 2) {
            ldmatrix_x4_trans(b, v + 8 * t * PITCH_VO + 16 * n);
#pragma unroll
            for (int32_t i = 0; i < WARP_TILES; i++) {
                mma_m16n8k16(state->o[i][n], a[i], b, FLI_DTYPE_KV);
                mma_m16n8k16(state->o[i][n + 1], a[i], b + 2, FLI_DTYPE_KV);
            }
        }
    }
}

/* --- states --------------------------------------------------------------- */

DEVICE void clear_states(row_states *state)
{
#pragma unroll
    for (int32_t i = 0; i < WARP_TILES; i++) {
#pragma unroll
        for (int32_t n = 0; n < OUT_BLOCKS; n++)
#pragma unroll
            for (int32_t e = 0; e < 4; e++)
                state->o[i][n][e] = 0;
        state->m[i][0] = state->m[i][1] = LOWEST_F;
        state->d[i][0] = state->d[i][1] = 0;
    }
}

/* The sums of a row's four threads become one; empty rows become so in form. */
DEVICE void close_states(row_states *state)
{
#pragma unroll
    for (int32_t i = 0; i < WARP_TILES; i++)
#pragma unroll
        for (int32_t half = 0; half < 2; half++) {
            state->d[i][half] = quad_sum(state->d[i][half]);
            if (state->d[i][half] != 0)
                continue;
            state->m[i][half] = -INFINITY_F;
#pragma unroll
            for (int32_t n = 0; n < OUT_BLOCKS; n++) /* 0 times no number */
                state->o[i][n][2 * half] = state->o[i][n][2 * half + 1] = 0;
        }
}

DEVICE void store_states(const row_states *state, state_rows *to)
{
    const int32_t column = threadIdx.x % 4 * 2;

#pragma unroll
    for (int32_t i = 0; i < WARP_TILES; i++)
#pragma unroll
        for (int32_t half = 0; half < 2; half++) {
            const int32_t r = tile_row(i, half);

            if (column == 0)
                *(float2 *)to->md[r] =
                    make_float2(state->m[i][half], state->d[i][half]);
#pragma unroll
            for (int32_t n = 0; n < OUT_BLOCKS; n++)
                *(float2 *)&to->o[r][8 * n + column] = make_float2(
                    state->o[i][n][2 * half], state->o[i][n][2 * half + 1]);
        }
}

DEVICE state4 load_state(const state_rows *from, int32_t r, int32_t at)
{
    const float4 o = *(const float4 *)&from->o[r][at];
    const state4 s = { from->md[r][0], from->md[r][1], { o.x, o.y, o.z, o.w } };

    return s;
}

/* Merges a chunk behind the sum of those before it: a warp for each row, as md
 * may change only when all have read it. */
DEVICE void fold_chunk(prefill_scratch *scratch, int32_t n_rows,
                       int32_t is_first)
{
    const int32_t lane = threadIdx.x % 32;

#pragma unroll 1
    for (int32_t r = threadIdx.x / 32; r < n_rows; r += THREADS / 32) {
        state4 first = empty_state();

#pragma unroll 1
        for (int32_t at = 4 * lane; at < HEAD_DIM_VO; at += 128) {
            const state4 chunk = load_state(&scratch->chunk, r, at);
            state4 sum =
                is_first ? empty_state() : load_state(&scratch->sum, r, at);

            merge_state(&sum, &chunk);
            *(float4 *)&scratch->sum.o[r][at] =
                make_float4(sum.o[0], sum.o[1], sum.o[2], sum.o[3]);
            if (at == 0)
                first = sum;
        }
        __syncwarp();
        if (lane == 0)
            *(float2 *)scratch->sum.md[r] = make_float2(first.m, first.d);
    }
}

/* To out and lse, or to partial rows: whole lines by a warp. */
DEVICE void finish_rows(const fli_attention_params *p, const prefill_item *w,
                        const state_rows *from)
{
#pragma unroll 1
    for (int32_t x = threadIdx.x; x < w->n_rows * (HEAD_DIM_VO / 4);
         x += THREADS) {
        const int32_t r = x / (HEAD_DIM_VO / 4), at = x % (HEAD_DIM_VO / 4) * 4;
        const state4 s = load_state(from, r, at);

        finish_row(p, w->row_begin + r, w->kv_head,
                   w->partial < 0 ? -1 : (int64_t)w->partial + r, HEAD_DIM_VO,
                   at, &s);
    }
}

/* --- the kernel ----------------------------------------------------------- */

/* Queries, what rows see, the places of two tiles, the first of them. */
DEVICE void start_item(const fli_attention_params *p, const fli_work_item *item)
{
    prefill_shared *s = shared_memory();
    const prefill_item *w = &s->item;

    __syncthreads(); /* the item before is done with the memory */
    if (threadIdx.x == 0)
        begin_item(p, item, &s->item);
    __syncthreads();
    copy_queries(p, w);
    const token_place at[2] = { find_token(p, w, 0), find_token(p, w, 1) };

    for (int32_t r = threadIdx.x; r < ROWS; r += THREADS) {
        const int32_t position =
            row_position(p, w->request, w->row_begin + MIN(r, w->n_rows - 1));
        const token_span sees =
            span_of(p, position, position, w->span.begin, w->span.end);

        s->lo[r] = sees.begin;
        s->hi[r] = sees.end;
    }
    store_place(p, 0, at[0]);
    store_place(p, 1, at[1]);
    __syncthreads();
    copy_tile(w, 0);
}

/* Computed when it is needed, as registers are few. */
DEVICE prefill_scratch *scratch_of(const fli_attention_launch *launch)
{
    const int32_t worker = launch->first_worker + (int32_t)blockIdx.x;

    return (prefill_scratch *)(launch->p.scratch
                               + worker * launch->p.scratch_bytes);
}

/* Leaves the item's states in the shared rows, or with chunks in scratch. */
DEVICE void walk_tiles(const fli_attention_launch *launch)
{
    const fli_attention_params *p = &launch->p;
    prefill_shared *s = shared_memory();
    const prefill_item *w = &s->item;
    const logit_form form = logit_form_of(p);
    const int32_t is_scaled = form.cap == 0 && form.scale > 0;
    const float scale = is_scaled ? form.scale : 1;
    const int32_t lane = threadIdx.x % 32;
    const uint32_t q = shared_address(s->q)
                       + (threadIdx.x / 32 * WARP_ROWS + lane % 16) * PITCH_QK
                       + lane / 16 * 16;
    const uint32_t k = shared_address(s->k)
                       + (lane % 8 + lane / 16 * 8) * PITCH_QK
                       + lane / 8 % 2 * 16;
    const uint32_t v =
        shared_address(s->v) + lane % 16 * PITCH_VO + lane / 16 * 16;
    int32_t is_last = 0;
    row_states state;

    clear_states(&state);
#pragma unroll 1
    for (int32_t tile = 0; !is_last; tile++) {
        const int32_t stage = tile % 2;
        logit_blocks x;

        CP_ASYNC_WAIT(0);
        __syncthreads();
        const int32_t first = w->first + tile * KV_TILE;
        const int32_t end = first + KV_TILE;

        is_last = tile + 1 == w->n_tiles;
        if (!is_last)
            copy_tile(w, tile + 1);
        const token_place at = find_token(p, w, tile + 2);

        multiply_qk(x, q, k + stage * (KV_TILE * PITCH_QK));
        if (!is_scaled)
            form_logits(x, &form);
        if (first < w->span.full_begin || end > w->span.full_end)
            hide(x, first);
        raise_maximum(&state, x, scale);
        multiply_pv(&state, x, scale, v + stage * (KV_TILE * PITCH_VO));
        store_place(p, tile + 2, at);
        if (!is_last && (p->chunk == 0 || end % p->chunk != 0))
            continue;
        close_states(&state);
        __syncthreads(); /* the last tile has been read */
        store_states(&state,
                     p->chunk == 0 ? &s->rows : &scratch_of(launch)->chunk);
        __syncthreads();
        if (p->chunk > 0)
            fold_chunk(scratch_of(launch), w->n_rows,
                       w->first / p->chunk == (end - 1) / p->chunk);
        clear_states(&state);
    }
    __syncthreads();
}

KERNEL __launch_bounds__(THREADS)
    fli_attention_prefill(const __grid_constant__ fli_attention_launch launch)
{
    const fli_attention_params *p = &launch.p;
    const int32_t worker = launch.first_worker + (int32_t)blockIdx.x;
    prefill_shared *s = shared_memory();

    pdl_wait();
    pdl_launch();
    if (p->items[worker].tile_class < 0)
        return;
#pragma unroll 1
    for (int32_t i = worker; i >= 0; i = p->items[i].next) {
        start_item(p, &p->items[i]);
        walk_tiles(&launch);
        finish_rows(p, &s->item,
                    p->chunk == 0 ? &s->rows : &scratch_of(&launch)->sum);
        arrive(p, &p->items[i], HEAD_DIM_VO);
    }
}
