/* SPDX-License-Identifier: Apache-2.0 */
/* Checks that the ops of sampling share. */
#ifndef FLI_SAMPLING_SAMPLING_H
#define FLI_SAMPLING_SAMPLING_H

#include <flashinfer/sampling.h>

#include "abi/sample.h"
#include "core/check.h"
#include "device/device.h"

/* The sums of 2^20 weights below 2^42 fit 63 bits. */
#define FLI__MAX_VOCAB (INT64_C(1) << 20)

/* An optional tensor of one value a row. */
fli_status fli__check_per_row(const fli_context *ctx, const char *where,
                              const char *name, const fli_tensor *tensor,
                              fli_dtype dtype, int64_t n, uint32_t flags);

/* *out is the scalar, 1 where it is not given; a tensor replaces it. */
fli_status fli__check_temperature(const char *where, const fli_tensor *tensor,
                                  float given, int32_t has_temperature,
                                  float *out);

fli_status fli__check_vocab(const char *where, int64_t vocab);

/* top_k, top_p and min_p of n output rows into *out. */
fli_status fli__filters_of(const fli_context *ctx, const char *where,
                           const fli_filter_args *args, int64_t n,
                           uint32_t flags, fli_filters *out);

/* --- sampling_cuda.c ------------------------------------------------------- */

fli__launch_fn fli__softmax_cuda, fli__sample_cuda, fli__filter_cuda;

/* Work of n rows, for fli__dispatch: one row is one part. */
static inline int64_t fli__rows_work(int64_t n, int64_t vocab)
{
    return n > 1 ? n * (vocab + 1) * (int64_t)sizeof(float) : n;
}

#endif
