/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of loaded kernels. */
#include "device/cuda.h"

/* Programmatic dependent launch came with this. */
#define PROGRAMMATIC_SM 90

fli_status fli__cuda_launch(const fli__call *call, const fli__kernel *kernel,
                            const fli__launch *launch, void *params)
{
    const fli_context *ctx = call->ctx;
    fli__cu_launch_attribute attributes[2] = { 0 };
    uint32_t n = 0;

    TRY(fli__cuda_check_device(ctx, call->where));
    if (!launch->grid[0] || !launch->grid[1] || !launch->grid[2])
        return FLI_OK;
    if (ctx->cuda->caps.sm >= PROGRAMMATIC_SM) {
        attributes[n].id = FLI__CU_LAUNCH_PROGRAMMATIC_SERIALIZATION;
        attributes[n++].value.programmatic_stream_serialization = 1;
    }
    if (launch->cluster) {
        attributes[n].id = FLI__CU_LAUNCH_CLUSTER;
        attributes[n].value.cluster.x = launch->cluster;
        attributes[n].value.cluster.y = 1;
        attributes[n++].value.cluster.z = 1;
    }
    const fli__cu_launch_config config = {
        .grid = { launch->grid[0], launch->grid[1], launch->grid[2] },
        .block = { launch->block[0], launch->block[1], launch->block[2] },
        .shared_bytes = launch->shared_bytes,
        .stream = call->stream,
        .attributes = attributes,
        .n_attributes = n,
    };

    return FLI__CU(ctx, call->where, cuLaunchKernelEx, &config,
                   kernel->function, &params, NULL);
}

int32_t fli__cuda_occupancy(const fli_context *ctx, const fli__kernel *kernel,
                            int32_t block, size_t shared_bytes)
{
    const fli__cuda_driver *driver = ctx->cuda->driver;
    int32_t n = 1;

    if (driver)
        driver->cuOccupancyMaxActiveBlocksPerMultiprocessor(
            &n, kernel->function, block, shared_bytes);
    return MAX(n, 1);
}
