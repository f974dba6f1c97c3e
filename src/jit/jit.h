/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels compiled at run time: an instance is some #defines before the #include
 * of one embedded source; its cubin comes from the context's table, a pack, the
 * cache folder, or NVRTC, in that order. */
#ifndef FLI_JIT_JIT_H
#define FLI_JIT_JIT_H

#include "device/cuda.h"

/* What to compile. */
typedef struct {
    char name[64];      /* readable, [a-z0-9_]: names files, logs, messages */
    const char *source; /* "cuda/norm.cu", of static storage */
    const char *entry;  /* the __global__ function, of static storage */
    uint32_t shared_bytes; /* the most dynamic shared memory of a launch */
    int32_t is_too_long;   /* INTERNAL when it is asked for */
    int32_t length;        /* of defines */
    char defines[768];     /* "#define FLI_DTYPE 3\n..." */
} fli__instance;

/* An instance without defines; name gets the text of format. */
void fli__instance_init(fli__instance *instance, const char *source,
                        const char *entry, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Adds "#define name value". */
void fli__instance_define(fli__instance *instance, const char *name,
                          int64_t value);

/* The kernel of instance on call->ctx, compiled and loaded on first use.  Any
 * number of threads may ask at once; each instance is compiled once, different
 * ones in parallel, also across processes.  INVALID_STATE naming <op>_prepare if
 * it is not loaded yet and call->stream is being captured; COMPILE naming the log
 * file, remembered; IO, DEVICE. */
fli_status fli__jit_kernel(const fli__call *call, const fli__instance *instance,
                           const fli__kernel **out);

/* The same for n instances at once, compiled in parallel. */
fli_status fli__jit_kernels(const fli__call *call,
                            const fli__instance *instances, int32_t n,
                            const fli__kernel **out);

#endif
