/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda.h"

fli_status fli__cuda_open(fli_context *ctx, const fli_context_options *options)
{
    (void)options;
    return FAIL(UNSUPPORTED, "context create: device is cuda:%d",
                (int)ctx->device.index);
}

void fli__cuda_close(fli_context *ctx)
{
    (void)ctx;
}

fli_status fli__cuda_enter(const fli_context *ctx, const char *where,
                           void **previous)
{
    (void)ctx;
    (void)where;
    *previous = NULL;
    return FLI_OK;
}

void fli__cuda_leave(const fli_context *ctx, void *previous)
{
    (void)ctx;
    (void)previous;
}

fli_status fli__cuda_check_stream(const fli_context *ctx, const char *where,
                                  fli_stream stream)
{
    (void)ctx;
    (void)where;
    (void)stream;
    return FLI_OK;
}

fli_status fli__cuda_check_sticky(const fli_context *ctx, const char *where)
{
    (void)ctx;
    (void)where;
    return FLI_OK;
}
