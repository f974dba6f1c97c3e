/* SPDX-License-Identifier: Apache-2.0 */
/* rmsnorm and fused_add_rmsnorm: a row at a time in two passes, the second from
 * cache.  Four accumulators hide the latency of the sum. */
#include "abi/kernels.h"
#include "abi/norm.h"
#include "cpu/lib/vec.h"

/* Element i of the sum x + residual (residual NULL: of x). */
INLINE vf load_sum(const void *x, const void *residual, int32_t dtype,
                   int64_t i, int64_t n)
{
    const vf v = v_load_upto(x, dtype, i, n);

    return residual ? v + v_load_upto(residual, dtype, i, n) : v;
}

INLINE float mean_square(const void *x, const void *residual, int32_t dtype,
                         int64_t hidden)
{
    vf sum[4] = { { 0 } };
    int64_t i = 0;

    for (; i + 4 * VL <= hidden; i += 4 * VL)
        for (int j = 0; j < 4; j++) {
            const vf v = load_sum(x, residual, dtype, i + j * VL, VL);

            sum[j] = v_fma(v, v, sum[j]);
        }
    for (; i < hidden; i += VL) {
        const vf v = load_sum(x, residual, dtype, i, hidden - i);

        sum[0] = v_fma(v, v, sum[0]);
    }
    return v_sum((sum[0] + sum[1]) + (sum[2] + sum[3])) / (float)hidden;
}

INLINE void norm_row(const fli_norm_params *p, int32_t dtype, const void *x,
                     void *residual, void *out)
{
    const vf scale =
        v_set(1 / sqrtf(mean_square(x, residual, dtype, p->hidden) + p->eps));

    for (int64_t i = 0; i < p->hidden; i += VL) {
        const int64_t n = p->hidden - i;
        const vf v = load_sum(x, residual, dtype, i, n);
        const vf w = v_load_upto(p->weight, dtype, i, n);

        if (residual)
            v_store_upto(residual, dtype, i, n, v);
        v_store_upto(out, dtype, i, n, v * scale * w);
    }
}

/* Address of row [outer, inner]; NULL stays NULL. */
INLINE void *row_of(const void *data, const int64_t *stride, int64_t outer,
                    int64_t inner, int32_t dtype)
{
    const int64_t bytes = (int64_t)v_dtype_bytes(dtype);

    return data ? (char *)data + (outer * stride[0] + inner * stride[1]) * bytes
                : NULL;
}

INLINE void norm_rows(const fli_norm_params *p, int32_t dtype, int32_t ith,
                      int32_t nth)
{
    const int64_t n = p->n_outer * p->n_inner;

    for (int64_t i = n * ith / nth; i < n * (ith + 1) / nth; i++) {
        const int64_t outer = i / p->n_inner, inner = i % p->n_inner;

        norm_row(p, dtype, row_of(p->x, p->x_stride, outer, inner, dtype),
                 row_of(p->residual, p->residual_stride, outer, inner, dtype),
                 row_of(p->out, p->out_stride, outer, inner, dtype));
    }
}

void KERNEL(norm)(void *params, int32_t ith, int32_t nth)
{
    const fli_norm_params *p = params;

#define NORM_ROWS(DTYPE) norm_rows(p, DTYPE, ith, nth)
    FOR_DTYPE(p->dtype, NORM_ROWS);
#undef NORM_ROWS
}
