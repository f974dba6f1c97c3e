/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of gemm_pack: a compact copy of b [n, k]. */
#include "abi/gemm.h"

#include "abi/kernels.h"
#include "ref/real.h"

static int64_t element_bytes(int32_t dtype)
{
    return dtype == FLI_ABI_F32 ? 4 : 2;
}

int64_t REF(gemm_packed_bytes)(int32_t dtype, int64_t n, int64_t k)
{
    const int64_t bytes = element_bytes(dtype);

    return k && n > INT64_MAX / 2 / bytes / k ? -1 : n * k * bytes;
}

void REF(gemm_pack)(void *params, int32_t ith, int32_t nth)
{
    const fli_gemm_pack_params *p = params;
    const int64_t bytes = element_bytes(p->dtype);

    for (int64_t row = ith; row < p->n; row += nth)
        memcpy((char *)p->packed + row * p->k * bytes,
               (const char *)p->b + row * p->b_stride * bytes,
               (size_t)(p->k * bytes));
}
