/* SPDX-License-Identifier: Apache-2.0 */
/* The kept set of a row without sorting it, by all blocks of a cluster, each of
 * which comes to the same numbers.
 *
 * What top_k or top_p keep are the elements whose key is at least a threshold:
 * the least key above which lies less than a limit, a count or a mass.  A
 * histogram of the row guesses two pivots around it; a scan then counts and
 * weighs exactly what lies above each, and lists what lies between them, among
 * which the threshold is found.  Where the list has no room, or the guess was
 * wrong, the range of keys that is left is guessed again. */
#ifndef FLI_CUDA_SAMPLE_SEARCH_CUH
#define FLI_CUDA_SAMPLE_SEARCH_CUH

#include "cuda/lib/sample_row.cuh"

enum {
    BINS = 2 * FLI_SAMPLE_THREADS,
    DEPTH_SHIFT = 18, /* of a key or a logit's units: 32 bins an octave */
    WARP_LIST = 128,
    MAX_LIST = 2048, /* of a row: 21 bits of each sum to 32 */
    HEADS = 512      /* the greatest elements that are listed together */
};

typedef struct {
    exchange shared;
    uint32_t bin[2][BINS];
    int32_t own[WARPS][WARP_LIST]; /* keys that each warp listed */
    int32_t list[MAX_LIST];        /* those of the whole row */
    uint64_t before;               /* a bin that was looked for */
    int32_t found[2];
} search_memory;

typedef enum { BY_COUNT, BY_MASS } measure;

/* What the last scan found: the row's sums, and the lists. */
typedef struct {
    int32_t low, high; /* keys */
    int32_t is_done;
    int32_t is_weighed;  /* mass_high is known, or 0 above top */
    int32_t is_complete; /* the list has all between low and high */
    uint64_t all;        /* the row's mass, 0 where it was not summed */
    uint64_t mass_low, mass_high;   /* above low, above high */
    uint64_t count_low, count_high; /* likewise, of a scan that counts */
    uint64_t own_high;              /* this warp's mass above high */
    int32_t n_own;                  /* this warp's list */
    int32_t n_list;                 /* the row's, 0 unless complete */
} scanned;

/* What is searched: the least key above which lies less than limit.  It is above
 * low and at most high. */
typedef struct {
    measure by;
    uint64_t limit; /* 0: share of the row's mass, which is not known yet */
    float share;
    int32_t low, high;
    uint64_t above_high;
    float greatest; /* this thread's */
    int32_t is_few; /* guess first from the greatest of each thread */
} bracket;

/* --- bins ---------------------------------------------------------------- */

/* Bin i holds what lies i steps below the top: of keys, or of a logit's units. */
typedef struct {
    int32_t by_depth;
    int32_t top, shift;
} bins;

/* Bins of the keys in (low, high], as fine as there is room for. */
DEVICE bins bins_between(int32_t low, int32_t high)
{
    const uint32_t width = (uint32_t)high - (uint32_t)low;
    const int32_t bits = 32 - __clz((int32_t)width);
    bins b;

    b.by_depth = 0;
    b.top = high;
    b.shift = MAX(bits - 10, 0);
    return b;
}

DEVICE int32_t bin_of(const bins *b, const weigher *w, float x)
{
    const uint32_t bin =
        !FLI_PROBS && b->by_depth
            ? (uint32_t)__float2int_rz((w->max - x) * w->scale) >> b->shift
            : ((uint32_t)b->top - (uint32_t)key_of(x)) >> b->shift;

    return (int32_t)MIN(bin, BINS - 1);
}

/* The key half bins below the top of the first, about. */
DEVICE int32_t bin_key(const bins *b, const weigher *w, int32_t half)
{
    if (!FLI_PROBS && b->by_depth)
        return key_of(w->max
                      - (float)half * (float)(1 << b->shift) / (2 * w->scale));
    const int64_t key = b->top - ((int64_t)half << b->shift >> 1);

    return (int32_t)MAX(key, BOTTOM_KEY);
}

DEVICE void clear_bins(search_memory *s)
{
#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; i < BINS; i += FLI_SAMPLE_THREADS)
        s->bin[0][i] = s->bin[1][i] = 0;
    __syncthreads();
}

/* The last bin stays empty: nothing needs it, and all of a row may be there. */
DEVICE void count(search_memory *s, int32_t bin)
{
    if (bin < BINS - 1)
        atomicAdd(&s->bin[0][bin], 1);
}

/* Which bin, first or second of this thread's, has the sum reach limit, prefix
 * being the sum through both: its number to s->found[i].  Of one thread, if any. */
DEVICE void find_bin(search_memory *s, int32_t i, uint64_t limit,
                     uint64_t prefix, const uint64_t own[2])
{
    const uint64_t before = prefix - own[0] - own[1];
    const int32_t bin = 2 * (int32_t)threadIdx.x;

    if (before >= limit || prefix < limit)
        return;
    const int32_t second = before + own[0] < limit;

    s->found[i] = bin + second;
    s->before = before + (second ? own[0] : 0);
}

/* --- guesses ------------------------------------------------------------- */

/* Counts this warp's elements in (low, high]. */
DEVICE void count_row(const row *r, search_memory *s, const bins *b,
                      int32_t low, int32_t high)
{
    const float x_low = float_of_key(low), x_high = float_of_key(high);

#pragma unroll 1
    for (int32_t v = r->from; v < r->to; v += STEP) {
        float x[STEP_ELEMENTS];
        int32_t bin[STEP_ELEMENTS];

        read_step(r, v, r->to, x);
#pragma unroll
        for (int32_t i = 0; i < STEP_ELEMENTS; i++)
            /* no branch around a bin: they overlap */
            bin[i] = MIN((uint32_t)bin_of(b, &r->w, x[i])
                             | ((x[i] > x_low && x[i] <= x_high) - 1u),
                         BINS - 1u);
#pragma unroll
        for (int32_t i = 0; i < STEP_ELEMENTS; i++)
            count(s, bin[i]);
    }
}

/* The row's counts of this thread's two bins. */
DEVICE void merge_bins(const row *r, search_memory *s, uint64_t n[2])
{
    cluster_sync(r->n_blocks);
    n[0] = n[1] = 0;
#pragma unroll
    for (int32_t i = 0; i < FLI_SAMPLE_BLOCKS; i++)
        if (i < r->n_blocks) {
            const uint2 *const peer = (const uint2 *)cluster_peer(s->bin[0], i);
            const uint2 bin = peer[threadIdx.x];

            n[0] += bin.x;
            n[1] += bin.y;
        }
}

/* How far a sum of bins' masses, each counted at its middle, may be off: three
 * deviations of weights that differ by up to 1/32 octave, and a little. */
DEVICE uint64_t margin_of(uint64_t mass)
{
    const float square = (float)mass * (float)WEIGHT_ONE;

    return (uint64_t)(0.02f * sqrtf(square)) + (mass >> 12);
}

/* Pivots for the next scan.  Bins of the first round differ by 1/32 octave inside,
 * so masses are guessed well; later ones may be wide, and guesses too high.  Every
 * other of those halves the number of elements, whatever they weigh. */
OUTLINE void guess(const row *given, search_memory *s, const bracket *b,
                   int32_t round, int32_t pivot[2])
{
    const row r = *given;
    /* the first round sees the row, later ones what is left of it */
    const int32_t low = round ? b->low : BOTTOM_KEY;
    const int32_t high = round ? b->high : r.w.top;
    const uint64_t above = round ? b->above_high : 0;
    const int32_t first = 2 * (int32_t)threadIdx.x;
    const int32_t halves = b->by == BY_MASS && round > 0 && round % 2 == 0;
    bins bin = bins_between(low, high);
    uint64_t n[2], margin = 0;

    if (round == 0) {
        bin.by_depth = 1;
        bin.shift = DEPTH_SHIFT;
    }
    clear_bins(s);
    if (round == 0 && b->is_few)
        count(s, bin_of(&bin, &r.w, b->greatest));
    else
        count_row(&r, s, &bin, low, high);
    merge_bins(&r, s, n);
    for (int32_t i = 0; i < 2 && b->by == BY_MASS && !halves; i++) {
        const int32_t key = bin_key(&bin, &r.w, 2 * (first + i) + (round == 0));

        n[i] *= mass_of(&r.w, float_of_key(key));
    }
    if (threadIdx.x == 0)
        s->found[0] = s->found[1] = BINS - 1;
    const uint64_t prefix = block_prefix(&r, n[0] + n[1]);
    const uint64_t total = block_total(&r);
    const uint64_t wanted = halves     ? (total + 1) / 2
                            : b->limit ? b->limit - above
                                       : share_of(b->share, total);

    if (b->by == BY_MASS && round == 0)
        margin = margin_of(total);
    find_bin(s, 0, wanted > margin ? wanted - margin : 1, prefix, n);
    find_bin(s, 1, MIN(wanted + margin, MAX(wanted, total)), prefix, n);
    __syncthreads();
    const int32_t bin_high = s->found[0], bin_low = s->found[1];
    const int32_t with_heads =
        round == 0 && b->by == BY_COUNT && b->limit <= HEADS;

    /* whatever the guess, it is in the bracket and not empty */
    pivot[0] = bin_low == BINS - 1
                   ? b->low
                   : MAX(MIN(bin_key(&bin, &r.w, 2 * bin_low + 2), b->high - 1),
                         b->low);
    pivot[1] = with_heads ? b->high
                          : MAX(MIN(bin_key(&bin, &r.w, 2 * bin_high), b->high),
                                pivot[0] + 1);
}

/* --- scans --------------------------------------------------------------- */

typedef struct {
    uint64_t all, low, high;
    uint32_t n_high;
    int32_t n_own;
} sums;

/* Lists the elements of x between low and high, which not all lanes need have. */
DEVICE int32_t list_step(const row *r, search_memory *s, int32_t n,
                         const float x[STEP_ELEMENTS], float low, float high)
{
    const uint32_t lanes_below = (1u << r->lane) - 1;

#pragma unroll
    for (int32_t i = 0; i < STEP_ELEMENTS; i++) {
        const int32_t is_between = x[i] > low && !(x[i] > high);
        const uint32_t lanes = __ballot_sync(ALL_LANES, is_between);
        const int32_t at = n + __popc(lanes & lanes_below);

        if (is_between && at < WARP_LIST)
            s->own[r->warp][at] = key_of(x[i]);
        n += __popc(lanes);
    }
    return n;
}

DEVICE void weigh_step(const row *r, const float x[STEP_ELEMENTS], float low,
                       float high, sums *sum)
{
#pragma unroll
    for (int32_t i = 0; i < STEP_ELEMENTS; i++) {
        const uint64_t mass = mass_of(&r->w, x[i]);

        sum->all += mass;
        sum->low += x[i] > low ? mass : 0;
        sum->high += x[i] > high ? mass : 0;
    }
}

DEVICE uint32_t count_step(const float x[STEP_ELEMENTS], float high)
{
    uint32_t n = 0;

#pragma unroll
    for (int32_t i = 0; i < STEP_ELEMENTS; i++)
        n += x[i] > high;
    return n;
}

/* weigh: masses, else counts. */
DEVICE sums scan_warp(const row *r, search_memory *s, float low, float high,
                      int32_t weigh)
{
    sums sum = { 0, 0, 0, 0, 0 };

#pragma unroll 1
    for (int32_t from = r->from; from < r->to; from += STEP) {
        float x[STEP_ELEMENTS];
        int32_t is_between = 0;

        read_step(r, from, r->to, x);
        if (weigh)
            weigh_step(r, x, low, high, &sum);
        else
            sum.n_high += count_step(x, high);
#pragma unroll
        for (int32_t i = 0; i < STEP_ELEMENTS; i++)
            is_between |= x[i] > low && !(x[i] > high);
        if (__any_sync(ALL_LANES, is_between))
            sum.n_own = list_step(r, s, sum.n_own, x, low, high);
    }
    return sum;
}

/* What a warp counted, in one value: above, listed, lists without room. */
#define COUNT_BITS 24
#define COUNT_MASK (((uint64_t)1 << COUNT_BITS) - 1)

DEVICE uint64_t counts_of(uint32_t n_high, int32_t n_own)
{
    const uint64_t is_over = n_own > WARP_LIST;

    return is_over << 2 * COUNT_BITS | (uint64_t)n_high << COUNT_BITS
           | (uint32_t)n_own;
}

/* Every warp's list to every block, if they have room there; how much. */
DEVICE int32_t gather(const row *r, search_memory *s, const uint64_t *slot,
                      uint64_t counts)
{
    const int32_t n = (int32_t)(counts & COUNT_MASK);
    const int32_t n_own = (int32_t)(s->shared.warp[0][r->warp] & COUNT_MASK);
    uint64_t before = 0;

    if (counts >> 2 * COUNT_BITS || n > MAX_LIST)
        return -1;
    if (n == 0)
        return 0;
#pragma unroll 1
    for (int32_t j = 0; j < r->rank; j++)
        before += slot[j] & COUNT_MASK;
#pragma unroll 1
    for (int32_t j = 0; j < r->warp; j++)
        before += s->shared.warp[0][j] & COUNT_MASK;
    /* so many lanes for each block */
    const int32_t n_lanes = 32 / r->n_blocks;
    int32_t *const to =
        (int32_t *)cluster_peer(s->list, r->lane / n_lanes) + before;

#pragma unroll 1
    for (int32_t i = r->lane % n_lanes; i < n_own; i += n_lanes)
        to[i] = s->own[r->warp][i];
    cluster_sync(r->n_blocks);
    return n;
}

/* weigh: masses, else counts; the mass above top is known without. */
OUTLINE void scan(row *given, search_memory *s, scanned *c, int32_t low,
                  int32_t high, int32_t weigh)
{
    row r = *given;
    const sums sum =
        scan_warp(&r, s, float_of_key(low), float_of_key(high), weigh);
    const uint32_t n_high = __reduce_add_sync(ALL_LANES, sum.n_high);
    const uint64_t value[MAX_VALUES] = {
        counts_of(n_high, sum.n_own),
        warp_sum_u64(sum.all),
        warp_sum_u64(sum.low),
        warp_sum_u64(sum.high),
    };
    const uint64_t *const slot = exchange_sums(&r, value, MAX_VALUES);
    const uint64_t counts = exchanged_sum(&r, slot, 0);
    const int32_t n = gather(&r, s, slot, counts);

    given->turn = r.turn;
    c->low = low;
    c->high = high;
    c->is_done = 1;
    c->is_weighed = weigh || high == r.w.top;
    c->is_complete = n >= 0;
    c->count_high = counts >> COUNT_BITS & COUNT_MASK;
    c->count_low = c->count_high + (counts & COUNT_MASK);
    c->all = exchanged_sum(&r, slot, 1);
    c->mass_low = exchanged_sum(&r, slot, 2);
    c->mass_high = exchanged_sum(&r, slot, 3);
    c->own_high = value[3];
    c->n_own = n > 0 ? sum.n_own : 0;
    c->n_list = MAX(n, 0);
}

/* --- the search ---------------------------------------------------------- */

/* Narrows the bracket by a pivot and what lies above it. */
DEVICE void learn_pivot(bracket *b, int32_t key, uint64_t above)
{
    if (above >= b->limit) {
        b->low = MAX(b->low, key);
    } else if (key < b->high) {
        /* the threshold may be the least key allowed */
        b->high = MAX(key, b->low + 1);
        b->above_high = above;
    }
}

/* True when the last scan told the threshold, up to the list. */
DEVICE int32_t learn(const row *r, const scanned *c, bracket *b)
{
    const int32_t by_mass = b->by == BY_MASS;

    if (by_mass && !b->limit) {
        if (!c->all)
            return 0;
        b->limit = limit_of(b->share, c->all);
    }
    if (!by_mass || c->is_weighed)
        learn_pivot(b, c->high, by_mass ? c->mass_high : c->count_high);
    if (!by_mass || c->all)
        learn_pivot(b, c->low, by_mass ? c->mass_low : c->count_low);
    return b->low == b->high - 1
           || (c->is_complete && (!by_mass || c->is_weighed) && b->low >= c->low
               && b->high <= c->high);
}

/* Adds what is listed in (low, high] to bins, 21 bits of the mass to each of two. */
DEVICE void add_list(const row *r, search_memory *s, const scanned *c,
                     const bins *b, int32_t low, int32_t by_mass)
{
#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; i < c->n_list;
         i += FLI_SAMPLE_THREADS) {
        const int32_t key = s->list[i];

        if (key <= low || key > b->top)
            continue;
        const float x = float_of_key(key);
        const uint64_t mass = by_mass ? mass_of(&r->w, x) : 1;
        const int32_t bin = bin_of(b, &r->w, x);

        atomicAdd(&s->bin[0][bin], (uint32_t)mass & 0x1fffff);
        if (by_mass)
            atomicAdd(&s->bin[1][bin], (uint32_t)(mass >> 21));
    }
    __syncthreads();
}

/* The threshold, which is in the list. */
OUTLINE int32_t resolve(const row *given, search_memory *s, const scanned *c,
                        const bracket *b)
{
    const row r = *given;
    const int32_t by_mass = b->by == BY_MASS;
    uint64_t above = by_mass ? c->mass_high : c->count_high;
    int32_t low = c->low, high = c->high;

#pragma unroll 1
    while (low < high - 1) {
        const bins bin = bins_between(low, high);
        const int32_t two = 2 * (int32_t)threadIdx.x;
        uint64_t own[2];

        clear_bins(s);
        add_list(&r, s, c, &bin, low, by_mass);
        for (int32_t i = 0; i < 2; i++)
            own[i] = s->bin[0][two + i] + ((uint64_t)s->bin[1][two + i] << 21);
        find_bin(s, 0, b->limit - above, block_prefix(&r, own[0] + own[1]),
                 own);
        __syncthreads();
        high = (int32_t)(high - ((int64_t)s->found[0] << bin.shift));
        low = (int32_t)MAX((int64_t)high - ((int64_t)1 << bin.shift), low);
        above += s->before;
    }
    return high;
}

DEVICE int32_t search(row *r, search_memory *s, scanned *c, bracket *b)
{
    b->high = r->w.top;
    b->above_high = 0;
#pragma unroll 1
    for (int32_t round = 0; !c->is_done || !learn(r, c, b); round++) {
        int32_t pivot[2] = { b->low, b->high };
        /* the heads that top_k has listed, now to be weighed, are all there is */
        const int32_t is_listed = round == 0 && c->is_done && c->is_complete
                                  && b->low >= c->low && b->high <= c->high;

        if (!is_listed)
            guess(r, s, b, round, pivot);
        scan(r, s, c, pivot[0], pivot[1], b->by == BY_MASS);
    }
    if (b->low == b->high - 1)
        return b->high;
    return MAX(resolve(r, s, c, b), b->low + 1);
}

/* --- the kept set -------------------------------------------------------- */

/* The parameters of a row, valid ones. */
typedef struct {
    int32_t top_k;
    float top_p, min_p;
    int32_t joint;
} filter;

/* 0 for a bad parameter. */
DEVICE int32_t filter_of(const fli_filters *f, int64_t i, filter *out)
{
    out->top_k = f->top_ks ? f->top_ks[i] : f->top_k;
    out->top_p = f->top_ps ? f->top_ps[i] : f->top_p;
    out->min_p = f->min_ps ? f->min_ps[i] : f->min_p;
    out->joint = f->joint;
    return out->top_p == out->top_p && out->min_p == out->min_p;
}

/* The least key whose weight is at least min_p times the greatest: each warp tries
 * 32 keys at a time. */
DEVICE int32_t min_p_key(const row *r, float min_p)
{
    const uint64_t least = share_of(min_p, mass_of(&r->w, r->w.max));
    int64_t low = BOTTOM_KEY, high = r->w.top;

#pragma unroll 1
    while (low + 1 < high) {
        const int64_t step = (high - low) / 33 + 1;
        const int64_t key = MIN(low + (r->lane + 1) * step, high);
        const uint32_t lanes = __ballot_sync(
            ALL_LANES, mass_of(&r->w, float_of_key((int32_t)key)) >= least);
        const int32_t before = lanes ? __ffs((int32_t)lanes) - 1 : 32;

        high = MIN(low + (before + 1) * step, high);
        low += before * step;
    }
    return (int32_t)high;
}

/* Did the last scan tell what has at least key? */
DEVICE int32_t is_covered(const scanned *c, int32_t key)
{
    return c->is_done && c->is_weighed
           && (key - 1 == c->high
               || (c->is_complete && key - 1 >= c->low && key - 1 <= c->high));
}

/* A select, and no branch around a weight: they overlap. */
DEVICE uint64_t mass_from(const weigher *w, float x, float least)
{
    return mass_of(w, x >= least ? x : FLI_PROBS ? 0 : -INFINITY_F);
}

/* Kept mass of vectors from .. to - 1, by a warp. */
OUTLINE uint64_t vectors_mass(const row *given, int32_t from, int32_t to,
                              float least)
{
    const row r = *given;
    uint64_t sum = 0;

#pragma unroll 1
    for (int32_t v = from; v < to; v += STEP) {
        float x[STEP_ELEMENTS];

        read_step(&r, v, to, x);
#pragma unroll
        for (int32_t i = 0; i < STEP_ELEMENTS; i++)
            sum += mass_from(&r.w, x[i], least);
    }
    return warp_sum_u64(sum);
}

/* This warp's kept mass. */
DEVICE uint64_t kept_mass(const row *r, const search_memory *s,
                          const scanned *c, int32_t key)
{
    uint64_t mass = 0;

    if (!is_covered(c, key))
        return vectors_mass(r, r->from, r->to, float_of_key(key));
#pragma unroll 1
    for (int32_t i = r->lane; i < c->n_own; i += 32)
        if (s->own[r->warp][i] >= key)
            mass += mass_of(&r->w, float_of_key(s->own[r->warp][i]));
    return c->own_high + warp_sum_u64(mass);
}

/* The key from which on elements are kept; greatest is this thread's. */
DEVICE int32_t kept_key(row *r, search_memory *s, scanned *c, const filter *f,
                        float greatest)
{
    const int32_t by_k = f->top_k > 0 && f->top_k < r->end - r->head;
    int32_t key = BOTTOM_KEY + 1;
    bracket b;

    c->is_done = 0;
#pragma unroll 1
    for (int32_t by = by_k ? BY_COUNT : BY_MASS; by <= BY_MASS; by++) {
        if (by == BY_MASS && !(f->top_p < 1))
            break;
        b.by = (measure)by;
        b.limit = by == BY_COUNT ? (uint64_t)f->top_k : 0;
        b.share = f->top_p;
        b.low = key - 1;
        b.greatest = greatest;
        /* of eight times as many threads few have two of the greatest */
        b.is_few =
            by == BY_COUNT && f->top_k <= r->n_blocks * FLI_SAMPLE_THREADS / 8;
        if (by == BY_MASS && by_k && !f->joint) {
            const uint64_t own = kept_mass(r, s, c, key);
            const uint64_t *const slot = exchange_sums(r, &own, 1);

            b.limit = limit_of(f->top_p, exchanged_sum(r, slot, 0));
        }
        key = search(r, s, c, &b);
    }
    return f->min_p > 0 ? MAX(key, min_p_key(r, f->min_p)) : key;
}

#endif
