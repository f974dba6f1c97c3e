/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of get_batch_indices_positions. */
#include "abi/positions.h"
#include "jit/rows.h"
#include "page/page.h"

#define MAX_THREADS 256 /* positions.cu */

fli_status fli__positions_cuda(const fli__call *call, const void *params)
{
    fli_positions_params p = *(const fli_positions_params *)params;
    fli__launch launch = { .grid = { 0, 1, 1 },
                           .block = { MAX_THREADS, 1, 1 } };
    const fli__kernel *kernel;
    fli__instance instance;

    fli__instance_init(&instance, "cuda/positions.cu", "fli_positions",
                       "positions");
    TRY(fli__jit_kernel(call, &instance, &kernel));
    if (call->prepare)
        return FLI_OK;
    TRY(fli__rows_blocks(call, p.n_rows, MAX_THREADS, &launch.grid[0]));
    return fli__cuda_launch(call, kernel, &launch, &p);
}
