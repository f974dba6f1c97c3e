/* SPDX-License-Identifier: Apache-2.0 */
/* sample_from_logits and sample_from_probs: a cluster for each output row.
 *
 *   FLI_DTYPE, FLI_PROBS */
#include "abi/philox.h"
#include "cuda/lib/sample_search.cuh"

static_assert(sizeof(search_memory) <= FLI_SAMPLE_STATIC, "abi/sample.h");

/* Output row i's; x of the row, NULL for an index that is none. */
DEVICE const char *row_at(const fli_sample_params *p, int64_t i)
{
    const int64_t from = p->indices ? p->indices[i] : i;

    if (from < 0 || from >= p->n_rows)
        return 0;
    return (const char *)p->x + from * p->x_stride * dtype_bytes(FLI_DTYPE);
}

DEVICE uint64_t draw(const fli_sample_params *p, int64_t i)
{
    const uint64_t seed = p->seeds ? p->seeds[p->row_seeds ? i : 0] : p->seed;
    const uint64_t offset =
        p->offsets ? p->offsets[p->row_offsets ? i : 0] : p->offset;
    const int32_t own_seed = p->seeds && p->row_seeds;

    return fli_philox_draw(seed, offset, own_seed ? 0 : (uint32_t)i, 0);
}

/* Kept mass of a vector's elements; their sum. */
DEVICE uint64_t kept_vector(const row *r, int32_t v, int32_t to, float least,
                            uint64_t mass[VEC])
{
    uint64_t sum = 0;
    float x[VEC];

    read_vector(r, v, to, x);
#pragma unroll
    for (int32_t i = 0; i < VEC; i++) {
        mass[i] = x[i] >= least ? mass_of(&r->w, x[i]) : 0;
        sum += mass[i];
    }
    return sum;
}

/* The warp, of n with a mass in each lane's part, whose prefix passes *target:
 * part[k] of this lane is warp n_parts * lane + k's.  *target becomes what is
 * left of it. */
DEVICE int32_t find_warp(const uint64_t *mass, int32_t n, int32_t lane,
                         uint64_t *target)
{
    const int32_t n_parts = (n + 31) / 32, first = lane * n_parts;
    uint64_t sum = 0;

#pragma unroll 1
    for (int32_t i = first; i < MIN(first + n_parts, n); i++)
        sum += mass[i];
    const uint64_t prefix = warp_prefix(sum, lane);
    const uint32_t lanes = __ballot_sync(ALL_LANES, prefix > *target);
    const int32_t source = __ffs((int32_t)lanes) - 1;
    uint64_t rest = *target - (prefix - sum);
    int32_t found = first;

    if (lane == source)
        while (rest >= mass[found])
            rest -= mass[found++];
    *target = __shfl_sync(ALL_LANES, rest, source);
    return __shfl_sync(ALL_LANES, found, source);
}

/* The token in vectors from .. to - 1 of this block whose prefix sum there passes
 * target, by all threads of the block. */
DEVICE void pick(const row *r, float least, int32_t from, int32_t to,
                 uint64_t target, int32_t *token)
{
    uint64_t mass[VEC];

#pragma unroll 1
    while (to - from > FLI_SAMPLE_THREADS) {
        const int32_t step = (to - from + WARPS - 1) / WARPS;
        const int32_t begin = MIN(from + r->warp * step, to);
        const int32_t end = MIN(begin + step, to);
        uint64_t sum = 0;

#pragma unroll 1
        for (int32_t v = begin + r->lane; v < end; v += 32)
            sum += kept_vector(r, v, end, least, mass);
        sum = warp_sum_u64(sum);
        if (r->lane == 0)
            r->shared->warp[r->warp] = sum;
        __syncthreads();
        const int32_t found =
            find_warp(r->shared->warp, WARPS, r->lane, &target);

        from += found * step;
        to = MIN(from + step, to);
        __syncthreads();
    }
    const int32_t v = from + (int32_t)threadIdx.x;
    const uint64_t sum = kept_vector(r, v, to, least, mass);
    const uint64_t before = block_prefix(r, sum) - sum;

    if (before > target || target - before >= sum)
        return;
    target -= before;
    int32_t i = v * VEC - r->head;

#pragma unroll
    for (int32_t j = 0; j < VEC; j++) {
        if (target < mass[j]) {
            *token = i + j;
            return;
        }
        target -= mass[j];
    }
}

/* The token of a valid row; u are the random bits. */
DEVICE void draw_token(row *r, search_memory *s, int32_t key, uint64_t own,
                       uint64_t u, int32_t *token)
{
    const uint64_t *const slot = exchange_values(r, &own, 1);
    uint64_t target = __umul64hi(u, exchanged_sum(r, slot, 0));
    const int32_t found =
        find_warp(slot, r->n_blocks * WARPS, r->lane, &target);
    int32_t from, to;

    if (found / WARPS != r->rank)
        return;
    warp_part(r, found % WARPS, &from, &to);
    pick(r, float_of_key(key), from, to, target, token);
}

KERNEL __launch_bounds__(FLI_SAMPLE_THREADS, 2)
    fli_sample(const __grid_constant__ fli_sample_launch a)
{
    __shared__ search_memory s;
    const fli_sample_params *const p = &a.p;
    const int64_t i = blockIdx.x / (uint32_t)cluster_size();
    const int32_t is_first = cluster_rank() == 0 && threadIdx.x == 0;

    pdl_wait();
    const char *const x = row_at(p, i);
    const float temperature =
        p->temperatures ? p->temperatures[i] : p->temperature;
    const int32_t is_greedy = temperature < 0x1p-64f;
    filter f;
    int32_t is_valid = filter_of(&p->filters, i, &f) && temperature >= 0
                       && temperature < INFINITY_F && x;
    row r = row_init(x, p->vocab, &a.split, &s.shared);
    float greatest;

    if (!x && is_first)
        raise_sticky(p->sticky, FLI_STICKY_INDEX);
    is_valid = is_valid && open_row(&r, temperature, &greatest);
    pdl_launch();
    if (is_first && p->valid)
        p->valid[i] = (uint8_t)is_valid;
    if (!is_valid) {
        if (is_first)
            p->tokens[i] = 0;
        return;
    }
    scanned c;

    c.is_done = 0;
    /* only what equals the greatest weighs anything, and then the first of it */
    const int32_t is_peak = is_greedy || r.w.max == INFINITY_F;
    const int32_t key = is_peak ? r.w.top : kept_key(&r, &s, &c, &f, greatest);
    const uint64_t own = kept_mass(&r, &s, &c, key);

    draw_token(&r, &s, key, own, is_greedy ? 0 : draw(p, i), &p->tokens[i]);
}
