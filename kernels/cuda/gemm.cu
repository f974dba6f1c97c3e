/* SPDX-License-Identifier: Apache-2.0 */
/* gemm of 16-bit a and b by tiles on tensor cores.
 *
 *   FLI_DTYPE           of a and b: FLI_ABI_F16, FLI_ABI_BF16
 *   FLI_OUT             of out: FLI_ABI_*
 *   TILE_M, TILE_N      rows and columns of out of a CTA
 *   WARPS_M, WARPS_N    how warps share them
 *   CTAS                of an SM at once
 *   STAGES              of TILE_K of k in shared memory, 2 or more
 *
 * Every element of out is one chain of mma over ascending k, whatever the tile:
 * its bits depend on its row of a and its row of b alone, not on m, n or the
 * instance.  k is padded with zeros; rows behind the last repeat it and are not
 * stored. */
#define VEC (FLI_OUT == FLI_ABI_F32 ? 4 : 8) /* elements of out at once */

#include "abi/gemm.h"
#include "cuda/lib/mma.cuh"
#include "cuda/lib/vector.cuh"

#define THREADS  (WARPS_M * WARPS_N * 32)
#define TILE_K   64 /* 128 bytes of a row: 8 chunks of 16, all banks */
#define STEPS    (TILE_K / 16)
#define WARP_M   (TILE_M / WARPS_M)
#define WARP_N   (TILE_N / WARPS_N)
#define BLOCKS_M (WARP_M / 16)
#define BLOCKS_N (WARP_N / 8)

#define ROW_BYTES   (TILE_K * 2)
#define A_BYTES     (TILE_M * ROW_BYTES)
#define STAGE_BYTES (A_BYTES + TILE_N * ROW_BYTES)

/* Tensor cores cut off what does not fit a sum instead of rounding it.  In f32
 * outputs a long chain of that would show, so that it is ended after 2 tiles,
 * 128 of k, and a rounded sum kept of the ends. */
#define SHORT_CHAINS (FLI_OUT == FLI_ABI_F32)
#define CHAIN_TILES  2

#define GROUP 8 /* tiles of m that run side by side: they share b in the L2 */

/* A part of out on its way, 16 rows of a warp: 8 words of padding put the 8 rows
 * of a store in different banks. */
#define PITCH (WARP_N + 8)
#define LANES (WARP_N / VEC) /* that a row takes */

/* a or b, from the first row of the tile on. */
typedef struct {
    const bits16 *data;
    int64_t stride;
    int32_t last;       /* row of the tile that is there */
    int32_t is_aligned; /* every row to 16 bytes */
} operand;

typedef struct {
    uint32_t a[BLOCKS_M][4];
    uint32_t b[BLOCKS_N][2];
} fragments;

DEVICE operand operand_of(const void *data, int64_t stride, int64_t first,
                          int64_t n_rows)
{
    const operand x = {
        (const bits16 *)data + first * stride,
        stride,
        (int32_t)MIN(n_rows - first, MAX(TILE_M, TILE_N)) - 1,
        ((uint64_t)data | (uint64_t)stride * 2) % 16 == 0,
    };

    return x;
}

/* The chunk in chunk c of row i, so that ldmatrix meets every bank once. */
DEVICE uint32_t swizzled(int32_t i, int32_t c)
{
    return (uint32_t)(i * ROW_BYTES + ((c ^ (i & 7)) << 4));
}

/* n (0 to 8) elements as they lie, zeros behind them. */
DEVICE uint4 load_elements(const bits16 *from, int32_t n)
{
    uint32_t x[4];

#pragma unroll
    for (int32_t i = 0; i < 4; i++) {
        const uint32_t low = 2 * i < n ? from[2 * i] : 0;
        const uint32_t high = 2 * i + 1 < n ? from[2 * i + 1] : 0;

        x[i] = low | high << 16;
    }
    return make_uint4(x[0], x[1], x[2], x[3]);
}

/* Columns k0 to k0 + TILE_K of n_rows (a constant) rows to shared memory. */
DEVICE void load_rows(const operand *x, int32_t n_rows, int64_t k0, int64_t k,
                      char *to)
{
    const int32_t i0 = threadIdx.x / 8, c = threadIdx.x % 8;
    const int32_t n = (int32_t)MAX(MIN(k - k0 - c * 8, 8), 0);
    const bits16 *const from = x->data + (n ? k0 + c * 8 : 0);

    if (x->is_aligned) {
        const uint32_t address = shared_address(to);

#pragma unroll
        for (int32_t i = 0; i < n_rows; i += THREADS / 8)
            cp_async_16_zfill(address + swizzled(i + i0, c),
                              from + MIN(i + i0, x->last) * x->stride, n * 2);
    } else {
#pragma unroll 1
        for (int32_t i = i0; i < n_rows; i += THREADS / 8)
            *(uint4 *)(to + swizzled(i, c)) =
                load_elements(from + MIN(i, x->last) * x->stride, n);
    }
}

/* What step (of 16 of k) of a stage multiplies; a_lane and b_lane are this
 * lane's rows and first chunks in it. */
DEVICE void load_fragments(fragments *f, uint32_t stage, uint32_t a_lane,
                           uint32_t b_lane, uint32_t step)
{
    const uint32_t a = stage + (a_lane ^ (step * 32));
    const uint32_t b = stage + A_BYTES + (b_lane ^ (step * 32));

#pragma unroll
    for (int32_t i = 0; i < BLOCKS_M; i++)
        ldmatrix_x4(f->a[i], a + i * 16 * ROW_BYTES);
#pragma unroll
    for (int32_t i = 0; i < BLOCKS_N; i += 2) {
        uint32_t x[4];

        ldmatrix_x4(x, b + i * 8 * ROW_BYTES);
        f->b[i][0] = x[0];
        f->b[i][1] = x[1];
        f->b[i + 1][0] = x[2];
        f->b[i + 1][1] = x[3];
    }
}

DEVICE void multiply(float sum[BLOCKS_M][BLOCKS_N][4], const fragments *f)
{
#pragma unroll
    for (int32_t i = 0; i < BLOCKS_M; i++)
#pragma unroll
        for (int32_t j = 0; j < BLOCKS_N; j++)
            mma_m16n8k16(sum[i][j], f->a[i], f->b[j], FLI_DTYPE);
}

/* total += sum, and sum starts anew. */
DEVICE void end_chain(float total[BLOCKS_M][BLOCKS_N][4],
                      float sum[BLOCKS_M][BLOCKS_N][4])
{
#pragma unroll
    for (int32_t i = 0; i < BLOCKS_M * BLOCKS_N * 4; i++) {
        float *const x = &sum[i / 4 / BLOCKS_N][i / 4 % BLOCKS_N][i % 4];

        total[i / 4 / BLOCKS_N][i / 4 % BLOCKS_N][i % 4] += *x;
        *x = 0;
    }
}

/* The tile of this CTA: m fastest within GROUP tiles of m. */
DEVICE void find_tile(const fli_gemm_params *p, int64_t *row, int64_t *col)
{
    const uint32_t n_m = (uint32_t)((p->m + TILE_M - 1) / TILE_M);
    const uint32_t n_n = (uint32_t)((p->n + TILE_N - 1) / TILE_N);
    const uint32_t first = blockIdx.x / (GROUP * n_n) * GROUP;
    const uint32_t i = blockIdx.x - first * n_n;
    const uint32_t height = MIN(n_m - first, GROUP);

    *row = (int64_t)(first + i % height) * TILE_M;
    *col = (int64_t)(i / height) * TILE_N;
}

/* VEC sums and their bias into a row of out. */
DEVICE void finish(const fli_gemm_params *p, int64_t row, int64_t col,
                   const float sum[VEC], const float bias[VEC])
{
    const int64_t at = row * p->out_stride + col;
    const uint64_t address = (uint64_t)p->out + at * dtype_bytes(FLI_OUT);
    float x[VEC], old[VEC];

#pragma unroll
    for (int32_t i = 0; i < VEC; i++)
        x[i] = sum[i] + bias[i];
    if (address % 16 == 0 && col + VEC <= p->n) {
        if (p->add) {
            unpack_vec(load_vec(p->out, FLI_OUT, at), FLI_OUT, old);
#pragma unroll
            for (int32_t i = 0; i < VEC; i++)
                x[i] += old[i];
        }
        store_vec(p->out, FLI_OUT, at, pack_vec(x, FLI_OUT));
        return;
    }
#pragma unroll
    for (int32_t i = 0; i < VEC; i++)
        if (col + i < p->n) {
            if (p->add)
                x[i] += load_f32(p->out, FLI_OUT, at + i);
            store_f32(p->out, FLI_OUT, at + i, x[i]);
        }
}

/* The warp's sums, from row and col on, 16 rows at a time by way of its part of
 * shared memory: lanes hold pairs, and vectors are to be stored. */
DEVICE void store_sums(const fli_gemm_params *p, int64_t row, int64_t col,
                       const float sum[BLOCKS_M][BLOCKS_N][4], float *part)
{
    const int32_t lane = threadIdx.x % 32, c = lane % LANES * VEC;
    float bias[VEC];

#pragma unroll
    for (int32_t i = 0; i < VEC; i++)
        bias[i] = p->bias && col + c + i < p->n
                      ? load_f32(p->bias, p->dtype_bias, col + c + i)
                      : 0;
#pragma unroll
    for (int32_t i = 0; i < BLOCKS_M; i++) {
        float *const to = part + lane / 4 * PITCH + lane % 4 * 2;

#pragma unroll
        for (int32_t j = 0; j < BLOCKS_N; j++) {
            *(float2 *)(to + j * 8) = make_float2(sum[i][j][0], sum[i][j][1]);
            *(float2 *)(to + j * 8 + 8 * PITCH) =
                make_float2(sum[i][j][2], sum[i][j][3]);
        }
        __syncwarp();
#pragma unroll 1
        for (int32_t r = lane / LANES; r < 16; r += 32 / LANES)
            if (row + i * 16 + r < p->m)
                finish(p, row + i * 16 + r, col + c, part + r * PITCH + c,
                       bias);
        __syncwarp();
    }
}

/* sum: the products of the warp whose fragments begin at a_lane and b_lane of a
 * stage. */
DEVICE void multiply_tiles(const operand *a, const operand *b, int64_t k,
                           char *stages, float sum[BLOCKS_M][BLOCKS_N][4])
{
    const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t a_lane =
        swizzled(warp / WARPS_N * WARP_M + lane % 16, lane / 16);
    const uint32_t b_lane = swizzled(
        warp % WARPS_N * WARP_N + lane / 16 * 8 + lane % 8, lane / 8 % 2);
    const int32_t n_tiles = (int32_t)((k + TILE_K - 1) / TILE_K);
    const uint32_t base = shared_address(stages);
    float total[BLOCKS_M][BLOCKS_N][4] = { 0 };
    int32_t read = 0, write = STAGES - 1;
    fragments f[2];

    for (int32_t i = 0; i < STAGES - 1; i++) {
        if (i < n_tiles) {
            load_rows(a, TILE_M, (int64_t)i * TILE_K, k,
                      stages + i * STAGE_BYTES);
            load_rows(b, TILE_N, (int64_t)i * TILE_K, k,
                      stages + i * STAGE_BYTES + A_BYTES);
        }
        cp_async_commit();
    }
    CP_ASYNC_WAIT(STAGES - 2);
    __syncthreads();
    load_fragments(&f[0], base, a_lane, b_lane, 0);
#pragma unroll 1
    for (int32_t tile = 0; tile < n_tiles; tile++) {
#pragma unroll
        for (int32_t step = 0; step < STEPS; step++) {
            /* The last step's operands are in registers: on to the next tile,
             * once all of it is there, and done with this one. */
            if (step == STEPS - 1) {
                CP_ASYNC_WAIT(STAGES - 2);
                __syncthreads();
                read = read + 1 < STAGES ? read + 1 : 0;
            }
            load_fragments(&f[(step + 1) % 2], base + read * STAGE_BYTES,
                           a_lane, b_lane, (step + 1) % STEPS);
            if (step == 0) {
                const int64_t next = (int64_t)(tile + STAGES - 1) * TILE_K;

                if (next < k) {
                    load_rows(a, TILE_M, next, k, stages + write * STAGE_BYTES);
                    load_rows(b, TILE_N, next, k,
                              stages + write * STAGE_BYTES + A_BYTES);
                }
                cp_async_commit();
                write = write + 1 < STAGES ? write + 1 : 0;
            }
            multiply(sum, &f[step % 2]);
        }
        if (SHORT_CHAINS && tile % CHAIN_TILES == CHAIN_TILES - 1)
            end_chain(total, sum);
    }
    if (SHORT_CHAINS)
        end_chain(sum, total);
}

KERNEL __launch_bounds__(THREADS, CTAS)
    fli_gemm(const __grid_constant__ fli_gemm_params p)
{
    extern __shared__ __align__(128) char stages[];
    const int32_t warp = threadIdx.x / 32;
    float sum[BLOCKS_M][BLOCKS_N][4] = { 0 };
    int64_t row, col;

    find_tile(&p, &row, &col);
    const operand a = operand_of(p.a, p.a_stride, row, p.m);
    const operand b = operand_of(p.b, p.b_stride, col, p.n);

    pdl_wait();
    pdl_launch();
    multiply_tiles(&a, &b, p.k, stages, sum);
    __syncthreads();
    store_sums(&p, row + warp / WARPS_N * WARP_M, col + warp % WARPS_N * WARP_N,
               sum, (float *)stages + warp * 16 * PITCH);
}
