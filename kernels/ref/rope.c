/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of rope.  Positions, frequencies and angles are f64 in both builds:
 * in f32 an angle of 1e6 would keep no digit of its sine. */
#include "abi/rope.h"

#include "ref/real.h"

#define TWO_PI 6.283185307179586

static double frequency(const fli_rope_params *p, int32_t i)
{
    const double g = pow((double)p->theta, -2.0 * i / p->rotary_dim);

    if (!p->llama31)
        return g / p->scale;
    const double low = p->low_freq_factor, high = p->high_freq_factor;
    const double smooth =
        (p->old_context_len * g / TWO_PI - low) / (high - low);
    const double s = fmin(fmax(smooth, 0), 1);

    return (1 - s) * g / p->scale + s * g;
}

#if !defined(FLI_PLAIN)
double fli__rope_frequency(const fli_rope_params *p, int32_t i)
{
    return frequency(p, i);
}
#endif

static int64_t position(const fli_rope_params *p, int64_t row)
{
    return p->dtype_positions == FLI_ABI_I64
               ? ((const int64_t *)p->positions)[row]
               : ((const int32_t *)p->positions)[row];
}

static void cos_sin(const fli_rope_params *p, int64_t row, int32_t i,
                    real *cosine, real *sine)
{
    if (p->cos_sin_cache) {
        const float *cache =
            p->cos_sin_cache + position(p, row) * p->cache_stride;

        *cosine = cache[i];
        *sine = cache[p->rotary_dim / 2 + i];
    } else {
        const double angle = (double)position(p, row) * frequency(p, i);

        *cosine = (real)cos(angle);
        *sine = (real)sin(angle);
    }
}

static void rotate(const fli_rope_params *p, const fli_rope_tensor *t,
                   int64_t row, int64_t head)
{
    const int64_t in = row * t->in_stride[0] + head * t->in_stride[1];
    const int64_t out = row * t->out_stride[0] + head * t->out_stride[1];

    for (int32_t i = 0; i < p->rotary_dim / 2; i++) {
        const int64_t first = p->interleaved ? 2 * i : i;
        const int64_t second =
            p->interleaved ? 2 * i + 1 : i + p->rotary_dim / 2;
        const real a = load(t->in, p->dtype, in + first);
        const real b = load(t->in, p->dtype, in + second);
        real c, s;

        cos_sin(p, row, i, &c, &s);
        store(t->out, p->dtype, out + first, a * c - b * s);
        store(t->out, p->dtype, out + second, a * s + b * c);
    }
    for (int64_t i = p->rotary_dim; i < p->head_dim; i++)
        store(t->out, p->dtype, out + i, load(t->in, p->dtype, in + i));
}

void REF(rope)(void *params, int32_t ith, int32_t nth)
{
    const fli_rope_params *p = params;

    for (int64_t row = ith; row < p->n_rows; row += nth)
        for (int j = 0; j < 2; j++)
            for (int64_t head = 0; head < p->tensor[j].n_heads; head++)
                rotate(p, &p->tensor[j], row, head);
}
