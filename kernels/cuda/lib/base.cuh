/* SPDX-License-Identifier: Apache-2.0 */
/* What every CUDA kernel starts from: no toolkit headers, C with CUDA's keywords.
 *
 *   FLI_DTYPE   dtype of the tensor (FLI_ABI_*), where a kernel has one
 *
 * Every kernel begins with pdl_wait() before it touches memory that the launch
 * before it may have written, and may call pdl_launch() once it has nothing to
 * gain from holding the next one back. */
#ifndef FLI_CUDA_BASE_CUH
#define FLI_CUDA_BASE_CUH

#include "abi/types.h"

#define DEVICE static __device__ __forceinline__
#define KERNEL extern "C" __global__ void

#define INFINITY_F __int_as_float(0x7f800000)
#define ALL_LANES  0xffffffffu

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* 16 bits of a half or a bf16. */
typedef uint16_t bits16;

/* --- order of launches --------------------------------------------------- */

DEVICE void pdl_wait(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

DEVICE void pdl_launch(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Raises a FLI_STICKY_* bit. */
DEVICE void raise_sticky(uint32_t *sticky, uint32_t bit)
{
    atomicOr(sticky, bit);
}

/* --- conversions --------------------------------------------------------- */

DEVICE float f32_of_bf16(uint32_t low_bits)
{
    return __uint_as_float(low_bits << 16);
}

DEVICE float f32_of_f16(bits16 x)
{
    float y;

    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}

DEVICE bits16 bf16_of_f32(float x)
{
    bits16 y;

    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}

DEVICE bits16 f16_of_f32(float x)
{
    bits16 y;

    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}

/* Two rounded to nearest even, low in the low half. */
DEVICE uint32_t bf16x2_of_f32(float low, float high)
{
    uint32_t y;

    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

DEVICE uint32_t f16x2_of_f32(float low, float high)
{
    uint32_t y;

    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

DEVICE int32_t dtype_bytes(int32_t dtype)
{
    return dtype == FLI_ABI_F32 ? 4 : 2;
}

/* Element i of an array of dtype (f32, f16, bf16), which is a constant. */
DEVICE float load_f32(const void *x, int32_t dtype, int64_t i)
{
    if (dtype == FLI_ABI_F32)
        return ((const float *)x)[i];
    const bits16 bits = ((const bits16 *)x)[i];

    return dtype == FLI_ABI_BF16 ? f32_of_bf16(bits) : f32_of_f16(bits);
}

DEVICE void store_f32(void *x, int32_t dtype, int64_t i, float value)
{
    if (dtype == FLI_ABI_F32)
        ((float *)x)[i] = value;
    else
        ((bits16 *)x)[i] =
            dtype == FLI_ABI_BF16 ? bf16_of_f32(value) : f16_of_f32(value);
}

/* Two elements of a 16-bit dtype in a word, low in the low half. */
DEVICE uint32_t pack_f32(float low, float high, int32_t dtype)
{
    return dtype == FLI_ABI_BF16 ? bf16x2_of_f32(low, high)
                                 : f16x2_of_f32(low, high);
}

/* --- a warp ---------------------------------------------------------------- */

DEVICE float warp_sum(float x)
{
    for (int32_t i = 16; i > 0; i /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, i);
    return x;
}

DEVICE float warp_max(float x)
{
    for (int32_t i = 16; i > 0; i /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, i));
    return x;
}

/* --- approximations of the special function unit ------------------------- */

/* 2^x; denormal results are 0, exp2_approx(-inf) = 0. */
DEVICE float exp2_approx(float x)
{
    float y;

    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float log2_approx(float x)
{
    float y;

    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
