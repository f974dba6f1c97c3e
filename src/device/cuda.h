/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA devices: the driver, opened at run time; what a device can; modules,
 * launches, staging memory.  No CUDA header is needed to build it. */
#ifndef FLI_DEVICE_CUDA_H
#define FLI_DEVICE_CUDA_H

#include <pthread.h>

#include "device/cuda_driver.h"
#include "device/device.h"

/* What an implementation may need of a device: fli__impl.needs. */
enum {
    FLI__CUDA_CLUSTER = 1, /* thread block clusters: sm_90 on */
    FLI__CUDA_TMA = 2,     /* bulk tensor copies: sm_90 on */
    FLI__CUDA_WGMMA = 4,   /* sm_90a alone */
    FLI__CUDA_FP8 = 8      /* fp8 mma: sm_89 on */
};

typedef struct {
    int32_t sm; /* compute capability, 90 for 9.0 */
    int32_t n_sms;
    int32_t shared_bytes; /* of a block, opted in */
    int64_t l2_bytes;
    uint32_t features; /* FLI__CUDA_* */
    char arch[12];     /* what kernels are compiled for: "sm_90a" */
    char name[64];
} fli__cuda_caps;

/* The device behind a context.  Immutable but for the kernel table. */
struct fli__cuda {
    const fli__cuda_driver *driver; /* NULL: compiles only (cuda_arch) */
    int32_t device;
    void *context; /* CUcontext */
    int32_t is_primary;
    fli__cuda_caps caps;
    uint32_t *sticky; /* device memory: FLI_STICKY_* that kernels raised */

    /* The kernels loaded so far; src/jit makes it on first use. */
    pthread_mutex_t lock;
    void *kernels;
    void (*free_kernels)(const fli_context *ctx, void *kernels);

    /* cuBLASLt; src/gemm makes it on first use. */
    void *blas;
    void (*free_blas)(const fli_context *ctx, void *blas);
};

/* --- cuda.c ---------------------------------------------------------------- */

/* Fills ctx->cuda (and ctx->describe) for ctx->device.  UNSUPPORTED with the
 * reason where the driver, the device or the arch is missing. */
fli_status fli__cuda_open(fli_context *ctx, const fli_context_options *options);

/* NULL is fine. */
void fli__cuda_close(fli_context *ctx);

/* DEVICE, or OUT_OF_MEMORY where that is what the driver says: "<where>: <call>
 * failed: <name> (<text>)"; OK for 0. */
fli_status fli__cuda_status(const fli_context *ctx, const char *where,
                            const char *call, int32_t result);

/* Calls the driver: FLI__CU(ctx, where, cuMemFree, pointer) is an fli_status. */
#define FLI__CU(ctx, where, name, ...)                                         \
    fli__cuda_status(ctx, where, #name, (ctx)->cuda->driver->name(__VA_ARGS__))

/* UNSUPPORTED of a context that compiles only: what needs a device asks this
 * before it compiles or copies. */
fli_status fli__cuda_check_device(const fli_context *ctx, const char *where);

/* Makes the context's CUcontext current for the calling thread, if it is not,
 * and gives back what was: leave with it.  A context that compiles only has
 * none, and nothing is done. */
fli_status fli__cuda_enter(const fli_context *ctx, const char *where,
                           void **previous);
void fli__cuda_leave(const fli_context *ctx, void *previous);

/* Is call->stream being captured into a graph?  UNSUPPORTED as check_device. */
fli_status fli__cuda_is_capturing(const fli__call *call, int32_t *out);

/* INVALID_ARGUMENT for a stream of another context.  The default streams (NULL,
 * legacy, of the thread) are of whatever context is current, so of ours. */
fli_status fli__cuda_check_stream(const fli_context *ctx, const char *where,
                                  fli_stream stream);

/* Waits for the device, reads and clears the sticky flags.  INVALID_ARGUMENT
 * with what was raised. */
fli_status fli__cuda_check_sticky(const fli_context *ctx, const char *where);

/* --- cuda_launch.c --------------------------------------------------------- */

/* A loaded kernel. */
typedef struct {
    void *function;       /* CUfunction; NULL where the context compiles only */
    int32_t registers;    /* of a thread */
    int32_t spill_bytes;  /* stores to local memory, of a thread */
    int32_t shared_bytes; /* static */
    int32_t max_threads;
} fli__kernel;

typedef struct {
    uint32_t grid[3], block[3];
    uint32_t shared_bytes; /* dynamic; allowed when the kernel was loaded */
    uint32_t cluster;      /* blocks of a cluster along x; 0: none */
} fli__launch;

/* Launches kernel with the one parameter it takes, a struct by value; an empty
 * grid is no launch.  Where the device has it, the launch may begin before the one
 * before it has ended (programmatic dependent launch): every kernel begins with
 * pdl_wait().  Between enter and leave, as dispatch calls launch functions. */
fli_status fli__cuda_launch(const fli__call *call, const fli__kernel *kernel,
                            const fli__launch *launch, void *params);

/* Blocks of kernel that an SM holds at once, at least 1 (without a device: 1).
 */
int32_t fli__cuda_occupancy(const fli_context *ctx, const fli__kernel *kernel,
                            int32_t block, size_t shared_bytes);

/* --- cuda_staging.c -------------------------------------------------------- */

/* Pinned host memory in a ring of 4 slots: a slot is filled by the host and copied
 * to the device in stream order; it is filled again only when that copy has run.
 * One plan at a time, in the caller's order; any of its streams. */
typedef struct fli__staging fli__staging;

/* Slots of bytes each; none where the context compiles only. */
fli_status fli__staging_create(const fli_context *ctx, const char *where,
                               size_t bytes, fli__staging **out);

/* NULL is fine.  Waits for copies on their way. */
void fli__staging_destroy(const fli_context *ctx, fli__staging *staging);

/* The slot to fill; waits for its last copy, which is 4 plans ago.  INVALID_STATE
 * while the stream is being captured: a replay would copy what the slot has then.
 */
fli_status fli__staging_next(const fli__call *call, fli__staging *staging,
                             void **out);

/* Copies the first bytes of that slot to device memory, in stream order, and turns
 * to the next one. */
fli_status fli__staging_send(const fli__call *call, fli__staging *staging,
                             void *device, size_t bytes);

#endif
