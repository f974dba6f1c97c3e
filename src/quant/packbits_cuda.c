/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of packbits and segment_packbits. */
#include "abi/packbits.h"
#include "jit/rows.h"
#include "quant/quant.h"

#define ITEMS        8    /* packbits.cu */
#define MAX_THREADS  256  /* packbits.cu */
#define SCAN_THREADS 1024 /* packbits.cu */

static void instance_of(fli__instance *instance, const char *entry,
                        const char *name, int32_t segments, int32_t little)
{
    fli__instance_init(instance, "cuda/packbits.cu", entry, "%s_%s", name,
                       little ? "little" : "big");
    fli__instance_define(instance, "SEGMENTS", segments);
    fli__instance_define(instance, "LITTLE", little);
}

static fli_status launch_bytes(const fli__call *call, const fli__kernel *kernel,
                               fli_packbits_params *p, int64_t n)
{
    fli__launch launch = { .grid = { 0, 1, 1 },
                           .block = { MAX_THREADS, 1, 1 } };

    TRY(fli__rows_blocks(call, n, ITEMS * MAX_THREADS, &launch.grid[0]));
    return fli__cuda_launch(call, kernel, &launch, p);
}

fli_status fli__packbits_cuda(const fli__call *call, const void *params)
{
    fli_packbits_params p = *(const fli_packbits_params *)params;
    const fli__kernel *kernel;
    fli__instance instance;

    instance_of(&instance, "fli_packbits", "packbits", 0, p.little);
    TRY(fli__jit_kernel(call, &instance, &kernel));
    if (call->prepare)
        return FLI_OK;
    return launch_bytes(call, kernel, &p, p.n / 8 + (p.n % 8 > 0));
}

fli_status fli__segment_packbits_cuda(const fli__call *call, const void *params)
{
    fli_packbits_params p = *(const fli_packbits_params *)params;
    const fli__launch scan = { .grid = { 1, 1, 1 },
                               .block = { SCAN_THREADS, 1, 1 } };
    const fli__kernel *kernels[2];
    fli__instance instances[2];

    instance_of(&instances[0], "fli_packbits_scan", "packbits_scan", 1,
                p.little);
    instance_of(&instances[1], "fli_packbits", "segment_packbits", 1, p.little);
    TRY(fli__jit_kernels(call, instances, 2, kernels));
    if (call->prepare)
        return FLI_OK;
    TRY(fli__cuda_launch(call, kernels[0], &scan, &p));
    /* as many bytes as there can be: each segment adds one at most */
    return launch_bytes(call, kernels[1], &p,
                        MIN(p.n_out, p.n / 8 + p.n_segments));
}
