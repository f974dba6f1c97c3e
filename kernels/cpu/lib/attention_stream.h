/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of few packed rows: K and V stream from memory once, are used for
 * all rows of the group where they are, and never stored anywhere.
 *
 * Tokens go in blocks of 16.  Rows go in blocks of R = 1, 2 or 4, for which 8
 * accumulators hold the dot products of 8 / R tokens, and then the same
 * registers R rows of 8 / R vectors of out.  Logits lie [token][R], so that a
 * vector holds whole tokens and nothing is ever transposed.
 *
 * The memory's latency is hidden by prefetching AHEAD tokens through the page
 * table, a line here and there between the products: in one go the prefetches
 * would wait for each other.  Where the heads of a token lie together (NHD),
 * all heads of the item take their turn on a block of tokens; else (HND) one
 * head after the other walks its pages.
 *
 * bf16 is widened without shuffles: of a vector of pairs, the low halves are
 * shifted up and the high halves masked.  q and out are kept in that order. */
#ifndef FLI_CPU_ATTENTION_STREAM_H
#define FLI_CPU_ATTENTION_STREAM_H

#include "cpu/lib/attention_work.h"

enum {
    STREAM_ROWS = 16,
    STREAM_TOKENS = 16,
    STREAM_SUMS = 8,   /* accumulators: FMA latency 4, two a cycle */
    STREAM_AHEAD = 16, /* tokens; more is slower where a token is 8 KiB */
    STREAM_RING = 32,  /* a power of two >= AHEAD + TOKENS */
    STREAM_STATE_BYTES = 256 << 10 /* states of the heads walked together */
};

/* A step: tokens t .. t + n of one head for R rows. */
typedef struct {
    const char *k, *v;
    const int64_t *k_at, *v_at; /* of each token, the last one repeated */
    const char *k_next[STREAM_TOKENS], *v_next[STREAM_TOKENS]; /* to prefetch */
    const int32_t *lo, *hi; /* what each row sees, NULL: all of the block */
    int32_t t, n;
    int32_t n_rows; /* at most R, for lo and hi */
    int32_t dim_qk, dim_vo;
    attention_logit logit;
    /* [VL] m, [VL] d: of row lane % R; [R][dim_qk] q; [R][dim_vo] o */
    float *state;
    float s[STREAM_TOKENS * 4] __attribute__((aligned(32)));
    float fade[VL];
    int fades; /* else it is all 1 */
} stream_block;

/* 2 VL elements from element i on. */
INLINE void load_pair(const char *data, int32_t dtype, int64_t i, vf pair[2])
{
    if (dtype == FLI_ABI_BF16) {
        vu bits;

        memcpy(&bits, data + 2 * i, sizeof(bits));
        pair[0] = (vf)(bits << 16);
        pair[1] = (vf)(bits & 0xffff0000u);
    } else {
        pair[0] = v_load(data, dtype, i);
        pair[1] = v_load(data, dtype, i + VL);
    }
}

/* Between the order of elements and that of load_pair. */
INLINE void reorder(float *to, const float *from, int32_t n, int32_t dtype,
                    int inverse)
{
    int32_t i = 0;

    if (dtype == FLI_ABI_BF16)
        for (; i + 2 * VL <= n; i += 2 * VL)
            for (int j = 0; j < VL; j++)
                for (int h = 0; h < 2; h++) {
                    const int32_t in = i + 2 * j + h, at = i + h * VL + j;

                    if (inverse)
                        to[in] = from[at];
                    else
                        to[at] = from[in];
                }
    memcpy(to + i, from + i, (size_t)(n - i) * sizeof(float));
}

/* sum[token][R] += the products of elements i .. i + 2 VL.  What there is less
 * of, tokens or rows, stays in registers while the other goes by. */
INLINE void stream_products(const stream_block *b, const char *const k[],
                            int32_t dtype, int R, int32_t i,
                            vf sum[STREAM_SUMS])
{
    const int tokens = STREAM_SUMS / R;
    const float *q = b->state + 2 * VL + i;

    if (tokens <= R) {
        vf x[STREAM_SUMS][2];

        UNROLL
        for (int j = 0; j < tokens; j++)
            load_pair(k[j], dtype, i, x[j]);
        UNROLL
        for (int r = 0; r < R; r++) {
            vf y = v_load(q, FLI_ABI_F32, r * b->dim_qk);
            vf z = v_load(q, FLI_ABI_F32, r * b->dim_qk + VL);

            V_KEEP(y);
            V_KEEP(z);
            UNROLL
            for (int j = 0; j < tokens; j++)
                sum[j * R + r] =
                    v_fma(x[j][1], z, v_fma(x[j][0], y, sum[j * R + r]));
        }
    } else {
        vf y[2], z[2];

        UNROLL
        for (int r = 0; r < R; r++) {
            y[r] = v_load(q, FLI_ABI_F32, r * b->dim_qk);
            z[r] = v_load(q, FLI_ABI_F32, r * b->dim_qk + VL);
        }
        UNROLL
        for (int j = 0; j < tokens; j++) {
            vf x[2];

            load_pair(k[j], dtype, i, x);
            UNROLL
            for (int r = 0; r < R; r++)
                sum[j * R + r] =
                    v_fma(x[1], z[r], v_fma(x[0], y[r], sum[j * R + r]));
        }
    }
}

/* s[token][R] = dot(q, k), for whole groups of 8 / R tokens. */
INLINE void stream_dots(stream_block *b, int32_t dtype, int R)
{
    const int tokens = STREAM_SUMS / R;
    const int32_t bytes = (int32_t)v_dtype_bytes(dtype);
    const float *q = b->state + 2 * VL;
    const int32_t n = b->dim_qk;

    for (int32_t t = 0; t < b->n; t += tokens) {
        const char *k[STREAM_SUMS];
        vf sum[STREAM_SUMS];
        int32_t i = 0;

        UNROLL
        for (int j = 0; j < tokens; j++)
            k[j] = b->k + b->k_at[t + j];
        UNROLL
        for (int j = 0; j < STREAM_SUMS; j++)
            sum[j] = v_set(0);
        for (; i + 2 * VL <= n; i += 2 * VL) {
            UNROLL
            for (int j = 0; j < tokens; j++)
                if (i * bytes % 64 == 0) {
                    __builtin_prefetch(b->k_next[t + j] + i * bytes, 0, 2);
                    __builtin_prefetch(b->v + b->v_at[t + j] + i * bytes);
                }
            stream_products(b, k, dtype, R, i, sum);
        }
        if (i < n) {
            UNROLL
            for (int j = 0; j < STREAM_SUMS; j++)
                sum[j] = v_fma(v_load(k[j / R], dtype, i),
                               v_load(q, FLI_ABI_F32, j % R * n + i), sum[j]);
        }
        UNROLL
        for (int j = 0; j < STREAM_SUMS; j += VL)
            v_store(b->s, FLI_ABI_F32, t * R + j, v_sums(sum + j));
    }
}

INLINE int stream_sees(const stream_block *b, int32_t r, int32_t j)
{
    if (!b->lo)
        return 1;
    r = r < b->n_rows ? r : 0; /* rows that fill up R */
    return b->t + j >= b->lo[r] && b->t + j < b->hi[r];
}

/* From dot products to weights relative to the new maximum; what the rows' d
 * and o must be multiplied with to fade[R]. */
INLINE void stream_weights(stream_block *b, int R)
{
    const int tokens = STREAM_SUMS / R;
    const int32_t n = (b->n + tokens - 1) / tokens * STREAM_SUMS;
    float *s = b->s;
    const vf scale = v_set(b->logit.scale);
    const vf old = v_load(b->state, FLI_ABI_F32, 0);
    vf m = old;

    if (b->logit.cap_out > 0)
        for (int32_t i = 0; i < n; i += VL)
            v_store(s, FLI_ABI_F32, i,
                    soft_cap(&b->logit, v_load(s, FLI_ABI_F32, i)));
    if (b->lo)
        for (int32_t i = 0; i < b->n * R; i++)
            s[i] = stream_sees(b, i % R, i / R) ? s[i] : b->logit.hidden;
    for (int32_t i = b->n * R; i < n; i++)
        s[i] = b->logit.hidden;
    for (int32_t i = 0; i < n; i += VL)
        m = v_max(v_load(s, FLI_ABI_F32, i) * scale, m);
    /* old maxima mostly stay: a branch lets the exponentials begin before the
     * new ones are known */
    m = v_max_apart(m, R);
    b->fades = v_any(m > old);
    vf base = v_select(old == -INFINITY, v_set(0), old);
    vf d = v_load(b->state, FLI_ABI_F32, VL);

    if (b->fades) {
        base = v_select(m == -INFINITY, v_set(0), m);
        const vf fade = v_exp2(old - base);

        d *= fade;
        v_store(b->state, FLI_ABI_F32, 0, m);
        v_store(b->fade, FLI_ABI_F32, 0, fade);
    }

    for (int32_t i = 0; i < n; i += VL) {
        const vf x = v_exp2(v_fma(v_load(s, FLI_ABI_F32, i), scale, -base));

        v_store(s, FLI_ABI_F32, i, x);
        d += x;
    }
    v_store(b->state, FLI_ABI_F32, VL, d);
}

/* o = o * fade + s v for `width` vectors (pairs, or one) from element i on. */
INLINE void stream_columns(const stream_block *b, int32_t dtype, int R,
                           int width, int32_t i)
{
    const int32_t n = b->dim_vo, bytes = (int32_t)v_dtype_bytes(dtype);
    const int new_line = i * bytes % 64 == 0;
    float *o = b->state + 2 * VL + R * b->dim_qk + i;
    vf sum[STREAM_SUMS];

    UNROLL
    for (int j = 0; j < R * width; j++)
        sum[j] = v_load(o, FLI_ABI_F32, j / width * n + j % width * VL);
    if (b->fades) {
        UNROLL
        for (int j = 0; j < R * width; j++)
            sum[j] *= b->fade[j / width];
    }
    for (int32_t t = 0; t < b->n; t++) {
        const char *v = b->v + b->v_at[t];

        UNROLL
        for (int j = 0; j < width * VL * bytes; j += 64)
            if (new_line || j > 0)
                __builtin_prefetch(b->v_next[t] + i * bytes + j, 0, 2);
        UNROLL
        for (int j = 0; j < width; j += 2) {
            vf x[2];

            if (width == 1)
                x[0] = v_load(v, dtype, i);
            else
                load_pair(v, dtype, i + j * VL, x);
            UNROLL
            for (int r = 0; r < R; r++) {
                const vf y = v_set(b->s[t * R + r]);
                vf *to = &sum[r * width + j];

                to[0] = v_fma(x[0], y, to[0]);
                if (width > 1)
                    to[1] = v_fma(x[1], y, to[1]);
            }
        }
    }
    UNROLL
    for (int j = 0; j < R * width; j++)
        v_store(o, FLI_ABI_F32, j / width * n + j % width * VL, sum[j]);
}

INLINE void stream_values(const stream_block *b, int32_t dtype, int R)
{
    const int width = STREAM_SUMS / R;
    int32_t i = 0;

    for (; i + width * VL <= b->dim_vo; i += width * VL)
        stream_columns(b, dtype, R, width, i);
    for (; i + 2 * VL <= b->dim_vo; i += 2 * VL)
        stream_columns(b, dtype, R, 2, i);
    for (; i < b->dim_vo; i += VL)
        stream_columns(b, dtype, R, 1, i);
}

/* The same where some row does not see some token: one product at a time. */
INLINE void stream_values_masked(const stream_block *b, int32_t dtype, int R)
{
    const int32_t n = b->dim_vo;
    float *o = b->state + 2 * VL + R * b->dim_qk;

    for (int32_t i = 0; b->fades && i < R * n; i += VL)
        v_store(o, FLI_ABI_F32, i, v_load(o, FLI_ABI_F32, i) * b->fade[i / n]);
    for (int32_t j = 0; j < b->n * R; j++) {
        const char *v = b->v + b->v_at[j / R];
        float *row = o + j % R * n;

        if (!stream_sees(b, j % R, j / R))
            continue;
        for (int32_t i = 0; i < n; i += 2 * VL) {
            vf x[2];
            const int width = i + 2 * VL <= n ? 2 : 1;

            if (width == 2)
                load_pair(v, dtype, i, x);
            else
                x[0] = v_load(v, dtype, i);
            for (int h = 0; h < width; h++)
                v_store(row, FLI_ABI_F32, i + h * VL,
                        v_fma(x[h], v_set(b->s[j]),
                              v_load(row, FLI_ABI_F32, i + h * VL)));
        }
    }
}

INLINE void stream_step(stream_block *b, int32_t dtype, int R)
{
    stream_dots(b, dtype, R);
    stream_weights(b, R);
    if (b->lo)
        stream_values_masked(b, dtype, R);
    else
        stream_values(b, dtype, R);
}

#define STREAM_STEP(dtype, R)                                                  \
    static void stream_##dtype##_##R(stream_block *b)                          \
    {                                                                          \
        stream_step(b, FLI_ABI_##dtype, R);                                    \
    }
STREAM_STEP(F32, 1)
STREAM_STEP(F32, 2)
STREAM_STEP(F32, 4)
STREAM_STEP(F16, 1)
STREAM_STEP(F16, 2)
STREAM_STEP(F16, 4)
STREAM_STEP(BF16, 1)
STREAM_STEP(BF16, 2)
STREAM_STEP(BF16, 4)
#undef STREAM_STEP

/* [dtype - 1][R / 2] */
static void (*const stream_steps[3][3])(stream_block *) = {
    { stream_F32_1, stream_F32_2, stream_F32_4 },
    { stream_F16_1, stream_F16_2, stream_F16_4 },
    { stream_BF16_1, stream_BF16_2, stream_BF16_4 },
};

/* R of the block that row r begins; 3 rows are 4 of which one is idle. */
INLINE int32_t stream_block_rows(int32_t n_rows, int32_t r)
{
    return n_rows - r >= 3 ? 4 : n_rows - r;
}

/* Floats of the state of R rows, whole lines. */
INLINE int64_t stream_state(const fli_attention_shape *shape, int32_t R)
{
    return (2 * VL + R * (int64_t)(shape->head_dim_qk + shape->head_dim_vo)
            + 15)
           & ~(int64_t)15;
}

INLINE int64_t stream_head_state(const fli_attention_shape *shape,
                                 int32_t n_rows)
{
    return (n_rows + 3) / 4 * stream_state(shape, 4);
}

static void stream_begin(const attention_work *w, int32_t kv_head, float *state)
{
    const fli_attention_shape *shape = &w->p->shape;
    const int32_t dim = shape->head_dim_qk;

    for (int32_t r = 0; r < w->n_rows; r += 4) {
        const int32_t R = stream_block_rows(w->n_rows, r);

        memset(state, 0, (size_t)stream_state(shape, R) * sizeof(float));
        for (int i = 0; i < VL; i++)
            state[i] = -INFINITY;
        for (int32_t j = r; j < w->n_rows && j < r + R; j++) {
            float q[MAX_HEAD_DIM];

            load_query(w, j, kv_head, q);
            reorder(state + 2 * VL + (j - r) * dim, q, dim, shape->dtype_kv, 0);
        }
        state += stream_state(shape, 4);
    }
}

static void stream_end(const attention_work *w, int32_t kv_head,
                       const float *state)
{
    const fli_attention_shape *shape = &w->p->shape;
    const int32_t dim = shape->head_dim_vo;

    for (int32_t r = 0; r < w->n_rows; r += 4) {
        const int32_t R = stream_block_rows(w->n_rows, r);

        for (int32_t j = r; j < w->n_rows && j < r + R; j++) {
            const float *o =
                state + 2 * VL + R * shape->head_dim_qk + (j - r) * dim;
            float md[2] = { state[j - r], 0 }, row[MAX_HEAD_DIM];

            for (int i = j - r; i < VL; i += R)
                md[1] += state[VL + i];
            reorder(row, o, dim, shape->dtype_kv, 1);
            finish_row(w, j, kv_head, md, row);
        }
        state += stream_state(shape, 4);
    }
}

/* Where tokens are, a ring from the block at hand to AHEAD tokens further. */
typedef struct {
    int64_t k_at[STREAM_RING], v_at[STREAM_RING];
    int32_t end; /* located so far */
} stream_ring;

INLINE int32_t ring_slot(const attention_work *w, int32_t t)
{
    return (t - w->begin) & (STREAM_RING - 1);
}

/* Locates the blocks up to AHEAD tokens behind t. */
INLINE void ring_advance(const attention_work *w, stream_ring *ring, int32_t t)
{
    const int64_t end =
        min64(w->end, (int64_t)t + STREAM_AHEAD + STREAM_TOKENS);

    while (ring->end < end) {
        const int32_t n = (int32_t)min64(STREAM_TOKENS, w->end - ring->end);
        int64_t *k_at = ring->k_at + ring_slot(w, ring->end);
        int64_t *v_at = ring->v_at + ring_slot(w, ring->end);

        locate(w, ring->end, ring->end + n, k_at, v_at);
        for (int32_t i = n; i < STREAM_TOKENS; i++) {
            k_at[i] = k_at[n - 1];
            v_at[i] = v_at[n - 1];
        }
        ring->end += n;
    }
}

/* What the heads walked together share. */
typedef struct {
    const char *k, *v; /* of the first head */
    int64_t k_head_bytes, v_head_bytes;
    int32_t n_heads;
} stream_walk;

/* The next row of K and V to prefetch. */
typedef struct {
    int32_t slot, head;
} stream_cursor;

/* A head's share of the block to prefetch: as many rows as it has tokens, but
 * the heads of a token one after the other, which under NHD is the order of
 * memory. */
INLINE void stream_ahead(const stream_walk *walk, const stream_ring *ring,
                         stream_cursor *at, stream_block *b)
{
    if (walk->n_heads == 1) {
        for (int32_t i = 0; i < STREAM_TOKENS; i++) {
            b->k_next[i] = walk->k + ring->k_at[at->slot + i];
            b->v_next[i] = walk->v + ring->v_at[at->slot + i];
        }
        return;
    }
    for (int32_t i = 0; i < STREAM_TOKENS;) {
        const int32_t n =
            (int32_t)min64(STREAM_TOKENS - i, walk->n_heads - at->head);
        const char *k = walk->k + ring->k_at[at->slot];
        const char *v = walk->v + ring->v_at[at->slot];

        for (int32_t h = at->head; h < at->head + n; h++, i++) {
            b->k_next[i] = k + h * walk->k_head_bytes;
            b->v_next[i] = v + h * walk->v_head_bytes;
        }
        at->head += n;
        if (at->head == walk->n_heads) {
            at->head = 0;
            at->slot++;
        }
    }
}

/* One head's rows over the block b. */
INLINE void stream_rows(const attention_work *w, stream_block *b, int masked,
                        float *state)
{
    const int32_t dtype = w->p->shape.dtype_kv;

    for (int32_t r = 0; r < w->n_rows; r += 4) {
        const int32_t R = stream_block_rows(w->n_rows, r);

        b->lo = masked ? w->lo + r : NULL;
        b->hi = w->hi + r;
        b->n_rows = (int32_t)min64(R, w->n_rows - r);
        b->state = state;
        stream_steps[dtype - 1][R / 2](b);
        state += stream_state(&w->p->shape, 4);
    }
}

/* The heads of walk, the first being `first`, over all tokens of the item. */
static void stream_heads(const attention_work *w, const stream_walk *walk,
                         int32_t first, float *state)
{
    const fli_attention_shape *shape = &w->p->shape;
    const int64_t head_state = stream_head_state(shape, w->n_rows);
    stream_ring ring = { .end = w->begin };
    stream_block b = {
        .dim_qk = shape->head_dim_qk,
        .dim_vo = shape->head_dim_vo,
        .logit = logit_of(w->p),
    };
    int32_t all_lo = w->begin, all_hi = w->end; /* what all rows see */

    for (int32_t r = 0; r < w->n_rows; r++) {
        all_lo = w->lo[r] > all_lo ? w->lo[r] : all_lo;
        all_hi = w->hi[r] < all_hi ? w->hi[r] : all_hi;
    }
    for (int32_t h = 0; h < walk->n_heads; h++)
        stream_begin(w, first + h, state + h * head_state);
    for (b.t = w->begin; b.t < w->end; b.t += b.n) {
        /* near the end: what is in cache already */
        const int32_t next =
            b.t < w->end - STREAM_AHEAD ? b.t + STREAM_AHEAD : b.t;

        stream_cursor ahead = { .slot = ring_slot(w, next) };

        ring_advance(w, &ring, b.t);
        b.n = (int32_t)min64(STREAM_TOKENS, w->end - b.t);
        b.k_at = ring.k_at + ring_slot(w, b.t);
        b.v_at = ring.v_at + ring_slot(w, b.t);
        for (int32_t h = 0; h < walk->n_heads; h++) {
            b.k = walk->k + h * walk->k_head_bytes;
            b.v = walk->v + h * walk->v_head_bytes;
            stream_ahead(walk, &ring, &ahead, &b);
            stream_rows(w, &b, b.t < all_lo || b.t + b.n > all_hi,
                        state + h * head_state);
        }
    }
    for (int32_t h = 0; h < walk->n_heads; h++)
        stream_end(w, first + h, state + h * head_state);
}

static int64_t stream_scratch(const fli_attention_shape *shape)
{
    return max64(STREAM_STATE_BYTES, stream_head_state(shape, STREAM_ROWS) * 4);
}

static void stream_item(const attention_work *w, char *scratch)
{
    const fli_attention_params *p = w->p;
    const int64_t bytes = (int64_t)v_dtype_bytes(p->shape.dtype_kv);
    const int64_t fit =
        stream_scratch(&p->shape) / 4 / stream_head_state(&p->shape, w->n_rows);
    const int32_t most =
        p->k_head_stride > p->k_token_stride ? 1 : (int32_t)min64(fit, 1 << 20);

    for (int32_t h = 0; h < w->item->n_kv_heads; h += most) {
        const int32_t head = w->item->kv_head + h;
        const stream_walk walk = {
            .k = (const char *)p->k + head * p->k_head_stride * bytes,
            .v = (const char *)p->v + head * p->v_head_stride * bytes,
            .k_head_bytes = p->k_head_stride * bytes,
            .v_head_bytes = p->v_head_stride * bytes,
            .n_heads = (int32_t)min64(most, w->item->n_kv_heads - h),
        };

        stream_heads(w, &walk, head, (float *)scratch);
    }
}

#endif
