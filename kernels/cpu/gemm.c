/* SPDX-License-Identifier: Apache-2.0 */
/* gemm: each part takes some panels of columns, and some of the rows when there
 * are more parts than panels.
 *
 *   panels  blocks of MB by NB outputs in f32 on the stack; for each block of k
 *           the weights become f32 panels there too, unless they are packed and
 *           either f32 or used by few rows only
 *   dots    few rows and weights as they are: along k, straight from memory
 *
 * The first has one order over k for every m; the second is not taken where the
 * launch is invariant. */
#include "abi/gemm.h"
#include "abi/kernels.h"
#include "cpu/lib/gemm_dot.h"
#include "cpu/lib/gemm_tile.h"
#include "cpu/lib/vec.h"

enum {
    DOT_ROWS = 16,   /* most rows of dots */
    DOT_COLS = 60,   /* columns of a block of dots, a multiple of 3 and 4 */
    DOT_A = 8192,    /* elements of a in f32 for dots */
    DIRECT_ROWS = 32 /* most rows for which packed 16-bit weights are converted
                        in registers, again by each tile of rows */
};

/* A thread's scratch, on its stack. */
typedef struct {
    union {
        float b[NB / NR][KC * NR];
        float a_dot[DOT_A]; /* [rows][kc] */
    };
    float a[MR * KC]; /* [rows][KC] */
    float c[MB * NB];
    float bias[NB];
} scratch;

_Static_assert(sizeof(scratch) <= 61 * 1024, "64 KiB of stack a thread");

/* Outputs [row, row + rows) by [col, col + cols); col begins a panel. */
typedef struct {
    int64_t row, col, rows, cols;
} area;

INLINE int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

INLINE int64_t round_up(int64_t a, int64_t b)
{
    return ceil_div(a, b) * b;
}

/* Rows of the next tile when left are left: at most most, about evenly. */
INLINE int64_t rows_of_tile(int64_t left, int64_t most)
{
    return ceil_div(left, ceil_div(left, most));
}

/* Piece i of n of total units: from *first on, as many as returned. */
INLINE int64_t piece(int64_t total, int64_t i, int64_t n, int64_t *first)
{
    const int64_t rest = total % n;

    *first = i * (total / n) + min64(i, rest);
    return total / n + (i < rest);
}

/* A grid of at most nth parts whose largest is least; in doubt columns are cut,
 * so that each weight is read by one part. */
static area area_of_part(const fli_gemm_params *p, int32_t ith, int32_t nth)
{
    const int64_t n_panels = ceil_div(p->n, NR), n_groups = ceil_div(p->m, MR);
    int64_t n_cols = 1, n_rows = 1, best = INT64_MAX, first, count;

    for (int64_t cols = min64(nth, n_panels); cols > 0; cols--) {
        const int64_t rows = min64(nth / cols, n_groups);
        const int64_t size =
            ceil_div(n_panels, cols) * ceil_div(n_groups, rows);

        if (size < best) {
            best = size;
            n_cols = cols;
            n_rows = rows;
        }
        if (n_panels >= 8 * (int64_t)nth) /* near enough to even */
            break;
    }
    if (ith >= n_cols * n_rows)
        return (area){ 0 };
    area part = { 0 };

    count = piece(n_panels, ith % n_cols, n_cols, &first);
    part.col = first * NR;
    part.cols = min64(count * NR, p->n - part.col);
    count = piece(n_groups, ith / n_cols, n_rows, &first);
    part.row = first * MR;
    part.rows = min64(count * MR, p->m - part.row);
    return part;
}

/* --- what both do -------------------------------------------------------- */

/* kc of row of a from k on, as f32. */
static void load_row(const fli_gemm_params *p, int64_t row, int64_t k,
                     int64_t kc, float *to)
{
#define CONVERT(DTYPE) convert_row(p->a, DTYPE, row * p->a_stride + k, kc, to)
    FOR_DTYPE(p->dtype_a, CONVERT);
#undef CONVERT
}

/* out = c + bias, + out where add. */
INLINE void store_dtype(const fli_gemm_params *p, const area *block,
                        const scratch *s, int32_t dtype)
{
    for (int64_t i = 0; i < block->rows; i++) {
        const int64_t to = (block->row + i) * p->out_stride + block->col;

        for (int64_t j = 0; j < block->cols; j += VL) {
            const int64_t n = block->cols - j;
            vf x = v_load(s->c, FLI_ABI_F32, i * NB + j)
                   + v_load(s->bias, FLI_ABI_F32, j);

            if (p->add)
                x += v_load_upto(p->out, dtype, to + j, n);
            v_store_upto(p->out, dtype, to + j, n, x);
        }
    }
}

static void store(const fli_gemm_params *p, const area *block, const scratch *s)
{
#define STORE(DTYPE) store_dtype(p, block, s, DTYPE)
    FOR_DTYPE(p->dtype_out, STORE);
#undef STORE
}

static void load_bias(const fli_gemm_params *p, const area *block, scratch *s)
{
    memset(s->bias, 0, sizeof(s->bias));
    if (!p->bias)
        return;
    for (int64_t j = 0; j < block->cols; j++)
        s->bias[j] = s_load(p->bias, p->dtype_bias, block->col + j);
}

/* --- panels --------------------------------------------------------------- */

/* The weights of block from k on, as f32 panels in s->b. */
INLINE void convert_panels(const fli_gemm_params *p, const area *block,
                           int64_t k, int64_t kc, int32_t dtype, scratch *s)
{
    for (int64_t j = 0; j < block->cols; j += NR) {
        float *to = s->b[j / NR];

        if (p->packed) {
            const int64_t from = (block->col + j) * p->k + k * NR;

            for (int64_t i = 0; i < kc * NR; i += VL)
                v_store(to, FLI_ABI_F32, i, v_load(p->packed, dtype, from + i));
        } else {
            const int64_t from = (block->col + j) * p->b_stride + k;

            convert_panel((const char *)p->b
                              + from * (int64_t)v_dtype_bytes(dtype),
                          dtype, p->b_stride, block->cols - j, kc, to);
        }
    }
}

static void tile_in_cache(const gemm_tile *t, int32_t rows)
{
    tile_any_rows(t, rows, IN_CACHE);
}

/* f16 takes many instructions without F16C. */
static int is_direct(const fli_gemm_params *p, int64_t rows)
{
    if (p->dtype_b == FLI_ABI_F16 && VL < 8)
        return 0;
    return p->dtype_b == FLI_ABI_F32 || rows <= DIRECT_ROWS;
}

static void tile_packed(const gemm_tile *t, int32_t rows, int32_t dtype)
{
    if (dtype == FLI_ABI_F32)
        tile_any_rows(t, rows, FLI_ABI_F32);
    else if (dtype == FLI_ABI_BF16)
        tile_any_rows(t, rows, FLI_ABI_BF16);
#if VL >= 8
    else
        tile_any_rows(t, rows, FLI_ABI_F16);
#endif
}

/* Puts the weights of block from k on; true if they stay packed in memory. */
static int place_weights(const fli_gemm_params *p, const area *block, int64_t k,
                         scratch *s, gemm_tile *t)
{
    if (p->packed && is_direct(p, block->rows)) {
        const int64_t bytes = (int64_t)v_dtype_bytes(p->dtype_b);
        const int64_t from = block->col * p->k + k * NR;

        t->b = (const char *)p->packed + from * bytes;
        t->panel_stride = p->k * NR;
        /* the next block of k, or after the last the next columns' first */
        t->ahead = k + t->kc < p->k ? t->kc * NR : (NB / NR * p->k - k) * NR;
        return 1;
    }
#define CONVERT(DTYPE) convert_panels(p, block, k, t->kc, DTYPE, s)
    FOR_DTYPE(p->dtype_b, CONVERT);
#undef CONVERT
    t->b = s->b;
    t->panel_stride = KC * NR;
    t->ahead = 0;
    return 0;
}

static void run_block(const fli_gemm_params *p, const area *block, scratch *s)
{
    memset(s->c, 0, (size_t)block->rows * NB * sizeof(float));
    for (int64_t k = 0; k < p->k; k += KC) {
        gemm_tile t = {
            .a = s->a,
            .kc = min64(KC, p->k - k),
            .n_panels = (int32_t)ceil_div(block->cols, NR),
        };
        int packed = place_weights(p, block, k, s, &t);
        int32_t rows;

        for (int64_t i = 0; i < block->rows; i += rows) {
            rows = (int32_t)rows_of_tile(block->rows - i, MR);
            for (int64_t j = 0; j < rows; j++)
                load_row(p, block->row + i + j, k, t.kc, s->a + j * KC);
            t.c = s->c + i * NB;
            if (packed)
                tile_packed(&t, rows, p->dtype_b);
            else
                tile_in_cache(&t, rows);
            if (p->dtype_b == FLI_ABI_F32)
                packed = 0; /* now in cache */
        }
    }
    store(p, block, s);
}

static void run_panels(const fli_gemm_params *p, const area *part)
{
    const int64_t n_blocks = ceil_div(part->rows, MB);
    scratch s __attribute__((aligned(64)));

    for (int64_t col = 0; col < part->cols; col += NB) {
        area block = {
            .col = part->col + col,
            .cols = min64(NB, part->cols - col),
        };

        load_bias(p, &block, &s);
        for (int64_t i = 0; i < n_blocks; i++) {
            const int64_t n_groups =
                piece(ceil_div(part->rows, MR), i, n_blocks, &block.row);

            block.row *= MR;
            block.rows = min64(n_groups * MR, part->rows - block.row);
            block.row += part->row;
            run_block(p, &block, &s);
        }
    }
}

/* --- dots ----------------------------------------------------------------- */

static void dot_dtype(const gemm_dot *dot, int32_t rows, int32_t cols,
                      int32_t dtype)
{
#define DOT(DTYPE) dot_any(dot, rows, cols, DTYPE)
    FOR_DTYPE(dtype, DOT);
#undef DOT
}

/* Columns of a tile: with 4 rows 3, for 12 sums. */
static int64_t dot_cols(int64_t rows)
{
    return rows_of_tile(rows, DOT_MAX) == 4 ? 3 : 4;
}

/* The rows of block by columns [j, j + cols), over kc of k. */
static void run_dot_tile(const fli_gemm_params *p, const area *block, int64_t j,
                         gemm_dot *dot, scratch *s)
{
    const float *a = dot->a;
    int64_t rows;

    for (int64_t i = 0; i < block->rows; i += rows) {
        rows = rows_of_tile(block->rows - i, DOT_MAX);
        dot->a = a + i * dot->a_stride;
        dot->c = s->c + i * NB + j;
        dot_dtype(dot, (int32_t)rows, (int32_t)dot_cols(block->rows),
                  p->dtype_b);
    }
}

/* The rows of block by its columns, over kc of k from k on.  A tile's weights
 * are used by all rows while in cache, and the next tile's are read ahead. */
static void run_dot_block(const fli_gemm_params *p, const area *block,
                          int64_t k, int64_t kc, scratch *s)
{
    const int64_t bytes = (int64_t)v_dtype_bytes(p->dtype_b);
    const int64_t cols = dot_cols(block->rows), rest = kc % DOT_K;
    char last[DOT_MAX][4 * DOT_K] = { { 0 } }; /* k that fill no cache line */

    for (int64_t j = 0; j < block->cols; j += cols) {
        gemm_dot dot = {
            .a = s->a_dot,
            .a_stride = round_up(kc, DOT_K),
            .kc = kc - rest,
            .ahead = j + cols < block->cols ? cols * p->b_stride
                     : k + kc < p->k        ? kc - j * p->b_stride
                                            : cols * p->b_stride - k,
        };

        for (int64_t i = 0; i < DOT_MAX; i++) { /* at the edge the last again */
            const int64_t col = block->col + min64(j + i, block->cols - 1);

            dot.b[i] = (const char *)p->b + (col * p->b_stride + k) * bytes;
            memcpy(last[i], dot.b[i] + dot.kc * bytes, (size_t)(rest * bytes));
        }
        run_dot_tile(p, block, j, &dot, s);
        if (rest == 0)
            continue;
        for (int64_t i = 0; i < DOT_MAX; i++)
            dot.b[i] = last[i];
        dot.a = s->a_dot + dot.kc;
        dot.kc = DOT_K;
        run_dot_tile(p, block, j, &dot, s);
    }
}

static void run_dots(const fli_gemm_params *p, const area *part)
{
    const int64_t chunk = DOT_A / p->m / DOT_K * DOT_K;
    scratch s __attribute__((aligned(64)));

    for (int64_t col = 0; col < part->cols; col += DOT_COLS) {
        const area block = {
            .row = part->row,
            .col = part->col + col,
            .rows = part->rows,
            .cols = min64(DOT_COLS, part->cols - col),
        };

        load_bias(p, &block, &s);
        memset(s.c, 0, (size_t)block.rows * NB * sizeof(float));
        for (int64_t k = 0; k < p->k; k += chunk) {
            const int64_t kc = min64(chunk, p->k - k);
            const int64_t stride = round_up(kc, DOT_K);

            for (int64_t i = 0; i < block.rows; i++) {
                float *to = s.a_dot + i * stride;

                memset(to + stride - DOT_K, 0, DOT_K * sizeof(float));
                load_row(p, block.row + i, k, kc, to);
            }
            run_dot_block(p, &block, k, kc, &s);
        }
        store(p, &block, &s);
    }
}

void KERNEL(gemm)(void *params, int32_t ith, int32_t nth)
{
    const fli_gemm_params *p = params;
    const area part = area_of_part(p, ith, nth);

    if (part.rows == 0 || part.cols == 0)
        return;
    if (!p->packed && !p->invariant && p->m <= DOT_ROWS)
        run_dots(p, &part);
    else
        run_panels(p, &part);
}
