/* SPDX-License-Identifier: Apache-2.0 */
/* renorm_probs and mask_logits: a cluster for each row.
 *
 *   FLI_DTYPE, FLI_PROBS */
#include "cuda/lib/sample_search.cuh"

static_assert(sizeof(search_memory) <= FLI_SAMPLE_STATIC, "abi/sample.h");

/* Writes the row; each thread what it has read. */
DEVICE void filter_row(const row *r, void *out, float least, float inverse)
{
#pragma unroll 1
    for (int32_t v = r->from + r->lane; v < r->to; v += 32) {
        float x[VEC];

        read_vector(r, v, r->to, x);
#pragma unroll
        for (int32_t i = 0; i < VEC; i++) {
            const int32_t is_kept = x[i] >= least;

            if (FLI_PROBS)
                x[i] = is_kept ? share_of_prob(&r->w, x[i], inverse) : 0;
            else
                x[i] = is_kept ? x[i] : -INFINITY_F;
        }
        write_vector(r, out, FLI_DTYPE, v, x);
    }
}

KERNEL __launch_bounds__(FLI_SAMPLE_THREADS, 1)
    fli_filter(const __grid_constant__ fli_filter_launch a)
{
    __shared__ search_memory s;
    const fli_filter_params *const p = &a.p;
    const int64_t i = blockIdx.x / (uint32_t)cluster_size();
    const int64_t bytes = dtype_bytes(FLI_DTYPE);
    char *const out = (char *)p->out + i * p->out_stride * bytes;
    row r = row_init((const char *)p->x + i * p->x_stride * bytes, p->vocab,
                     &a.split, &s.shared);
    filter f;
    float greatest, inverse = 1;

    pdl_wait();
    const int32_t is_valid =
        filter_of(&p->filters, i, &f) && open_row(&r, 1, &greatest);

    pdl_launch();
    if (r.rank == 0 && threadIdx.x == 0 && p->valid)
        p->valid[i] = (uint8_t)is_valid;
    if (!is_valid) {
        fill_row(&r, out, FLI_DTYPE, FLI_PROBS ? 0 : -INFINITY_F);
        return;
    }
    /* beside an infinite probability the others are 0, kept or not */
    const int32_t is_peak = FLI_PROBS && r.w.max == INFINITY_F;
    scanned c;

    c.is_done = 0;
    const int32_t key = is_peak ? r.w.top : kept_key(&r, &s, &c, &f, greatest);

    if (FLI_PROBS) {
        const uint64_t own = kept_mass(&r, &s, &c, key);
        const uint64_t *const slot = exchange_sums(&r, &own, 1);

        inverse = inverse_of(exchanged_sum(&r, slot, 0));
    }
    filter_row(&r, out, float_of_key(key), inverse);
}
