/* SPDX-License-Identifier: Apache-2.0 */
/* What memory can do: the kernels that the others are measured beside.
 *
 *   FLI_COPY  1: out = in; 0: in is only read
 *
 * Each block moves spans of UNROLL x THREADS pieces of 16 bytes, all loads of a
 * span in flight before the first is used. */
#include "abi/ceiling.h"

#include "cuda/lib/base.cuh"

#define THREADS 512
#define UNROLL  8

KERNEL __launch_bounds__(THREADS)
    fli_ceiling(const __grid_constant__ fli_ceiling_params p)
{
    const uint4 *in = (const uint4 *)p.in;
    const int64_t span = THREADS * UNROLL;
    uint32_t bits = 0;

    pdl_wait();
    for (int64_t at = blockIdx.x * span; at < p.n; at += gridDim.x * span) {
        uint4 piece[UNROLL];

#pragma unroll
        for (int32_t i = 0; i < UNROLL; i++) {
            const int64_t from = at + i * THREADS + threadIdx.x;

            asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, "
                         "%1, %2, %3}, "
                         "[%4];"
                         : "=r"(piece[i].x), "=r"(piece[i].y), "=r"(piece[i].z),
                           "=r"(piece[i].w)
                         : "l"(in + MIN(from, p.n - 1)));
        }
#pragma unroll
        for (int32_t i = 0; i < UNROLL; i++) {
            const int64_t to = at + i * THREADS + threadIdx.x;

#if FLI_COPY
            if (to < p.n)
                ((uint4 *)p.out)[to] = piece[i];
#else
            (void)to;
            bits ^= piece[i].x ^ piece[i].y ^ piece[i].z ^ piece[i].w;
#endif
        }
    }
    /* never so for the zeros that are read, but the compiler cannot know */
    if (bits == 0x12345)
        *(uint32_t *)p.out = bits;
}
