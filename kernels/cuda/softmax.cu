/* SPDX-License-Identifier: Apache-2.0 */
/* softmax: a cluster for each row, which is read once where the blocks have room
 * for it; an f32 row's weights then take the place of its logits there.  Three
 * blocks of an SM overlap loads, weights and stores.
 *
 *   FLI_DTYPE */
#define FLI_PROBS 0

#include "cuda/lib/sample_row.cuh"

static_assert(sizeof(exchange) <= FLI_SAMPLE_STATIC, "abi/sample.h");

/* Are the row's q kept in place of its logits? */
DEVICE int32_t has_q(const row *r)
{
    return FLI_DTYPE == FLI_ABI_F32 && r->is_cached;
}

/* q of a logit. */
DEVICE float q_of(const row *r, float x)
{
    /* beside an infinite one the others are 0 */
    const float floor =
        r->w.max == INFINITY_F ? __int_as_float(0x7f7fffff) : -INFINITY_F;

    /* no branch around a weight: they overlap */
    return __int_as_float(__float_as_int(q_of_logit(&r->w, x)) & -(x > floor));
}

/* 1 / the row's mass. */
DEVICE float inverse_mass(row *r)
{
    uint64_t mass = 0;

#pragma unroll 1
    for (int32_t from = r->from; from < r->to; from += STEP) {
        float q[STEP_ELEMENTS];

        read_step(r, from, r->to, q);
#pragma unroll
        for (int32_t i = 0; i < STEP_ELEMENTS; i++) {
            q[i] = q_of(r, q[i]);
            mass += mass_of_q(q[i]);
        }
#pragma unroll
        for (int32_t i = 0; i < STEP; i += 32) {
            const int32_t v = from + r->lane + i;

            if (has_q(r) && v < r->to)
                row_cache[v - r->first] =
                    pack_vec(q + i / 32 * VEC, FLI_ABI_F32);
        }
    }
    mass = warp_sum_u64(mass);
    return inverse_of(exchanged_sum(r, exchange_sums(r, &mass, 1), 0));
}

/* The first element that equals the greatest. */
DEVICE int32_t first_of_max(row *r)
{
    int32_t first = r->end;

#pragma unroll 1
    for (int32_t v = r->from + r->lane; v < r->to; v += 32) {
        float x[VEC];

        read_vector(r, v, r->to, x);
#pragma unroll
        for (int32_t i = 0; i < VEC; i++)
            if (x[i] == r->w.max)
                first = MIN(first, v * VEC + i);
    }
    return r->end - (int32_t)exchange_max(r, (uint32_t)(r->end - first));
}

/* Writes the row; each thread what it has read. */
DEVICE void write_row(const row *r, float *out, float inverse)
{
#pragma unroll 1
    for (int32_t v = r->from + r->lane; v < r->to; v += 32) {
        float q[VEC];

        read_vector(r, v, r->to, q);
        if (!has_q(r))
#pragma unroll
            for (int32_t i = 0; i < VEC; i++)
                q[i] = q_of(r, q[i]);
#pragma unroll
        for (int32_t i = 0; i < VEC; i++)
            q[i] = share_rounded(q[i], inverse);
        write_vector(r, out, FLI_ABI_F32, v, q);
    }
}

KERNEL __launch_bounds__(FLI_SAMPLE_THREADS, 3)
    fli_softmax(const __grid_constant__ fli_softmax_launch a)
{
    __shared__ exchange shared;
    const fli_softmax_params *const p = &a.p;
    const int64_t i = blockIdx.x / (uint32_t)cluster_size();
    float *const out = p->probs + i * p->probs_stride;
    row r = row_init((const char *)p->logits
                         + i * p->logits_stride * dtype_bytes(FLI_DTYPE),
                     p->vocab, &a.split, &shared);
    float greatest;

    pdl_wait();
    const float temperature =
        p->temperatures ? p->temperatures[i] : p->temperature;
    const int32_t is_valid = temperature >= 0 && temperature < INFINITY_F
                             && open_row(&r, temperature, &greatest);

    pdl_launch();
    if (r.rank == 0 && threadIdx.x == 0 && p->valid)
        p->valid[i] = (uint8_t)is_valid;
    if (!is_valid) {
        fill_row(&r, out, FLI_ABI_F32, 0);
    } else if (temperature < 0x1p-64f) {
        const int32_t first = first_of_max(&r);

        fill_row(&r, out, FLI_ABI_F32, 0);
        __syncthreads();
        if (first >= r.first * VEC && first < r.last * VEC && threadIdx.x == 0)
            out[first - r.head] = 1;
    } else {
        write_row(&r, out, inverse_mass(&r));
    }
}
