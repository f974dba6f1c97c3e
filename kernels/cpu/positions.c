/* SPDX-License-Identifier: Apache-2.0 */
/* get_batch_indices_positions: each part fills a range of rows, its first
 * request found by bisection. */
#include "abi/kernels.h"
#include "abi/positions.h"
#include "cpu/lib/vec.h"

/* The last request that begins at or before row; requests without rows share
 * their begin with the one that has it. */
static int64_t request_of(const fli_positions_params *p, int64_t row)
{
    int64_t low = 0, high = p->n_requests;

    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;

        if (p->append_indptr[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void KERNEL(positions)(void *params, int32_t ith, int32_t nth)
{
    const fli_positions_params *p = params;
    const int32_t *indptr = p->append_indptr;
    const int64_t end = p->n_rows * (ith + 1) / nth;
    int64_t row = p->n_rows * ith / nth;

    for (int64_t i = request_of(p, row); i < p->n_requests && row < end; i++) {
        const int64_t stop = indptr[i + 1] < end ? indptr[i + 1] : end;
        const int32_t first = p->seq_lens[i] - indptr[i + 1];

        for (; row < stop; row++) {
            p->batch_indices[row] = (int32_t)i;
            p->positions[row] = first + (int32_t)row;
        }
    }
    for (; row < end; row++)
        p->batch_indices[row] = p->positions[row] = -1;
}
