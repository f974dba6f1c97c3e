/* SPDX-License-Identifier: Apache-2.0 */
/* The inner loop of gemm with few rows and weights as they are, [n, k]: dot
 * products along k, so that each weight is read once and in order.  The lanes
 * of a vector sum different k. */
#ifndef FLI_CPU_GEMM_DOT_H
#define FLI_CPU_GEMM_DOT_H

#include "cpu/lib/gemm_tile.h"

enum {
    DOT_MAX = 4, /* rows or columns of a tile */
    DOT_K = 32   /* what kc is a multiple of: 64 bytes of 16-bit weights */
};

/* Some rows of a by some columns of b. */
typedef struct {
    const float *a; /* [rows][a_stride] */
    int64_t kc, a_stride;
    const char *b[DOT_MAX]; /* [cols][kc] */
    int64_t ahead;          /* elements from b to what is prefetched */
    float *c;               /* [rows][NB], c += a b */
} gemm_dot;

/* One vector of k; all but dot and k are constants. */
INLINE void dot_step(const gemm_dot *dot, int32_t rows, int32_t cols,
                     int32_t dtype, int64_t k, vf *sum)
{
    vf w[DOT_MAX];

    UNROLL
    for (int32_t j = 0; j < cols; j++)
        w[j] = v_load(dot->b[j], dtype, k);
    UNROLL
    for (int32_t i = 0; i < rows; i++) {
        const vf x = v_load(dot->a, FLI_ABI_F32, i * dot->a_stride + k);

        UNROLL
        for (int32_t j = 0; j < cols; j++)
            sum[i * cols + j] = v_fma(x, w[j], sum[i * cols + j]);
    }
}

/* A tile of rows by cols.  steps (1 or 2) vectors of k have sums of their own,
 * so that enough are independent. */
INLINE void dot_tile(const gemm_dot *dot, int32_t rows, int32_t cols,
                     int32_t steps, int32_t dtype)
{
    const int64_t line = 64 / (int64_t)v_dtype_bytes(dtype);
    const int32_t n = rows * cols;
    vf sum[12];

    UNROLL
    for (int32_t i = 0; i < n * steps; i++)
        sum[i] = v_set(0);
    for (int64_t k = 0; k < dot->kc; k += line) {
        UNROLL
        for (int32_t j = 0; j < cols; j++)
            prefetch(dot->b[j], dtype, k + dot->ahead);
        for (int64_t i = k; i < k + line; i += steps * VL) {
            UNROLL
            for (int32_t s = 0; s < steps; s++)
                dot_step(dot, rows, cols, dtype, i + s * VL, sum + s * n);
        }
    }
    UNROLL
    for (int32_t i = 0; i < n; i++)
        dot->c[i / cols * NB + i % cols] +=
            v_sum(steps == 2 ? sum[i] + sum[n + i] : sum[i]);
}

/* cols is 3 where some tile of the block has 4 rows, else 4. */
INLINE void dot_any(const gemm_dot *dot, int32_t rows, int32_t cols,
                    int32_t dtype)
{
    if (rows == 1)
        dot_tile(dot, 1, 4, 2, dtype);
    else if (rows == 2)
        dot_tile(dot, 2, 4, 1, dtype);
    else if (rows == 3 && cols == 4)
        dot_tile(dot, 3, 4, 1, dtype);
    else if (rows == 3)
        dot_tile(dot, 3, 3, 1, dtype);
    else
        dot_tile(dot, 4, 3, 1, dtype);
}

#endif
