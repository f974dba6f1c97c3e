/* SPDX-License-Identifier: Apache-2.0 */
/* gemm of any dtypes, strides and alignments: fused multiply-adds in f32 on tiles
 * in shared memory.  One instance for all: dtypes are read at run time.  Every
 * element is one chain over ascending k, whatever m is. */
#include "abi/gemm.h"
#include "cuda/lib/base.cuh"

#define TILE    64
#define TILE_K  16
#define THREADS 256
#define EACH    4          /* rows and columns of out of a thread */
#define PITCH   (TILE + 4) /* keeps vectors of 4 aligned, spreads the banks */

#define LOADS (TILE * TILE_K / THREADS) /* of a thread, of each operand */

/* a or b: rows from first on. */
typedef struct {
    const void *data;
    int64_t stride, first, n_rows, k;
    int32_t dtype;
} operand;

DEVICE void load_tile(float x[LOADS], const operand *from, int64_t k0)
{
    const int64_t k = k0 + threadIdx.x % TILE_K;

#pragma unroll
    for (int32_t i = 0; i < LOADS; i++) {
        const int64_t row = from->first + (threadIdx.x + i * THREADS) / TILE_K;

        x[i] = row < from->n_rows && k < from->k
                   ? load_f32(from->data, from->dtype, row * from->stride + k)
                   : 0;
    }
}

DEVICE void keep_tile(float to[TILE_K][PITCH], const float x[LOADS])
{
#pragma unroll
    for (int32_t i = 0; i < LOADS; i++)
        to[threadIdx.x % TILE_K][(threadIdx.x + i * THREADS) / TILE_K] = x[i];
}

DEVICE void multiply(float sum[EACH][EACH], const float a[TILE_K][PITCH],
                     const float b[TILE_K][PITCH])
{
    const int32_t row = threadIdx.x / (TILE / EACH) * EACH;
    const int32_t col = threadIdx.x % (TILE / EACH) * EACH;

#pragma unroll
    for (int32_t k = 0; k < TILE_K; k++) {
        const float4 x = *(const float4 *)&a[k][row];
        const float4 y = *(const float4 *)&b[k][col];
        const float xs[EACH] = { x.x, x.y, x.z, x.w };
        const float ys[EACH] = { y.x, y.y, y.z, y.w };

#pragma unroll
        for (int32_t i = 0; i < EACH * EACH; i++)
            sum[i / EACH][i % EACH] =
                fmaf(xs[i / EACH], ys[i % EACH], sum[i / EACH][i % EACH]);
    }
}

DEVICE void finish(const fli_gemm_params *p, int64_t row, int64_t col, float x)
{
    const int64_t at = row * p->out_stride + col;

    if (row >= p->m || col >= p->n)
        return;
    if (p->bias)
        x += load_f32(p->bias, p->dtype_bias, col);
    if (p->add)
        x += load_f32(p->out, p->dtype_out, at);
    store_f32(p->out, p->dtype_out, at, x);
}

KERNEL __launch_bounds__(THREADS, 2)
    fli_gemm_generic(const __grid_constant__ fli_gemm_params p)
{
    __shared__ __align__(16) float a_tile[TILE_K][PITCH], b_tile[TILE_K][PITCH];
    const uint32_t n_m = (uint32_t)((p.m + TILE - 1) / TILE);
    const operand a = { p.a, p.a_stride, blockIdx.x % n_m * TILE,
                        p.m, p.k,        p.dtype_a };
    const operand b = { p.b, p.b_stride, (int64_t)(blockIdx.x / n_m) * TILE,
                        p.n, p.k,        p.dtype_b };
    const int64_t row = a.first + threadIdx.x / (TILE / EACH) * EACH;
    const int64_t col = b.first + threadIdx.x % (TILE / EACH) * EACH;
    float sum[EACH][EACH] = { 0 }, x[LOADS], y[LOADS];

    pdl_wait();
    pdl_launch();
    load_tile(x, &a, 0);
    load_tile(y, &b, 0);
    for (int64_t k = 0; k < p.k; k += TILE_K) {
        keep_tile(a_tile, x);
        keep_tile(b_tile, y);
        __syncthreads();
        load_tile(x, &a, k + TILE_K);
        load_tile(y, &b, k + TILE_K);
        multiply(sum, a_tile, b_tile);
        __syncthreads();
    }
#pragma unroll
    for (int32_t i = 0; i < EACH * EACH; i++)
        finish(&p, row + i / EACH, col + i % EACH, sum[i / EACH][i % EACH]);
}
