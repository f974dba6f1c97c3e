/* SPDX-License-Identifier: Apache-2.0 */
/* rope: a block has blockDim.z rows, for which it finds cos and sin of each pair
 * once; its threads are (vector of pairs, head, row) and take a head in every
 * blockDim.y.  Frequencies come from the host and angles are f64, as in the
 * reference: of a large angle only the same bits give the same sine.
 *
 *   FLI_DTYPE, VEC
 *   INTERLEAVED   1: pairs (2 i, 2 i + 1), else (i, i + rotary_dim / 2) */
#include "abi/rope.h"
#include "cuda/lib/vector.cuh"

#define ITEMS       2 /* heads that a thread has under way */
#define MAX_THREADS 256
#define TABLE       1024 /* cosines of a block's rows; the host cuts by it */

/* VEC pairs: 2 VEC elements. */
typedef struct {
    vec_bits first, second;
} pair_bits;

DEVICE int64_t position_of(const fli_rope_params *p, int64_t row)
{
    return p->dtype_positions == FLI_ABI_I64
               ? ((const int64_t *)p->positions)[row]
               : ((const int32_t *)p->positions)[row];
}

/* Is the row there, and in the cache, if there is one? */
DEVICE bool is_valid(const fli_rope_params *p, int64_t row)
{
    if (row >= p->n_rows)
        return false;
    if (!p->cos_sin_cache)
        return true;
    const int64_t position = position_of(p, row);

    return position >= 0 && position < p->n_positions;
}

DEVICE void cos_sin(const fli_rope_launch *l, int64_t row, int32_t i,
                    float *cosine, float *sine)
{
    const int64_t position = position_of(&l->p, row);
    double c, s;

    if (l->p.cos_sin_cache) {
        const float *cache =
            l->p.cos_sin_cache + position * l->p.cache_stride + l->first + i;

        *cosine = cache[0];
        *sine = cache[l->p.rotary_dim / 2];
        return;
    }
    sincos(__dmul_rn((double)position, l->frequency[i]), &s, &c);
    *cosine = (float)c;
    *sine = (float)s;
}

/* cos and sin of the block's rows. */
DEVICE void fill_table(const fli_rope_launch *l, float *cosine, float *sine)
{
    const int64_t first_row = (int64_t)blockIdx.x * blockDim.z;
    const int32_t n_threads = blockDim.x * blockDim.y * blockDim.z;
    const int32_t n = l->n_pairs * blockDim.z;
    int32_t i =
        (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;

    for (; i < n; i += n_threads) {
        const int64_t row = first_row + i / l->n_pairs;

        if (is_valid(&l->p, row))
            cos_sin(l, row, i % l->n_pairs, cosine + i, sine + i);
        else if (row < l->p.n_rows)
            raise_sticky(l->p.sticky, FLI_STICKY_INDEX);
    }
}

/* The thread's pairs of a table. */
DEVICE void load_table(const fli_rope_launch *l, const float *table,
                       float out[VEC])
{
    table += threadIdx.z * l->n_pairs + threadIdx.x * VEC;
#pragma unroll
    for (int32_t i = 0; i < VEC; i++)
        if (VEC == 1)
            out[i] = table[i];
        else if (i % 4 == 0)
            *(float4 *)(out + i) = *(const float4 *)(table + i);
}

/* A head of q or, behind them, of k. */
typedef struct {
    const void *in;
    void *out;
    int64_t in_at, out_at; /* elements */
} rope_head;

DEVICE rope_head head_of(const fli_rope_params *p, int64_t row, int64_t head)
{
    const bool is_k = head >= p->tensor[0].n_heads;
    const fli_rope_tensor *const t = &p->tensor[is_k];
    rope_head h;

    if (is_k)
        head -= p->tensor[0].n_heads;
    h.in = t->in;
    h.out = t->out;
    h.in_at = row * t->in_stride[0] + head * t->in_stride[1];
    h.out_at = row * t->out_stride[0] + head * t->out_stride[1];
    return h;
}

/* Where the thread's pairs begin, and how far behind is their second vector. */
DEVICE int64_t pair_at(const fli_rope_launch *l)
{
    return (INTERLEAVED ? 2 : 1) * (int64_t)(l->first + threadIdx.x * VEC);
}

DEVICE int64_t second_at(const fli_rope_launch *l)
{
    return INTERLEAVED ? VEC : l->p.rotary_dim / 2;
}

DEVICE void load_heads(const fli_rope_launch *l, int64_t row, int64_t head,
                       int64_t n_heads, pair_bits bits[ITEMS])
{
#pragma unroll
    for (int32_t k = 0; k < ITEMS; k++)
        if (head + k * blockDim.y < n_heads) {
            const rope_head h = head_of(&l->p, row, head + k * blockDim.y);
            const int64_t at = h.in_at + pair_at(l);

            bits[k].first = load_vec(h.in, FLI_DTYPE, at);
            bits[k].second = load_vec(h.in, FLI_DTYPE, at + second_at(l));
        }
}

DEVICE void turn(float *a, float *b, float cosine, float sine)
{
    const float x = *a, y = *b;

    *a = x * cosine - y * sine;
    *b = x * sine + y * cosine;
}

DEVICE pair_bits turn_pairs(pair_bits bits, const float cosine[VEC],
                            const float sine[VEC])
{
    float x[2 * VEC];

    unpack_vec(bits.first, FLI_DTYPE, x);
    unpack_vec(bits.second, FLI_DTYPE, x + VEC);
#pragma unroll
    for (int32_t i = 0; i < VEC; i++)
        if (INTERLEAVED)
            turn(x + 2 * i, x + 2 * i + 1, cosine[i], sine[i]);
        else
            turn(x + i, x + VEC + i, cosine[i], sine[i]);
    bits.first = pack_vec(x, FLI_DTYPE);
    bits.second = pack_vec(x + VEC, FLI_DTYPE);
    return bits;
}

/* The elements behind rotary_dim, unless the head is turned in place. */
DEVICE void pass_through(const fli_rope_params *p, const rope_head *h)
{
    if (h->in == h->out)
        return;
    for (int64_t i = p->rotary_dim + threadIdx.x * VEC; i < p->head_dim;
         i += blockDim.x * VEC)
        store_vec(h->out, FLI_DTYPE, h->out_at + i,
                  load_vec(h->in, FLI_DTYPE, h->in_at + i));
}

DEVICE void turn_heads(const fli_rope_launch *l, int64_t row, int64_t head,
                       int64_t n_heads, const pair_bits bits[ITEMS],
                       const float cosine[VEC], const float sine[VEC])
{
#pragma unroll
    for (int32_t k = 0; k < ITEMS; k++)
        if (head + k * blockDim.y < n_heads) {
            const rope_head h = head_of(&l->p, row, head + k * blockDim.y);
            const pair_bits y = turn_pairs(bits[k], cosine, sine);
            const int64_t at = h.out_at + pair_at(l);

            store_vec(h.out, FLI_DTYPE, at, y.first);
            store_vec(h.out, FLI_DTYPE, at + second_at(l), y.second);
            if (l->first == 0)
                pass_through(&l->p, &h);
        }
}

KERNEL __launch_bounds__(MAX_THREADS, 2)
    fli_rope(const __grid_constant__ fli_rope_launch l)
{
    __shared__ __align__(16) float cosines[TABLE], sines[TABLE];
    const int64_t row = (int64_t)blockIdx.x * blockDim.z + threadIdx.z;
    const int64_t n_heads = l.p.tensor[0].n_heads + l.p.tensor[1].n_heads;
    const int64_t step = ITEMS * blockDim.y;
    int64_t head = threadIdx.y;
    pair_bits bits[ITEMS];
    __align__(16) float cosine[VEC], sine[VEC];

    pdl_wait();
    pdl_launch();
    if (row < l.p.n_rows) /* under way while the table is made */
        load_heads(&l, row, head, n_heads, bits);
    fill_table(&l, cosines, sines);
    __syncthreads();
    if (!is_valid(&l.p, row))
        return;
    load_table(&l, cosines, cosine);
    load_table(&l, sines, sine);
    while (head < n_heads) {
        turn_heads(&l, row, head, n_heads, bits, cosine, sine);
        head += step;
        load_heads(&l, row, head, n_heads, bits);
    }
}
