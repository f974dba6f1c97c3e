/* SPDX-License-Identifier: Apache-2.0 */
/* packbits and segment_packbits: a thread takes ITEMS bytes of out.  With
 * segments fli_packbits_scan, one block, writes out_indptr first, and each byte
 * finds its segment there by bisection.
 *
 *   SEGMENTS   1: segment_packbits
 *   LITTLE     1: the first element is bit 0, else bit 7 */
#include "abi/packbits.h"
#include "cuda/lib/base.cuh"

#define ITEMS        8
#define MAX_THREADS  256
#define SCAN_THREADS 1024

/* Elements of x from a byte of out to the end of its segment. */
typedef struct {
    int64_t begin, n;
} byte_span;

/* Bit i, of 0 .. 3, is byte i of word != 0; or bit 3 - i. */
DEVICE uint32_t pack_4(uint32_t word)
{
    const uint32_t low = (word & 0x7f7f7f7f) + 0x7f7f7f7f;
    const uint32_t ones = (low | word) >> 7 & 0x01010101;

    /* the product's bits 24 .. 27 are one of the four bytes each */
    return ones * (LITTLE ? 0x01020408u : 0x08040201u) >> 24 & 15;
}

DEVICE uint32_t pack_8(uint2 words)
{
    return LITTLE ? pack_4(words.x) | pack_4(words.y) << 4
                  : pack_4(words.x) << 4 | pack_4(words.y);
}

/* At most 8 of n elements. */
DEVICE uint32_t pack_byte(const uint8_t *x, int64_t n)
{
    uint32_t byte = 0;

#pragma unroll
    for (int32_t i = 0; i < 8; i++)
        if (i < n && x[i])
            byte |= LITTLE ? 1 << i : 0x80 >> i;
    return byte;
}

/* The last of segments low .. high that begins at or before byte i of out. */
DEVICE int32_t segment_of(const fli_packbits_params *p, int64_t i, int32_t low,
                          int32_t high)
{
    while (low < high) {
        const int32_t middle = high - (high - low) / 2;

        if (p->out_indptr[middle] <= i)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* What begins in byte i of out, whose segment is one of low .. high. */
DEVICE byte_span span_of(const fli_packbits_params *p, int64_t i, int32_t low,
                         int32_t high)
{
    byte_span span = { 8 * i, p->n - 8 * i };

    if (SEGMENTS) {
        const int32_t segment = segment_of(p, i, low, high);
        const int64_t end = MIN(p->indptr[segment + 1], p->n);

        span.begin = p->indptr[segment] + 8 * (i - p->out_indptr[segment]);
        span.n = span.begin < 0 ? 0 : end - span.begin;
    }
    return span;
}

/* All bytes of a block, whose elements lie end to end from x on; x is a multiple
 * of 8. */
DEVICE void pack_block(const uint8_t *x, uint8_t *out)
{
    const uint2 *const words = (const uint2 *)x;
    uint2 word[ITEMS];

#pragma unroll
    for (int32_t k = 0; k < ITEMS; k++)
        word[k] = words[k * blockDim.x + threadIdx.x];
#pragma unroll
    for (int32_t k = 0; k < ITEMS; k++)
        out[k * blockDim.x + threadIdx.x] = (uint8_t)pack_8(word[k]);
}

KERNEL __launch_bounds__(MAX_THREADS)
    fli_packbits(const __grid_constant__ fli_packbits_params p)
{
    const int64_t size = ITEMS * blockDim.x, first = blockIdx.x * size;
    int32_t low = 0, high = 0;
    int64_t n = (p.n + 7) / 8;

    pdl_wait();
    pdl_launch();
    if (SEGMENTS) {
        n = MIN(p.out_indptr[p.n_segments], p.n_out);
        if (first >= n)
            return;
        low = segment_of(&p, first, 0, (int32_t)p.n_segments - 1);
        high = segment_of(&p, first + size - 1, low, (int32_t)p.n_segments - 1);
    }
    const byte_span begin = span_of(&p, first, low, low);

    if (low == high && begin.n >= 8 * size
        && (uint64_t)(p.x + begin.begin) % 8 == 0) {
        pack_block(p.x + begin.begin, p.out + first);
        return;
    }
    for (int64_t i = first + threadIdx.x; i < MIN(n, first + size);
         i += blockDim.x) {
        const byte_span span = span_of(&p, i, low, high);

        p.out[i] = (uint8_t)pack_byte(p.x + span.begin, span.n);
    }
}

#if SEGMENTS
/* Bytes of a segment; 0 if it is not in x. */
DEVICE int32_t segment_bytes(const fli_packbits_params *p, int64_t segment)
{
    if (segment >= p->n_segments)
        return 0;
    const int64_t begin = p->indptr[segment], end = p->indptr[segment + 1];

    if (begin >= 0 && begin <= end && end <= p->n)
        return (int32_t)((end - begin + 7) / 8);
    raise_sticky(p->sticky, FLI_STICKY_INDEX);
    return 0;
}

/* The sum of x of the lanes up to this one. */
DEVICE int32_t warp_prefix_sum(int32_t x)
{
    for (uint32_t i = 1; i < 32; i *= 2) {
        const int32_t y = __shfl_up_sync(ALL_LANES, x, i);

        if (threadIdx.x % 32 >= i)
            x += y;
    }
    return x;
}

KERNEL __launch_bounds__(SCAN_THREADS)
    fli_packbits_scan(const __grid_constant__ fli_packbits_params p)
{
    __shared__ int32_t part[SCAN_THREADS / 32];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int32_t before = 0; /* bytes of the rounds before */

    pdl_wait();
    pdl_launch();
    for (int64_t first = 0; first < p.n_segments; first += SCAN_THREADS) {
        const int64_t segment = first + threadIdx.x;
        const int32_t bytes = segment_bytes(&p, segment);
        const int32_t sum = warp_prefix_sum(bytes);

        if (lane == 31)
            part[warp] = sum;
        __syncthreads();
        const int32_t sums = warp_prefix_sum(part[lane]);
        const int32_t warps_before = __shfl_sync(ALL_LANES, sums, warp - 1);

        if (segment < p.n_segments)
            p.out_indptr[segment] =
                before + (warp ? warps_before : 0) + sum - bytes;
        before += __shfl_sync(ALL_LANES, sums, 31);
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        p.out_indptr[p.n_segments] = before;
        if (before > p.n_out)
            raise_sticky(p.sticky, FLI_STICKY_INDEX);
    }
}
#endif
