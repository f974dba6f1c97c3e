/* SPDX-License-Identifier: Apache-2.0 */
/* Packed weights: what gemm.c and pack.c must agree on; gemm on CUDA. */
#ifndef FLI_GEMM_GEMM_H
#define FLI_GEMM_GEMM_H

#include "abi/gemm.h"
#include "device/device.h"

/* Bytes of a blob of weights [n, k] for impl, its header included; -1 where
 * they do not fit 63 bits. */
int64_t fli__gemm_blob_bytes(const fli__impl *impl, int32_t dtype, int64_t n,
                             int64_t k);

/* "avx2", "baseline"; "ref" for the references' order. */
const char *fli__gemm_order_name(uint32_t isa);

/* --- CUDA ------------------------------------------------------------------ */

/* Up to this m portable has kernels of its own, which read b and little else. */
#define FLI__GEMM_FEW_ROWS 32

/* gemm_cublaslt.c */
const char *fli__gemm_reject_cublaslt(const void *params);
fli_status fli__gemm_cublaslt(const fli__call *call, const void *params);

/* gemm_cuda.c */
const char *fli__gemm_reject_portable(const void *params);
fli_status fli__gemm_portable(const fli__call *call, const void *params);
fli_status fli__gemm_generic(const fli__call *call, const void *params);

#endif
