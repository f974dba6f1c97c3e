/* SPDX-License-Identifier: Apache-2.0 */
/* fli_context_create: a device, options and environment into a context. */
#define _GNU_SOURCE /* sched_getaffinity */

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flashinfer/context.h>

#include "core/check.h"
#include "core/env.h"
#include "device/cuda.h"

#define MAX_THREADS 1024

static const char where[] = "context create";

static size_t context_bytes(void)
{
    return sizeof(fli_context) + FLI__OP_COUNT * FLI__IMPL_NAME_BYTES;
}

/* CPUs that this process may run on. */
static int32_t n_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set))
        return 1;
    return MIN(CPU_COUNT(&set), MAX_THREADS);
}

static fli_status choose_threads(fli_context *ctx,
                                 const fli_context_options *options)
{
    const char *text = fli__env_get(FLI__ENV_FLI_THREADS);
    long n = options->n_threads;

    if (options->executor.run) {
        CHECK(options->executor.n >= 1 && options->executor.n <= MAX_THREADS,
              INVALID_ARGUMENT, "%s: executor.n is %d, expected 1 to %d", where,
              (int)options->executor.n, MAX_THREADS);
        ctx->n_threads = options->executor.n;
        return FLI_OK;
    }
    CHECK(n >= 0 && n <= MAX_THREADS, INVALID_ARGUMENT,
          "%s: n_threads is %ld, expected 0 to %d", where, n, MAX_THREADS);
    if (!n && text) {
        char *end;

        errno = 0;
        n = strtol(text, &end, 10);
        CHECK(!errno && !*end && n >= 1 && n <= MAX_THREADS, INVALID_ARGUMENT,
              "%s: FLI_THREADS is '%s', expected 1 to %d", where, text,
              MAX_THREADS);
    }
    ctx->n_threads = n ? (int32_t)n : n_cpus();
    return FLI_OK;
}

static fli_status choose_isa(fli_context *ctx,
                             const fli_context_options *options)
{
    const char *name = options->cpu_isa;
    const char *source = "cpu_isa";

    if (!name) {
        name = fli__env_get(FLI__ENV_FLI_CPU_ISA);
        source = "FLI_CPU_ISA";
    }
    ctx->isa = fli__cpu_isa();
    if (!name)
        return FLI_OK;
    const fli__isa isa = fli__isa_from_name(name);

    CHECK(isa, INVALID_ARGUMENT, "%s: %s is '%s', expected baseline or avx2",
          where, source, name);
    CHECK(isa <= ctx->isa, UNSUPPORTED,
          "%s: %s is '%s', and this CPU or build has at most %s", where, source,
          name, fli__isa_name(ctx->isa));
    ctx->isa = isa;
    return FLI_OK;
}

/* One entry of length n: "ref" for all ops, or "gemm:ref". */
static fli_status force(fli_context *ctx, const char *source, const char *entry,
                        size_t n)
{
    static const char *const known[] = { "cpu",      "ref",     "plain",
                                         "portable", "generic", "cublaslt" };
    const char *colon = memchr(entry, ':', n);
    const char *impl = colon ? colon + 1 : entry;
    const size_t impl_n = n - (size_t)(impl - entry);
    const size_t op_n = colon ? (size_t)(colon - entry) : 0;
    const char *match = NULL;
    int found = 0;

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (strlen(known[i]) == impl_n && !memcmp(known[i], impl, impl_n))
            match = known[i];
    CHECK(match, INVALID_ARGUMENT,
          "%s: %s names implementation '%.*s', expected cpu, ref, portable, "
          "generic "
          "or cublaslt",
          where, source, (int)MIN(impl_n, 80), impl);
    for (int op = 0; op < FLI__OP_COUNT; op++) {
        const char *name = fli__op_name((fli__op)op);

        if (colon && (strlen(name) != op_n || memcmp(name, entry, op_n)))
            continue;
        snprintf(ctx->forced[op], FLI__IMPL_NAME_BYTES, "%s", match);
        found = 1;
    }
    CHECK(found, INVALID_ARGUMENT,
          "%s: %s names op '%.*s', expected an op of this library", where,
          source, (int)MIN(op_n, 80), entry);
    return FLI_OK;
}

static fli_status choose_impls(fli_context *ctx,
                               const fli_context_options *options)
{
    const char *source = "impl";
    const char *text = options->impl;

    if (!text) {
        source = "FLI_IMPL";
        text = fli__env_get(FLI__ENV_FLI_IMPL);
    }
    while (text && *text) {
        const size_t n = strcspn(text, ",");

        TRY(force(ctx, source, text, n));
        text += n + (text[n] == ',');
    }
    return FLI_OK;
}

static fli_status log_topic(fli_context *ctx, const char *name, size_t n)
{
    static const struct {
        const char *name;
        fli__log_topic topic;
    } topics[] = {
        { "dispatch", FLI__LOG_DISPATCH },
        { "jit", FLI__LOG_JIT },
    };

    for (size_t i = 0; i < sizeof(topics) / sizeof(*topics); i++)
        if (strlen(topics[i].name) == n && !memcmp(topics[i].name, name, n)) {
            ctx->log_topics |= topics[i].topic;
            return FLI_OK;
        }
    return FAIL(INVALID_ARGUMENT,
                "%s: FLI_LOG is '%.*s', expected dispatch or jit", where,
                (int)MIN(n, 80), name);
}

static fli_status choose_log(fli_context *ctx,
                             const fli_context_options *options)
{
    const char *topics = fli__env_get(FLI__ENV_FLI_LOG);

    ctx->log = options->log ? options->log : fli__default_log;
    ctx->log_ctx = options->log_ctx;
    while (topics && *topics) {
        const size_t n = strcspn(topics, ",");

        TRY(log_topic(ctx, topics, n));
        topics += n + (topics[n] == ',');
    }
    return FLI_OK;
}

static fli_status choose_executor(fli_context *ctx,
                                  const fli_context_options *options)
{
    if (options->executor.run) {
        ctx->executor = options->executor;
        return FLI_OK;
    }
    ctx->pool = fli__pool_create(ctx, ctx->n_threads);
    CHECK(ctx->pool, OUT_OF_MEMORY,
          "%s: a pool of %d threads could not be started", where,
          (int)ctx->n_threads);
    ctx->executor = (fli_executor){ ctx->pool, ctx->n_threads, fli__pool_run };
    return FLI_OK;
}

static fli_status check_options(const fli_context_options *options)
{
    CHECK(options->reserved == 0, UNSUPPORTED,
          "%s: options.reserved is %d, expected 0", where,
          (int)options->reserved);
    CHECK(!options->allocator.alloc == !options->allocator.free,
          INVALID_ARGUMENT,
          "%s: allocator has one of alloc and free, expected both or neither",
          where);
    return FLI_OK;
}

static fli_status open_cpu(fli_context *ctx, const fli_context_options *options)
{
    CHECK(!options->cuda_context && !options->cuda_arch, INVALID_ARGUMENT,
          "%s: cuda_context or cuda_arch is given, expected neither on cpu",
          where);
    TRY(choose_threads(ctx, options));
    TRY(choose_isa(ctx, options));
    TRY(choose_executor(ctx, options));
    snprintf(ctx->describe, sizeof(ctx->describe), "cpu (%s, %d thread%s)",
             fli__isa_name(ctx->isa), (int)ctx->n_threads,
             ctx->n_threads == 1 ? "" : "s");
    return FLI_OK;
}

static fli_status create(fli_context **out, fli_device device,
                         const fli_context_options *options)
{
    const fli_allocator allocator =
        options->allocator.alloc ? options->allocator : fli__default_allocator;
    fli_context *ctx = allocator.alloc(allocator.ctx, context_bytes());
    fli_status status;

    CHECK(ctx, OUT_OF_MEMORY, "%s: the allocator has no %zu bytes", where,
          context_bytes());
    memset(ctx, 0, context_bytes());
    ctx->allocator = allocator;
    ctx->device = device;
    if ((status = choose_impls(ctx, options))
        || (status = choose_log(ctx, options))
        || (status = device.type == FLI_DEVICE_CUDA
                         ? fli__cuda_open(ctx, options)
                         : open_cpu(ctx, options))) {
        fli_context_destroy(ctx);
        return status;
    }
    *out = ctx;
    return FLI_OK;
}

fli_status fli_context_create(fli_context **out, fli_device device,
                              const fli_context_options *options)
{
    fli_context_options o = FLI_CONTEXT_OPTIONS_INIT;

    CHECK(out, INVALID_ARGUMENT, "%s: out is NULL, expected a pointer", where);
    *out = NULL;
    if (options)
        TRY(fli__copy_struct(where, "options", &o, sizeof(o), options,
                             sizeof(o)));
    TRY(check_options(&o));
    CHECK((device.type == FLI_DEVICE_CPU && device.index == 0)
              || (device.type == FLI_DEVICE_CUDA && device.index >= 0),
          INVALID_ARGUMENT,
          "%s: device is type %d index %d, expected fli_cpu() or fli_cuda(i)",
          where, (int)device.type, (int)device.index);
    return create(out, device, &o);
}

void fli_context_destroy(fli_context *ctx)
{
    if (!ctx)
        return;
    fli__cuda_close(ctx);
    fli__pool_destroy(ctx, ctx->pool);
    fli__free(ctx, ctx, context_bytes());
}

const char *fli_context_cpu_isa(const fli_context *ctx)
{
    return fli__isa_name(ctx->isa);
}

fli_status fli_context_check(fli_context *ctx)
{
    static const char check[] = "context check";

    TRY(fli__check_call(ctx, check, NULL));
    return ctx->cuda ? fli__cuda_check_sticky(ctx, check) : FLI_OK;
}
