/* SPDX-License-Identifier: Apache-2.0 */
/* Packed weights: what gemm.c and pack.c must agree on. */
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

#endif
