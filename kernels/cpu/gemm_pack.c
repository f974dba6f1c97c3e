/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_pack: panels of NR columns, [panel][k][NR], the last filled up with
 * zeros; see gemm_tile.h. */
#include "abi/gemm.h"
#include "abi/kernels.h"
#include "cpu/lib/gemm_tile.h"
#include "cpu/lib/vec.h"

int64_t KERNEL(gemm_packed_bytes)(int32_t dtype, int64_t n, int64_t k)
{
    const int64_t bytes = (int64_t)v_dtype_bytes(dtype);
    const int64_t n_panels = n / NR + (n % NR != 0);

    if (k && n_panels > INT64_MAX / 2 / NR / bytes / k)
        return -1;
    return n_panels * NR * k * bytes;
}

/* TYPE holds the bits of an element. */
#define PACK_PANEL(TYPE)                                                       \
    INLINE void pack_panel_##TYPE(const fli_gemm_pack_params *p,               \
                                  int64_t panel)                               \
    {                                                                          \
        const int64_t col = panel * NR;                                        \
        const int64_t n = p->n - col < NR ? p->n - col : NR;                   \
        const TYPE *from = (const TYPE *)p->b + col * p->b_stride;             \
        TYPE *to = (TYPE *)p->packed + col * p->k;                             \
                                                                               \
        for (int64_t k = 0; k < p->k; k++)                                     \
            for (int64_t j = 0; j < NR; j++)                                   \
                to[k * NR + j] = j < n ? from[j * p->b_stride + k] : 0;        \
    }

PACK_PANEL(uint32_t)
PACK_PANEL(uint16_t)

void KERNEL(gemm_pack)(void *params, int32_t ith, int32_t nth)
{
    const fli_gemm_pack_params *p = params;
    const int64_t n_panels = (p->n + NR - 1) / NR;

    for (int64_t i = n_panels * ith / nth; i < n_panels * (ith + 1) / nth; i++)
        if (p->dtype == FLI_ABI_F32)
            pack_panel_uint32_t(p, i);
        else
            pack_panel_uint16_t(p, i);
}
