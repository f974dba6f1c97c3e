/* SPDX-License-Identifier: Apache-2.0 */
/* merge: attention states of the same rows over different keys into one,
 *
 *   lse_out = log2(sum_s exp2(lse[s])),
 *   v_out = sum_s exp2(lse[s] - lse_out) * v[s].
 *
 * A state of lse -inf is empty and its v is not read; where all are, v_out is 0
 * and lse_out -inf. */
#ifndef FLI_ABI_MERGE_H
#define FLI_ABI_MERGE_H

#include "abi/types.h"

typedef struct {
    const void *v;    /* [n_rows, n_states, n_heads, head_dim] */
    const float *lse; /* [n_rows, n_states, n_heads] */
    void *v_out;      /* [n_rows, n_heads, head_dim]; may be v[:, 0] */
    float *lse_out;   /* [n_rows, n_heads], or NULL; may be lse[:, 0] */
    int64_t n_rows, n_states, n_heads, head_dim;
    int64_t v_stride[3], v_out_stride[2];
    int64_t lse_stride[2], lse_out_stride; /* of heads: 1 */
    int32_t dtype;                         /* of v and v_out: f32, f16, bf16 */
} fli_merge_params;

#endif
