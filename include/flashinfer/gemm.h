/* SPDX-License-Identifier: Apache-2.0 */
/* Dense matrix product with weights stored as [n, k], accumulated in f32. */
#ifndef FLASHINFER_GEMM_H
#define FLASHINFER_GEMM_H

#include "context.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    /* A row of out has the same bits whatever m is: an implementation whose
     * order over k depends on m refuses.  Free with packed weights; slower with
     * plain ones for up to 16 rows. */
    FLI_GEMM_BATCH_INVARIANT = 1
};

/* out = a b^T + bias, + out where add
 *
 * The weights are b, or packed (see fli_gemm_pack, CPU only), never both.  a, out and the
 * residual added in place may have any dtypes of f32, f16, bf16 each.  out must
 * not overlap a.  k = 0 gives bias (or 0).
 * Errors: INVALID_ARGUMENT on dtype, shape, stride, or a packed blob that is
 * not one, was packed for another ISA, or for another n, k or dtype;
 * UNSUPPORTED.
 * Threads: any number at once on outputs of their own.
 * Source: FlashInfer's mm_bf16; packing as in BLIS and oneDNN. */
typedef struct fli_gemm_args {
    size_t size;
    fli_tensor a;      /* [m, k] */
    fli_tensor b;      /* [n, k] */
    fli_tensor packed; /* u8 [fli_gemm_packed_bytes], 64-byte aligned */
    fli_tensor bias;   /* f32, f16, bf16 [n], or absent */
    fli_tensor out;    /* [m, n] */
    uint32_t flags;    /* FLI_GEMM_* */
    int32_t add;       /* 1: out += (read in f32, rounded once) */
} fli_gemm_args;

#define FLI_GEMM_ARGS_INIT { sizeof(fli_gemm_args) }

FLI_API fli_status fli_gemm(fli_context *ctx, const fli_gemm_args *args,
                            fli_stream stream);

/* Checks everything but data and makes ready what the op needs.  On CUDA that is
 * one kernel, which depends on m, n, the dtypes and the flags: a caller who
 * captures graphs of several m prepares each of them. */
FLI_API fli_status fli_gemm_prepare(fli_context *ctx,
                                    const fli_gemm_args *args);

/* Bytes that packing weights [n, k] of dtype takes on ctx; 0 on bad arguments,
 * with the reason in fli_last_error. */
FLI_API size_t fli_gemm_packed_bytes(const fli_context *ctx, int32_t dtype,
                                     int64_t n, int64_t k);

/* Rearranges b into the order that the kernels of ctx read, with a header that
 * names ISA, dtype, n and k.  A blob is right only for contexts of the same
 * ISA; elsewhere fli_gemm refuses it.  b may be freed afterwards.  UNSUPPORTED on
 * CUDA, whose kernels read b as it is. */
typedef struct fli_gemm_pack_args {
    size_t size;
    fli_tensor b;      /* f32, f16, bf16 [n, k] */
    fli_tensor packed; /* u8 [>= fli_gemm_packed_bytes], 64-byte aligned */
} fli_gemm_pack_args;

#define FLI_GEMM_PACK_ARGS_INIT { sizeof(fli_gemm_pack_args) }

FLI_API fli_status fli_gemm_pack(fli_context *ctx,
                                 const fli_gemm_pack_args *args,
                                 fli_stream stream);
FLI_API fli_status fli_gemm_pack_prepare(fli_context *ctx,
                                         const fli_gemm_pack_args *args);

#ifdef __cplusplus
}
#endif
#endif
