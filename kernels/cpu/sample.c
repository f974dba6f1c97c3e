/* SPDX-License-Identifier: Apache-2.0 */
/* sample_from_logits and sample_from_probs: the kept set of a row
 * (lib/select.h), then one draw; the token is looked for in the one block of
 * the row that the prefix sums of the blocks tell. */
#include "abi/kernels.h"
#include "abi/philox.h"
#include "abi/sample.h"
#include "cpu/lib/select.h"
#include "cpu/lib/vec.h"
#include "cpu/lib/weight.h"

static uint64_t draw(const fli_sample_params *p, int64_t i)
{
    const int own_seed = p->seeds && p->row_seeds;
    const uint64_t seed = p->seeds ? p->seeds[own_seed ? i : 0] : p->seed;
    const uint64_t offset =
        p->offsets ? p->offsets[p->row_offsets ? i : 0] : p->offset;

    return fli_philox_draw(seed, offset, own_seed ? 0 : (uint32_t)i, 0);
}

/* floor(u / 2^64 * mass) */
INLINE uint64_t part_of(uint64_t u, uint64_t mass)
{
    return (uint64_t)(((wide)u * mass) >> 64);
}

/* The least i whose inclusive prefix sum of kept weights exceeds target. */
INLINE int64_t find_token(const selection *s, int32_t kind, int32_t key,
                          uint64_t target)
{
    int64_t i = 0;

    for (int64_t block = 0; s->block_mass[block] <= target; block++) {
        target -= s->block_mass[block];
        i += s->block;
    }
    for (;; i += VL) {
        const vf x = x_load(s->r.x, kind, i, s->r.vocab - i);
        const vi kept = x_keys(x, kind) > v_seti(key - 1);
        uint64_t weight[VL];

        w_store(weight, w_and(x_weights(&s->r, kind, x), kept));
        for (int j = 0; j < VL; j++) {
            if (weight[j] > target)
                return i + j;
            target -= weight[j];
        }
    }
}

INLINE int64_t sample_normal(selection *s, int32_t kind, const filter *f,
                             uint64_t u)
{
    select_open(s);
    const int32_t key = kept_key(s, kind, f);
    const uint64_t mass = keep_blocks(s, kind, key);

    return find_token(s, kind, key, part_of(u, mass));
}

/* 0 for a row without a token. */
INLINE int sample_row(selection *s, int32_t kind, const filter *f, uint64_t u,
                      int32_t *token)
{
    int64_t i = 0;
    const row_state state = row_open(&s->r, kind);

    if (state == ROW_ONE) /* top is kept by every filter */
        i = find_top(&s->r, kind, 0);
    else if (state == ROW_INF)
        i = find_top(&s->r, kind,
                     (int64_t)part_of(u, (uint64_t)count_top(&s->r, kind) << 41)
                         >> 41);
    else if (state == ROW_NORMAL)
        i = sample_normal(s, kind, f, u);
    *token = (int32_t)i;
    return state != ROW_NONE;
}

INLINE void sample_rows(const fli_sample_params *p, selection *s, int32_t kind,
                        int32_t ith, int32_t nth)
{
    const int64_t n = p->n_out;

    for (int64_t i = n * ith / nth; i < n * (ith + 1) / nth; i++) {
        const int64_t from = p->indices ? p->indices[i] : i;
        filter f;
        int valid = filter_of(&p->filters, i, &f);

        p->tokens[i] = 0;
        s->r = (row){
            .x = row_at(p->x, kind, from, p->x_stride),
            .vocab = p->vocab,
            .temperature =
                p->temperatures ? p->temperatures[i] : p->temperature,
        };
        if (valid)
            valid = sample_row(s, kind, &f, draw(p, i), &p->tokens[i]);
        if (p->valid)
            p->valid[i] = (uint8_t)valid;
    }
}

void KERNEL(sample)(void *params, int32_t ith, int32_t nth)
{
    const fli_sample_params *p = params;
    selection s; /* most of the stack that a thread may use */

#define SAMPLE_ROWS(KIND) sample_rows(p, &s, KIND, ith, nth)
    FOR_KIND(p->is_probs, p->dtype, SAMPLE_ROWS);
#undef SAMPLE_ROWS
}
