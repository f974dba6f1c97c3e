/* SPDX-License-Identifier: Apache-2.0 */
/* Gated activations: out = act(x[.., :h]) * x[.., h:], computed in f32.
 *
 *   fli_silu_and_mul       act(x) = x / (1 + exp(-x))
 *   fli_gelu_and_mul       act(x) = x / 2 * (1 + erf(x / sqrt 2))
 *   fli_gelu_tanh_and_mul  act(x) = x / 2 * (1 + tanh(sqrt(2 / pi)
 *                                             * (x + 0.044715 x^3)))
 *
 * Errors: INVALID_ARGUMENT, UNSUPPORTED.  Threads: any number at once on
 * outputs of their own.  Every <op>_prepare checks everything but data.
 * Source: FlashInfer's functions of these names. */
#ifndef FLASHINFER_ACTIVATION_H
#define FLASHINFER_ACTIVATION_H

#include "context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fli_act_and_mul_args {
    size_t size;
    fli_tensor x;   /* f32, f16, bf16 [n_rows, 2 h] */
    fli_tensor out; /* dtype of x [n_rows, h]; must not overlap x, except that
                       it may be x[:, :h] */
} fli_act_and_mul_args;

#define FLI_ACT_AND_MUL_ARGS_INIT { sizeof(fli_act_and_mul_args) }

FLI_API fli_status fli_silu_and_mul(fli_context *ctx,
                                    const fli_act_and_mul_args *args,
                                    fli_stream stream);
FLI_API fli_status fli_gelu_and_mul(fli_context *ctx,
                                    const fli_act_and_mul_args *args,
                                    fli_stream stream);
FLI_API fli_status fli_gelu_tanh_and_mul(fli_context *ctx,
                                         const fli_act_and_mul_args *args,
                                         fli_stream stream);
FLI_API fli_status fli_silu_and_mul_prepare(fli_context *ctx,
                                            const fli_act_and_mul_args *args);
FLI_API fli_status fli_gelu_and_mul_prepare(fli_context *ctx,
                                            const fli_act_and_mul_args *args);
FLI_API fli_status fli_gelu_tanh_and_mul_prepare(
    fli_context *ctx, const fli_act_and_mul_args *args);

#ifdef __cplusplus
}
#endif
#endif
