/* SPDX-License-Identifier: Apache-2.0 */
/* Scans of a row with two keys, low <= high: what lies above each is counted
 * and weighed exactly, what lies between them is listed if that is little.  A
 * scan also sums what lies above high in blocks of the row: with the list
 * added they are the kept mass of each block, which a draw needs. */
#ifndef FLI_CPU_SCAN_H
#define FLI_CPU_SCAN_H

#include "cpu/lib/weight.h"

/* Together 56 KiB of the 64 that a thread may use. */
enum {
    MAX_BLOCKS = 512,
    MAX_LIST = 2048,
    MAX_MARKS = 2 * MAX_LIST, /* the memory of list_weight */
    MAX_SAMPLE = 2048
};

typedef enum { BY_COUNT, BY_MASS } measure;

/* A key and what lies above it, by measure. */
typedef struct {
    int32_t key;
    uint64_t sum[2];
} pivot;

typedef enum {
    SCAN_LIST,  /* list, weigh above high */
    SCAN_COUNT, /* list, weigh nothing */
    SCAN_BOTH,  /* weigh above low and above high */
    SCAN_ONE    /* low is high */
} scan_mode;

typedef struct {
    row r;
    int64_t block;   /* elements of a block: a power of two, >= CHUNK */
    pivot low, high; /* of the last scan */
    int scanned;     /* there was one */
    int weighed;     /* high.sum[BY_MASS] and the blocks are known */
    int low_weighed; /* low.sum[BY_MASS] too */
    int overflowed;  /* the list had no room */
    int complete;    /* the list is all between low and high */
    uint64_t mass;   /* of the row, 0: not known */
    int64_t n_listed;
    float ratio; /* elements to those of the sample, 0: not drawn */
    uint64_t block_mass[MAX_BLOCKS]; /* above high */
    int32_t list_key[MAX_LIST + VL], list_index[MAX_LIST + VL];
    uint64_t list_weight[MAX_LIST + VL];
    int32_t sample_key[MAX_SAMPLE];
    float sample_weight[MAX_SAMPLE];
} selection;

static void select_open(selection *s)
{
    s->block = CHUNK;
    while (s->block * MAX_BLOCKS < s->r.vocab)
        s->block *= 2;
    s->scanned = 0;
    s->mass = 0;
    s->ratio = 0;
}

/* --- the list ------------------------------------------------------------- */

/* A vector with elements for the list: its first index, a bit for each.  They
 * are kept in list_weight until the scan ends: no branch then depends on them.
 */
INLINE int64_t mark(selection *s, int64_t n, int64_t i, uint32_t bits)
{
    const uint32_t word = (uint32_t)i << 8 | bits;

    memcpy((char *)s->list_weight + n * (int64_t)sizeof(word), &word,
           sizeof(word));
    n += bits != 0;
    return n < MAX_MARKS ? n : MAX_MARKS;
}

INLINE void list_add(selection *s, int32_t kind, uint32_t word)
{
    const int64_t i = word >> 8;
    int32_t lane[VL];
    const vi keys = x_keys(x_load(s->r.x, kind, i, s->r.vocab - i), kind);

    memcpy(lane, &keys, sizeof(lane));
    for (uint32_t bits = word & 0xff; bits; bits &= bits - 1) {
        const int j = __builtin_ctz(bits);
        const int64_t at = s->n_listed < MAX_LIST ? s->n_listed : MAX_LIST;

        s->list_key[at] = lane[j];
        s->list_index[at] = (int32_t)(i + j);
        s->n_listed++;
    }
}

INLINE void list_make(selection *s, int32_t kind, int64_t n_marks)
{
    for (int64_t i = 0; i < n_marks && s->n_listed <= MAX_LIST; i++) {
        uint32_t word;

        memcpy(&word, (const char *)s->list_weight + i * (int64_t)sizeof(word),
               sizeof(word));
        list_add(s, kind, word);
    }
    s->overflowed = n_marks == MAX_MARKS || s->n_listed > MAX_LIST;
    if (s->overflowed)
        s->n_listed = 0;
}

/* Weighs the list; its mass. */
static uint64_t list_weigh(selection *s, int32_t kind)
{
    uint64_t sum = 0;

    for (int64_t i = 0; i < VL; i++) /* whole vectors are weighed */
        s->list_key[s->n_listed + i] = s->r.top;
    for (int64_t i = 0; i < s->n_listed; i += VL) {
        vi key;

        memcpy(&key, s->list_key + i, sizeof(key));
        w_store(s->list_weight + i, x_weights(&s->r, kind, x_of_keys(key)));
    }
    for (int64_t i = 0; i < s->n_listed; i++)
        sum += s->list_weight[i];
    return sum;
}

INLINE uint64_t list_sum(const selection *s, measure by, int32_t key)
{
    uint64_t sum = 0;

    for (int64_t i = 0; i < s->n_listed; i++) {
        const uint64_t w = by == BY_MASS ? s->list_weight[i] : 1;

        sum += w & (uint64_t) - (int64_t)(s->list_key[i] > key);
    }
    return sum;
}

/* What lies above key, which is in the list's range. */
static uint64_t list_above(const selection *s, measure by, int32_t key)
{
    return s->high.sum[by]
           + (by == BY_MASS ? list_sum(s, BY_MASS, key)
                            : list_sum(s, BY_COUNT, key));
}

/* --- scans ---------------------------------------------------------------- */

typedef struct {
    vw all, low, high;
    vi n_low, n_high; /* negative counts */
    int64_t n_marks;
} sums;

/* The vector x of elements from i on; q is that of logits. */
INLINE sums scan_step(selection *s, int32_t kind, scan_mode mode, sums sum,
                      int64_t i, vf x, vf q)
{
    const vi key = x_keys(x, kind);
    const vi over_low = key > v_seti(s->low.key);
    const vi over_high = key > v_seti(s->high.key);

    if (mode != SCAN_COUNT) {
        const vw w = kind == PROBS ? w_of_prob(&s->r, x) : w_of_q(q);

        sum.all = w_add(sum.all, w);
        sum.high = w_add(sum.high, w_and(w, over_high));
        if (mode == SCAN_BOTH)
            sum.low = w_add(sum.low, w_and(w, over_low));
    }
    sum.n_low += over_low;
    sum.n_high += over_high;
    if (mode == SCAN_LIST || mode == SCAN_COUNT)
        sum.n_marks = mark(s, sum.n_marks, i, v_bits(over_low & ~over_high));
    return sum;
}

/* n elements from i on. */
INLINE sums scan_chunk(selection *s, int32_t kind, scan_mode mode, sums sum,
                       int64_t i, int64_t n)
{
    const int with_q = kind != PROBS && mode != SCAN_COUNT;
    float q[CHUNK];

    if (with_q)
        q_of_chunk(&s->r, kind, i, n, q);
    for (int64_t j = 0; j < n; j += VL)
        sum = scan_step(s, kind, mode, sum, i + j,
                        x_load(s->r.x, kind, i + j, n - j),
                        with_q ? v_load(q, FLI_ABI_F32, j) : v_set(0));
    return sum;
}

INLINE uint64_t count_of(vi negative)
{
    uint64_t n = 0;

    for (int i = 0; i < VL; i++)
        n += (uint64_t)-negative[i];
    return n;
}

INLINE void scan_row(selection *s, int32_t kind, scan_mode mode)
{
    const int64_t vocab = s->r.vocab;
    uint64_t all = 0, low = 0, high = 0;
    sums sum = { .n_low = { 0 } };
    int64_t i = 0;

    for (int64_t block = 0; i < vocab; block++) {
        const int64_t next = (block + 1) * s->block;
        const int64_t end = next < vocab ? next : vocab;

        sum.all = sum.low = sum.high = w_zero();
        for (; i + CHUNK <= end; i += CHUNK)
            sum = scan_chunk(s, kind, mode, sum, i, CHUNK);
        sum = scan_chunk(s, kind, mode, sum, i, end - i);
        i = end;
        s->block_mass[block] = mode == SCAN_COUNT ? 0 : w_sum(sum.high);
        high += s->block_mass[block];
        all += mode == SCAN_COUNT ? 0 : w_sum(sum.all);
        low += mode == SCAN_BOTH ? w_sum(sum.low) : 0;
    }
    s->low.sum[BY_COUNT] = count_of(sum.n_low);
    s->low.sum[BY_MASS] = mode == SCAN_ONE ? high : low;
    s->high.sum[BY_COUNT] = count_of(sum.n_high);
    s->high.sum[BY_MASS] = high;
    s->mass = mode == SCAN_COUNT ? s->mass : all;
    list_make(s, kind, sum.n_marks);
}

static void scan(selection *s, int32_t kind, int32_t low, int32_t high,
                 scan_mode mode)
{
    const int lists = mode == SCAN_LIST || mode == SCAN_COUNT;

    s->scanned = 1;
    s->n_listed = 0;
    s->low.key = low;
    s->high.key = high;
#define SCAN(KIND)                                                             \
    do {                                                                       \
        if (mode == SCAN_LIST)                                                 \
            scan_row(s, KIND, SCAN_LIST);                                      \
        else if (mode == SCAN_COUNT)                                           \
            scan_row(s, KIND, SCAN_COUNT);                                     \
        else if (mode == SCAN_BOTH)                                            \
            scan_row(s, KIND, SCAN_BOTH);                                      \
        else                                                                   \
            scan_row(s, KIND, SCAN_ONE);                                       \
    } while (0)
    FOR_KIND(kind == PROBS, kind, SCAN);
#undef SCAN
    s->complete = lists ? !s->overflowed : low == high;
    s->weighed = mode != SCAN_COUNT || high == s->r.top;
    s->low_weighed = s->weighed && (!lists || s->complete);
    if (lists && s->complete)
        s->low.sum[BY_MASS] = s->high.sum[BY_MASS] + list_weigh(s, kind);
}

#endif
