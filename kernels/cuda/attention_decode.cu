/* SPDX-License-Identifier: Apache-2.0 */
/* attention: few packed rows of one kv head on mma.sync (sm_80 on), for decode.
 *
 *   FLI_DTYPE_KV              f16 or bf16, of q too
 *   HEAD_DIM_QK, HEAD_DIM_VO  multiples of 8, at most 256
 *   ROWS                      packed rows of an item: 8 or 16
 *
 * Rows of q, k and v are 16-byte aligned.  All time is the reading of K and V, so
 * everything serves to have many loads under way.
 *
 * A block walks its worker's items.  A step is STEP tokens of an item, from a
 * multiple of STEP on; each warp has the 16 of them at 16 x warp, whatever else
 * the item holds.  It computes
 *
 *   S [16 rows][16 tokens] = Q K^T         O^T [dims][8 rows] += V^T P^T
 *
 * with packed rows as the 16 rows of one product, 8 of them zeros if ROWS is 8,
 * and as the 8 columns of the other.  K and V go from global memory straight to
 * operands.  With lane = 4 g + t:
 *
 *   K  the lane loads dims 32 c + 8 t .. + 7 of tokens g and g + 8: two words of
 *      these 16 bytes are an operand if the dims of a product are counted in that
 *      order, as those of Q are too.
 *   P  the lane's logits of tokens 2t, 2t + 1, 2t + 8, 2t + 9 of row g are, as
 *      weights, an operand of the second product as they are.
 *   V  the lane loads dims 64 e + 8 g .. + 7 of those four tokens: the halves of
 *      word r of two tokens together are operands of a product whose rows g and
 *      g + 8 are dims 64 e + 8 g + 2 r and the one after it.
 *
 * Dims past the end are zeros.  The next tile's K is asked for as soon as this
 * one's is used up, V likewise; and the next tile may be of the next item, as a
 * loader runs ahead of the products (lib/attention_walk.cuh), so that loads never
 * run dry between items.
 *
 * The maximum m that weights refer to stays until some row exceeds it by `slack`,
 * as weights up to 2^slack are as exact as those up to 1; INVARIANT: slack is 0,
 * then m is a row's true maximum and a step that raises no m of the row changes
 * nothing of it.  At the end of an item, under INVARIANT also of each chunk, the
 * warps' states are merged through shared memory.
 *
 * A token outside of what the item's rows see is not loaded, another one is in
 * its place with weight 0: whatever lies there is never multiplied. */
#include "cuda/lib/attention.cuh"
#include "cuda/lib/mma.cuh"

#ifndef FLI_DTYPE_KV
#define FLI_DTYPE_KV FLI_ABI_BF16
#define HEAD_DIM_QK  128
#define HEAD_DIM_VO  128
#define ROWS         8
#endif

#define WARPS   8
#define THREADS (WARPS * 32)
#define TILE    16 /* tokens of a warp's step */
#define STEP    (TILE * WARPS)

#include "cuda/lib/attention_walk.cuh"

#define N_TILES   (ROWS / 8)                /* of 8 packed rows */
#define QK_PIECES ((HEAD_DIM_QK + 31) / 32) /* of 16 bytes a lane */
#define VO_PIECES ((HEAD_DIM_VO + 63) / 64)

/* Registers hold both the next tile's K and this one's V, or where that is too
 * much only one of them at a time. */
#define HOLDS_BOTH (HEAD_DIM_QK + (ROWS / 8 + 1) * HEAD_DIM_VO <= 448)

#define QK_STEPS  (QK_PIECES * 2)      /* of 16 dims */
#define Q_VECTORS (16 * QK_PIECES * 4) /* of 16 bytes; 16 rows */
#define Q_LOADS   ((Q_VECTORS + THREADS - 1) / THREADS)

/* The warps' o pass through shared memory in parts of 8 rows and SLICE dims, so
 * that 48 KB hold all. */
#define SLICE    (HEAD_DIM_QK + ROWS / 8 * HEAD_DIM_VO > 384 ? 64 : 128)
#define N_SLICES ((HEAD_DIM_VO + SLICE - 1) / SLICE)
#define O_PITCH  (MIN(SLICE, HEAD_DIM_VO) + 4)

typedef struct {
    uint32_t q[QK_STEPS][32][4] __attribute__((aligned(16))); /* operands */
    float o[WARPS][8][O_PITCH] __attribute__((aligned(16)));
    float md[WARPS][ROWS][2];
    /* INVARIANT: the chunks before this one, merged */
    float fold_o[ROWS][HEAD_DIM_VO] __attribute__((aligned(16)));
    float fold_md[2][ROWS][2]; /* read, and written for the next chunk */
} decode_shared;

/* K and V of a tile: fragments of products to come. */
typedef struct {
    uint32_t k[2][QK_PIECES][4]; /* tokens g, g + 8 */
    uint32_t v[4][VO_PIECES][4]; /* tokens 2t, 2t + 1, 2t + 8, 2t + 9 */
} fragments;

/* The line of an address into the L2, where all see what others write later. */
DEVICE void prefetch_l2(const void *at)
{
    asm volatile("prefetch.global.L2 [%0];" : : "l"(at));
}

/* --- loads ----------------------------------------------------------------- */

/* 16 bytes that are read once: past the L1, 256 bytes at a time into the L2. */
DEVICE void load_once(uint32_t x[4], const void *from)
{
    asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32"
                 " {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "l"(from));
}

/* The 16 bytes at from, or zeros past the end of a row. */
DEVICE void load_piece(uint32_t x[4], const char *from, int32_t is_inside)
{
    x[0] = x[1] = x[2] = x[3] = 0;
    if (is_inside)
        load_once(x, from);
}

DEVICE void load_k(const fli_attention_params *p, const place *at,
                   int64_t offset, fragments *f)
{
#pragma unroll
    for (int32_t r = 0; r < 2; r++) {
        const int64_t row = __shfl_sync(ALL_LANES, offset, at->g + 8 * r);
        const char *const from = (const char *)p->k + 2 * row + 16 * at->t;

#pragma unroll
        for (int32_t c = 0; c < QK_PIECES; c++)
            load_piece(f->k[r][c], from + 64 * c,
                       32 * (c + 1) <= HEAD_DIM_QK
                           || 32 * c + 8 * at->t < HEAD_DIM_QK);
    }
}

DEVICE void load_v(const fli_attention_params *p, const place *at,
                   int64_t offset, fragments *f)
{
#pragma unroll
    for (int32_t r = 0; r < 4; r++) {
        const int32_t token = 2 * at->t + r % 2 + r / 2 * 8;
        const int64_t row = __shfl_sync(ALL_LANES, offset, 16 + token);
        const char *const from = (const char *)p->v + 2 * row + 16 * at->g;

#pragma unroll
        for (int32_t e = 0; e < VO_PIECES; e++)
            load_piece(f->v[r][e], from + 128 * e,
                       64 * (e + 1) <= HEAD_DIM_VO
                           || 64 * e + 8 * at->g < HEAD_DIM_VO);
    }
}

/* The thread's vectors of Q of an item; rows and dims past the end are zeros. */
DEVICE void load_queries(const fli_attention_params *p, const warp_item *item,
                         uint4 q[Q_LOADS])
{
    const place me = here();
    const int32_t row_begin = GET(*item, row_begin);
    const int32_t n_rows = GET(*item, row_end) - row_begin;
    const int32_t kv_head = GET(*item, kv_head);

#pragma unroll
    for (int32_t i = 0; i < Q_LOADS; i++) {
        const int32_t x = me.thread + i * THREADS;
        const int32_t r = x / (QK_PIECES * 4), d = x % (QK_PIECES * 4) * 8;

        q[i] = make_uint4(0, 0, 0, 0);
        if (r < n_rows && d < HEAD_DIM_QK)
            q[i] = *(const uint4 *)((const bits16 *)p->q
                                    + q_offset(p, row_begin + r, kv_head) + d);
    }
}

/* Vector d / 8 of row r: operand (r / 8, word % 2) of lane 4 (r % 8) + t. */
DEVICE void store_queries(decode_shared *s, const uint4 q[Q_LOADS])
{
    const place me = here();

#pragma unroll
    for (int32_t i = 0; i < Q_LOADS; i++) {
        const int32_t x = me.thread + i * THREADS;
        const int32_t r = x / (QK_PIECES * 4), v = x % (QK_PIECES * 4);
        const int32_t lane = r % 8 * 4 + v % 4;

        if (x < Q_VECTORS) {
            s->q[v / 4 * 2][lane][r / 8] = q[i].x;
            s->q[v / 4 * 2][lane][r / 8 + 2] = q[i].y;
            s->q[v / 4 * 2 + 1][lane][r / 8] = q[i].z;
            s->q[v / 4 * 2 + 1][lane][r / 8 + 2] = q[i].w;
        }
    }
}

/* --- products -------------------------------------------------------------- */

/* What the warps multiply. */
typedef struct {
    warp_item item;
    int32_t begin, end, full_begin, full_end;
    int32_t position[N_TILES]; /* of rows 8 u + g */
    int32_t merge;             /* lane f % 8: field f of its merge */
} product_item;

/* A warp's states of rows; d is the lane's part of the sum. */
typedef struct {
    float m[N_TILES], d[N_TILES]; /* of row 8 u + g */
    /* dims 64 e + 8 g + 2 r + i / 2 of row 8 u + 2t + i % 2 */
    float o[N_TILES][VO_PIECES][4][4];
} states;

DEVICE void clear_states(states *s)
{
#pragma unroll
    for (int32_t u = 0; u < N_TILES; u++) {
        s->m[u] = LOWEST_F;
        s->d[u] = 0;
#pragma unroll
        for (int32_t i = 0; i < VO_PIECES * 16; i++)
            s->o[u][i / 16][i / 4 % 4][i % 4] = 0;
    }
}

DEVICE void begin_products(const fli_attention_params *p, const place *at,
                           const warp_item *item, product_item *w)
{
    const int32_t row_begin = GET(*item, row_begin);
    const int32_t last = GET(*item, row_end) - 1;

    w->item = *item;
    w->begin = get(item->span, 0);
    w->end = get(item->span, 1);
    w->full_begin = get(item->span, 2);
    w->full_end = get(item->span, 3);
#pragma unroll
    for (int32_t u = 0; u < N_TILES; u++)
        w->position[u] =
            item_position(p, item, MIN(row_begin + 8 * u + at->g, last));
    if (GET(*item, n_merges) > 0)
        w->merge =
            ((const int32_t *)(p->merges + GET(*item, merge)))[at->lane % 8];
}

/* x = Q K^T: of row 8 u + g tokens 8 (i / 2) + 2t + i % 2. */
DEVICE void multiply_k(const decode_shared *s, const place *at,
                       const fragments *f, float x[N_TILES][4])
{
    float sum[2][2][4]; /* of even and odd steps, of tokens below 8 and above */

#pragma unroll
    for (int32_t i = 0; i < 16; i++)
        sum[i / 8][i / 4 % 2][i % 4] = 0;
#pragma unroll
    for (int32_t k = 0; k < QK_STEPS; k++) {
        const uint4 q = *(const uint4 *)s->q[k][at->lane];
        const uint32_t a[] = { q.x, q.y, q.z, q.w };

        mma_m16n8k16(sum[k % 2][0], a, f->k[0][k / 2] + k % 2 * 2,
                     FLI_DTYPE_KV);
        mma_m16n8k16(sum[k % 2][1], a, f->k[1][k / 2] + k % 2 * 2,
                     FLI_DTYPE_KV);
    }
#pragma unroll
    for (int32_t i = 0; i < N_TILES * 4; i++) {
        const int32_t u = i / 4, h = i % 4 / 2, j = 2 * u + i % 2;

        x[u][i % 4] = sum[0][h][j] + sum[1][h][j];
    }
}

/* To logits; -inf where the row does not see the token. */
DEVICE void mask_logits(const fli_attention_params *p, const place *at,
                        const logit_form *form, const product_item *w,
                        int32_t tile, float x[N_TILES][4])
{
#pragma unroll
    for (int32_t i = 0; i < N_TILES * 4; i++)
        x[i / 4][i % 4] *= form->scale;
    if (form->cap > 0)
#pragma unroll
        for (int32_t i = 0; i < N_TILES * 4; i++)
            x[i / 4][i % 4] = form->cap * tanh_f32(x[i / 4][i % 4]);
    if (tile >= w->full_begin && tile + TILE <= w->full_end)
        return;
#pragma unroll
    for (int32_t i = 0; i < N_TILES * 4; i++) {
        const int32_t token = tile + i % 4 / 2 * 8 + 2 * at->t + i % 2;

        if (token < w->begin || token >= w->end
            || !row_sees(p, w->position[i / 4], token))
            x[i / 4][i % 4] = -INFINITY_F;
    }
}

/* Raises the maxima to what the tile holds, if some row exceeds its by slack. */
DEVICE void raise_maxima(const place *at, states *s, const float x[N_TILES][4],
                         float slack)
{
    float top[N_TILES];
    int32_t exceeds = 0;

#pragma unroll
    for (int32_t u = 0; u < N_TILES; u++) {
        top[u] = fmaxf(fmaxf(x[u][0], x[u][1]), fmaxf(x[u][2], x[u][3]));
        exceeds |= top[u] > s->m[u] + slack;
    }
    if (!__any_sync(ALL_LANES, exceeds))
        return;
#pragma unroll
    for (int32_t u = 0; u < N_TILES; u++) {
        float m = fmaxf(top[u], s->m[u]);

        m = fmaxf(m, __shfl_xor_sync(ALL_LANES, m, 1));
        m = fmaxf(m, __shfl_xor_sync(ALL_LANES, m, 2));
        const float scale = exp2_approx(s->m[u] - m);

        s->m[u] = m;
        s->d[u] *= scale;
#pragma unroll
        for (int32_t j = 0; j < 2; j++) { /* columns of O^T */
            const float column =
                __shfl_sync(ALL_LANES, scale, 8 * at->t + 4 * j);

#pragma unroll
            for (int32_t k = 0; k < VO_PIECES * 8; k++)
                s->o[u][k / 8][k / 2 % 4][k % 2 * 2 + j] *= column;
        }
    }
}

/* Logits to weights, summed in f32 before they are rounded: operands of V. */
DEVICE void weigh(states *s, const float x[N_TILES][4],
                  uint32_t weights[N_TILES][2])
{
#pragma unroll
    for (int32_t u = 0; u < N_TILES; u++)
#pragma unroll
        for (int32_t h = 0; h < 2; h++) {
            const float p0 = exp2_approx(x[u][2 * h] - s->m[u]);
            const float p1 = exp2_approx(x[u][2 * h + 1] - s->m[u]);

            s->d[u] += p0 + p1;
            weights[u][h] = pack_f32(p0, p1, FLI_DTYPE_KV);
        }
}

DEVICE void multiply_v(states *s, const fragments *f,
                       const uint32_t weights[N_TILES][2])
{
#pragma unroll
    for (int32_t e = 0; e < VO_PIECES; e++)
#pragma unroll
        for (int32_t r = 0; r < 4; r++) {
            const uint32_t v0 = f->v[0][e][r], v1 = f->v[1][e][r];
            const uint32_t v2 = f->v[2][e][r], v3 = f->v[3][e][r];
            const uint32_t a[] = { __byte_perm(v0, v1, 0x5410),
                                   __byte_perm(v0, v1, 0x7632),
                                   __byte_perm(v2, v3, 0x5410),
                                   __byte_perm(v2, v3, 0x7632) };

#pragma unroll
            for (int32_t u = 0; u < N_TILES; u++)
                mma_m16n8k16(s->o[u][e][r], a, weights[u], FLI_DTYPE_KV);
        }
}

/* --- the end of an item ---------------------------------------------------- */

/* The lanes' parts of d become one; md goes to shared memory. */
DEVICE void store_md(decode_shared *s, const place *at, const states *w)
{
#pragma unroll
    for (int32_t u = 0; u < N_TILES; u++) {
        float d = w->d[u];

        d += __shfl_xor_sync(ALL_LANES, d, 1);
        d += __shfl_xor_sync(ALL_LANES, d, 2);
        if (at->t == 0)
            *(float2 *)s->md[at->warp][8 * u + at->g] = make_float2(w->m[u], d);
    }
}

/* o of rows 8 u .. and of the slice, as far as the item has them. */
DEVICE void store_slice(decode_shared *s, const place *at, const states *w,
                        int32_t u, int32_t slice, int32_t n_rows)
{
#pragma unroll
    for (int32_t e = 0; e < SLICE / 64; e++) {
        const int32_t piece = slice * (SLICE / 64) + e;
        const int32_t dim = 64 * piece + 8 * at->g;

#pragma unroll
        for (int32_t j = 0; j < 2; j++) {
            if (piece >= VO_PIECES || dim >= HEAD_DIM_VO
                || 8 * u + 2 * at->t + j >= n_rows)
                continue;
            const float(*const o)[4] = w->o[u][MIN(piece, VO_PIECES - 1)];
            float4 *const to =
                (float4 *)&s->o[at->warp][2 * at->t + j][64 * e + 8 * at->g];

            to[0] = make_float4(o[0][j], o[0][j + 2], o[1][j], o[1][j + 2]);
            to[1] = make_float4(o[2][j], o[2][j + 2], o[3][j], o[3][j + 2]);
        }
    }
}

/* Four elements of a row from all warps' states, in their order. */
DEVICE state4 merge_warps(const decode_shared *s, int32_t row, int32_t at)
{
    state4 all = { LOWEST_F, 0, { 0, 0, 0, 0 } };

#pragma unroll
    for (int32_t w = 0; w < WARPS; w++)
        all.m = fmaxf(all.m, s->md[w][row][0]);
#pragma unroll
    for (int32_t w = 0; w < WARPS; w++) {
        const float scale = exp2_approx(s->md[w][row][0] - all.m);
        const float4 o = *(const float4 *)&s->o[w][row % 8][at];

        all.d = __fmaf_rn(scale, s->md[w][row][1], all.d);
        all.o[0] = __fmaf_rn(scale, o.x, all.o[0]);
        all.o[1] = __fmaf_rn(scale, o.y, all.o[1]);
        all.o[2] = __fmaf_rn(scale, o.z, all.o[2]);
        all.o[3] = __fmaf_rn(scale, o.w, all.o[3]);
    }
    if (all.d == 0)
        all.m = -INFINITY_F;
    return all;
}

/* The part of an item that ends: chunks are folded from the first to the last. */
typedef struct {
    int32_t index, is_last;
} chunk_place;

/* Merges a chunk's state of four elements of a row behind the ones before it. */
DEVICE void fold_in(const decode_shared *s, int32_t index, int32_t row,
                    int32_t dim, state4 *chunk)
{
    const float *const md = s->fold_md[index % 2][row];
    const float4 o = *(const float4 *)&s->fold_o[row][dim];
    state4 fold = { md[0], md[1], { o.x, o.y, o.z, o.w } };

    merge_state(&fold, chunk);
    *chunk = fold;
}

/* For the next chunk. */
DEVICE void store_fold(decode_shared *s, int32_t index, int32_t row,
                       int32_t dim, const state4 *fold)
{
    *(float4 *)&s->fold_o[row][dim] =
        make_float4(fold->o[0], fold->o[1], fold->o[2], fold->o[3]);
    s->fold_md[(index + 1) % 2][row][0] = fold->m;
    s->fold_md[(index + 1) % 2][row][1] = fold->d;
}

/* Merges rows 8 u .. and a slice of the warps' states and passes them on. */
DEVICE void finish_slice(const fli_attention_params *p, decode_shared *s,
                         const warp_item *item, chunk_place chunk, int32_t u,
                         int32_t slice)
{
    const place me = here();
    const int32_t quads = MIN(SLICE, HEAD_DIM_VO - slice * SLICE) / 4;
    const int32_t row_begin = GET(*item, row_begin);
    const int32_t n_rows = MIN(GET(*item, row_end) - row_begin - 8 * u, 8);
    const int32_t kv_head = GET(*item, kv_head);
    const int32_t partial = GET(*item, partial);

#pragma unroll 1
    for (int32_t x = me.thread; x < n_rows * quads; x += THREADS) {
        const int32_t row = 8 * u + x / quads, at = x % quads * 4;
        const int32_t dim = slice * SLICE + at;
        state4 state = merge_warps(s, row, at);

        if (chunk.index > 0)
            fold_in(s, chunk.index, row, dim, &state);
        if (!chunk.is_last)
            store_fold(s, chunk.index, row, dim, &state);
        else
            finish_row(p, row_begin + row, kv_head,
                       partial < 0 ? -1 : partial + row, HEAD_DIM_VO, dim,
                       &state);
    }
}

/* The warps' states of a chunk become one.  q: the next item's queries, which take
 * the place of this one's. */
DEVICE void end_chunk(const fli_attention_params *p, decode_shared *s,
                      const warp_item *item, states *w, chunk_place chunk,
                      const uint4 q[Q_LOADS])
{
    const int32_t n_rows = GET(*item, row_end) - GET(*item, row_begin);

    const place at = here();

    store_md(s, &at, w);
#pragma unroll
    for (int32_t i = 0; i < N_TILES * N_SLICES; i++) {
        const int32_t u = i / N_SLICES, slice = i % N_SLICES;

        if (i > 0)
            __syncthreads();
        store_slice(s, &at, w, u, slice, n_rows);
        __syncthreads();
        if (i == 0 && chunk.is_last)
            store_queries(s, q);
        finish_slice(p, s, item, chunk, u, slice);
    }
}

/* The item's partial rows are written: an item is of one request, so it has one
 * merge at most.  fields: lane f % 8 holds field f of it. */
DEVICE void end_item(const fli_attention_params *p, const warp_item *item,
                     int32_t fields)
{
    if (GET(*item, n_merges) == 0) {
        __syncthreads(); /* shared memory is free again */
        return;
    }
    const fli_merge_item merge = {
        get(fields, 0), get(fields, 1), get(fields, 2), get(fields, 3),
        get(fields, 4), get(fields, 5), get(fields, 6), get(fields, 7),
    };

    arrive_at(p, &merge, lane_source(p, &merge, 0), HEAD_DIM_VO);
}

/* --- kernel ---------------------------------------------------------------- */

/* Asks for K of the loader's tile, if the warp has one there. */
DEVICE int32_t ask_k(const fli_attention_params *p, const place *at, loader *a,
                     fragments *f)
{
    const int32_t loads = is_active(a->at + TILE * at->warp, a->begin, a->end);

    if (loads) {
        const kv_side side = lane_side(p);

        a->offset = page_offset(p, &side, a->here.id, a->here.slot) + a->head;
        load_k(p, at, a->offset, f);
    } else if (!HOLDS_BOTH) { /* frees the registers */
#pragma unroll
        for (int32_t i = 0; i < QK_PIECES * 8; i++)
            f->k[i % 2][i / 8][i / 2 % 4] = 0;
    }
    return loads;
}

/* The tiles of a step: products of this one, loads of the next. */
DEVICE void do_step(const fli_attention_params *p, const decode_shared *s,
                    const place *at, const product_item *w, int32_t step,
                    loader *a, fragments *f, states *state)
{
    const logit_form form = logit_form_of(p);
    const int32_t tile = step + TILE * at->warp;
    const int32_t multiplies = is_active(tile, w->begin, w->end);
    fragments now;
    fragments *const v = HOLDS_BOTH ? f : &now;
    int32_t loads = 0;
    float x[N_TILES][4];
    uint32_t weights[N_TILES][2];

    if (multiplies) {
        multiply_k(s, at, f, x);
        if (!HOLDS_BOTH)
            load_v(p, at, a->offset, v);
    }
    if (HOLDS_BOTH) {
        next_step(p, at, a);
        loads = ask_k(p, at, a, f);
        look_ahead(p, at, a);
    }
    if (multiplies) {
        mask_logits(p, at, &form, w, tile, x);
        raise_maxima(at, state, x, p->chunk > 0 ? 0.0f : 8.0f);
        weigh(state, x, weights);
        multiply_v(state, v, weights);
    }
    if (!HOLDS_BOTH) {
        next_step(p, at, a);
        ask_k(p, at, a, f);
        look_ahead(p, at, a);
    } else if (loads) {
        load_v(p, at, a->offset, v);
    }
}

/* Multiplies what the loader stands at, which then stands at the next item. */
DEVICE void do_item(const fli_attention_params *p, decode_shared *s,
                    const place *at, loader *a, fragments *f)
{
    product_item w;
    chunk_place chunk = { 0, 0 };

    begin_products(p, at, &a->item, &w);
    int32_t step = first_step(w.begin);

    for (; !chunk.is_last; chunk.index++) {
        const int32_t until = chunk_end(p, step, w.end);
        states state;
        uint4 q[Q_LOADS];

        clear_states(&state);
#pragma unroll 1
        do {
            do_step(p, s, at, &w, step, a, f, &state);
            step += STEP;
        } while (step < until);
        chunk.is_last = step >= w.end;
        if (chunk.is_last)
            load_queries(p, &a->item, q);
        end_chunk(p, s, &w.item, &state, chunk, q);
        if (!chunk.is_last)
            __syncthreads();
    }
    end_item(p, &w.item, w.merge);
}

KERNEL __launch_bounds__(THREADS, 1)
    fli_attention_decode(const __grid_constant__ fli_attention_launch launch)
{
    __shared__ decode_shared s;
    const fli_attention_params *const p = &launch.p;
    const int32_t worker = launch.first_worker + (int32_t)blockIdx.x;
    const place at = here();
    loader a;
    fragments f;
    uint4 q[Q_LOADS];

    pdl_launch();
    prefetch_l2(p->items + worker);
    pdl_wait();
    start_loader(p, &at, worker, &a);
    if (!is_item(a.item.work))
        return;
    load_queries(p, &a.item, q);
    if (ask_k(p, &at, &a, &f) && HOLDS_BOTH)
        load_v(p, &at, a.offset, &f);
    look_ahead(p, &at, &a);
    store_queries(&s, q);
    __syncthreads();
    do
        do_item(p, &s, &at, &a, &f);
    while (is_item(a.item.work));
}
