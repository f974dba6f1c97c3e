/* SPDX-License-Identifier: Apache-2.0 */
/* sample_from_logits and sample_from_probs: a cluster for each output row.  A small
 * top_k, and T = 0, take one pass over it (sample_few.cuh); all else the greatest
 * value, the search for a threshold where a filter is on, the kept mass, and the
 * draw: the block, the warp, the vector whose prefix passes the target.
 *
 *   FLI_DTYPE, FLI_PROBS */
#include "abi/philox.h"
#include "cuda/lib/sample_few.cuh"

typedef union {
    search_memory search;
    few_memory few;
} sample_memory;

static_assert(sizeof(sample_memory) <= FLI_SAMPLE_STATIC, "abi/sample.h");

/* What is written for an output row; valid may be NULL. */
typedef struct {
    int32_t *token;
    uint8_t *valid;
} output;

/* By one thread of the row; an invalid row's token is 0. */
DEVICE void put_valid(const row *r, const output *out, int32_t is_valid)
{
    if (r->rank != 0 || threadIdx.x != 0)
        return;
    if (out->valid)
        *out->valid = (uint8_t)is_valid;
    if (!is_valid)
        *out->token = 0;
}

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

/* The warp of this block whose prefix passes *target, which becomes what is left of
 * it. */
DEVICE int32_t find_warp(const row *r, uint64_t *target)
{
    const uint64_t mass = r->lane < WARPS ? r->shared->warp[0][r->lane] : 0;
    const uint64_t prefix = warp_prefix(mass, r->lane);
    const uint32_t lanes = __ballot_sync(ALL_LANES, prefix > *target);
    const int32_t found = __ffs((int32_t)lanes) - 1;

    *target -= __shfl_sync(ALL_LANES, prefix - mass, found);
    return found;
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
        const uint64_t sum = vectors_mass(r, begin, end, least);

        if (r->lane == 0)
            r->shared->warp[0][r->warp] = sum;
        __syncthreads();
        const int32_t found = find_warp(r, &target);

        from += found * step;
        to = MIN(from + step, to);
        __syncthreads();
    }
    const int32_t v = from + (int32_t)threadIdx.x;
    uint64_t sum = 0;
    float x[VEC];

    read_vector(r, v, to, x);
#pragma unroll
    for (int32_t j = 0; j < VEC; j++) {
        mass[j] = mass_from(&r->w, x[j], least);
        sum += mass[j];
    }
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
    const uint64_t *const slot = exchange_sums(r, &own, 1);
    uint64_t target = __umul64hi(u, exchanged_sum(r, slot, 0));

#pragma unroll 1
    for (int32_t j = 0; j < r->rank; j++) {
        if (target < slot[j])
            return;
        target -= slot[j];
    }
    if (target >= slot[r->rank])
        return;
    const int32_t found = find_warp(r, &target);
    int32_t from, to;

    warp_part(r, found, &from, &to);
    /* the sums of the warps have been read */
    __syncthreads();
    pick(r, float_of_key(key), from, to, target, token);
}

/* The token of a valid row by the search. */
DEVICE void sample_row(row *r, search_memory *s, const filter *f,
                       float temperature, uint64_t u, const output *out)
{
    float greatest;
    scanned c;

    const int32_t is_valid = open_row(r, temperature, &greatest);

    pdl_launch();
    put_valid(r, out, is_valid);
    if (!is_valid)
        return;
    c.is_done = 0;
    /* only what equals the greatest weighs anything */
    const int32_t key =
        r->w.max == INFINITY_F ? r->w.top : kept_key(r, s, &c, f, greatest);
    const uint64_t own = kept_mass(r, s, &c, key);

    draw_token(r, s, key, own, u, out->token);
}

/* The token of a valid row by its k greatest values; 0: they are too many. */
DEVICE int32_t sample_few(row *r, few_memory *s, const filter *f, int32_t k,
                          float temperature, uint64_t u, const output *out)
{
    int32_t bound;
    const uint32_t flags = list_few(r, s, k, &bound);

    if (flags != FEW_OVER) {
        pdl_launch();
        if (r->rank != 0)
            return 1;
        put_valid(r, out, flags == 0);
        if (flags == 0)
            finish_few(r, s, f, k, bound, temperature, u, out->token);
    }
    /* the others have read the flags */
    if (r->n_blocks > 1)
        cluster_wait();
    return flags != FEW_OVER;
}

KERNEL __launch_bounds__(FLI_SAMPLE_THREADS, 1)
    fli_sample(const __grid_constant__ fli_sample_launch a)
{
    __shared__ sample_memory s;
    const fli_sample_params *const p = &a.p;
    const int64_t i = blockIdx.x / (uint32_t)cluster_size();

    pdl_wait();
    const char *const x = row_at(p, i);
    const output out = { p->tokens + i, p->valid ? p->valid + i : 0 };
    const float temperature =
        p->temperatures ? p->temperatures[i] : p->temperature;
    const int32_t is_greedy = temperature < 0x1p-64f;
    filter f;
    row r = row_init(x, p->vocab, &a.split, &s.search.shared);

    if (!x && r.rank == 0 && threadIdx.x == 0)
        raise_sticky(p->sticky, FLI_STICKY_INDEX);
    if (!filter_of(&p->filters, i, &f) || !(temperature >= 0)
        || !(temperature < INFINITY_F) || !x) {
        put_valid(&r, &out, 0);
        return;
    }
    /* at T = 0 the first that equals the greatest has all the mass */
    const uint64_t u = is_greedy ? 0 : draw(p, i);
    const int32_t k = is_greedy ? 1 : f.top_k;
    const int32_t is_few = k > 0 && k <= FLI_SAMPLE_FEW
                           && (is_greedy || !(f.joint && f.top_p < 1));

    if (!is_few || !sample_few(&r, &s.few, &f, k, temperature, u, &out)) {
        f.top_k = k;
        sample_row(&r, &s.search, &f, temperature, u, &out);
    }
}
