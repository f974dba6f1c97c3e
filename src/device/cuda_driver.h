/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points of libcuda that are used, declared here so that building needs
 * no CUDA toolkit; tests/abi compares them with cuda.h where there is one.
 * Handles are void *, CUdeviceptr is uint64_t, enums are int32_t. */
#ifndef FLI_DEVICE_CUDA_DRIVER_H
#define FLI_DEVICE_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

/* CUlaunchAttribute and CUlaunchConfig. */
typedef struct {
    int32_t id;
    char pad[4];
    union {
        uint64_t words[8];
        struct {
            uint32_t x, y, z;
        } cluster;
        int32_t programmatic_stream_serialization;
    } value;
} fli__cu_launch_attribute;

typedef struct {
    uint32_t grid[3], block[3];
    uint32_t shared_bytes;
    void *stream;
    fli__cu_launch_attribute *attributes;
    uint32_t n_attributes;
} fli__cu_launch_config;

/* FLI_CU(name, the symbol's suffix, arguments) */
#define FLI__CUDA_DRIVER(FLI_CU)                                               \
    FLI_CU(cuInit, , (uint32_t flags))                                         \
    FLI_CU(cuDriverGetVersion, , (int32_t * version))                          \
    FLI_CU(cuGetErrorName, , (int32_t result, const char **text))              \
    FLI_CU(cuGetErrorString, , (int32_t result, const char **text))            \
    FLI_CU(cuDeviceGetCount, , (int32_t * n))                                  \
    FLI_CU(cuDeviceGet, , (int32_t * device, int32_t ordinal))                 \
    FLI_CU(cuDeviceGetName, , (char *name, int32_t bytes, int32_t device))     \
    FLI_CU(cuDeviceGetAttribute, ,                                             \
           (int32_t * value, int32_t attribute, int32_t device))               \
    FLI_CU(cuDevicePrimaryCtxRetain, , (void **context, int32_t device))       \
    FLI_CU(cuDevicePrimaryCtxRelease, _v2, (int32_t device))                   \
    FLI_CU(cuCtxGetCurrent, , (void **context))                                \
    FLI_CU(cuCtxSetCurrent, , (void *context))                                 \
    FLI_CU(cuCtxGetDevice, , (int32_t * device))                               \
    FLI_CU(cuCtxSynchronize, , (void))                                         \
    FLI_CU(cuModuleLoadData, , (void **module, const void *image))             \
    FLI_CU(cuModuleUnload, , (void *module))                                   \
    FLI_CU(cuModuleGetFunction, ,                                              \
           (void **function, void *module, const char *name))                  \
    FLI_CU(cuFuncGetAttribute, ,                                               \
           (int32_t * value, int32_t attribute, void *function))               \
    FLI_CU(cuFuncSetAttribute, ,                                               \
           (void *function, int32_t attribute, int32_t value))                 \
    FLI_CU(cuOccupancyMaxActiveBlocksPerMultiprocessor, ,                      \
           (int32_t * n, void *function, int32_t block, size_t shared_bytes))  \
    FLI_CU(cuLaunchKernelEx, ,                                                 \
           (const fli__cu_launch_config *config, void *function,               \
            void **params, void **extra))                                      \
    FLI_CU(cuMemAlloc, _v2, (uint64_t * pointer, size_t bytes))                \
    FLI_CU(cuMemFree, _v2, (uint64_t pointer))                                 \
    FLI_CU(cuMemHostAlloc, , (void **pointer, size_t bytes, uint32_t flags))   \
    FLI_CU(cuMemFreeHost, , (void *pointer))                                   \
    FLI_CU(cuMemcpyHtoDAsync, _v2,                                             \
           (uint64_t to, const void *from, size_t bytes, void *stream))        \
    FLI_CU(cuMemcpyDtoH, _v2, (void *to, uint64_t from, size_t bytes))         \
    FLI_CU(cuMemsetD8, _v2, (uint64_t to, uint8_t value, size_t bytes))        \
    FLI_CU(cuEventCreate, , (void **event, uint32_t flags))                    \
    FLI_CU(cuEventDestroy, _v2, (void *event))                                 \
    FLI_CU(cuEventRecord, , (void *event, void *stream))                       \
    FLI_CU(cuEventSynchronize, , (void *event))                                \
    FLI_CU(cuStreamIsCapturing, , (void *stream, int32_t *status))             \
    FLI_CU(cuStreamGetCtx, , (void *stream, void **context))

typedef struct {
#define FLI_CU(name, suffix, arguments) int32_t(*name) arguments;
    FLI__CUDA_DRIVER(FLI_CU)
#undef FLI_CU
} fli__cuda_driver;

/* The values used of the driver's enums. */
enum {
    FLI__CU_OUT_OF_MEMORY = 2,
    FLI__CU_INVALID_HANDLE = 400,
    FLI__CU_ATTRIBUTE_SMS = 16,
    FLI__CU_ATTRIBUTE_L2_BYTES = 38,
    FLI__CU_ATTRIBUTE_MAJOR = 75,
    FLI__CU_ATTRIBUTE_MINOR = 76,
    FLI__CU_ATTRIBUTE_SHARED_OPTIN = 97,
    FLI__CU_FUNC_MAX_THREADS = 0,
    FLI__CU_FUNC_SHARED_BYTES = 1,
    FLI__CU_FUNC_LOCAL_BYTES = 3,
    FLI__CU_FUNC_REGISTERS = 4,
    FLI__CU_FUNC_MAX_DYNAMIC_SHARED = 8,
    FLI__CU_LAUNCH_CLUSTER = 4,
    FLI__CU_LAUNCH_PROGRAMMATIC_SERIALIZATION = 6,
    FLI__CU_EVENT_NO_TIMING = 2,
    FLI__CU_CAPTURE_NONE = 0
};

/* The driver, opened once a process: libcuda.so.1, or FLI_LIBCUDA.  NULL where
 * it cannot be, with the reason in *why (static storage). */
const fli__cuda_driver *fli__cuda_driver_open(const char **why);

/* "CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)" into buf; returns
 * buf. */
const char *fli__cuda_error_text(const fli__cuda_driver *driver, int32_t result,
                                 char *buf, size_t n);

#endif
