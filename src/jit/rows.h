/* SPDX-License-Identifier: Apache-2.0 */
/* What the launches of kernels that go over rows share (kernels/cuda/lib/
 * vector.cuh): the width of an access, and which threads take what. */
#ifndef FLI_JIT_ROWS_H
#define FLI_JIT_ROWS_H

#include "jit/jit.h"

/* VEC: the elements of element_bytes in 16 bytes, if all addresses (or-ed) and
 * all lengths and strides in elements (or-ed) are multiples of that; else 1. */
int32_t fli__rows_vec(size_t element_bytes, uintptr_t addresses,
                      int64_t lengths);

/* The kernel of instance with VEC defined.  A call that prepares gets the one of
 * VEC 1 ready as well: it does not know the addresses of a run. */
fli_status fli__rows_kernel(const fli__call *call, fli__instance *instance,
                            int32_t vec, const fli__kernel **out);

/* Threads that share a row, rows of a block, parts that a row is cut into. */
typedef struct {
    uint32_t threads, rows, parts;
} fli__row_cut;

/* For rows of n vectors, of which a thread takes items at a time, in blocks of
 * about max_threads. */
fli__row_cut fli__rows_cut(int64_t n, int32_t items, uint32_t max_threads);

/* The blocks of rows each that n_rows take.  UNSUPPORTED for more than a grid can
 * have. */
fli_status fli__rows_blocks(const fli__call *call, int64_t n_rows,
                            uint32_t rows, uint32_t *out);

#endif
