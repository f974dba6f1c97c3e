/* SPDX-License-Identifier: Apache-2.0 */
/* What all launch structs need, in C that is also CUDA C without headers.
 *
 * A params struct is what one launch works on: raw pointers, strides in
 * elements, scalars.  The host fills it, the reference and the CPU kernels get
 * a pointer to it as the arg of a fli_task, CUDA kernels get it by value. */
#ifndef FLI_ABI_TYPES_H
#define FLI_ABI_TYPES_H

#if defined(__CUDACC_RTC__)
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned long size_t;
#define INT32_MAX 2147483647
#define FLI_FN    static __device__ __forceinline__
#else
#include <stddef.h>
#include <stdint.h>
/* Functions of these headers, which kernels on a device call too. */
#define FLI_FN static inline
#endif

/* The values of fli_dtype; src/core asserts that they agree. */
enum {
    FLI_ABI_F32 = 1,
    FLI_ABI_F16 = 2,
    FLI_ABI_BF16 = 3,
    FLI_ABI_I32 = 16,
    FLI_ABI_I64 = 17,
    FLI_ABI_U8 = 18,
    FLI_ABI_BOOL = 19
};

/* What a CUDA kernel found and went on from, as bits of *sticky: the host hears
 * of it by fli_context_check.  sticky is NULL on the CPU, where it cannot be. */
enum {
    FLI_STICKY_PAGE = 1,    /* a page id, clamped to the pool */
    FLI_STICKY_INDEX = 2,   /* a row or request index, its row skipped */
    FLI_STICKY_LENGTHS = 4, /* lengths planned on the device: nothing planned */
    FLI_STICKY_TABLE = 8 /* a page table shorter than kv_len needs, clamped */
};

#endif
