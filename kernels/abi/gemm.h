/* SPDX-License-Identifier: Apache-2.0 */
/* gemm: out[m, n] = a[m, k] b[n, k]^T + bias, + out where add; f32
 * accumulation. */
#ifndef FLI_ABI_GEMM_H
#define FLI_ABI_GEMM_H

#include "abi/types.h"

/* In front of every packed blob, 64 bytes. */
typedef struct {
    uint32_t magic;   /* FLI_PACK_MAGIC */
    uint32_t isa;     /* level the blob was packed for */
    int32_t dtype;    /* of the weights */
    uint32_t version; /* of the order; a new order is a new version */
    int64_t n, k;
    uint8_t reserved[32];
} fli_pack_header;

#define FLI_PACK_MAGIC   0x4b504c46u /* "FLPK" */
#define FLI_PACK_VERSION 1u

typedef struct {
    const void *a;      /* [m, k] */
    const void *b;      /* [n, k], or NULL */
    const void *packed; /* behind the header, or NULL */
    const void *bias;   /* [n], or NULL */
    void *out;          /* [m, n] */
    int64_t m, n, k;
    int64_t a_stride, b_stride, out_stride; /* of rows */
    int32_t dtype_a, dtype_b, dtype_bias, dtype_out;
    int32_t invariant; /* the order over k must not depend on m */
    int32_t add;
} fli_gemm_params;

typedef struct {
    const void *b;
    void *packed; /* behind the header */
    int64_t n, k, b_stride;
    int32_t dtype;
    int32_t reserved;
} fli_gemm_pack_params;

#if !defined(__CUDACC_RTC__)
/* Bytes behind the header; -1 where they do not fit 63 bits. */
int64_t fli__gemm_packed_bytes_ref(int32_t dtype, int64_t n, int64_t k);
int64_t fli__gemm_packed_bytes_plain(int32_t dtype, int64_t n, int64_t k);
int64_t fli__gemm_packed_bytes_baseline(int32_t dtype, int64_t n, int64_t k);
int64_t fli__gemm_packed_bytes_avx2(int32_t dtype, int64_t n, int64_t k);
#endif

#endif
