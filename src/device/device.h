/* SPDX-License-Identifier: Apache-2.0 */
/* Devices: what the CPU is, its pool of threads, and the op table: how an op
 * picks one of its implementations and runs it. */
#ifndef FLI_DEVICE_DEVICE_H
#define FLI_DEVICE_DEVICE_H

#include "core/context.h"

/* --- isa.c ------------------------------------------------------------- */

/* The best level that this CPU and this build have; found once. */
fli__isa fli__cpu_isa(void);

/* "baseline", "avx2"; "" for FLI__ISA_NONE. */
const char *fli__isa_name(fli__isa isa);

/* FLI__ISA_NONE for an unknown name. */
fli__isa fli__isa_from_name(const char *name);

/* --- pool.c ------------------------------------------------------------ */

/* n - 1 threads that spin briefly, then sleep.  A second caller that finds the
 * pool busy runs its parts itself.  NULL when threads or memory are short. */
struct fli__pool *fli__pool_create(const fli_context *ctx, int32_t n);
void fli__pool_run(void *pool, fli_task *task, void *arg);
void fli__pool_destroy(const fli_context *ctx, struct fli__pool *pool);

/* --- dispatch.c -------------------------------------------------------- */

/* The ops of src/ops.def. */
typedef enum {
#define FLI_OP(name, family, kind, stem, summary) FLI__OP_##name,
#include "ops.def"
#undef FLI_OP
    FLI__OP_COUNT
} fli__op;

const char *fli__op_name(fli__op op);

/* One call of an op, as its parts hand it on. */
typedef struct {
    const fli_context *ctx;
    const char *where; /* "<op> <verb>" */
    fli_stream stream;
    int32_t prepare; /* compile what a run would need; launch nothing */
} fli__call;

/* Compiles, or finds, the kernel that params ask for and launches it on
 * call->stream, unless the call only prepares. */
typedef fli_status fli__launch_fn(const fli__call *call, const void *params);

/* One implementation of a stem.  It works on the stem's params struct, on the CPU
 * by task, on CUDA by launch.  reject says why it cannot, NULL if it can (reject
 * NULL: it always can). */
typedef struct {
    const char *name; /* portable, generic; cpu, ref, plain */
    fli__isa isa;     /* CPU */
    fli_task *task;   /* CPU, else NULL */
    const char *(*reject)(const void *params);
    fli__launch_fn *launch; /* CUDA, else NULL */
    uint32_t needs;         /* CUDA: FLI__CUDA_* of device/cuda.h */
} fli__impl;

/* The usual list, best first: those for CUDA, made with FLI__CUDA; a CPU kernel
 * for each ISA; the reference, which takes all.  plain is the reference in f32,
 * only ever chosen by name: the checker measures tolerances with it. */
#if defined(FLI__BUILD_AVX2)
#define FLI__IMPL_AVX2(stem, reject)                                           \
    { "cpu", FLI__ISA_AVX2, fli__##stem##_avx2, reject, NULL, 0 },
#else
#define FLI__IMPL_AVX2(stem, reject)
#endif
#define FLI__IMPLS(stem, reject, ...)                                          \
    {                                                                          \
        __VA_ARGS__ FLI__IMPL_AVX2(stem, reject){ "cpu", FLI__ISA_BASELINE,    \
                                                  fli__##stem##_baseline,      \
                                                  reject, NULL, 0 },           \
        { "ref", FLI__ISA_NONE, fli__##stem##_ref, NULL, NULL, 0 },            \
        { "plain", FLI__ISA_NONE, fli__##stem##_plain, NULL, NULL, 0 },        \
    }
#define FLI__CUDA(name, reject, launch, needs)                                 \
    { name, FLI__ISA_NONE, NULL, reject, launch, needs },

/* The list of an op. */
typedef struct {
    fli__op op;
    int32_t n;
    const fli__impl *impls;
} fli__impl_list;

#define FLI__IMPL_LIST(op, impls)                                              \
    { FLI__OP_##op, (int32_t)(sizeof(impls) / sizeof((impls)[0])), impls }

/* The first implementation that takes params on ctx, or the forced one.
 * UNSUPPORTED with each one's reason where there is none.  out may be NULL. */
fli_status fli__choose(const fli_context *ctx, const char *where,
                       const fli__impl_list *list, const void *params,
                       const fli__impl **out);

/* Why impl cannot take params on ctx; NULL if it can. */
const char *fli__reject(const fli_context *ctx, fli__op op,
                        const fli__impl *impl, const void *params);

/* INVALID_ARGUMENT unless ctx is there and stream is one of its device: NULL on
 * the CPU, on CUDA a stream of the context's CUcontext. */
fli_status fli__check_call(const fli_context *ctx, const char *where,
                           fli_stream stream);

/* Runs task on params, by all threads of ctx when there is enough work (bytes
 * read or written, or about that in operations), else by the caller alone. */
void fli__run_task(const fli_context *ctx, fli_task *task, void *params,
                   int64_t work);

/* Runs impl on params: its task, or its launch on stream; nothing if work is
 * 0. */
fli_status fli__run_impl(const fli__call *call, const fli__impl *impl,
                         void *params, int64_t work);

/* choose and run. */
fli_status fli__dispatch(const fli__call *call, const fli__impl_list *list,
                         void *params, int64_t work);

/* choose, and on CUDA compile. */
fli_status fli__prepare(const fli_context *ctx, const char *where,
                        const fli__impl_list *list, const void *params);

#endif
