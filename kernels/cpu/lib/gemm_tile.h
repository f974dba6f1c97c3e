/* SPDX-License-Identifier: Apache-2.0 */
/* The inner loops of gemm over panels of weights.
 *
 * A panel is NR columns of weights, [k][NR]; packed weights are panels one
 * behind the other, in the weights' dtype, the last filled up with zeros.  A
 * micro tile sums up to MR rows and some panels over at most KC of k in
 * registers, from zero, one k after the other, and adds that to c; the blocks
 * of k follow in order.  So the order over k of an output is the same for
 * every m, row, split and source of the weights. */
#ifndef FLI_CPU_GEMM_TILE_H
#define FLI_CPU_GEMM_TILE_H

#include "abi/gemm.h"
#include "cpu/lib/vec.h"

enum {
    NR = 2 * VL, /* columns of a panel: two vectors */
    MR = 6,      /* 12 accumulators of 16 registers, 2 of weights, 1 of a */
    KC = 128,    /* of k in a block */
    NB = 64,     /* columns of a block: MR * KC of a are used NB times */
    MB = 96      /* rows of a block: KC * NB of weights are used MB times */
};

/* Some panels by the rows of a. */
typedef struct {
    const float *a;       /* [rows][KC] */
    const void *b;        /* [n_panels][kc][NR], panel_stride elements apart */
    float *c;             /* [rows][NB], c += a b */
    int64_t kc;           /* <= KC */
    int64_t panel_stride; /* elements */
    int64_t ahead;        /* elements from b to what is prefetched */
    int32_t n_panels;
} gemm_tile;

/* Where a tile's weights are: f32 in cache, or packed in memory as a dtype. */
enum { IN_CACHE = 0 };

INLINE void prefetch(const void *data, int32_t dtype, int64_t i)
{
    __builtin_prefetch((const char *)data + i * (int64_t)v_dtype_bytes(dtype),
                       0, 2);
}

/* One k of a micro tile. */
INLINE void micro_step(int32_t rows, int32_t panels, int32_t dtype,
                       const float *a, const void *b, int64_t stride, vf *sum)
{
    const int32_t width = 2 * panels;
    vf w[8];

    UNROLL
    for (int32_t j = 0; j < width; j++)
        w[j] = v_load(b, dtype, j / 2 * stride + j % 2 * VL);
    UNROLL
    for (int32_t i = 0; i < rows; i++) {
        const vf x = v_set(a[i * KC]);

        UNROLL
        for (int32_t j = 0; j < width; j++)
            sum[i * width + j] = v_fma(x, w[j], sum[i * width + j]);
    }
}

/* rows by panels from panel first on; rows, panels and source are constants. */
INLINE void micro_tile(const gemm_tile *t, int32_t rows, int32_t panels,
                       int32_t first, int32_t source)
{
    const int32_t dtype = source == IN_CACHE ? FLI_ABI_F32 : source;
    const int64_t bytes = (int64_t)v_dtype_bytes(dtype);
    const int64_t steps = bytes == 2 ? 2 : 1; /* a cache line of AVX2's NR */
    const int32_t width = 2 * panels;
    const int64_t stride = t->panel_stride, ahead = t->ahead, kc = t->kc;
    const float *a = t->a;
    const char *b = (const char *)t->b + first * stride * bytes;
    float *c = t->c + first * NR;
    vf sum[2 * MR];
    int64_t k = 0;

    UNROLL
    for (int32_t i = 0; i < rows * width; i++)
        sum[i] = v_set(0);
    for (; k + steps <= kc; k += steps, b += steps * NR * bytes) {
        if (source != IN_CACHE) {
            UNROLL
            for (int32_t j = 0; j < panels; j++)
                prefetch(b, dtype, j * stride + ahead);
        }
        UNROLL
        for (int64_t i = 0; i < steps; i++)
            micro_step(rows, panels, dtype, a + k + i, b + i * NR * bytes,
                       stride, sum);
    }
    for (; k < kc; k++, b += NR * bytes)
        micro_step(rows, panels, dtype, a + k, b, stride, sum);
    UNROLL
    for (int32_t i = 0; i < rows; i++) {
        UNROLL
        for (int32_t j = 0; j < width; j++) {
            float *to = c + i * NB + j * VL;

            v_store(to, FLI_ABI_F32, 0,
                    v_load(to, FLI_ABI_F32, 0) + sum[i * width + j]);
        }
    }
}

/* All panels; with few rows several at once, for eight independent sums. */
INLINE void tile_rows(const gemm_tile *t, int32_t rows, int32_t source)
{
    const int32_t panels = rows == 1 ? 4 : rows <= 3 ? 2 : 1;
    int32_t i = 0;

    for (; i + panels <= t->n_panels; i += panels)
        micro_tile(t, rows, panels, i, source);
    for (; panels > 1 && i < t->n_panels; i++)
        micro_tile(t, rows, 1, i, source);
}

INLINE void tile_any_rows(const gemm_tile *t, int32_t rows, int32_t source)
{
    if (rows == 6)
        tile_rows(t, 6, source);
    else if (rows == 5)
        tile_rows(t, 5, source);
    else if (rows == 4)
        tile_rows(t, 4, source);
    else if (rows == 3)
        tile_rows(t, 3, source);
    else if (rows == 2)
        tile_rows(t, 2, source);
    else
        tile_rows(t, 1, source);
}

/* Elements [first, first + n) as f32, filled up to a vector with zeros; as many
 * again are read into L2. */
INLINE void convert_row(const void *data, int32_t dtype, int64_t first,
                        int64_t n, float *to)
{
    const int64_t line = 64 / (int64_t)v_dtype_bytes(dtype);

    for (int64_t i = 0; i < n; i += line)
        prefetch(data, dtype, first + n + i);
    for (int64_t i = 0; i < n; i += VL)
        v_store(to, FLI_ABI_F32, i, v_load_upto(data, dtype, first + i, n - i));
}

/* Weights [n][kc], rows stride apart, as f32 to a panel [KC][NR]; columns from
 * n on become zero.  As much of k again is read into L2. */
INLINE void convert_panel(const void *b, int32_t dtype, int64_t stride,
                          int64_t n, int64_t kc, float *to)
{
    const int64_t line = 64 / (int64_t)v_dtype_bytes(dtype);
    const int64_t n_whole = (n < NR ? n : NR) / VL * VL;
    const int64_t k_whole = kc / VL * VL;

    for (int64_t j = 0; j < NR && j < n; j++)
        for (int64_t k = 0; k < kc; k += line)
            prefetch(b, dtype, j * stride + k + kc);
    for (int64_t j = 0; j < n_whole; j += VL)
        for (int64_t k = 0; k < k_whole; k += VL) {
            vf x[VL];

            for (int i = 0; i < VL; i++)
                x[i] = v_load(b, dtype, (j + i) * stride + k);
            v_transpose(x);
            for (int i = 0; i < VL; i++)
                v_store(to, FLI_ABI_F32, (k + i) * NR + j, x[i]);
        }
    for (int64_t k = 0; k < kc; k++)
        for (int64_t j = k < k_whole ? n_whole : 0; j < NR; j++)
            to[k * NR + j] = j < n ? s_load(b, dtype, j * stride + k) : 0;
}

#endif
