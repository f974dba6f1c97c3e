/* SPDX-License-Identifier: Apache-2.0 */
/* packbits and segment_packbits: 32 elements at a time.  The parts share the
 * bytes of out, so that one long segment serves all threads. */
#include "abi/kernels.h"
#include "abi/packbits.h"
#include "cpu/lib/vec.h"

/* Bit i of the result is x[i] != 0. */
INLINE uint32_t pack_32(const uint8_t *x)
{
#if VL == 8
    const __m256i v = _mm256_loadu_si256((const void *)x);

    return ~(uint32_t)_mm256_movemask_epi8(
        _mm256_cmpeq_epi8(v, _mm256_setzero_si256()));
#elif defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128();
    const __m128i low = _mm_loadu_si128((const void *)x);
    const __m128i high = _mm_loadu_si128((const void *)(x + 16));

    return ~((uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(low, zero))
             | (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(high, zero)) << 16);
#else
    uint32_t bits = 0;

    for (int i = 0; i < 32; i++)
        bits |= (uint32_t)(x[i] != 0) << i;
    return bits;
#endif
}

/* The bits of each byte the other way round. */
INLINE uint32_t reverse_bytes(uint32_t x)
{
    x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
    x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
    return (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
}

INLINE uint32_t pack_ordered(const uint8_t *x, int little)
{
    return little ? pack_32(x) : reverse_bytes(pack_32(x));
}

/* n elements into ceil(n / 8) bytes. */
INLINE void pack(const uint8_t *x, int64_t n, uint8_t *out, int little)
{
    int64_t i = 0;

    for (; i + 32 <= n; i += 32) {
        const uint32_t bits = pack_ordered(x + i, little);

        for (int j = 0; j < 4; j++)
            out[i / 8 + j] = (uint8_t)(bits >> 8 * j);
    }
    if (i < n) {
        uint8_t last[32] = { 0 };

        memcpy(last, x + i, (size_t)(n - i));
        const uint32_t bits = pack_ordered(last, little);

        for (int64_t j = 0; j < (n - i + 7) / 8; j++)
            out[i / 8 + j] = (uint8_t)(bits >> 8 * j);
    }
}

static int64_t segment_begin(const fli_packbits_params *p, int64_t segment)
{
    if (p->indptr)
        return p->indptr[segment];
    return segment ? p->n : 0;
}

static int64_t segment_bytes(const fli_packbits_params *p, int64_t segment)
{
    return (segment_begin(p, segment + 1) - segment_begin(p, segment) + 7) / 8;
}

/* Bytes begin .. end - 1 of a segment. */
static void pack_bytes(const fli_packbits_params *p, int64_t segment,
                       uint8_t *out, int64_t begin, int64_t end)
{
    const int64_t first = segment_begin(p, segment) + 8 * begin;
    const int64_t rest = segment_begin(p, segment + 1) - first;
    const int64_t n = 8 * (end - begin) < rest ? 8 * (end - begin) : rest;

    if (p->little)
        pack(p->x + first, n, out + begin, 1);
    else
        pack(p->x + first, n, out + begin, 0);
}

void KERNEL(packbits)(void *params, int32_t ith, int32_t nth)
{
    const fli_packbits_params *p = params;
    int64_t total = 0, before = 0;

    for (int64_t i = 0; i < p->n_segments; i++)
        total += segment_bytes(p, i);
    const int64_t part_begin = total * ith / nth;
    const int64_t part_end = total * (ith + 1) / nth;

    for (int64_t i = 0; i < p->n_segments; i++) {
        const int64_t bytes = segment_bytes(p, i);
        const int64_t begin = part_begin > before ? part_begin - before : 0;
        const int64_t end =
            part_end < before + bytes ? part_end - before : bytes;

        if (begin < end)
            pack_bytes(p, i, p->out + before, begin, end);
        if (p->out_indptr && ith == 0)
            p->out_indptr[i] = (int32_t)before;
        before += bytes;
    }
    if (p->out_indptr && ith == 0)
        p->out_indptr[p->n_segments] = (int32_t)before;
}
