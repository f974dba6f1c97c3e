/* SPDX-License-Identifier: Apache-2.0 */
/* norm: out = x * rsqrt(mean(x^2) + eps) * weight over rows of hidden elements.
 * Rows are [n_outer, n_inner]; with residual, x += residual first and the sum
 * is written back to residual. */
#ifndef FLI_ABI_NORM_H
#define FLI_ABI_NORM_H

#include "abi/types.h"

typedef struct {
    const void *x;      /* [n_outer, n_inner, hidden] */
    const void *weight; /* [hidden] */
    void *out;          /* as x; may be x */
    void *residual;     /* as x, or NULL */
    int64_t n_outer, n_inner, hidden;
    int64_t x_stride[2], out_stride[2], residual_stride[2];
    float eps;
    int32_t dtype; /* of all: f32, f16, bf16 */
} fli_norm_params;

#endif
