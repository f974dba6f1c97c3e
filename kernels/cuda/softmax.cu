/* SPDX-License-Identifier: Apache-2.0 */
/* softmax: a cluster for each row.
 *
 *   FLI_DTYPE */
#define FLI_PROBS 0

#include "cuda/lib/sample_row.cuh"

static_assert(sizeof(exchange) <= FLI_SAMPLE_STATIC, "abi/sample.h");

/* 1 / the row's mass. */
DEVICE float inverse_mass(row *r)
{
    uint64_t mass = 0;

#pragma unroll 1
    for (int32_t v = r->from + r->lane; v < r->to; v += 32) {
        float x[VEC];

        read_vector(r, v, r->to, x);
#pragma unroll
        for (int32_t i = 0; i < VEC; i++)
            mass += mass_of(&r->w, x[i]);
    }
    mass = warp_sum_u64(mass);
    return inverse_of(exchanged_sum(r, exchange_values(r, &mass, 1), 0));
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
    const uint64_t own = __reduce_min_sync(ALL_LANES, (uint32_t)first);
    const uint64_t *const slot = exchange_values(r, &own, 1);

#pragma unroll 1
    for (int32_t j = r->lane; j < r->n_blocks * WARPS; j += 32)
        first = MIN(first, (int32_t)slot[j]);
    return (int32_t)__reduce_min_sync(ALL_LANES, (uint32_t)first);
}

/* Writes the row; each thread what it has read. */
DEVICE void write_row(const row *r, float *out, float inverse)
{
    const int32_t is_infinite = r->w.max == INFINITY_F;

#pragma unroll 1
    for (int32_t v = r->from + r->lane; v < r->to; v += 32) {
        float x[VEC];

        read_vector(r, v, r->to, x);
#pragma unroll
        for (int32_t i = 0; i < VEC; i++)
            if (is_infinite)
                x[i] = x[i] == INFINITY_F ? inverse : 0;
            else
                x[i] = share_of_logit(&r->w, x[i], inverse);
        write_vector(r, out, FLI_ABI_F32, v, x);
    }
}

KERNEL __launch_bounds__(FLI_SAMPLE_THREADS, 2)
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
