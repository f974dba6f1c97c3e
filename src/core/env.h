/* SPDX-License-Identifier: Apache-2.0 */
/* Every environment variable that the library reads, in one table. */
#ifndef FLI_CORE_ENV_H
#define FLI_CORE_ENV_H

#include "core/status.h"

/* FLI_ENV(name, values, meaning) */
#define FLI__ENV_TABLE(FLI_ENV)                                                \
    FLI_ENV(FLI_CPU_ISA, "baseline|avx2", "highest ISA to use")                \
    FLI_ENV(FLI_THREADS, "1..1024", "threads of the built-in pool")            \
    FLI_ENV(FLI_IMPL, "ref or op:impl,...", "forces implementations")          \
    FLI_ENV(FLI_LOG, "dispatch,jit", "topics to log, to stderr by default")    \
    FLI_ENV(FLI_LIBCUDA, "file", "the driver, in place of libcuda.so.1")       \
    FLI_ENV(FLI_NVRTC, "file or folder", "where libnvrtc is")                  \
    FLI_ENV(FLI_CUBLASLT, "file or folder", "where libcublasLt is")            \
    FLI_ENV(FLI_CACHE, "folder", "of compiled kernels; must be private")       \
    FLI_ENV(FLI_PACK, "file", "kernels compiled ahead by flashinfer prebuild") \
    FLI_ENV(VIRTUAL_ENV, "folder", "Python packages that may have NVRTC")      \
    FLI_ENV(CONDA_PREFIX, "folder", "conda packages that may have NVRTC")      \
    FLI_ENV(CUDA_HOME, "folder", "a CUDA toolkit that may have NVRTC")         \
    FLI_ENV(CUDA_PATH, "folder", "the same")                                   \
    FLI_ENV(XDG_CACHE_HOME, "folder", "FLI_CACHE is flashinfer in it")         \
    FLI_ENV(HOME, "folder", "else FLI_CACHE is .cache/flashinfer in it")

typedef enum {
#define FLI_ENV(name, values, meaning) FLI__ENV_##name,
    FLI__ENV_TABLE(FLI_ENV)
#undef FLI_ENV
        FLI__ENV_COUNT
} fli__env;

/* The value, or NULL when unset or empty. */
const char *fli__env_get(fli__env variable);

#endif
