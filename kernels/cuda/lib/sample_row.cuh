/* SPDX-License-Identifier: Apache-2.0 */
/* A row of logits or probabilities, split over the warps of a cluster: each warp
 * has consecutive vectors, each thread reads the same ones in every pass.  What
 * fits is kept in shared memory, so that a row is read from memory once.
 *
 *   FLI_DTYPE, FLI_PROBS */
#ifndef FLI_CUDA_SAMPLE_ROW_CUH
#define FLI_CUDA_SAMPLE_ROW_CUH

#define VEC (FLI_DTYPE == FLI_ABI_F32 ? 4 : 8)

#include "abi/sample.h"
#include "cuda/lib/cluster.cuh"
#include "cuda/lib/sample_weight.cuh"
#include "cuda/lib/vector.cuh"

/* What is called from several places, or seldom: not worth a copy in each. */
#define OUTLINE static __device__ __noinline__

#define ELEMENT_BYTES (16 / VEC)
#define WARPS         (FLI_SAMPLE_THREADS / 32)
#define MAX_WARPS     (FLI_SAMPLE_BLOCKS * WARPS) /* of a row */
#define MAX_VALUES    4

/* The vectors of a row that this block has. */
extern __shared__ uint4 row_cache[];

/* What the row's warps tell each other: values of each warp, in turns, so that
 * one barrier is enough. */
typedef struct {
    uint64_t value[2][MAX_VALUES][MAX_WARPS];
    uint64_t warp[WARPS]; /* of this block */
} exchange;

typedef struct {
    const char *x; /* rounded down to 16 bytes */
    exchange *shared;
    int32_t is_cached; /* in row_cache, else x is read again */
    int32_t turn;
    int32_t lane, warp;
    int32_t rank, n_blocks;
    int32_t head, end;   /* elements, counted from x: the row's, past them */
    int32_t first, last; /* vectors of this block */
    int32_t warp_vectors;
    int32_t from, to; /* vectors of this warp */
    weigher w;
} row;

/* --- warps and blocks ---------------------------------------------------- */

DEVICE uint64_t warp_sum_u64(uint64_t x)
{
    for (int32_t i = 16; i > 0; i /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, i);
    return x;
}

/* Inclusive prefix sums over the lanes. */
DEVICE uint64_t warp_prefix(uint64_t x, int32_t lane)
{
    for (int32_t i = 1; i < 32; i *= 2) {
        const uint64_t y = __shfl_up_sync(ALL_LANES, x, i);

        x += lane >= i ? y : 0;
    }
    return x;
}

/* Inclusive prefix sums over the threads of the block; a barrier must come
 * between two calls. */
DEVICE uint64_t block_prefix(const row *r, uint64_t x)
{
    const uint64_t prefix = warp_prefix(x, r->lane);

    if (r->lane == 31)
        r->shared->warp[r->warp] = prefix;
    __syncthreads();
    return prefix
           + warp_sum_u64(r->lane < r->warp ? r->shared->warp[r->lane] : 0);
}

/* The sum over the block, of which each thread has just had its prefix. */
DEVICE uint64_t block_total(const row *r)
{
    return warp_sum_u64(r->lane < WARPS ? r->shared->warp[r->lane] : 0);
}

/* Gives n values of each warp to all of the row; each lane has them.  Ends with a
 * barrier.  Value i of warp j is then out[i * MAX_WARPS + j]. */
DEVICE const uint64_t *exchange_values(row *r, const uint64_t *value, int32_t n)
{
    uint64_t *const slot = r->shared->value[r->turn][0];

    r->turn ^= 1;
    if (r->lane < r->n_blocks) {
        uint64_t *const to =
            (uint64_t *)cluster_peer(slot, r->lane) + r->rank * WARPS + r->warp;

        for (int32_t i = 0; i < n; i++)
            to[i * MAX_WARPS] = value[i];
    }
    cluster_sync(r->n_blocks);
    return slot;
}

/* Value i of all warps together. */
DEVICE uint64_t exchanged_sum(const row *r, const uint64_t *slot, int32_t i)
{
    uint64_t sum = 0;

#pragma unroll
    for (int32_t j = 0; j < MAX_WARPS; j += 32)
        if (j + r->lane < r->n_blocks * WARPS)
            sum += slot[i * MAX_WARPS + j + r->lane];
    return warp_sum_u64(sum);
}

/* --- vectors ------------------------------------------------------------- */

/* Not in the row: of weight 0, and above nothing. */
DEVICE uint32_t pad_bits(void)
{
    if (FLI_PROBS)
        return 0;
    return FLI_DTYPE == FLI_ABI_F32    ? 0xff800000u
           : FLI_DTYPE == FLI_ABI_BF16 ? 0xff80u
                                       : 0xfc00u;
}

DEVICE int32_t is_whole(const row *r, int32_t vector)
{
    return vector * VEC >= r->head && (vector + 1) * VEC <= r->end;
}

/* A vector at an end of the row. */
OUTLINE uint4 load_edge(const char *x, int32_t head, int32_t end,
                        int32_t vector)
{
    uint32_t word[4] = { 0, 0, 0, 0 };

#pragma unroll
    for (int32_t i = 0; i < VEC; i++) {
        const int32_t at = vector * VEC + i;
        uint32_t bits = pad_bits();

        if (at >= head && at < end)
            bits = FLI_DTYPE == FLI_ABI_F32 ? ((const uint32_t *)x)[at]
                                            : ((const bits16 *)x)[at];
        word[i * ELEMENT_BYTES / 4] |= bits << i * ELEMENT_BYTES % 4 * 8;
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}

/* A vector of this block, or pads from to on. */
DEVICE void read_vector(const row *r, int32_t vector, int32_t to, float x[VEC])
{
    uint4 bits;

    if (vector < to) {
        if (r->is_cached)
            bits = row_cache[vector - r->first];
        else if (is_whole(r, vector))
            bits = ((const uint4 *)r->x)[vector];
        else
            bits = load_edge(r->x, r->head, r->end, vector);
        unpack_vec(bits, FLI_DTYPE, x);
    } else {
#pragma unroll
        for (int32_t i = 0; i < VEC; i++)
            x[i] = FLI_PROBS ? 0 : -INFINITY_F;
    }
}

/* --- opening ------------------------------------------------------------- */

/* 16 bytes to shared memory, not waited for. */
DEVICE void copy_async(uint4 *to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(to)),
                 "l"(from)
                 : "memory");
}

DEVICE void copies_wait(void)
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* The greater; NaN if one is. */
DEVICE float max_nan(float a, float b)
{
    float y;

    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}

/* Vectors of warp i of this block. */
DEVICE void warp_part(const row *r, int32_t i, int32_t *from, int32_t *to)
{
    *from = MIN(r->first + i * r->warp_vectors, r->last);
    *to = MIN(*from + r->warp_vectors, r->last);
}

/* The row of vocab elements at x. */
DEVICE row row_init(const char *x, int64_t vocab, const fli_row_split *split,
                    exchange *shared)
{
    const int32_t head = (int32_t)((uint64_t)x & 15) / ELEMENT_BYTES;
    const int32_t end = head + (int32_t)vocab;
    const int32_t n_vectors = (end + VEC - 1) / VEC;
    row r;

    r.x = x - head * ELEMENT_BYTES;
    r.shared = shared;
    r.is_cached = split->is_cached;
    r.turn = 0;
    r.lane = (int32_t)threadIdx.x % 32;
    r.warp = (int32_t)threadIdx.x / 32;
    r.rank = cluster_rank();
    r.n_blocks = cluster_size();
    r.head = head;
    r.end = end;
    r.first = MIN(r.rank * split->vectors, n_vectors);
    r.last = MIN(r.first + split->vectors, n_vectors);
    /* whole steps of 32 vectors */
    r.warp_vectors =
        (split->vectors + FLI_SAMPLE_THREADS - 1) / FLI_SAMPLE_THREADS * 32;
    warp_part(&r, r.warp, &r.from, &r.to);
    return r;
}

DEVICE void cache_row(const row *r)
{
#pragma unroll 1
    for (int32_t v = r->from + r->lane; v < r->to; v += 32)
        if (is_whole(r, v))
            copy_async(row_cache + (v - r->first), (const uint4 *)r->x + v);
        else
            row_cache[v - r->first] = load_edge(r->x, r->head, r->end, v);
    copies_wait();
}

/* The greatest value of this thread, -inf or 0 if it has none; NaN where the row
 * is invalid. */
DEVICE float thread_max(const row *r)
{
    float max = FLI_PROBS ? 0 : -INFINITY_F, min = 0;

#pragma unroll 1
    for (int32_t v = r->from + r->lane; v < r->to; v += 32) {
        float x[VEC];

        read_vector(r, v, r->to, x);
#pragma unroll
        for (int32_t i = 0; i < VEC; i++) {
            max = max_nan(max, x[i]);
            if (FLI_PROBS)
                min = fminf(min, x[i]);
        }
    }
    return min < 0 ? __int_as_float(0x7fffffff) : max;
}

/* Reads the row: *greatest is this thread's, r->w is ready for a temperature,
 * below 2^-64 being 1.  0 for a row that is invalid or empty. */
DEVICE int32_t open_row(row *r, float temperature, float *greatest)
{
    if (r->n_blocks > 1)
        cluster_arrive();
    if (r->is_cached)
        cache_row(r);
    *greatest = thread_max(r);
    /* the peers run, so that their memory is there */
    if (r->n_blocks > 1)
        cluster_wait();
    float max = *greatest;

    for (int32_t i = 16; i > 0; i /= 2)
        max = max_nan(max, __shfl_xor_sync(ALL_LANES, max, i));
    const uint64_t mine = __float_as_uint(max);
    const uint64_t *const slot = exchange_values(r, &mine, 1);

#pragma unroll 1
    for (int32_t j = r->lane; j < r->n_blocks * WARPS; j += 32)
        max = max_nan(max, __uint_as_float((uint32_t)slot[j]));
    for (int32_t i = 16; i > 0; i /= 2)
        max = max_nan(max, __shfl_xor_sync(ALL_LANES, max, i));
    if (!(max > (FLI_PROBS ? 0 : -INFINITY_F)))
        return 0;
    weigher_init(&r->w, max, temperature < 0x1p-64f ? 1 : temperature);
    return 1;
}

/* --- stores -------------------------------------------------------------- */

/* Vector v of the row to out, the output row's first element, of dtype. */
DEVICE void write_vector(const row *r, void *out, int32_t dtype, int32_t v,
                         const float y[VEC])
{
    const int32_t bytes = dtype_bytes(dtype);
    char *const at = (char *)out + (int64_t)(v * VEC - r->head) * bytes;

    if (is_whole(r, v) && ((uint64_t)at & 15) == 0) {
#pragma unroll
        for (int32_t i = 0; i < VEC * bytes / 16; i++)
            if (dtype == FLI_ABI_F32)
                ((uint4 *)at)[i] = make_uint4(__float_as_uint(y[4 * i]),
                                              __float_as_uint(y[4 * i + 1]),
                                              __float_as_uint(y[4 * i + 2]),
                                              __float_as_uint(y[4 * i + 3]));
            else
                ((uint4 *)at)[i] = pack_vec(y, dtype);
        return;
    }
#pragma unroll
    for (int32_t i = 0; i < VEC; i++)
        if (v * VEC + i >= r->head && v * VEC + i < r->end)
            store_f32(at, dtype, i, y[i]);
}

/* y to all of the row. */
DEVICE void fill_row(const row *r, void *out, int32_t dtype, float y)
{
    float all[VEC];

#pragma unroll
    for (int32_t i = 0; i < VEC; i++)
        all[i] = y;
#pragma unroll 1
    for (int32_t v = r->from + r->lane; v < r->to; v += 32)
        write_vector(r, out, dtype, v, all);
}

#endif
