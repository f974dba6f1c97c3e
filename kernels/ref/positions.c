/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of get_batch_indices_positions. */
#include "abi/positions.h"

#include "ref/real.h"

void REF(positions)(void *params, int32_t ith, int32_t nth)
{
    const fli_positions_params *p = params;
    const int32_t *indptr = p->append_indptr;

    for (int64_t row = indptr[p->n_requests] + ith; row < p->n_rows; row += nth)
        p->batch_indices[row] = p->positions[row] = -1;
    for (int64_t i = ith; i < p->n_requests; i += nth)
        for (int32_t row = indptr[i]; row < indptr[i + 1]; row++) {
            p->batch_indices[row] = (int32_t)i;
            p->positions[row] = p->seq_lens[i] - indptr[i + 1] + row;
        }
}
