/* SPDX-License-Identifier: Apache-2.0 */
/* A context: a device, who runs the work, who gives memory, who hears logs.
 *
 * Threads: a context is immutable after creation, so any number of threads may
 * use one at once; create and destroy need exclusive access. */
#ifndef FLASHINFER_CONTEXT_H
#define FLASHINFER_CONTEXT_H

#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fli_context fli_context;

/* Part ith of nth of some work on arg. */
typedef void fli_task(void *arg, int32_t ith, int32_t nth);

/* Who runs the parts.  run must call task(arg, i, n) once for each i in [0, n),
 * in any order, on any threads, and return when all have returned.  It may be
 * called from several threads at once. */
typedef struct fli_executor {
    void *ctx;
    int32_t n;
    void (*run)(void *ctx, fli_task *task, void *arg);
} fli_executor;

/* Who gives host memory: 64-byte aligned, NULL when there is none.  Called by
 * create and prepare functions, on CUDA by the first call that has to load a kernel,
 * from its threads too; never by plan or run of an op that is ready. */
typedef struct fli_allocator {
    void *ctx;
    void *(*alloc)(void *ctx, size_t bytes);
    void (*free)(void *ctx, void *memory, size_t bytes);
} fli_allocator;

/* One line without a newline.  May be called from any thread; must not call the
 * library.  What is logged is chosen by FLI_LOG. */
typedef void fli_log_fn(void *ctx, const char *line);

/* Zero is every default.  What is marked CPU has no say on CUDA. */
typedef struct fli_context_options {
    size_t size;
    int32_t n_threads; /* CPU: of the built-in pool; 0: FLI_THREADS, else the
                          CPUs this process may use */
    int32_t reserved;
    const char *cpu_isa; /* CPU: highest ISA to use: "baseline", "avx2"; NULL:
                            FLI_CPU_ISA, else the best the CPU has */
    const char *impl; /* forces implementations and never falls back: "ref" or
                         "attention:ref,gemm:cpu"; NULL: FLI_IMPL */
    fli_executor executor;   /* CPU: run NULL: the built-in pool */
    fli_allocator allocator; /* alloc NULL: the C library's */
    fli_log_fn *log;         /* NULL: stderr when FLI_LOG is set */
    void *log_ctx;
    void *cuda_context;    /* CUDA: a CUcontext of the device, which must
                              outlive this context; NULL: the primary one */
    const char *cuda_arch; /* CUDA: "sm_90a": compiles for that arch and has no
                              device: prepare and create only, without a driver
                              and whatever the index; NULL: the device's own */
} fli_context_options;

#define FLI_CONTEXT_OPTIONS_INIT { sizeof(fli_context_options) }

/* Makes a context on device; options may be NULL and are copied (strings too).
 * On CUDA, sm_80 or later: the first one opens the driver, and each holds the
 * device's primary context unless it is given one.  Calls make that context current
 * while they last and leave the thread's own as it was.
 * Errors: INVALID_ARGUMENT on an unknown device, ISA, arch or implementation;
 * UNSUPPORTED where the device or its driver is absent, with the reason;
 * OUT_OF_MEMORY; DEVICE. */
FLI_API fli_status fli_context_create(fli_context **out, fli_device device,
                                      const fli_context_options *options);

/* NULL is fine.  Every op made from ctx must be destroyed before it. */
FLI_API void fli_context_destroy(fli_context *ctx);

/* The device that ctx was made on. */
FLI_API fli_device fli_context_device(const fli_context *ctx);

/* Parts that work is split into on the CPU; 1 on CUDA. */
FLI_API int32_t fli_context_n_threads(const fli_context *ctx);

/* "cpu (avx2, 2 threads)", "cuda:0 (NVIDIA H100 80GB HBM3, sm_90a, 132 SMs)";
 * owned by ctx. */
FLI_API const char *fli_context_describe(const fli_context *ctx);

/* The ISA in use: "baseline", "avx2"; "" on CUDA. */
FLI_API const char *fli_context_cpu_isa(const fli_context *ctx);

/* Reports what kernels could not report themselves: since the last check one was
 * given an id or a length out of range (clamped or skipped, so that nothing was
 * read or written outside), or it failed.  Waits for all work of the CUDA context;
 * not while a stream is being captured.  What other threads run meanwhile may be
 * told now or never.  Always OK on the CPU, where run checks first.
 * Errors: INVALID_ARGUMENT with what kernels were given; DEVICE. */
FLI_API fli_status fli_context_check(fli_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
