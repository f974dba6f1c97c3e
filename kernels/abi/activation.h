/* SPDX-License-Identifier: Apache-2.0 */
/* activation: out = act(x[:, :h]) * x[:, h:], act as in
 * flashinfer/activation.h. */
#ifndef FLI_ABI_ACTIVATION_H
#define FLI_ABI_ACTIVATION_H

#include "abi/types.h"

enum { FLI_ACT_SILU = 0, FLI_ACT_GELU = 1, FLI_ACT_GELU_TANH = 2 };

typedef struct {
    const void *x; /* [n_rows, 2 h] */
    void *out;     /* [n_rows, h]; may be x[:, :h] */
    int64_t n_rows, h;
    int64_t x_stride, out_stride; /* of rows */
    int32_t act;                  /* FLI_ACT_* */
    int32_t dtype;                /* of both: f32, f16, bf16 */
} fli_activation_params;

#endif
