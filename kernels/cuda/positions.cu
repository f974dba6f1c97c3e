/* SPDX-License-Identifier: Apache-2.0 */
/* get_batch_indices_positions: a thread a row, its request found by
 * bisection. */
#include "abi/positions.h"
#include "cuda/lib/base.cuh"

#define MAX_THREADS 256

/* The last request that begins at or before row; requests without rows share
 * their begin with the one that has it. */
DEVICE int32_t request_of(const fli_positions_params *p, int64_t row)
{
    int32_t low = 0, high = (int32_t)p->n_requests;

    while (high - low > 1) {
        const int32_t middle = low + (high - low) / 2;

        if (p->append_indptr[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

KERNEL __launch_bounds__(MAX_THREADS)
    fli_positions(const __grid_constant__ fli_positions_params p)
{
    const int64_t row = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int32_t request = -1, position = -1;

    pdl_wait();
    pdl_launch();
    if (row >= p.n_rows)
        return;
    if (p.n_requests > 0 && row < p.append_indptr[p.n_requests]) {
        const int32_t i = request_of(&p, row);
        const int64_t behind = p.append_indptr[i + 1] - row;

        if (row >= p.append_indptr[i] && behind > 0
            && behind <= p.seq_lens[i]) {
            request = i;
            position = (int32_t)(p.seq_lens[i] - behind);
        } else {
            raise_sticky(p.sticky, FLI_STICKY_INDEX);
        }
    }
    p.batch_indices[row] = request;
    p.positions[row] = position;
}
