/* SPDX-License-Identifier: Apache-2.0 */
/* Tensor cores by mma.sync (sm_80 on) and what feeds them: ldmatrix, and copies of
 * 16 bytes to shared memory that run while the warp goes on.
 *
 * Fragments of m16n8k16, lane = 4 g + t (g of 8, t of 4), two elements of 16 bits
 * a register, the lower index in the low half:
 *
 *   a[0] = A[g][2t..], a[1] = A[g + 8][2t..], a[2] = A[g][2t + 8..],
 *   a[3] = A[g + 8][2t + 8..]
 *   b[0] = B[2t..][g], b[1] = B[2t + 8..][g]
 *   c[0], c[1] = C[g][2t], C[g][2t + 1]; c[2], c[3] = C[g + 8][2t..]
 *
 * ldmatrix: register i of lane 4 g + t holds elements 2t, 2t + 1 of row g of the
 * 8 x 8 matrix i, whose row r lies at the address of lane 8 i + r; trans: of
 * column g, rows 2t, 2t + 1. */
#ifndef FLI_CUDA_MMA_CUH
#define FLI_CUDA_MMA_CUH

#include "cuda/lib/base.cuh"

/* The address in the shared window, which the instructions below take. */
DEVICE uint32_t shared_address(const void *pointer)
{
    uint32_t address;

    asm("{ .reg .u64 wide; cvta.to.shared.u64 wide, %1;"
        " cvt.u32.u64 %0, wide; }"
        : "=r"(address)
        : "l"(pointer));
    return address;
}

/* c += a b; dtype (f16, bf16) of a and b is a constant. */
DEVICE void mma_m16n8k16(float c[4], const uint32_t a[4], const uint32_t b[2],
                         int32_t dtype)
{
    if (dtype == FLI_ABI_BF16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
            " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
            " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8 x 8 matrices; all lanes give their rows. */
DEVICE void ldmatrix_x4(uint32_t x[4], uint32_t address)
{
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
        : "r"(address)
        : "memory");
}

DEVICE void ldmatrix_x4_trans(uint32_t x[4], uint32_t address)
{
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
        : "r"(address)
        : "memory");
}

/* Copies the first bytes (0 to 16) of from, zeros behind them, 16 bytes in all, past
 * the L1; both sides are aligned to 16.  from must be an address of global memory
 * even where bytes is 0. */
DEVICE void cp_async_16_zfill(uint32_t to, const void *from, uint32_t bytes)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :
                 : "r"(to), "l"(from), "r"(bytes)
                 : "memory");
}

/* Ends a group of copies. */
DEVICE void cp_async_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most n of this thread's latest groups are under way; n is a
 * constant. */
#define CP_ASYNC_WAIT(n)                                                       \
    asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")

#endif
