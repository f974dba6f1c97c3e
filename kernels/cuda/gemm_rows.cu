/* SPDX-License-Identifier: Apache-2.0 */
/* gemm of 16-bit a and b for few rows of a: reading b is all the time it takes.
 *
 *   FLI_DTYPE   of a and b: FLI_ABI_F16, FLI_ABI_BF16
 *   FLI_OUT     of out: FLI_ABI_*
 *   TILES       of 16 rows of a, 1 or 2
 *   GROUPS      of 8 rows of b, a CTA's share: 1, or as many as n has at least
 *
 * The warps of a CTA take blocks of k in turn and add their sums at the end, in
 * the order of the warps.  b goes from memory to the registers that mma wants it
 * in, each byte once: a lane loads 8 elements of a row of b at a time and calls
 * them the columns 2t, 2t + 1, 2t + 8, 2t + 9 of two mma, the same with a; the
 * order of k within a product does not matter.  The next block is under way while
 * one is multiplied. */
#include "abi/gemm.h"
#include "cuda/lib/mma.cuh"

#define WARPS 8
#define BLOCK 64 /* of k: 128 bytes of a row, a line of the L2 */
#define PARTS 2  /* of a block: 4 lanes of a row, 8 elements each */

/* A chain of sums on tensor cores, which cut off instead of rounding, ends after
 * 2 blocks where out is f32 and would show it. */
#define SHORT_CHAINS (FLI_OUT == FLI_ABI_F32)
#define CHAIN_BLOCKS 2

typedef struct {
    uint4 x[GROUPS][PARTS];
} b_block;

typedef struct {
    uint4 x[TILES][2][PARTS]; /* rows g and g + 8 of a tile */
} a_block;

/* What the lane reads: rows of a and b, at its own 8 elements of a part of the
 * warp's block. */
typedef struct {
    const bits16 *a[TILES][2];
    const bits16 *b; /* of the first group */
    int64_t b_step;  /* from group to group */
    int32_t n_a;     /* of the 2 TILES that are there at all */
} lane_rows;

DEVICE lane_rows rows_of(const fli_gemm_params *p, int64_t col)
{
    const int32_t g = threadIdx.x % 32 / 4;
    const int32_t k = threadIdx.x / 32 * BLOCK + threadIdx.x % 4 * 8;
    lane_rows r;

    /* Rows behind the last repeat it: they are not stored. */
#pragma unroll
    for (int32_t i = 0; i < 2 * TILES; i++)
        r.a[i / 2][i % 2] =
            (const bits16 *)p->a + MIN(g + i * 8, p->m - 1) * p->a_stride + k;
    r.b = (const bits16 *)p->b + MIN(col + g, p->n - 1) * p->b_stride + k;
    r.b_step = 8 * p->b_stride;
    r.n_a = (int32_t)((p->m + 7) / 8);
    return r;
}

/* 16 bytes that are read once: they need not stay in the L1. */
DEVICE uint4 load_once(const bits16 *from)
{
    uint4 x;

    asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3},"
                 " [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "l"(from)
                 : "memory");
    return x;
}

DEVICE void prefetch(const bits16 *from)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

/* n elements of the 8, zeros behind them. */
DEVICE uint4 load_elements(const bits16 *from, int64_t n)
{
    uint32_t x[4] = { 0 };

#pragma unroll
    for (int32_t i = 0; i < 8; i++)
        if (i < n)
            x[i / 2] |= (uint32_t)from[i] << i % 2 * 16;
    return make_uint4(x[0], x[1], x[2], x[3]);
}

/* On to the warp's next block. */
DEVICE void move_on(lane_rows *r)
{
#pragma unroll
    for (int32_t i = 0; i < 2 * TILES; i++)
        r->a[i / 2][i % 2] += WARPS * BLOCK;
    r->b += WARPS * BLOCK;
}

/* b of the block that is ahead (0 or 1) of r. */
DEVICE void load_b(b_block *b, const lane_rows *r, int32_t ahead)
{
#pragma unroll
    for (int32_t i = 0; i < GROUPS; i++)
#pragma unroll
        for (int32_t part = 0; part < PARTS; part++)
            b->x[i][part] =
                load_once(r->b + i * r->b_step + part * (BLOCK / PARTS)
                          + ahead * WARPS * BLOCK);
}

DEVICE void load_a(a_block *a, const lane_rows *r)
{
#pragma unroll
    for (int32_t i = 0; i < 2 * TILES; i++)
#pragma unroll
        for (int32_t part = 0; part < PARTS; part++)
            a->x[i / 2][i % 2][part] =
                i < r->n_a ? *(const uint4 *)(r->a[i / 2][i % 2]
                                              + part * (BLOCK / PARTS))
                           : make_uint4(0, 0, 0, 0);
}

/* Both of a block that is not aligned, or of which left elements are there. */
DEVICE void load_rest(a_block *a, b_block *b, const lane_rows *r, int64_t left)
{
#pragma unroll
    for (int32_t part = 0; part < PARTS; part++) {
        const int32_t at = part * (BLOCK / PARTS);
        const int64_t n = left - at - threadIdx.x % 4 * 8;

#pragma unroll
        for (int32_t i = 0; i < 2 * TILES; i++)
            a->x[i / 2][i % 2][part] =
                load_elements(r->a[i / 2][i % 2] + at, n);
#pragma unroll
        for (int32_t i = 0; i < GROUPS; i++)
            b->x[i][part] = load_elements(r->b + i * r->b_step + at, n);
    }
}

DEVICE void multiply(float sum[TILES][GROUPS][4], const a_block *a,
                     const b_block *b)
{
#pragma unroll
    for (int32_t part = 0; part < PARTS; part++)
#pragma unroll
        for (int32_t i = 0; i < TILES; i++) {
            const uint4 low = a->x[i][0][part], high = a->x[i][1][part];
            const uint32_t a0[4] = { low.x, high.x, low.y, high.y };
            const uint32_t a1[4] = { low.z, high.z, low.w, high.w };

#pragma unroll
            for (int32_t j = 0; j < GROUPS; j++) {
                const uint4 x = b->x[j][part];
                const uint32_t b0[2] = { x.x, x.y }, b1[2] = { x.z, x.w };

                mma_m16n8k16(sum[i][j], a0, b0, FLI_DTYPE);
                mma_m16n8k16(sum[i][j], a1, b1, FLI_DTYPE);
            }
        }
}

/* part, this lane's of the warp's, += sum, and sum starts anew. */
DEVICE void end_chain(float part[][32], float sum[TILES][GROUPS][4])
{
#pragma unroll
    for (int32_t i = 0; i < TILES * GROUPS * 4; i++) {
        float *const x = &sum[i / 4 / GROUPS][i / 4 % GROUPS][i % 4];

        part[i][threadIdx.x % 32] += *x;
        *x = 0;
    }
}

/* The warp's blocks: one of WARPS, those that are whole and aligned first. */
DEVICE void multiply_blocks(const fli_gemm_params *p, lane_rows r,
                            float part[][32])
{
    const int32_t is_aligned =
        ((uint64_t)p->a | (uint64_t)p->b | (uint64_t)p->a_stride * 2
         | (uint64_t)p->b_stride * 2)
            % 16
        == 0;
    const int32_t warp = threadIdx.x / 32;
    const int64_t whole = is_aligned ? p->k / BLOCK : 0;
    const int32_t n = (int32_t)((whole + WARPS - 1 - warp) / WARPS);
    int64_t left = p->k - ((int64_t)n * WARPS + warp) * BLOCK;
    float sum[TILES][GROUPS][4] = { 0 };
    int32_t n_chained = 0;
    b_block b[2];
    a_block a;

    if (n > 0)
        load_b(&b[0], &r, 0);
#pragma unroll 1
    for (int32_t done = 0; done < n; done += 2) {
#pragma unroll
        for (int32_t i = 0; i < 2; i++) {
            if (done + i >= n)
                break;
            load_a(&a, &r);
            if (done + i + 1 < n)
                load_b(&b[1 - i], &r, 1);
            multiply(sum, &a, &b[i]);
            move_on(&r);
        }
        if (SHORT_CHAINS)
            end_chain(part, sum);
    }
#pragma unroll 1
    for (; left > 0; left -= WARPS * BLOCK) {
        load_rest(&a, &b[0], &r, left);
        multiply(sum, &a, &b[0]);
        move_on(&r);
        if (SHORT_CHAINS && ++n_chained % CHAIN_BLOCKS == 0)
            end_chain(part, sum);
    }
    end_chain(part, sum);
}

DEVICE void finish(const fli_gemm_params *p, int64_t row, int64_t col, float x)
{
    const int64_t at = row * p->out_stride + col;

    if (col >= p->n)
        return;
    if (p->bias)
        x += load_f32(p->bias, p->dtype_bias, col);
    if (p->add)
        x += load_f32(p->out, FLI_OUT, at);
    store_f32(p->out, FLI_OUT, at, x);
}

KERNEL __launch_bounds__(WARPS * 32, TILES == 1 ? 2 : 1)
    fli_gemm_rows(const __grid_constant__ fli_gemm_params p)
{
    __shared__ float parts[WARPS][TILES * GROUPS * 4][32];
    const int32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int64_t first = (int64_t)blockIdx.x * (GROUPS * 8);
    /* The last CTA takes a whole share too, and stores its own. */
    const int64_t col = MAX(MIN(first, p.n - GROUPS * 8), 0);
    const lane_rows r = rows_of(&p, col);

#pragma unroll
    for (int32_t i = 0; i < TILES * GROUPS * 4; i++)
        parts[warp][i][lane] = 0;
    /* b may be on its way to the L2 before the launch before this one ends: what
     * is read below is right whoever wrote it. */
    if ((warp + 1) * BLOCK <= p.k)
#pragma unroll
        for (int32_t i = 0; i < GROUPS; i++)
            prefetch(r.b + i * r.b_step + lane % 2 * (BLOCK / PARTS));
    pdl_wait();
    pdl_launch();
    multiply_blocks(&p, r, parts[warp]);
    __syncthreads();
    for (int32_t i = warp; i < TILES * GROUPS * 2; i += WARPS) {
        const int64_t row = i / 2 / GROUPS * 16 + i % 2 * 8 + lane / 4;
        const int64_t at = col + i / 2 % GROUPS * 8 + lane % 4 * 2;
        float x = 0, y = 0;

#pragma unroll
        for (int32_t w = 0; w < WARPS; w++) {
            x += parts[w][2 * i][lane];
            y += parts[w][2 * i + 1][lane];
        }
        if (row < p.m && at >= first)
            finish(&p, row, at, x);
        if (row < p.m && at + 1 >= first)
            finish(&p, row, at + 1, y);
    }
}
