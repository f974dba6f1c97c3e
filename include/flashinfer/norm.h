/* SPDX-License-Identifier: Apache-2.0 */
/* RMS normalisation over the last dimension, accumulated in f32.
 *
 * Errors: INVALID_ARGUMENT, UNSUPPORTED.  Threads: any number at once on
 * outputs of their own.  Every <op>_prepare checks everything but data. */
#ifndef FLASHINFER_NORM_H
#define FLASHINFER_NORM_H

#include "context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out = x / sqrt(mean(x^2) + eps) * weight
 *
 * x and out have 2 dimensions, or 3 (a norm of each head); out = x with the
 * same strides is allowed.  Source: FlashInfer's rmsnorm. */
typedef struct fli_rmsnorm_args {
    size_t size;
    fli_tensor x;      /* f32, f16, bf16 [.., hidden] */
    fli_tensor weight; /* dtype of x [hidden] */
    fli_tensor out;    /* as x */
    float eps;         /* > 0; 0: 1e-6 */
    int32_t reserved;
} fli_rmsnorm_args;

#define FLI_RMSNORM_ARGS_INIT { sizeof(fli_rmsnorm_args) }

FLI_API fli_status fli_rmsnorm(fli_context *ctx, const fli_rmsnorm_args *args,
                               fli_stream stream);
FLI_API fli_status fli_rmsnorm_prepare(fli_context *ctx,
                                       const fli_rmsnorm_args *args);

/* residual = residual + x, rounded to its dtype; x = rmsnorm(residual) *
 * weight, where the norm takes the sum before it is rounded.  Both in place; x
 * and residual must not overlap.  Source: FlashInfer's fused_add_rmsnorm. */
typedef struct fli_fused_add_rmsnorm_args {
    size_t size;
    fli_tensor x;        /* f32, f16, bf16 [n_rows, hidden], overwritten */
    fli_tensor residual; /* as x, overwritten */
    fli_tensor weight;   /* dtype of x [hidden] */
    float eps;           /* > 0; 0: 1e-6 */
    int32_t reserved;
} fli_fused_add_rmsnorm_args;

#define FLI_FUSED_ADD_RMSNORM_ARGS_INIT { sizeof(fli_fused_add_rmsnorm_args) }

FLI_API fli_status fli_fused_add_rmsnorm(fli_context *ctx,
                                         const fli_fused_add_rmsnorm_args *args,
                                         fli_stream stream);
FLI_API fli_status fli_fused_add_rmsnorm_prepare(
    fli_context *ctx, const fli_fused_add_rmsnorm_args *args);

#ifdef __cplusplus
}
#endif
#endif
