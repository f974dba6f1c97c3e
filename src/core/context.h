/* SPDX-License-Identifier: Apache-2.0 */
/* The context behind fli_context, host memory and logging. */
#ifndef FLI_CORE_CONTEXT_H
#define FLI_CORE_CONTEXT_H

#include <flashinfer/context.h>

#include "core/status.h"

/* ISA levels of the CPU, ascending. */
typedef enum {
    FLI__ISA_NONE = 0, /* reference: compiled like the rest of the library */
    FLI__ISA_BASELINE = 1,
    FLI__ISA_AVX2 = 2 /* AVX2 + FMA + F16C */
} fli__isa;

typedef enum {
    FLI__LOG_DISPATCH = 1, /* which implementation an op chose, and why */
    FLI__LOG_JIT = 2       /* what was compiled, found or thrown away */
} fli__log_topic;

#define FLI__IMPL_NAME_BYTES 16

struct fli__pool;
struct fli__cuda;

struct fli_context {
    fli_device device;
    struct fli__cuda *cuda; /* device/cuda.h; NULL on the CPU */
    fli__isa isa;
    int32_t n_threads;
    fli_executor executor;
    fli_allocator allocator;
    struct fli__pool *pool; /* NULL with a caller's executor */
    fli_log_fn *log;
    void *log_ctx;
    uint32_t log_topics;
    char describe[128];
    /* the implementation asked for of each op; "" is free choice */
    char forced[][FLI__IMPL_NAME_BYTES];
};

/* Zeroed memory from the context's allocator, or NULL. */
void *fli__alloc(const fli_context *ctx, size_t bytes);
void fli__free(const fli_context *ctx, void *memory, size_t bytes);

/* What a context uses without hooks: the C library's memory, and stderr. */
extern const fli_allocator fli__default_allocator;
void fli__default_log(void *ctx, const char *line);

/* For functions that are asked without a context: good for memory alone. */
extern const fli_context fli__memory_context;

void fli__log(const fli_context *ctx, fli__log_topic topic, const char *format,
              ...) __attribute__((format(printf, 3, 4)));

#endif
