/* SPDX-License-Identifier: Apache-2.0 */
/* attention: few packed rows of one kv head on mma.sync (sm_80 on), for decode.
 *
 *   FLI_DTYPE_KV              f16 or bf16, of q too
 *   HEAD_DIM_QK, HEAD_DIM_VO  multiples of 8, at most 256
 *   ROWS                      packed rows of an item: 8 or 16
 *   SLOTS                     of a warp's ring, 2 at least
 *
 * Rows of q, k and v are 16-byte aligned.  All time is the reading of K and V, so
 * what counts is how many bytes are under way: some tens of KB an SM to keep its
 * share of the memory busy, and more to ride over the ends of items.  All shared
 * memory is given to copies under way.
 *
 * A block walks its worker's items.  A step is STEP tokens of an item, from a
 * multiple of STEP on; a tile is the 16 of them at 16 x warp, which that warp
 * alone copies and multiplies.  Its ring in shared memory has SLOTS slots for half
 * tiles, K of a tile, V of it, K of the next and so on; a slot that has been used
 * up is filled with what comes SLOTS halves later, maybe of another item
 * (lib/attention_walk.cuh).  No warp waits for another but at the end of an item,
 * when the copies of the next ones are under way.
 *
 * A warp computes
 *
 *   S^T [16 tokens][8 rows] = K Q^T        O^T [dims][8 rows] += V^T P^T
 *
 * once for every 8 packed rows, so that K and V are the large operands and eight
 * rows cost no more than one.  Q^T stays in registers.  Of S^T and O^T alike a
 * thread has columns 2t and 2t + 1 (lane = 4 g + t): a row's factors are the
 * thread's own, and P^T becomes an operand by a transposition of 8 x 8 blocks.
 *
 * The maximum m that weights refer to stays until some row exceeds it by SLACK, as
 * weights up to 2^SLACK are as exact as those up to 1.  At the end of an item each
 * warp leaves its state in the slots of its last tile, and all merge them.
 *
 * A token outside of what the item's rows see is not copied, another one is in its
 * place with weight 0: whatever lies there is never multiplied.
 *
 * INVARIANT is not for this kernel: its plans have one class for all. */

/* As many as a request of 4096 tokens comes to if it is alone. */
#define MERGE_BATCH 16

#include "cuda/lib/attention.cuh"
#include "cuda/lib/mma.cuh"

#ifndef FLI_DTYPE_KV
#define FLI_DTYPE_KV FLI_ABI_BF16
#define HEAD_DIM_QK  128
#define HEAD_DIM_VO  128
#define ROWS         8
#define SLOTS        6
#endif

#define WARPS   FLI_DECODE_WARPS
#define THREADS (WARPS * 32)
#define TILE    16 /* tokens of a warp's step */
#define STEP    (TILE * WARPS)

#include "cuda/lib/attention_walk.cuh"

#define SLACK 8.0f

#define N_TILES   (ROWS / 8)                /* of 8 packed rows */
#define QK_BLOCKS ((HEAD_DIM_QK + 15) / 16) /* of 16 dims */
#define VO_BLOCKS ((HEAD_DIM_VO + 15) / 16)

/* A row of a slot is a token, padded by 16 bytes: eight rows then start in
 * different banks for ldmatrix, whatever the head dim. */
#define PITCH      FLI_DECODE_PITCH(HEAD_DIM_QK, HEAD_DIM_VO)
#define SLOT_BYTES (TILE * PITCH)
#define ROW_LANES  8 /* lanes that copy a row */

/* A warp's state in a slot, of 8 rows; the padding keeps lanes in different
 * banks. */
#define O_PITCH (HEAD_DIM_VO + 4)

typedef struct {
    char ring[WARPS][SLOTS][SLOT_BYTES];
    int32_t items[WARPS][FLI_DECODE_ITEMS(SLOTS)][32];
    float md[WARPS][16][2];
} decode_shared;

static_assert(sizeof(decode_shared)
                  == FLI_ATTENTION_DECODE_SHARED(SLOTS, HEAD_DIM_QK,
                                                 HEAD_DIM_VO),
              "the host asks for what the kernel uses");
static_assert(8 * O_PITCH * 4 <= SLOT_BYTES, "a slot holds a state");

DEVICE decode_shared *shared_memory(void)
{
    extern __shared__ __align__(16) char bytes[];

    return (decode_shared *)bytes;
}

/* --- queries --------------------------------------------------------------- */

/* Q^T: b[i] of block d is dims 16 d + 8 i + 2t and the next, of row 8 u + g. */
typedef uint32_t queries[QK_BLOCKS][N_TILES][2];

/* Of an item, of which the fields of the work item are enough.  Rows and dims past
 * the end are zeros. */
DEVICE void load_queries(const fli_attention_params *p, divisor group,
                         int32_t item, queries q)
{
    const int32_t g = lane_index() / 4, t = lane_index() % 4;
    const int32_t row_begin = GET(item, row_begin);
    const int32_t last = GET(item, row_end) - 1; /* none: -2 */
    const int32_t kv_head = GET(item, kv_head);

#pragma unroll
    for (int32_t u = 0; u < N_TILES; u++) {
        const int32_t packed_row = row_begin + 8 * u + g;
        int32_t head;
        const int64_t row = divide((uint32_t)packed_row, group, &head);
        const bits16 *const from =
            (const bits16 *)p->q + row * p->q_stride[0]
            + (kv_head * p->shape.group + head) * p->q_stride[1] + 2 * t;

#pragma unroll
        for (int32_t d = 0; d < 2 * QK_BLOCKS; d++) {
            q[d / 2][u][d % 2] = 0;
            if (8 * d < HEAD_DIM_QK && packed_row <= last)
                q[d / 2][u][d % 2] = *(const uint32_t *)(from + 8 * d);
        }
    }
}

/* --- the ring -------------------------------------------------------------- */

/* A warp's place in its ring, the same in all warps: the slot of K of the tile that
 * is multiplied, which is filled next; how many from there on are vacant; and where
 * the items that the loader has come to are kept, of which a lane keeps its own
 * word. */
typedef struct {
    int32_t slot, n_vacant;
    int32_t put, take;
} ring_place;

/* As ldmatrix and copies take it. */
DEVICE uint32_t slot_address(int32_t slot)
{
    return shared_address(shared_memory()->ring)
           + (uint32_t)(warp_index() * SLOTS + slot) * SLOT_BYTES;
}

DEVICE int32_t next_slot(int32_t slot)
{
    return slot + 1 == SLOTS ? 0 : slot + 1;
}

DEVICE int32_t next_entry(int32_t i)
{
    return i + 1 == FLI_DECODE_ITEMS(SLOTS) ? 0 : i + 1;
}

/* What the L2 fetches at once.  No more than divides a row: the rows of other heads
 * lie beside it, and when their turn comes they would be gone from the L2, fetched
 * for nothing. */
#if HEAD_DIM_QK % 128 == 0 && HEAD_DIM_VO % 128 == 0
#define L2_FETCH ".L2::256B"
#elif HEAD_DIM_QK % 64 == 0 && HEAD_DIM_VO % 64 == 0
#define L2_FETCH ".L2::128B"
#elif HEAD_DIM_QK % 32 == 0 && HEAD_DIM_VO % 32 == 0
#define L2_FETCH ".L2::64B"
#else
#define L2_FETCH ""
#endif

/* 16 bytes that are read once: past the L1, but with no hint to the L2, where
 * requests that share pages find them. */
DEVICE void copy_once(uint32_t to, const char *from)
{
    asm volatile("cp.async.cg.shared.global" L2_FETCH " [%0], [%1], 16;"
                 :
                 : "r"(to), "l"(from)
                 : "memory");
}

/* Copies K or V of the loader's tile. */
DEVICE void copy_half(const loader *a, uint32_t slot)
{
    const int32_t dim = a->is_v ? HEAD_DIM_VO : HEAD_DIM_QK;
    const int32_t piece = lane_index() % ROW_LANES;

#pragma unroll
    for (int32_t i = 0; i < TILE; i += 32 / ROW_LANES) {
        const int32_t r = i + lane_index() / ROW_LANES;
        const uint32_t to = slot + r * PITCH + 16 * piece;
        const char *const from = lane_row(a, r) + 16 * piece;

#pragma unroll
        for (int32_t d = 0; d < PITCH / 16 - 1; d += ROW_LANES) {
            if (8 * (d + piece) < dim)
                copy_once(to + 16 * d, from + 16 * d);
            else if (8 * (d + piece) == dim && dim % 16 != 0)
                cp_async_16_zfill(to + 16 * d, from - 16 * piece, 0);
        }
    }
}

/* Fills the vacant slots with the half tiles that come next, each a group of
 * copies, if only of none.  All slots full, the place is at the oldest again. */
DEVICE void fill_ring(const fli_attention_params *p, ring_place *at, loader *a)
{
#pragma unroll 1
    do {
        const int32_t is_half = next_half(p, a);

        if (is_half && is_active(a->at + TILE * warp_index(), a->begin, a->end))
            copy_half(a, slot_address(at->slot));
        cp_async_commit();
        if (is_half && look_ahead(p, a)) {
            shared_memory()->items[warp_index()][at->put][lane_index()] =
                a->next;
            at->put = next_entry(at->put);
        }
        at->slot = next_slot(at->slot);
    } while (--at->n_vacant > 0);
}

/* Waits until all halves have landed but n that come last, a constant. */
#define WAIT_FOR_HALVES(n)                                                     \
    do {                                                                       \
        CP_ASYNC_WAIT(n);                                                      \
        __syncwarp();                                                          \
    } while (0)

/* --- products -------------------------------------------------------------- */

/* A warp's states of rows 8 u + 2t + j; d is the lane's part of the sum. */
typedef struct {
    float m[N_TILES][2], d[N_TILES][2];
    /* dim 16 e + g + 8 (i / 2), j = i % 2 */
    float o[N_TILES][VO_BLOCKS][4];
} states;

/* Dot products, logits, weights: of token g + 8 (i / 2), j = i % 2. */
typedef float logits[N_TILES][4];

DEVICE void clear_states(states *s)
{
#pragma unroll
    for (int32_t u = 0; u < N_TILES; u++) {
        s->m[u][0] = s->m[u][1] = LOWEST_F;
        s->d[u][0] = s->d[u][1] = 0;
#pragma unroll
        for (int32_t i = 0; i < VO_BLOCKS * 4; i++)
            s->o[u][i / 4][i % 4] = 0;
    }
}

/* The item behind the one that is multiplied.  The loader has come to it: it asks
 * for its pages before the last tile is copied. */
DEVICE int32_t take_item(ring_place *at)
{
    const int32_t item =
        shared_memory()->items[warp_index()][at->take][lane_index()];

    at->take = next_entry(at->take);
    return item;
}

/* The lane's address for ldmatrix: matrices are tokens 0 to 7 and 8 to 15 of dims
 * 0 to 7, then of dims 8 to 15. */
DEVICE uint32_t operand_address(int32_t slot)
{
    const int32_t lane = lane_index();

    return slot_address(slot) + lane % 16 * PITCH + lane / 16 * 16;
}

DEVICE void multiply_k(int32_t slot, const queries q, logits x)
{
    const uint32_t k = operand_address(slot);
    float sum[2][4]; /* even and odd blocks if N_TILES is 1, else its own */

#pragma unroll
    for (int32_t i = 0; i < 8; i++)
        sum[i / 4][i % 4] = 0;
#pragma unroll
    for (int32_t d = 0; d < QK_BLOCKS; d++) {
        uint32_t a[4];

        ldmatrix_x4(a, k + 32 * d);
#pragma unroll
        for (int32_t u = 0; u < N_TILES; u++)
            mma_m16n8k16(sum[N_TILES == 1 ? d % 2 : u], a, q[d][u],
                         FLI_DTYPE_KV);
    }
#pragma unroll
    for (int32_t i = 0; i < N_TILES * 4; i++)
        x[i / 4][i % 4] =
            N_TILES == 1 ? sum[0][i] + sum[1][i] : sum[i / 4][i % 4];
}

DEVICE void form_logits(const fli_attention_params *p, logits x)
{
    const logit_form form = logit_form_of(p);

#pragma unroll
    for (int32_t i = 0; i < N_TILES * 4; i++)
        x[i / 4][i % 4] *= form.scale;
    if (form.cap > 0)
#pragma unroll
        for (int32_t i = 0; i < N_TILES * 4; i++)
            x[i / 4][i % 4] = form.cap * tanh_f32(x[i / 4][i % 4]);
}

/* -inf where the row does not see the token of the tile. */
DEVICE void hide(const fli_attention_params *p, divisor group, int32_t item,
                 int32_t tile, logits x)
{
    const token_span span = item_span(item);
    const int32_t row_begin = GET(item, row_begin);
    const int32_t last = GET(item, row_end) - 1;
    const int32_t shift = get(item, ITEM_SHIFT);
    const int32_t g = lane_index() / 4, t = lane_index() % 4;

#pragma unroll
    for (int32_t i = 0; i < N_TILES * 2; i++) {
        const int32_t u = i / 2, j = i % 2;
        const int32_t packed_row = MIN(row_begin + 8 * u + 2 * t + j, last);
        int32_t head;
        const int32_t position =
            shift + (int32_t)divide((uint32_t)packed_row, group, &head);

#pragma unroll
        for (int32_t h = 0; h < 2; h++) {
            const int32_t token = tile + g + 8 * h;

            if (token < span.begin || token >= span.end
                || !row_sees(p, position, token))
                x[u][2 * h + j] = -INFINITY_F;
        }
    }
}

/* Over the lanes of a row: those with the same t. */
DEVICE float row_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 4));
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 8));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 16));
}

DEVICE float row_sum(float x)
{
    x += __shfl_xor_sync(ALL_LANES, x, 4);
    x += __shfl_xor_sync(ALL_LANES, x, 8);
    return x + __shfl_xor_sync(ALL_LANES, x, 16);
}

/* Raises the maxima to what the tile holds, if some row exceeds its by SLACK. */
DEVICE void raise_maxima(states *s, const logits x)
{
    int32_t exceeds = 0;

#pragma unroll
    for (int32_t i = 0; i < N_TILES * 2; i++)
        exceeds |= fmaxf(x[i / 2][i % 2], x[i / 2][i % 2 + 2])
                   > s->m[i / 2][i % 2] + SLACK;
    if (!__any_sync(ALL_LANES, exceeds))
        return;
#pragma unroll
    for (int32_t i = 0; i < N_TILES * 2; i++) {
        const int32_t u = i / 2, j = i % 2;
        const float m = row_max(fmaxf(fmaxf(x[u][j], x[u][j + 2]), s->m[u][j]));
        const float scale = exp2_approx(s->m[u][j] - m);

        s->m[u][j] = m;
        s->d[u][j] *= scale;
#pragma unroll
        for (int32_t e = 0; e < VO_BLOCKS; e++) {
            s->o[u][e][j] *= scale;
            s->o[u][e][j + 2] *= scale;
        }
    }
}

/* Transposes an 8 x 8 block of 16-bit elements, of which a lane holds elements 2t
 * and 2t + 1 of row g. */
DEVICE uint32_t transpose_8x8(uint32_t x)
{
    uint32_t y;

    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;"
                 : "=r"(y)
                 : "r"(x));
    return y;
}

/* Logits to weights, summed in f32 before they are rounded: operands of V. */
DEVICE void weigh(states *s, const logits x, uint32_t weights[N_TILES][2])
{
#pragma unroll
    for (int32_t i = 0; i < N_TILES * 2; i++) {
        const int32_t u = i / 2, h = i % 2;
        const float p0 = exp2_approx(x[u][2 * h] - s->m[u][0]);
        const float p1 = exp2_approx(x[u][2 * h + 1] - s->m[u][1]);

        s->d[u][0] += p0;
        s->d[u][1] += p1;
        weights[u][h] = transpose_8x8(pack_f32(p0, p1, FLI_DTYPE_KV));
    }
}

DEVICE void multiply_v(int32_t slot, states *s,
                       const uint32_t weights[N_TILES][2])
{
    const uint32_t v = operand_address(slot);

#pragma unroll
    for (int32_t e = 0; e < VO_BLOCKS; e++) {
        uint32_t x[4];

        ldmatrix_x4_trans(x, v + 32 * e);
        const uint32_t a[] = { x[0], x[2], x[1], x[3] };

#pragma unroll
        for (int32_t u = 0; u < N_TILES; u++)
            mma_m16n8k16(s->o[u][e], a, weights[u], FLI_DTYPE_KV);
    }
}

/* The next tile, of this item. */
DEVICE void multiply_tile(const fli_attention_params *p, divisor group,
                          int32_t item, int32_t step, const queries q,
                          ring_place *at, states *state)
{
    const int32_t tile = step + TILE * warp_index();
    const token_span span = item_span(item);
    const int32_t multiplies = is_active(tile, span.begin, span.end);
    uint32_t weights[N_TILES][2];
    logits x;

    WAIT_FOR_HALVES(SLOTS - 1);
    if (multiplies) {
        multiply_k(at->slot, q, x);
        form_logits(p, x);
        if (tile < span.full_begin || tile + TILE > span.full_end)
            hide(p, group, item, tile, x);
        raise_maxima(state, x);
        weigh(state, x, weights);
    }
    WAIT_FOR_HALVES(SLOTS - 2);
    if (multiplies)
        multiply_v(next_slot(at->slot), state, weights);
    __syncwarp();
    at->n_vacant = 2;
}

/* --- the end of an item ---------------------------------------------------- */

/* Rows 8 u .. of a warp's state: in the slots of the last tile, as they are
 * vacant. */
DEVICE float *state_rows(const ring_place *at, int32_t warp, int32_t u)
{
    return (float *)shared_memory()
        ->ring[warp][u == 0 ? at->slot : next_slot(at->slot)];
}

/* Leaves the warp's states where all find them, as far as the item has rows. */
DEVICE void store_states(const ring_place *at, const states *s, int32_t n_rows)
{
    const int32_t g = lane_index() / 4, t = lane_index() % 4;

#pragma unroll
    for (int32_t i = 0; i < N_TILES * 2; i++) {
        const int32_t u = i / 2, j = i % 2, row = 8 * u + 2 * t + j;
        const float d = row_sum(s->d[u][j]);
        float *const o =
            state_rows(at, warp_index(), u) + row % 8 * O_PITCH + g;

        if (g == 0)
            *(float2 *)shared_memory()->md[warp_index()][row] =
                make_float2(s->m[u][j], d);
        if (row >= n_rows)
            continue;
#pragma unroll
        for (int32_t e = 0; e < HEAD_DIM_VO / 8; e++)
            o[8 * e] = s->o[u][e / 2][e % 2 * 2 + j];
    }
}

/* Four elements of a row from all warps' states, in their order. */
DEVICE state4 merge_warps(const ring_place *at, int32_t row, int32_t dim)
{
    const decode_shared *const s = shared_memory();
    state4 all = { LOWEST_F, 0, { 0, 0, 0, 0 } };

#pragma unroll
    for (int32_t w = 0; w < WARPS; w++)
        all.m = fmaxf(all.m, s->md[w][row][0]);
#pragma unroll
    for (int32_t w = 0; w < WARPS; w++) {
        const float scale = exp2_approx(s->md[w][row][0] - all.m);
        const float4 o = *(const float4 *)(state_rows(at, w, row / 8)
                                           + row % 8 * O_PITCH + dim);

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

/* Merges the warps' states and passes them on. */
DEVICE void finish_rows(const fli_attention_params *p, const ring_place *at,
                        int32_t item, int32_t n_rows)
{
    const int32_t row_begin = GET(item, row_begin);
    const int32_t kv_head = GET(item, kv_head);
    const int32_t partial = GET(item, partial);

#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; i < n_rows * (HEAD_DIM_VO / 4);
         i += THREADS) {
        const int32_t row = i / (HEAD_DIM_VO / 4);
        const int32_t dim = i % (HEAD_DIM_VO / 4) * 4;
        const state4 state = merge_warps(at, row, dim);

        finish_row(p, row_begin + row, kv_head,
                   partial < 0 ? -1 : partial + row, HEAD_DIM_VO, dim, &state);
    }
}

/* The warps' states become one; then the slots are free.  An item is of one
 * request, so it has one merge at most. */
DEVICE void end_item(const fli_attention_params *p, const ring_place *at,
                     int32_t item, const states *s)
{
    const int32_t n_rows = GET(item, row_end) - GET(item, row_begin);

    store_states(at, s, n_rows);
    __syncthreads();
    finish_rows(p, at, item, n_rows);
    __syncthreads();
    if (GET(item, n_merges) == 0)
        return;
    const fli_merge_item merge = {
        get(item, ITEM_MERGE),     get(item, ITEM_MERGE + 1),
        get(item, ITEM_MERGE + 2), get(item, ITEM_MERGE + 3),
        get(item, ITEM_MERGE + 4), get(item, ITEM_MERGE + 5),
        get(item, ITEM_MERGE + 6), get(item, ITEM_MERGE + 7),
    };

    arrive_at(p, &merge, lane_source(p, &merge, 0), HEAD_DIM_VO);
}

/* --- kernel ---------------------------------------------------------------- */

/* Multiplies an item and returns the next one.  q: its queries, which become those
 * of the next. */
DEVICE int32_t do_item(const fli_attention_params *p, int32_t item, queries q,
                       ring_place *at, loader *a)
{
    const int32_t end = get(item, ITEM_SPAN + 1);
    int32_t step = first_step(get(item, ITEM_SPAN));
    states state;

    clear_states(&state);
#pragma unroll 1
    do {
        fill_ring(p, at, a);
        multiply_tile(p, a->group, item, step, q, at, &state);
        step += STEP;
    } while (step < end);
    const int32_t next = take_item(at);

    load_queries(p, a->group, next, q);
    end_item(p, at, item, &state);
    return next;
}

/* What may be done before an earlier launch has ended: fetches all lines of the
 * params into the constant cache at once, and the line of the first item into the
 * L2, where all see what others write later. */
DEVICE void warm_up(const fli_attention_launch *launch, int32_t worker)
{
    const int32_t n_lines = (sizeof(*launch) + 63) / 64;
    const int32_t line = ((const int32_t *)launch)[lane_index() % n_lines * 16];

    /* The comparison is there to wait for the params. */
    if (line != (int32_t)0x80000000)
        asm volatile("prefetch.global.L2 [%0];"
                     :
                     : "l"(launch->p.items + worker));
}

KERNEL __launch_bounds__(THREADS, 1)
    fli_attention_decode(const __grid_constant__ fli_attention_launch launch)
{
    const fli_attention_params *const p = &launch.p;
    const int32_t worker = launch.first_worker + (int32_t)blockIdx.x;
    ring_place at = { 0, SLOTS, 0, 0 };
    loader a;
    queries q;

    pdl_launch();
    warm_up(&launch, worker);
    a.page = page_divisor(p);
    a.group = divisor_of((uint32_t)p->shape.group);
    pdl_wait();
    const int32_t work = fetch_work(p, worker);

    if (!is_item(work))
        return;
    const item_rest rest = fetch_rest(p, work);

    load_queries(p, a.group, work, q);
    start_loader(p, work, &rest, &a);
    int32_t item = a.next;

#pragma unroll 1
    do
        item = do_item(p, item, q, &at, &a);
    while (is_item(item));
}
