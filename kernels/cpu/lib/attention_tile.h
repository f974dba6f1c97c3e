/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of many packed rows of one kv head: two matrix products over tiles
 * that fit the L2, everything f32.
 *
 *   q [block of 6 rows][dim_qk][6]     once an item
 *   k [panel of NR tokens][dim_qk][NR]  of a tile of tokens, transposed
 *   v [panel of NR columns][tokens][NR]
 *   s [rows][tokens]                    logits, then weights
 *   o [rows][dim_vo]
 *
 * NR is two vectors, so that 6 rows by NR are 12 accumulators of 16 registers.
 * K and V are packed once for up to 96 rows.  Only panels that some row of a
 * block of 6 sees are multiplied; the few tokens at a mask's edge that some
 * rows of the block see and others do not are added row by row, so that an
 * unseen token is never touched.
 *
 * A row's sums run over dim_qk and over its tokens in an order that nothing
 * else in the tile changes: its bits are its own. */
#ifndef FLI_CPU_ATTENTION_TILE_H
#define FLI_CPU_ATTENTION_TILE_H

#include "cpu/lib/attention_work.h"

enum {
    TILE_MR = 6,
    TILE_NR = 2 * VL,
    TILE_STEP = VL == 8 ? 16 : MAX_HEAD_DIM, /* of dim_qk, see dots_tile */
    TILE_TOKENS = 256,                       /* at most */
    TILE_AHEAD = 16,     /* tokens prefetched while packing */
    TILE_ROWS = MAX_ROWS /* a multiple of 6 */
};

typedef struct {
    const attention_work *w;
    int32_t kv_head;
    int32_t dim_qk, dim_vo, pitch_o; /* pitch_o: dim_vo in whole panels */
    int32_t tokens, pitch_s;         /* of a tile */
    float *q, *k, *v, *s, *o, *total;
    int32_t t, begin, end; /* the tile at t; what some row sees of it */
    float md[TILE_ROWS][2], total_md[TILE_ROWS][2];
} attention_tile;

/* Tokens of a tile: K, V and the logits stay in the L2. */
INLINE int32_t tile_tokens(const fli_attention_shape *shape)
{
    const int32_t dims = shape->head_dim_qk + shape->head_dim_vo;

    return dims <= 256 ? TILE_TOKENS : dims <= 512 ? 128 : 64;
}

INLINE int32_t round_up(int32_t n, int32_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* Lays the buffers out in scratch; returns the bytes taken. */
static int64_t tile_layout(attention_tile *a, const fli_attention_shape *shape,
                           char *scratch)
{
    const int32_t pad =
        16; /* floats: no two rows share their low address bits */
    int64_t at = 0;
    struct {
        float **buffer;
        int64_t n;
    } part[6];

    a->dim_qk = shape->head_dim_qk;
    a->dim_vo = shape->head_dim_vo;
    a->pitch_o = round_up(a->dim_vo, TILE_NR);
    a->tokens = tile_tokens(shape);
    a->pitch_s = a->tokens + pad;
    part[0].buffer = &a->q;
    part[0].n = TILE_ROWS * a->dim_qk;
    part[1].buffer = &a->k;
    part[1].n = a->tokens * a->dim_qk;
    part[2].buffer = &a->v;
    part[2].n = a->tokens * a->pitch_o;
    part[3].buffer = &a->s;
    part[3].n = TILE_ROWS * a->pitch_s;
    part[4].buffer = &a->o;
    part[4].n = TILE_ROWS * a->pitch_o;
    part[5].buffer = &a->total;
    part[5].n = TILE_ROWS * a->pitch_o;
    for (int i = 0; i < 6; i++) {
        *part[i].buffer = scratch ? (float *)(scratch + at) : NULL;
        at += (part[i].n * (int64_t)sizeof(float) + 63) & ~(int64_t)63;
    }
    return at;
}

/* --- packing -------------------------------------------------------------- */

static void tile_pack_q(attention_tile *a)
{
    float q[MAX_HEAD_DIM];

    for (int32_t r = 0; r < round_up(a->w->n_rows, TILE_MR); r++) {
        float *to = a->q + r / TILE_MR * TILE_MR * a->dim_qk + r % TILE_MR;

        if (r < a->w->n_rows)
            load_query(a->w, r, a->kv_head, q);
        else
            memset(q, 0, sizeof(q));
        for (int32_t i = 0; i < a->dim_qk; i++)
            to[i * TILE_MR] = q[i];
    }
}

/* VL tokens into a half of a panel. */
INLINE void pack_k(float *to, const char *k, const int64_t at[], int32_t dim,
                   int32_t dtype)
{
    for (int32_t i = 0; i < dim; i += VL) {
        vf x[VL];

        UNROLL
        for (int j = 0; j < VL; j++)
            x[j] = v_load(k + at[j], dtype, i);
        v_transpose(x);
        UNROLL
        for (int j = 0; j < VL; j++)
            v_store(to, FLI_ABI_F32, (i + j) * TILE_NR, x[j]);
    }
}

/* A token into row t of each panel of n. */
INLINE void pack_v(float *to, const char *v, int32_t dim, int64_t panel,
                   int32_t dtype)
{
    for (int32_t i = 0; i < dim; i += VL)
        v_store(to, FLI_ABI_F32, i / TILE_NR * panel + i % TILE_NR,
                v_load(v, dtype, i));
    if (dim % TILE_NR)
        v_store(to, FLI_ABI_F32, dim / TILE_NR * panel + VL, v_set(0));
}

INLINE void prefetch_row(const char *row, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(row + i);
}

/* Packs tokens [begin, end) of the tile, in halves of panels. */
INLINE void tile_pack(attention_tile *a, int32_t dtype)
{
    const fli_attention_params *p = a->w->p;
    const int64_t bytes = (int64_t)v_dtype_bytes(dtype);
    const char *k = (const char *)p->k + a->kv_head * p->k_head_stride * bytes;
    const char *v = (const char *)p->v + a->kv_head * p->v_head_stride * bytes;
    const int64_t panel = (int64_t)a->tokens * TILE_NR;
    const int32_t first = a->begin - a->begin % VL;
    int64_t k_at[TILE_TOKENS + VL], v_at[TILE_TOKENS];

    locate(a->w, a->t + a->begin, a->t + a->end, k_at + a->begin,
           v_at + a->begin);
    for (int32_t t = first; t < a->begin; t++) /* none sees them: any others */
        k_at[t] = k_at[a->begin];
    for (int32_t t = a->end; t % VL; t++)
        k_at[t] = k_at[a->begin];
    for (int32_t t = first; t < a->end; t += VL) {
        for (int32_t i = t + TILE_AHEAD; i < t + TILE_AHEAD + VL && i < a->end;
             i++) {
            prefetch_row(k + k_at[i], a->dim_qk * bytes);
            prefetch_row(v + v_at[i], a->dim_vo * bytes);
        }
        pack_k(a->k + t / TILE_NR * TILE_NR * a->dim_qk + t % TILE_NR, k,
               k_at + t, a->dim_qk, dtype);
        for (int32_t i = t < a->begin ? a->begin : t; i < t + VL && i < a->end;
             i++)
            pack_v(a->v + i * TILE_NR, v + v_at[i], a->dim_vo, panel, dtype);
    }
}

/* --- products ------------------------------------------------------------- */

/* sum += a[rows][n] b[n][NR]; element i of row r of a is at i * step + r *
 * pitch. */
INLINE void micro_tile(const float *a, int64_t step, int64_t pitch,
                       const float *b, int32_t n, int rows, vf sum[2 * TILE_MR])
{
    for (int32_t i = 0; i < n; i++) {
        const vf x = v_load(b, FLI_ABI_F32, i * TILE_NR);
        const vf y = v_load(b, FLI_ABI_F32, i * TILE_NR + VL);

        UNROLL
        for (int r = 0; r < rows; r++) {
            const vf z = v_set(a[i * step + r * pitch]);

            sum[2 * r] = v_fma(z, x, sum[2 * r]);
            sum[2 * r + 1] = v_fma(z, y, sum[2 * r + 1]);
        }
    }
}

INLINE void load_tile(vf sum[2 * TILE_MR], const float *c, int64_t pitch,
                      int rows)
{
    UNROLL
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 2; j++)
            sum[2 * r + j] = v_load(c, FLI_ABI_F32, r * pitch + j * VL);
}

INLINE void store_tile(float *c, int64_t pitch, int rows,
                       const vf sum[2 * TILE_MR])
{
    UNROLL
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 2; j++)
            v_store(c, FLI_ABI_F32, r * pitch + j * VL, sum[2 * r + j]);
}

/* s[rows][NR] = q k.  Sums of TILE_STEP products are added up, which is nearly
 * twice as exact as one after the other: large logits need it.  Without FMA the
 * errors of the products weigh more, and baseline adds as the plain formula
 * does. */
INLINE void dots_tile(const float *q, const float *k, int32_t n, float *s,
                      int64_t pitch, int rows)
{
    for (int32_t i = 0; i < n; i += TILE_STEP) {
        vf sum[2 * TILE_MR] = { { 0 } }, before[2 * TILE_MR];

        micro_tile(q + i * TILE_MR, TILE_MR, 1, k + i * TILE_NR,
                   n - i < TILE_STEP ? n - i : TILE_STEP, rows, sum);
        if (i > 0) {
            load_tile(before, s, pitch, rows);
            UNROLL
            for (int j = 0; j < 2 * rows; j++)
                sum[j] += before[j];
        }
        store_tile(s, pitch, rows, sum);
    }
}

/* o[rows][NR] += s v */
INLINE void values_tile(const float *s, int64_t pitch_s, const float *v,
                        int32_t n, float *o, int64_t pitch_o, int rows)
{
    vf sum[2 * TILE_MR];

    load_tile(sum, o, pitch_o, rows);
    micro_tile(s, 1, pitch_s, v, n, rows, sum);
    store_tile(o, pitch_o, rows, sum);
}

/* The dot products of a block of rows with a panel of tokens. */
static void tile_dots(const float *q, const float *k, int32_t n, float *s,
                      int64_t pitch, int32_t rows)
{
    if (rows > 4)
        dots_tile(q, k, n, s, pitch, 6);
    else if (rows > 2)
        dots_tile(q, k, n, s, pitch, 4);
    else if (rows > 1)
        dots_tile(q, k, n, s, pitch, 2);
    else
        dots_tile(q, k, n, s, pitch, 1);
}

/* o += weights times a panel of columns. */
static void tile_add(const float *s, int64_t pitch_s, const float *v, int32_t n,
                     float *o, int64_t pitch_o, int32_t rows)
{
    if (rows > 4)
        values_tile(s, pitch_s, v, n, o, pitch_o, 6);
    else if (rows > 2)
        values_tile(s, pitch_s, v, n, o, pitch_o, 4);
    else if (rows > 1)
        values_tile(s, pitch_s, v, n, o, pitch_o, 2);
    else
        values_tile(s, pitch_s, v, n, o, pitch_o, 1);
}

/* Tokens of the tile that row r sees. */
INLINE int32_t tile_lo(const attention_tile *a, int32_t r)
{
    return (int32_t)max64(a->w->lo[r] - a->t, a->begin);
}

INLINE int32_t tile_hi(const attention_tile *a, int32_t r)
{
    return (int32_t)min64(a->w->hi[r] - a->t, a->end);
}

/* Of a block of rows: those that some row sees, those that all see. */
typedef struct {
    int32_t n_rows, begin, end, all_begin, all_end;
} tile_range;

static tile_range tile_sees(const attention_tile *a, int32_t row)
{
    tile_range s = {
        .n_rows = (int32_t)min64(TILE_MR, a->w->n_rows - row),
        .begin = a->end,
        .end = a->begin,
        .all_begin = a->begin,
        .all_end = a->end,
    };

    for (int32_t r = row; r < row + s.n_rows; r++) {
        const int32_t lo = tile_lo(a, r), hi = tile_hi(a, r);

        s.all_begin = lo > s.all_begin ? lo : s.all_begin;
        s.all_end = hi < s.all_end ? hi : s.all_end;
        if (lo >= hi)
            continue;
        s.begin = lo < s.begin ? lo : s.begin;
        s.end = hi > s.end ? hi : s.end;
    }
    return s;
}

static void tile_logits(attention_tile *a, const tile_range *range)
{
    for (int32_t t = a->begin / TILE_NR * TILE_NR; t < a->end; t += TILE_NR)
        for (int32_t r = 0; r < a->w->n_rows; r += TILE_MR) {
            const tile_range *s = &range[r / TILE_MR];

            if (t < s->end && t + TILE_NR > s->begin)
                tile_dots(a->q + r * a->dim_qk, a->k + t * a->dim_qk, a->dim_qk,
                          a->s + r * (int64_t)a->pitch_s + t, a->pitch_s,
                          s->n_rows);
        }
}

/* Turns row r's logits s[lo..hi) into weights relative to its new maximum. */
INLINE void tile_softmax_row(attention_tile *a, const attention_logit *logit,
                             int32_t r)
{
    const int32_t lo = tile_lo(a, r), hi = tile_hi(a, r);
    const int32_t first = lo - lo % VL;
    const vf scale = v_set(logit->scale);
    float *s = a->s + r * (int64_t)a->pitch_s;
    float *o = a->o + r * (int64_t)a->pitch_o, *md = a->md[r];
    vf m = v_set(md[0]), d = v_set(0);

    if (lo >= hi)
        return;
    if (logit->cap_out > 0)
        for (int32_t i = first; i < hi; i += VL)
            v_store(s, FLI_ABI_F32, i,
                    soft_cap(logit, v_load(s, FLI_ABI_F32, i)));
    for (int32_t i = first; i < lo; i++)
        s[i] = logit->hidden;
    for (int32_t i = hi; i % VL; i++)
        s[i] = logit->hidden;
    for (int32_t i = first; i < hi; i += VL)
        m = v_max(v_load(s, FLI_ABI_F32, i) * scale, m);
    m = v_max_apart(m, 1);
    const vf base = v_select(m == -INFINITY, v_set(0), m);

    for (int32_t i = first; i < hi; i += VL) {
        const vf x = v_exp2(v_fma(v_load(s, FLI_ABI_F32, i), scale, -base));

        v_store(s, FLI_ABI_F32, i, x);
        d += x;
    }
    const float fade = s_exp2(md[0] - base[0]);

    md[0] = m[0];
    md[1] = md[1] * fade + v_sum(d);
    if (fade != 1)
        for (int32_t i = 0; i < a->dim_vo; i += VL)
            v_store(o, FLI_ABI_F32, i, v_load(o, FLI_ABI_F32, i) * fade);
}

static void tile_softmax(attention_tile *a)
{
    const attention_logit logit = logit_of(a->w->p);

    for (int32_t r = 0; r < a->w->n_rows; r++)
        tile_softmax_row(a, &logit, r);
}

/* Adds tokens [begin, end) to some rows from row r on of a panel of o. */
INLINE void tile_add_range(attention_tile *a, int32_t r, int32_t rows,
                           int32_t column, int32_t begin, int32_t end)
{
    if (begin < end)
        tile_add(a->s + r * (int64_t)a->pitch_s + begin, a->pitch_s,
                 a->v + column * (int64_t)a->tokens + begin * TILE_NR,
                 end - begin, a->o + r * (int64_t)a->pitch_o + column,
                 a->pitch_o, rows);
}

static void tile_values(attention_tile *a, const tile_range *range)
{
    for (int32_t c = 0; c < a->pitch_o; c += TILE_NR)
        for (int32_t row = 0; row < a->w->n_rows; row += TILE_MR) {
            const tile_range *s = &range[row / TILE_MR];
            /* at a mask's edge: before, in and behind what all see, in order */
            const int32_t all =
                s->all_begin < s->all_end ? s->all_begin : a->end;
            const int32_t all_end =
                s->all_begin < s->all_end ? s->all_end : a->end;

            for (int32_t r = row; r < row + s->n_rows; r++)
                tile_add_range(a, r, 1, c, tile_lo(a, r),
                               (int32_t)min64(tile_hi(a, r), all));
            tile_add_range(a, row, s->n_rows, c, all, all_end);
            for (int32_t r = row; r < row + s->n_rows; r++)
                tile_add_range(a, r, 1, c, all_end, tile_hi(a, r));
        }
}

/* --- an item -------------------------------------------------------------- */

/* Adds tokens [t, t + n) to the rows' states. */
static void tile_step(attention_tile *a, int32_t t, int32_t n)
{
    tile_range range[TILE_ROWS / TILE_MR];

    a->t = t;
    a->begin = (int32_t)max64(a->w->begin - t, 0);
    a->end = (int32_t)min64(a->w->end - t, n);
    if (a->begin >= a->end)
        return;
#define TILE_PACK(DTYPE) tile_pack(a, DTYPE)
    FOR_DTYPE(a->w->p->shape.dtype_kv, TILE_PACK);
#undef TILE_PACK
    for (int32_t r = 0; r < a->w->n_rows; r += TILE_MR)
        range[r / TILE_MR] = tile_sees(a, r);
    tile_logits(a, range);
    tile_softmax(a);
    tile_values(a, range);
}

static void tile_clear(float md[][2], float *o, int32_t n_rows, int32_t pitch)
{
    for (int32_t r = 0; r < n_rows; r++) {
        md[r][0] = -INFINITY;
        md[r][1] = 0;
    }
    memset(o, 0, (size_t)n_rows * (size_t)pitch * sizeof(float));
}

/* Tokens [begin, end) from empty states, merged into the total. */
static void tile_chunk(attention_tile *a, int32_t begin, int32_t end)
{
    const int32_t n_rows = a->w->n_rows;

    if (begin >= a->w->end || end <= a->w->begin)
        return;
    tile_clear(a->md, a->o, round_up(n_rows, TILE_MR), a->pitch_o);
    for (int64_t t = begin; t < end; t += a->tokens)
        tile_step(a, (int32_t)t, (int32_t)min64(a->tokens, end - t));
    for (int32_t r = 0; r < n_rows; r++) {
        const int64_t at = r * (int64_t)a->pitch_o;

        merge_state(a->total_md[r], a->total + at, a->md[r], a->o + at,
                    a->dim_vo);
    }
}

static int64_t tile_scratch(const fli_attention_shape *shape)
{
    attention_tile a;

    return tile_layout(&a, shape, NULL);
}

static void tile_item(const attention_work *w, char *scratch)
{
    const fli_work_item *item = w->item;
    attention_tile a = { .w = w };

    tile_layout(&a, &w->p->shape, scratch);
    for (int32_t h = 0; h < item->n_kv_heads; h++) {
        const int64_t chunk = w->p->chunk > 0 ? w->p->chunk : INT32_MAX;

        a.kv_head = item->kv_head + h;
        tile_pack_q(&a);
        tile_clear(a.total_md, a.total, w->n_rows, a.pitch_o);
        for (int64_t t = item->kv_begin; t < item->kv_end;) {
            const int64_t end = min64(item->kv_end, (t / chunk + 1) * chunk);

            tile_chunk(&a, (int32_t)t, (int32_t)end);
            t = end;
        }
        for (int32_t r = 0; r < w->n_rows; r++)
            finish_row(w, r, a.kv_head, a.total_md[r],
                       a.total + r * (int64_t)a.pitch_o);
    }
}

#endif
