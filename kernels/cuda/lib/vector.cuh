/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors: VEC elements of a row as one access.
 *
 *   VEC   elements of an access: 16 or 8 bytes, or 1 where the addresses of a
 *         call allow no more
 *
 * Loading is apart from unpacking, so that a kernel has many loads under way
 * before it waits for the first. */
#ifndef FLI_CUDA_VECTOR_CUH
#define FLI_CUDA_VECTOR_CUH

#include "cuda/lib/base.cuh"

/* VEC elements as they lie in memory, in the low bytes. */
typedef uint4 vec_bits;

/* Elements i .. i + VEC - 1 of an array of dtype, which is a constant. */
DEVICE vec_bits load_vec(const void *x, int32_t dtype, int64_t i)
{
    const char *const at = (const char *)x + i * dtype_bytes(dtype);
    vec_bits v = { 0, 0, 0, 0 };

    if (VEC * dtype_bytes(dtype) == 16) {
        v = *(const uint4 *)at;
    } else if (VEC * dtype_bytes(dtype) == 8) {
        const uint2 low = *(const uint2 *)at;

        v.x = low.x;
        v.y = low.y;
    } else if (VEC * dtype_bytes(dtype) == 4) {
        v.x = *(const uint32_t *)at;
    } else {
        v.x = *(const bits16 *)at;
    }
    return v;
}

/* 0 where i is not below n. */
DEVICE vec_bits load_vec_below(const void *x, int32_t dtype, int64_t i,
                               int64_t n)
{
    if (i < n)
        return load_vec(x, dtype, i);
    return make_uint4(0, 0, 0, 0);
}

DEVICE void store_vec(void *x, int32_t dtype, int64_t i, vec_bits v)
{
    char *const at = (char *)x + i * dtype_bytes(dtype);

    if (VEC * dtype_bytes(dtype) == 16)
        *(uint4 *)at = v;
    else if (VEC * dtype_bytes(dtype) == 8)
        *(uint2 *)at = make_uint2(v.x, v.y);
    else if (VEC * dtype_bytes(dtype) == 4)
        *(uint32_t *)at = v.x;
    else
        *(bits16 *)at = (bits16)v.x;
}

DEVICE void unpack_vec(vec_bits v, int32_t dtype, float out[VEC])
{
    const uint32_t word[] = { v.x, v.y, v.z, v.w };

#pragma unroll
    for (int32_t i = 0; i < VEC; i++) {
        const uint32_t half = i % 2 ? word[i / 2] >> 16 : word[i / 2] & 0xffff;

        if (dtype == FLI_ABI_F32)
            out[i] = __uint_as_float(word[i % 4]);
        else if (dtype == FLI_ABI_F16)
            out[i] = f32_of_f16((bits16)half);
        else
            out[i] = f32_of_bf16(half);
    }
}

/* Rounds to nearest even. */
DEVICE vec_bits pack_vec(const float in[VEC], int32_t dtype)
{
    uint32_t word[4] = { 0, 0, 0, 0 };

#pragma unroll
    for (int32_t i = 0; i < VEC; i++)
        if (dtype == FLI_ABI_F32)
            word[i % 4] = __float_as_uint(in[i]);
        else if (i % 2 == 0)
            word[i / 2] = pack_f32(in[i], in[(i + 1) % VEC], dtype);
    return make_uint4(word[0], word[1], word[2], word[3]);
}

#endif
