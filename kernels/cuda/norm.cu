/* SPDX-License-Identifier: Apache-2.0 */
/* rmsnorm and fused_add_rmsnorm: one read of x, one write of out.  A row has
 * blockDim.x threads, a power of two up to a warp or else whole warps; a block
 * has blockDim.y rows.  The first ITEMS vectors of each thread stay in
 * registers; those of longer rows are read again.
 *
 *   FLI_DTYPE, VEC
 *   RESIDUAL   1: x += residual first, see abi/norm.h */
#include "abi/norm.h"
#include "cuda/lib/vector.cuh"

#define ITEMS       4
#define MAX_THREADS 512 /* of a block: 128 registers each */

/* A row; at() counts its vectors by the threads of the row. */
typedef struct {
    const char *x;
    char *out, *residual;
} norm_row;

DEVICE int64_t at(int32_t item)
{
    return (int64_t)(item * blockDim.x + threadIdx.x) * VEC;
}

DEVICE norm_row row_of(const fli_norm_params *p, int64_t row)
{
    const int64_t outer = p->n_inner == 1 ? row : row / p->n_inner;
    const int64_t inner = row - outer * p->n_inner;
    const int64_t bytes = dtype_bytes(FLI_DTYPE);
    norm_row r;

    r.x = (const char *)p->x
          + (outer * p->x_stride[0] + inner * p->x_stride[1]) * bytes;
    r.out = (char *)p->out
            + (outer * p->out_stride[0] + inner * p->out_stride[1]) * bytes;
    r.residual =
        (char *)p->residual
        + (outer * p->residual_stride[0] + inner * p->residual_stride[1])
              * bytes;
    return r;
}

DEVICE void add_residual(vec_bits x, vec_bits residual, float sum[VEC])
{
    float r[VEC];

    unpack_vec(x, FLI_DTYPE, sum);
    if (!RESIDUAL)
        return;
    unpack_vec(residual, FLI_DTYPE, r);
#pragma unroll
    for (int32_t i = 0; i < VEC; i++)
        sum[i] += r[i];
}

/* Elements i .. i + VEC - 1 of the row that is normalised. */
DEVICE void load_sum(const norm_row *r, int64_t i, float sum[VEC])
{
    const vec_bits x = load_vec(r->x, FLI_DTYPE, i);

    add_residual(x, RESIDUAL ? load_vec(r->residual, FLI_DTYPE, i) : x, sum);
}

DEVICE float square_sum(const float x[VEC])
{
    float sum = 0;

#pragma unroll
    for (int32_t i = 0; i < VEC; i++)
        sum = fmaf(x[i], x[i], sum);
    return sum;
}

/* The sum over the threads of a row, the same bits in each of them. */
DEVICE float row_sum(float x)
{
    __shared__ float part[MAX_THREADS / 32];
    const uint32_t lane = threadIdx.x % 32, n_warps = blockDim.x / 32;

    for (uint32_t i = MIN(blockDim.x, 32) / 2; i > 0; i /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, i);
    if (n_warps <= 1)
        return x;
    float *const row_part = part + threadIdx.y * n_warps;

    if (lane == 0)
        row_part[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_sum(lane < n_warps ? row_part[lane] : 0);
}

DEVICE void store_row(const norm_row *r, int64_t i, const float x[VEC],
                      vec_bits weight, float scale)
{
    float w[VEC], y[VEC];

    unpack_vec(weight, FLI_DTYPE, w);
#pragma unroll
    for (int32_t j = 0; j < VEC; j++)
        y[j] = x[j] * scale * w[j];
    if (RESIDUAL)
        store_vec(r->residual, FLI_DTYPE, i, pack_vec(x, FLI_DTYPE));
    store_vec(r->out, FLI_DTYPE, i, pack_vec(y, FLI_DTYPE));
}

KERNEL __launch_bounds__(MAX_THREADS)
    fli_norm(const __grid_constant__ fli_norm_params p)
{
    const int64_t row = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    /* rows behind the last take part in the shuffles, with no elements */
    const int64_t n = row < p.n_outer * p.n_inner ? p.hidden : 0;
    const norm_row r = row_of(&p, n ? row : 0);
    vec_bits x[ITEMS], residual[ITEMS], weight[ITEMS];
    float sum[ITEMS][VEC], squares = 0;

    pdl_wait();
    pdl_launch();
#pragma unroll
    for (int32_t k = 0; k < ITEMS; k++) {
        x[k] = load_vec_below(r.x, FLI_DTYPE, at(k), n);
        if (RESIDUAL)
            residual[k] = load_vec_below(r.residual, FLI_DTYPE, at(k), n);
        else
            residual[k] = x[k];
    }
#pragma unroll
    for (int32_t k = 0; k < ITEMS; k++)
        weight[k] = load_vec_below(p.weight, FLI_DTYPE, at(k), n);
#pragma unroll
    for (int32_t k = 0; k < ITEMS; k++) {
        add_residual(x[k], residual[k], sum[k]);
        squares += square_sum(sum[k]);
    }
    for (int64_t i = at(ITEMS); i < n; i += at(1) - at(0)) {
        float rest[VEC];

        load_sum(&r, i, rest);
        squares += square_sum(rest);
    }
    const float scale = 1 / sqrtf(row_sum(squares) / (float)p.hidden + p.eps);

#pragma unroll
    for (int32_t k = 0; k < ITEMS; k++)
        if (at(k) < n)
            store_row(&r, at(k), sum[k], weight[k], scale);
    for (int64_t i = at(ITEMS); i < n; i += at(1) - at(0)) {
        float rest[VEC];

        load_sum(&r, i, rest);
        store_row(&r, i, rest, load_vec(p.weight, FLI_DTYPE, i), scale);
    }
}
