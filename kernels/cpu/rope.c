/* SPDX-License-Identifier: Apache-2.0 */
/* rope: cos and sin of a row's pairs are found once, in f64, and shared by its
 * heads; the rotation is f32.  Pairs go in blocks, so that the tables fit the
 * stack whatever rotary_dim is: 8 bytes of frequency and 16 of cos and sin for
 * each of BLOCK pairs. */
#include "abi/kernels.h"
#include "abi/rope.h"
#include "cpu/lib/math.h"
#include "cpu/lib/vec.h"

#define BLOCK  1024 /* rotary_dim 2048 in one go; 24 KiB */
#define TWO_PI 6.283185307179586

/* Pairs begin .. begin + n - 1.  For interleaved pairs cosine and sine hold an
 * entry for each element, cos cos and -sin sin; else one for each pair. */
typedef struct {
    int64_t begin, n;
    double frequency[BLOCK], highest;
    float cosine[2 * BLOCK], sine[2 * BLOCK];
} table;

static double frequency(const fli_rope_params *p, int64_t i)
{
    const double g = pow(p->theta, -2.0 * (double)i / p->rotary_dim);

    if (!p->llama31)
        return g / p->scale;
    const double low = p->low_freq_factor, high = p->high_freq_factor;
    const double smooth =
        (p->old_context_len * g / TWO_PI - low) / (high - low);
    const double s = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;

    return (1 - s) * g / p->scale + s * g;
}

static void fill_frequencies(const fli_rope_params *p, table *t)
{
    t->highest = 0;
    for (int64_t i = 0; i < t->n; i++) {
        t->frequency[i] = frequency(p, t->begin + i);
        t->highest = fmax(t->highest, t->frequency[i]);
    }
}

/* cos and sin of position times frequency, one for each pair. */
INLINE void fill_angles(table *t, double position)
{
    if (fabs(position) * t->highest > SINCOS_MAX) {
        for (int64_t i = 0; i < t->n; i++) {
            t->cosine[i] = (float)cos(position * t->frequency[i]);
            t->sine[i] = (float)sin(position * t->frequency[i]);
        }
        return;
    }
    for (int64_t i = 0; i < t->n; i += VDL) { /* BLOCK is a multiple of VDL */
        vd f, s, c;

        memcpy(&f, t->frequency + i, sizeof(f));
        vd_sincos(f * position, &s, &c);
        const vd_f32 c32 = __builtin_convertvector(c, vd_f32);
        const vd_f32 s32 = __builtin_convertvector(s, vd_f32);

        memcpy(t->cosine + i, &c32, sizeof(c32));
        memcpy(t->sine + i, &s32, sizeof(s32));
    }
}

/* From an entry for each pair to one for each element, from the end. */
INLINE void interleave(table *t)
{
    for (int64_t i = t->n - 1; i >= 0; i--) {
        t->cosine[2 * i] = t->cosine[2 * i + 1] = t->cosine[i];
        t->sine[2 * i + 1] = t->sine[i];
        t->sine[2 * i] = -t->sine[2 * i + 1];
    }
}

static int64_t position_of(const fli_rope_params *p, int64_t row)
{
    return p->dtype_positions == FLI_ABI_I64
               ? ((const int64_t *)p->positions)[row]
               : ((const int32_t *)p->positions)[row];
}

INLINE void fill_row(const fli_rope_params *p, table *t, int64_t row)
{
    const int64_t position = position_of(p, row);

    if (p->cos_sin_cache) {
        const float *cache =
            p->cos_sin_cache + position * p->cache_stride + t->begin;
        const size_t bytes = (size_t)t->n * sizeof(float);

        memcpy(t->cosine, cache, bytes);
        memcpy(t->sine, cache + p->rotary_dim / 2, bytes);
    } else {
        fill_angles(t, (double)position);
    }
    if (p->interleaved)
        interleave(t);
}

INLINE void rotate_half(const table *t, int32_t dtype, const void *in,
                        void *out, int64_t half)
{
    for (int64_t i = 0; i < t->n; i += VL) {
        const int64_t n = t->n - i, first = t->begin + i;
        const vf a = v_load_upto(in, dtype, first, n);
        const vf b = v_load_upto(in, dtype, first + half, n);
        const vf c = v_load(t->cosine, FLI_ABI_F32, i);
        const vf s = v_load(t->sine, FLI_ABI_F32, i);

        v_store_upto(out, dtype, first, n, v_fma(a, c, -(b * s)));
        v_store_upto(out, dtype, first + half, n, v_fma(a, s, b * c));
    }
}

/* Elements 2 i and 2 i + 1 change places. */
INLINE vf swap_pairs(vf x)
{
#if VL == 8
    return _mm256_permute_ps(x, 0xb1);
#elif defined(__SSE2__)
    return _mm_shuffle_ps(x, x, 0xb1);
#else
    return (vf){ x[1], x[0], x[3], x[2] };
#endif
}

INLINE void rotate_interleaved(const table *t, int32_t dtype, const void *in,
                               void *out)
{
    for (int64_t i = 0; i < 2 * t->n; i += VL) {
        const int64_t n = 2 * t->n - i, first = 2 * t->begin + i;
        const vf x = v_load_upto(in, dtype, first, n);
        const vf c = v_load(t->cosine, FLI_ABI_F32, i);
        const vf s = v_load(t->sine, FLI_ABI_F32, i);

        v_store_upto(out, dtype, first, n, v_fma(x, c, swap_pairs(x) * s));
    }
}

INLINE void rotate_heads(const fli_rope_params *p, const table *t,
                         int32_t dtype, const fli_rope_tensor *tensor,
                         int64_t row)
{
    const int64_t bytes = (int64_t)v_dtype_bytes(dtype);

    for (int64_t head = 0; head < tensor->n_heads; head++) {
        const char *in =
            (const char *)tensor->in
            + (row * tensor->in_stride[0] + head * tensor->in_stride[1])
                  * bytes;
        char *out =
            (char *)tensor->out
            + (row * tensor->out_stride[0] + head * tensor->out_stride[1])
                  * bytes;

        if (p->interleaved)
            rotate_interleaved(t, dtype, in, out);
        else
            rotate_half(t, dtype, in, out, p->rotary_dim / 2);
    }
}

INLINE void rotate_rows(const fli_rope_params *p, table *t, int32_t dtype,
                        int64_t begin, int64_t end)
{
    const int64_t n_pairs = p->rotary_dim / 2;

    for (t->begin = 0; t->begin < n_pairs; t->begin += BLOCK) {
        t->n = n_pairs - t->begin < BLOCK ? n_pairs - t->begin : BLOCK;
        if (!p->cos_sin_cache)
            fill_frequencies(p, t);
        for (int64_t row = begin; row < end; row++) {
            fill_row(p, t, row);
            rotate_heads(p, t, dtype, &p->tensor[0], row);
            rotate_heads(p, t, dtype, &p->tensor[1], row);
        }
    }
}

/* Copies the elements behind rotary_dim, unless the tensor is turned in
 * place. */
static void pass_through(const fli_rope_params *p, const fli_rope_tensor *t,
                         int64_t begin, int64_t end)
{
    const int64_t bytes = (int64_t)v_dtype_bytes(p->dtype);
    const int64_t n = p->head_dim - p->rotary_dim;

    if (n == 0 || t->in == t->out)
        return;
    for (int64_t row = begin; row < end; row++)
        for (int64_t head = 0; head < t->n_heads; head++)
            memcpy((char *)t->out
                       + (row * t->out_stride[0] + head * t->out_stride[1]
                          + p->rotary_dim)
                             * bytes,
                   (const char *)t->in
                       + (row * t->in_stride[0] + head * t->in_stride[1]
                          + p->rotary_dim)
                             * bytes,
                   (size_t)(n * bytes));
}

void KERNEL(rope)(void *params, int32_t ith, int32_t nth)
{
    const fli_rope_params *p = params;
    const int64_t begin = p->n_rows * ith / nth;
    const int64_t end = p->n_rows * (ith + 1) / nth;
    table t;

    if (begin == end)
        return;
    memset(&t, 0, sizeof(t)); /* the last vectors read behind the entries */
#define ROTATE_ROWS(DTYPE) rotate_rows(p, &t, DTYPE, begin, end)
    FOR_DTYPE(p->dtype, ROTATE_ROWS);
#undef ROTATE_ROWS
    pass_through(p, &p->tensor[0], begin, end);
    pass_through(p, &p->tensor[1], begin, end);
}
