/* SPDX-License-Identifier: Apache-2.0 */
/* A token from a small top_k: the row is read once, and only what may be among
 * its k greatest values is looked at again.
 *
 * Each thread has met a greatest value so far; the k-th greatest of those, about,
 * is a bound: k elements at least are not below it.  Each block raises its bound
 * after 1, 2, 4 .. chunks and lists what is not below: a few times k in all.  The
 * first block of the cluster gets the lists and finishes alone, by comparing all
 * pairs of what top_k keeps.  A list that is too long (a row that ascends, many
 * equal values) leaves the row to sample_search.cuh. */
#ifndef FLI_CUDA_SAMPLE_FEW_CUH
#define FLI_CUDA_SAMPLE_FEW_CUH

#include "cuda/lib/sample_search.cuh"

#define FEW_OWN 1792 /* candidates of a block, at most */
#define FEW_ROW 2048

enum { FEW_INVALID = 1, FEW_OVER = 2 };

typedef struct {
    int32_t key, index;
} candidate;

typedef struct {
    union {
        struct {
            candidate list[FEW_OWN];
            int32_t greatest[FLI_SAMPLE_THREADS];
        } own;                  /* of this block */
        uint64_t mass[FEW_ROW]; /* of row's, in the first block, at last */
    } u;
    candidate row[FEW_ROW]; /* in the first block */
    int32_t n_own, n_row, n_kept, top;
    uint32_t flags; /* FEW_*, in the first block */
} few_memory;

/* --- the k-th greatest ----------------------------------------------------- */

/* A key that at least k of n are not below, and at most slack more unless they
 * are equal; low if less than k are above it.  None is at high or above.  By all
 * threads of the block. */
OUTLINE int32_t kth_key(const int32_t *key, int32_t stride, int32_t n,
                        int32_t k, int32_t slack, int32_t low, int32_t high)
{
#pragma unroll 1
    while ((uint32_t)high - (uint32_t)low > 1) {
        const int32_t middle =
            (int32_t)((uint32_t)low + ((uint32_t)high - (uint32_t)low) / 2);
        int32_t count = 0;

#pragma unroll 1
        for (int32_t from = 0; from < n; from += FLI_SAMPLE_THREADS) {
            const int32_t i = from + (int32_t)threadIdx.x;

            count += __syncthreads_count(i < n && key[i * stride] >= middle);
        }
        if (count < k) {
            high = middle;
            continue;
        }
        low = middle;
        if (count <= k + slack)
            break;
    }
    return low;
}

/* --- reading --------------------------------------------------------------- */

/* Lists what is not below bound, of few lanes if any.  Values are read again, for
 * want of registers that an index could choose. */
DEVICE void list_chunk(const row *r, few_memory *s, int32_t v, float bound,
                       const float x[CHUNK * VEC])
{
    uint32_t left = 0;

#pragma unroll
    for (int32_t i = 0; i < CHUNK * VEC; i++)
        left |= (x[i] >= bound ? 1u : 0u) << i;
    int32_t at = atomicAdd(&s->n_own, __popc(left));

#pragma unroll 1
    for (; left; left &= left - 1, at++) {
        const int32_t bit = __ffs((int32_t)left) - 1;
        const int32_t index =
            (v + bit / VEC * FLI_SAMPLE_THREADS) * VEC + bit % VEC;

        if (at < FEW_OWN) {
            s->u.own.list[at].key = key_of(load_f32(r->x, FLI_DTYPE, index));
            s->u.own.list[at].index = index - r->head;
        }
    }
}

/* Lists this block's candidates; returns the bound. */
DEVICE int32_t list_block(const row *r, few_memory *s, int32_t k)
{
    const int32_t thread = (int32_t)threadIdx.x;
    const int32_t step = CHUNK * FLI_SAMPLE_THREADS;
    float greatest = FLI_PROBS ? 0 : -INFINITY_F, least = 0;
    int32_t bound = BOTTOM_KEY + 1, chunk = 0;

#pragma unroll 1
    for (int32_t from = r->first; from < r->last; from += step, chunk++) {
        uint4 bits[CHUNK];
        float x[CHUNK * VEC], max = FLI_PROBS ? 0 : -INFINITY_F;

        load_chunk(r, from + thread, FLI_SAMPLE_THREADS, r->last, CHUNK, bits);
#pragma unroll
        for (int32_t j = 0; j < CHUNK; j++)
            unpack_vec(bits[j], FLI_DTYPE, x + j * VEC);
#pragma unroll
        for (int32_t i = 0; i < CHUNK * VEC; i++) {
            max = max_nan(max, x[i]);
            if (FLI_PROBS)
                least = fminf(least, x[i]);
        }
        greatest = max_nan(greatest, max);
        if ((chunk & (chunk + 1)) == 0 || from + step >= r->last) {
            s->u.own.greatest[thread] = key_of(greatest);
            bound = kth_key(s->u.own.greatest, 1, FLI_SAMPLE_THREADS, k, k / 8,
                            bound, 0x7f800001);
        }
        if (max >= float_of_key(bound))
            list_chunk(r, s, from + thread, float_of_key(bound), x);
    }
    if (greatest != greatest || least < 0)
        atomicOr(&((few_memory *)cluster_peer(s, 0))->flags, FEW_INVALID);
    return bound;
}

/* This block's candidates to the first block. */
DEVICE void push_block(const row *r, few_memory *s, int32_t bound)
{
    few_memory *const to = (few_memory *)cluster_peer(s, 0);
    const int32_t n = MIN(s->n_own, FEW_OWN);

    if (s->n_own > FEW_OWN && threadIdx.x == 0)
        atomicOr(&to->flags, FEW_OVER);
#pragma unroll 1
    for (int32_t from = r->warp * 32; from < n; from += FLI_SAMPLE_THREADS) {
        const int32_t i = from + r->lane;
        const int32_t is_above = i < n && s->u.own.list[i].key >= bound;
        const uint32_t lanes = __ballot_sync(ALL_LANES, is_above);
        int32_t at = 0;

        if (lanes && r->lane == 0)
            at = atomicAdd(&to->n_row, __popc(lanes));
        at = __shfl_sync(ALL_LANES, at, 0)
             + __popc(lanes & ((1u << r->lane) - 1));
        if (is_above && at < FEW_ROW)
            to->row[at] = s->u.own.list[i];
    }
}

/* --- the first block's end ------------------------------------------------- */

/* Keeps what has at least key, in no order, and weighs it. */
DEVICE void keep_row(const row *r, few_memory *s, int32_t key)
{
    const int32_t thread = (int32_t)threadIdx.x;
    candidate mine[FEW_ROW / FLI_SAMPLE_THREADS];

#pragma unroll
    for (int32_t j = 0; j < FEW_ROW / FLI_SAMPLE_THREADS; j++) {
        const int32_t i = thread + j * FLI_SAMPLE_THREADS;

        mine[j].key = BOTTOM_KEY;
        if (i < s->n_row)
            mine[j] = s->row[i];
    }
    __syncthreads();
#pragma unroll
    for (int32_t j = 0; j < FEW_ROW / FLI_SAMPLE_THREADS; j++)
        if (mine[j].key >= key)
            s->row[atomicAdd(&s->n_kept, 1)] = mine[j];
    __syncthreads();
#pragma unroll 1
    for (int32_t i = thread; i < s->n_kept; i += FLI_SAMPLE_THREADS)
        s->u.mass[i] = mass_of(&r->w, float_of_key(s->row[i].key));
    __syncthreads();
}

/* The mass before kept candidate i, in the order of falling keys or of indices;
 * *all is the mass of all. */
OUTLINE uint64_t mass_before(const few_memory *s, int32_t i, int32_t by_key,
                             uint64_t *all)
{
    const int32_t mine = by_key ? s->row[i].key : -s->row[i].index;
    uint64_t before = 0, sum = 0;

#pragma unroll 4
    for (int32_t j = 0; j < s->n_kept; j++) {
        const int32_t other = by_key ? s->row[j].key : -s->row[j].index;

        sum += s->u.mass[j];
        before += other > mine ? s->u.mass[j] : 0;
    }
    *all = sum;
    return before;
}

/* Takes the mass of what top_p and min_p do not keep. */
DEVICE void thin_row(const row *r, few_memory *s, const filter *f)
{
    const uint64_t least = share_of(f->min_p, mass_of(&r->w, r->w.max));
    uint32_t dropped = 0;

    if (!(f->top_p < 1) && !(f->min_p > 0))
        return;
#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x, bit = 1; i < s->n_kept;
         i += FLI_SAMPLE_THREADS, bit *= 2) {
        uint64_t all, above = 0, limit = 1;

        if (f->top_p < 1) {
            above = mass_before(s, i, 1, &all);
            limit = limit_of(f->top_p, all);
        }
        if (above >= limit || s->u.mass[i] < least)
            dropped |= (uint32_t)bit;
    }
    __syncthreads();
#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; dropped;
         i += FLI_SAMPLE_THREADS, dropped /= 2)
        if (dropped & 1)
            s->u.mass[i] = 0;
    __syncthreads();
}

/* u are the random bits. */
DEVICE void draw_few(const few_memory *s, uint64_t u, int32_t *token)
{
#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; i < s->n_kept;
         i += FLI_SAMPLE_THREADS) {
        uint64_t all;
        const uint64_t before = mass_before(s, i, 0, &all);
        const uint64_t target = __umul64hi(u, all);

        if (before <= target && target - before < s->u.mass[i])
            *token = s->row[i].index;
    }
}

/* The greatest key listed. */
DEVICE int32_t top_of(const row *r, few_memory *s)
{
    int32_t top = BOTTOM_KEY;

#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; i < s->n_row;
         i += FLI_SAMPLE_THREADS)
        top = MAX(top, s->row[i].key);
    top = __reduce_max_sync(ALL_LANES, top);
    if (r->lane == 0)
        atomicMax(&s->top, top);
    __syncthreads();
    return s->top;
}

/* --- all of it ------------------------------------------------------------- */

/* Lists the row's candidates in the first block; FEW_*.  *bound is one of k of
 * theirs.  The other blocks have nothing more to do then, unless FEW_OVER. */
DEVICE uint32_t list_few(const row *r, few_memory *s, int32_t k, int32_t *bound)
{
    if (threadIdx.x == 0) {
        s->n_own = s->n_row = s->n_kept = 0;
        s->top = BOTTOM_KEY;
        s->flags = 0;
    }
    /* all of the first block's flags are clear before any is raised */
    cluster_sync(r->n_blocks);
    *bound = list_block(r, s, k);
    __syncthreads();
    push_block(r, s, *bound);
    cluster_sync(r->n_blocks);
    const few_memory *const first = (const few_memory *)cluster_peer(s, 0);
    uint32_t flags = first->flags;

    if (flags & FEW_INVALID)
        flags = FEW_INVALID;
    else if (first->n_row > FEW_ROW)
        flags = FEW_OVER;
    else if (!flags && !first->n_row)
        flags = FEW_INVALID;
    if (r->n_blocks > 1)
        cluster_arrive();
    return flags;
}

/* The token, by the first block. */
DEVICE void finish_few(row *r, few_memory *s, const filter *f, int32_t k,
                       int32_t bound, float temperature, uint64_t u,
                       int32_t *token)
{
    const int32_t top = top_of(r, s);
    int32_t key = top;

    weigher_init(&r->w, float_of_key(top),
                 temperature < 0x1p-64f ? 1 : temperature);
    if (r->w.max < INFINITY_F)
        key = kth_key(&s->row[0].key, 2, s->n_row, k, 0, bound, top + 1);
    keep_row(r, s, key);
    thin_row(r, s, f);
    draw_few(s, u, token);
}

#endif
