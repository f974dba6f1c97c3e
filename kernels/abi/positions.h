/* SPDX-License-Identifier: Apache-2.0 */
/* positions: for row t, the j-th of request i's n = append_indptr[i + 1] -
 * append_indptr[i] rows, batch_indices[t] = i, positions[t] = seq_lens[i] -
 * n + j; -1 in both from append_indptr[n_requests] on. */
#ifndef FLI_ABI_POSITIONS_H
#define FLI_ABI_POSITIONS_H

#include "abi/types.h"

typedef struct {
    const int32_t *append_indptr;       /* [n_requests + 1] */
    const int32_t *seq_lens;            /* [n_requests] */
    int32_t *batch_indices, *positions; /* [n_rows] */
    int64_t n_requests, n_rows;
    uint32_t *sticky; /* CUDA */
} fli_positions_params;

#endif
