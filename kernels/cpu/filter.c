/* SPDX-License-Identifier: Apache-2.0 */
/* renorm_probs and mask_logits: the kept set of a row (lib/select.h), then one
 * pass that writes. */
#include "abi/kernels.h"
#include "abi/sample.h"
#include "cpu/lib/select.h"
#include "cpu/lib/vec.h"
#include "cpu/lib/weight.h"

/* What is written for elements that are not kept. */
INLINE vf dropped(int32_t kind)
{
    return v_set(kind == PROBS ? 0 : -INFINITY);
}

static float power_of_2(int32_t exponent)
{
    const int32_t bits = (exponent + 127) << 23;
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* RN(q r) of a probability whose scaled r is no normal float. */
static float share_slowly(const row *r, float x, float scale)
{
    int32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    bits &= 0x7fffffff;
    const int32_t e = bits >> 23 ? bits >> 23 : 1;
    const double q = ldexp(bits - ((e - 1) << 23), e - r->e_max - 23);
    const float share = (float)(q * (double)scale); /* the product is exact */

    return share < 0x1p-126f ? 0 : share;
}

/* q r = x (r 2^(127 - e_max)); r is in [2^-21, 2^23]. */
INLINE void renorm(const row *r, int32_t key, uint64_t mass, float *out)
{
    const float scale = 0x1p41f / (float)mass;
    const int is_plain = r->e_max >= 32 && r->e_max <= 224;
    const vf scaled = v_set(is_plain ? scale * power_of_2(127 - r->e_max) : 0);

    for (int64_t i = 0; i < r->vocab; i += VL) {
        const int64_t left = r->vocab - i;
        const vf x = x_load(r->x, PROBS, i, left);
        const vi keys = x_keys(x, PROBS);
        vf share = (vf)keys * scaled;

        if (!is_plain)
            for (int j = 0; j < VL; j++)
                share[j] = share_slowly(r, x[j], scale);
        const vi kept =
            (keys > v_seti(key - 1)) & ((vi)share > v_seti(0x007fffff));

        v_store_upto(out, FLI_ABI_F32, i, left, (vf)((vi)share & kept));
    }
}

/* The elements of key top have the same share each. */
INLINE void renorm_tops(const row *r, float *out)
{
    const float n = (float)count_top(r, PROBS);
    const vi share = (vi)v_set(0x1p41f / (n * 0x1p41f));

    for (int64_t i = 0; i < r->vocab; i += VL) {
        const int64_t left = r->vocab - i;
        const vi keys = x_keys(x_load(r->x, PROBS, i, left), PROBS);

        v_store_upto(out, FLI_ABI_F32, i, left,
                     (vf)(share & (keys == v_seti(r->top))));
    }
}

/* Logits below key become -inf, the others keep their bits. */
INLINE void mask(const row *r, int32_t kind, int32_t key, void *out)
{
    for (int64_t i = 0; i < r->vocab; i += VL) {
        const int64_t left = r->vocab - i;
        const vf x = x_load(r->x, kind, i, left);
        const vi kept = x_keys(x, kind) > v_seti(key - 1);

        v_store_upto(out, kind, i, left, v_select(kept, x, dropped(kind)));
    }
}

/* Of a row with +inf: only top_k keeps anything below. */
INLINE int32_t kept_key_of_inf(selection *s, int32_t kind, filter f)
{
    if (f.top_p < 1 || f.min_p > 0)
        return s->r.top;
    return kept_key(s, kind, &f);
}

/* 0 for a row without a kept set, of which nothing is written. */
INLINE int filter_row(selection *s, int32_t kind, const filter *f, void *out)
{
    const row_state state = row_open(&s->r, kind);

    if (state == ROW_NONE)
        return 0;
    if (kind == PROBS && state == ROW_INF) {
        renorm_tops(&s->r, out);
        return 1;
    }
    select_open(s);
    const int32_t key =
        state == ROW_INF ? kept_key_of_inf(s, kind, *f) : kept_key(s, kind, f);

    if (kind == PROBS)
        renorm(&s->r, key, keep_blocks(s, kind, key), out);
    else
        mask(&s->r, kind, key, out);
    return 1;
}

INLINE void drop_row(int32_t kind, int64_t vocab, void *out)
{
    for (int64_t i = 0; i < vocab; i += VL)
        v_store_upto(out, dtype_of(kind), i, vocab - i, dropped(kind));
}

INLINE void filter_rows(const fli_filter_params *p, selection *s, int32_t kind,
                        int32_t ith, int32_t nth)
{
    const int64_t n = p->n_rows;

    for (int64_t i = n * ith / nth; i < n * (ith + 1) / nth; i++) {
        void *out = row_at(p->out, kind, i, p->out_stride);
        filter f;
        int valid = filter_of(&p->filters, i, &f);

        s->r = (row){
            .x = row_at(p->x, kind, i, p->x_stride),
            .vocab = p->vocab,
            .temperature = 1,
        };
        if (valid)
            valid = filter_row(s, kind, &f, out);
        if (!valid)
            drop_row(kind, p->vocab, out);
        if (p->valid)
            p->valid[i] = (uint8_t)valid;
    }
}

void KERNEL(filter)(void *params, int32_t ith, int32_t nth)
{
    const fli_filter_params *p = params;
    selection s; /* most of the stack that a thread may use */

#define FILTER_ROWS(KIND) filter_rows(p, &s, KIND, ith, nth)
    FOR_KIND(p->is_probs, p->dtype, FILTER_ROWS);
#undef FILTER_ROWS
}
