/* SPDX-License-Identifier: Apache-2.0 */
/* merge_states: a row and head at a time, its columns in blocks that stay in
 * the L1, its states one after the other. */
#include "abi/kernels.h"
#include "abi/merge.h"
#include "cpu/lib/vec.h"

enum { MERGE_COLUMNS = 512 };

/* A row and head. */
typedef struct {
    const float *lse;
    int64_t v, out; /* elements from p->v, p->v_out */
    float m, d;     /* the greatest lse, the sum of exp2(lse - m) */
} merge_row;

INLINE float merge_lse(const fli_merge_params *p, const merge_row *r, int64_t s)
{
    return r->lse[s * p->lse_stride[1]];
}

INLINE merge_row begin_row(const fli_merge_params *p, int64_t row, int64_t head)
{
    merge_row r = {
        .out = row * p->v_out_stride[0] + head * p->v_out_stride[1],
        .m = -INFINITY,
    };

    if (p->n_states == 0) /* v and lse have any strides, and no memory */
        return r;
    r.lse = p->lse + row * p->lse_stride[0] + head;
    r.v = row * p->v_stride[0] + head * p->v_stride[2];
    for (int64_t s = 0; s < p->n_states; s++)
        r.m = merge_lse(p, &r, s) > r.m ? merge_lse(p, &r, s) : r.m;
    for (int64_t s = 0; s < p->n_states; s++)
        if (merge_lse(p, &r, s) != -INFINITY)
            r.d += s_exp2(merge_lse(p, &r, s) - r.m);
    return r;
}

/* Columns [begin, begin + n). */
INLINE void merge_columns(const fli_merge_params *p, const merge_row *r,
                          int32_t dtype, int64_t begin, int64_t n)
{
    float sum[MERGE_COLUMNS] = { 0 };

    for (int64_t s = 0; s < p->n_states; s++) {
        if (merge_lse(p, r, s) == -INFINITY)
            continue;
        const vf weight = v_set(s_exp2(merge_lse(p, r, s) - r->m));
        const int64_t v = r->v + s * p->v_stride[1] + begin;

        for (int64_t i = 0; i < n; i += VL)
            v_store(sum, FLI_ABI_F32, i,
                    v_fma(v_load_upto(p->v, dtype, v + i, n - i), weight,
                          v_load(sum, FLI_ABI_F32, i)));
    }
    for (int64_t i = 0; i < n; i += VL) {
        const vf x = v_load(sum, FLI_ABI_F32, i);

        v_store_upto(p->v_out, dtype, r->out + begin + i, n - i,
                     r->d == 0 ? x : x / r->d);
    }
}

INLINE void merge_rows(const fli_merge_params *p, int32_t dtype, int32_t ith,
                       int32_t nth)
{
    const int64_t n = p->n_rows * p->n_heads;

    for (int64_t i = n * ith / nth; i < n * (ith + 1) / nth; i++) {
        const int64_t row = i / p->n_heads, head = i % p->n_heads;
        const merge_row r = begin_row(p, row, head);

        for (int64_t c = 0; c < p->head_dim; c += MERGE_COLUMNS) {
            const int64_t left = p->head_dim - c;

            merge_columns(p, &r, dtype, c,
                          left < MERGE_COLUMNS ? left : MERGE_COLUMNS);
        }
        if (p->lse_out) /* last: it may be lse[0] */
            p->lse_out[row * p->lse_out_stride + head] =
                r.d == 0 ? -INFINITY : r.m + log2f(r.d);
    }
}

void KERNEL(merge)(void *params, int32_t ith, int32_t nth)
{
    const fli_merge_params *p = params;

#define MERGE_ROWS(DTYPE) merge_rows(p, DTYPE, ith, nth)
    FOR_DTYPE(p->dtype, MERGE_ROWS);
#undef MERGE_ROWS
}
