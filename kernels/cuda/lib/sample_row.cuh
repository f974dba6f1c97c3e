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
#define MAX_VALUES    4
/* Vectors that a thread has under way at once, for 16 elements. */
#define CHUNK (16 / VEC)

/* A pass does 8 elements of a thread at a time, whose weights overlap. */
#define STEP_ELEMENTS 8
#define STEP          (32 * STEP_ELEMENTS / VEC) /* vectors of a warp */

/* The vectors of a row that this block has. */
extern __shared__ uint4 row_cache[];

/* What the row's blocks tell each other, in turns, so that one barrier of the
 * cluster is enough. */
typedef struct {
    uint64_t block[2][MAX_VALUES][FLI_SAMPLE_BLOCKS];
    uint64_t warp[MAX_VALUES][WARPS]; /* of this block's warps */
    uint64_t prefix[WARPS];
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
        r->shared->prefix[r->warp] = prefix;
    __syncthreads();
    return prefix
           + warp_sum_u64(r->lane < r->warp ? r->shared->prefix[r->lane] : 0);
}

/* The sum over the block, of which each thread has just had its prefix. */
DEVICE uint64_t block_total(const row *r)
{
    return warp_sum_u64(r->lane < WARPS ? r->shared->prefix[r->lane] : 0);
}

/* Gives the sums of n values of each warp to all blocks of the row.  Ends with a
 * barrier.  Value i of block j is then out[i * FLI_SAMPLE_BLOCKS + j]; those of
 * this block's warps stay in shared->warp until the next exchange. */
DEVICE const uint64_t *exchange_sums(row *r, const uint64_t *value, int32_t n)
{
    uint64_t *const slot = r->shared->block[r->turn][0];

    r->turn ^= 1;
    if (r->lane == 0)
        for (int32_t i = 0; i < n; i++)
            r->shared->warp[i][r->warp] = value[i];
    __syncthreads();
    if (r->warp < n) {
        const uint64_t sum = warp_sum_u64(
            r->lane < WARPS ? r->shared->warp[r->warp][r->lane] : 0);

        if (r->lane < r->n_blocks)
            ((uint64_t *)cluster_peer(
                slot, r->lane))[r->warp * FLI_SAMPLE_BLOCKS + r->rank] = sum;
    }
    cluster_sync(r->n_blocks);
    return slot;
}

/* Value i of all blocks together. */
DEVICE uint64_t exchanged_sum(const row *r, const uint64_t *slot, int32_t i)
{
    uint64_t sum = 0;

#pragma unroll
    for (int32_t j = 0; j < FLI_SAMPLE_BLOCKS; j++)
        if (j < r->n_blocks)
            sum += slot[i * FLI_SAMPLE_BLOCKS + j];
    return sum;
}

/* The greatest x of the row.  Ends with a barrier. */
DEVICE uint32_t exchange_max(row *r, uint32_t x)
{
    uint64_t *const slot = r->shared->block[r->turn][0];

    r->turn ^= 1;
    x = __reduce_max_sync(ALL_LANES, x);
    if (r->lane == 0)
        r->shared->warp[0][r->warp] = x;
    __syncthreads();
    if (r->warp == 0) {
        x = r->lane < WARPS ? (uint32_t)r->shared->warp[0][r->lane] : 0;
        x = __reduce_max_sync(ALL_LANES, x);
        if (r->lane < r->n_blocks)
            ((uint64_t *)cluster_peer(slot, r->lane))[r->rank] = x;
    }
    cluster_sync(r->n_blocks);
    x = r->lane < r->n_blocks ? (uint32_t)slot[r->lane] : 0;
    return __reduce_max_sync(ALL_LANES, x);
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

DEVICE uint4 pad_vector(void)
{
    const uint32_t word =
        FLI_DTYPE == FLI_ABI_F32 ? pad_bits() : pad_bits() * 0x10001u;

    return make_uint4(word, word, word, word);
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

/* n vectors, step apart; pads from to on.  n is a constant. */
DEVICE void load_chunk(const row *r, int32_t v, int32_t step, int32_t to,
                       int32_t n, uint4 *bits)
{
    const int32_t last = v + (n - 1) * step;

    if (last < to && is_whole(r, v) && is_whole(r, last)) {
#pragma unroll
        for (int32_t j = 0; j < n; j++)
            bits[j] = ((const uint4 *)r->x)[v + j * step];
        return;
    }
#pragma unroll
    for (int32_t j = 0; j < n; j++)
        if (v + j * step < to && is_whole(r, v + j * step))
            bits[j] = ((const uint4 *)r->x)[v + j * step];
        else
            bits[j] = load_edge(r->x, r->head, v + j * step < to ? r->end : 0,
                                v + j * step);
}

/* This lane's elements of STEP vectors from v on, which is the warp's; pads from to
 * on. */
DEVICE void read_step(const row *r, int32_t from, int32_t to,
                      float x[STEP_ELEMENTS])
{
    const int32_t v = from + r->lane;
    uint4 bits[STEP / 32];

    if (!r->is_cached) {
        load_chunk(r, v, 32, to, STEP / 32, bits);
    } else {
        const uint4 *const cache = row_cache + (v - r->first);

#pragma unroll
        for (int32_t j = 0; j < STEP / 32; j++)
            bits[j] = v + 32 * j < to ? cache[32 * j] : pad_vector();
    }
#pragma unroll
    for (int32_t j = 0; j < STEP / 32; j++)
        unpack_vec(bits[j], FLI_DTYPE, x + j * VEC);
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

/* The greatest value of this thread, -inf or 0 if it has none; NaN where the row
 * is invalid.  Fills the cache. */
DEVICE float thread_max(const row *r)
{
    float max = FLI_PROBS ? 0 : -INFINITY_F, min = 0;

#pragma unroll 1
    for (int32_t v = r->from + r->lane; v < r->to; v += 32 * CHUNK) {
        uint4 bits[CHUNK];

        load_chunk(r, v, 32, r->to, CHUNK, bits);
#pragma unroll
        for (int32_t j = 0; j < CHUNK; j++) {
            float x[VEC];

            if (r->is_cached && v + 32 * j < r->to)
                row_cache[v + 32 * j - r->first] = bits[j];
            unpack_vec(bits[j], FLI_DTYPE, x);
#pragma unroll
            for (int32_t i = 0; i < VEC; i++) {
                max = max_nan(max, x[i]);
                if (FLI_PROBS)
                    min = fminf(min, x[i]);
            }
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
    *greatest = thread_max(r);
    /* the peers run, so that their memory is there */
    if (r->n_blocks > 1)
        cluster_wait();
    /* ascends with keys; a NaN is above all */
    const uint32_t order = (uint32_t)key_of(*greatest) ^ 0x80000000u;
    const float max = float_of_key(
        (int32_t)(exchange_max(r, *greatest != *greatest ? ALL_LANES : order)
                  ^ 0x80000000u));

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
