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
};

/* --- cuda.c ---------------------------------------------------------------- */

/* Fills ctx->cuda (and ctx->describe) for ctx->device.  UNSUPPORTED with the
 * reason where the driver, the device or the arch is missing. */
fli_status fli__cuda_open(fli_context *ctx, const fli_context_options *options);

/* NULL is fine. */
void fli__cuda_close(fli_context *ctx);

/* DEVICE: "<where>: <call> failed: <name> (<text>)"; OK for 0. */
fli_status fli__cuda_status(const fli_context *ctx, const char *where,
                            const char *call, int32_t result);

/* Makes the context's CUcontext current for the calling thread, if it is not,
 * and gives back what was: leave with it. */
fli_status fli__cuda_enter(const fli_context *ctx, const char *where,
                           void **previous);
void fli__cuda_leave(const fli_context *ctx, void *previous);

/* Is stream being captured into a graph? */
fli_status fli__cuda_is_capturing(const fli__call *call, int32_t *out);

/* UNSUPPORTED of a context that compiles only; INVALID_ARGUMENT for a stream of
 * another context. */
fli_status fli__cuda_check_stream(const fli_context *ctx, const char *where,
                                  fli_stream stream);

/* Reads and clears the sticky flags; waits for the device.  INVALID_ARGUMENT
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

/* Launches kernel with the one parameter it takes, a struct by value.  Where the
 * device has it, the launch may begin before the one before it has ended
 * (programmatic dependent launch): every kernel begins with pdl_wait(). */
fli_status fli__cuda_launch(const fli__call *call, const fli__kernel *kernel,
                            const fli__launch *launch, void *params);

/* Blocks of kernel that an SM holds at once, at least 1. */
int32_t fli__cuda_occupancy(const fli_context *ctx, const fli__kernel *kernel,
                            int32_t block, size_t shared_bytes);

/* --- cuda_staging.c -------------------------------------------------------- */

/* Pinned host memory in a ring: a slot is filled by the host and copied to the
 * device in stream order; it is filled again only when that copy has run. */
typedef struct fli__staging fli__staging;

/* n_slots of bytes each. */
fli_status fli__staging_create(const fli_context *ctx, const char *where,
                               size_t bytes, fli__staging **out);
void fli__staging_destroy(const fli_context *ctx, fli__staging *staging);

/* The next slot to fill; waits for its last copy, which is n_slots plans ago. */
fli_status fli__staging_next(const fli__call *call, fli__staging *staging,
                             void **out);

/* Copies the first bytes of that slot to device memory, in stream order. */
fli_status fli__staging_send(const fli__call *call, fli__staging *staging,
                             void *device, size_t bytes);

#endif
