/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points of libnvrtc that are used, declared here so that building needs
 * no CUDA toolkit; tests/abi compares them with nvrtc.h where there is one.
 * nvrtcProgram is void *, nvrtcResult int32_t. */
#ifndef FLI_JIT_NVRTC_H
#define FLI_JIT_NVRTC_H

#include <stddef.h>
#include <stdint.h>

/* FLI_RTC(name, arguments) */
#define FLI__NVRTC(FLI_RTC)                                                    \
    FLI_RTC(nvrtcVersion, (int32_t * major, int32_t * minor))                  \
    FLI_RTC(nvrtcGetNumSupportedArchs, (int32_t * n))                          \
    FLI_RTC(nvrtcGetSupportedArchs, (int32_t * archs))                         \
    FLI_RTC(nvrtcCreateProgram,                                                \
            (void **program, const char *text, const char *name, int32_t n,    \
             const char *const *headers, const char *const *names))            \
    FLI_RTC(nvrtcDestroyProgram, (void **program))                             \
    FLI_RTC(nvrtcCompileProgram,                                               \
            (void *program, int32_t n, const char *const *options))            \
    FLI_RTC(nvrtcGetProgramLogSize, (void *program, size_t *bytes))            \
    FLI_RTC(nvrtcGetProgramLog, (void *program, char *log))                    \
    FLI_RTC(nvrtcGetCUBINSize, (void *program, size_t *bytes))                 \
    FLI_RTC(nvrtcGetCUBIN, (void *program, char *cubin))                       \
    FLI_RTC(nvrtcGetPTXSize, (void *program, size_t *bytes))                   \
    FLI_RTC(nvrtcGetPTX, (void *program, char *ptx))

#define FLI__NVRTC_MAX_ARCHS 64

typedef struct {
#define FLI_RTC(name, arguments) int32_t(*name) arguments;
    FLI__NVRTC(FLI_RTC)
#undef FLI_RTC
    int32_t major, minor;
    int32_t n_archs;
    int32_t archs[FLI__NVRTC_MAX_ARCHS]; /* 75, 80, .. */
    char path[512];
} fli__nvrtc;

/* libnvrtc, opened once a process and never closed.  NULL where it is not found,
 * with the reason, a sentence without its subject's "cuda: ", in *why. */
const fli__nvrtc *fli__nvrtc_open(const char **why);

#endif
