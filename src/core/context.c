/* SPDX-License-Identifier: Apache-2.0 */
/* What every layer may ask of a context.  It is made in src/device. */
#include "core/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 512

/* 64 bytes: a cache line, and the widest vector. */
static void *libc_alloc(void *ctx, size_t bytes)
{
    (void)ctx;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void libc_free(void *ctx, void *memory, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    free(memory);
}

const fli_allocator fli__default_allocator = {
    .alloc = libc_alloc,
    .free = libc_free,
};

const fli_context fli__memory_context = {
    .allocator = { .alloc = libc_alloc, .free = libc_free },
};

void fli__default_log(void *ctx, const char *line)
{
    (void)ctx;
    fprintf(stderr, "flashinfer: %s\n", line);
}

void *fli__alloc(const fli_context *ctx, size_t bytes)
{
    void *memory = ctx->allocator.alloc(ctx->allocator.ctx, bytes);

    if (memory)
        memset(memory, 0, bytes);
    return memory;
}

void fli__free(const fli_context *ctx, void *memory, size_t bytes)
{
    if (memory)
        ctx->allocator.free(ctx->allocator.ctx, memory, bytes);
}

void fli__log(const fli_context *ctx, fli__log_topic topic, const char *format,
              ...)
{
    char line[LINE_BYTES];
    va_list args;

    if (!(ctx->log_topics & (uint32_t)topic))
        return;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    ctx->log(ctx->log_ctx, line);
}

fli_device fli_context_device(const fli_context *ctx)
{
    return ctx->device;
}

int32_t fli_context_n_threads(const fli_context *ctx)
{
    return ctx->n_threads;
}

const char *fli_context_describe(const fli_context *ctx)
{
    return ctx->describe;
}
