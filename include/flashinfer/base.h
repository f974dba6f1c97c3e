/* SPDX-License-Identifier: Apache-2.0 */
/* Version, status codes and dtypes: what every other header needs. */
#ifndef FLASHINFER_BASE_H
#define FLASHINFER_BASE_H

#include <stddef.h>
#include <stdint.h>

#define FLI_VERSION_MAJOR 0
#define FLI_VERSION_MINOR 1
#define FLI_VERSION_PATCH 0
#define FLI_VERSION       "0.1.0"

#if defined(__GNUC__)
#define FLI_API __attribute__((visibility("default")))
#else
#define FLI_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Every function that can fail returns one of these.  INVALID_ARGUMENT is
 * never right; UNSUPPORTED is right, but no implementation accepts it (the
 * text lists each one's reason).  The values are pinned. */
typedef enum fli_status {
    FLI_OK = 0,
    FLI_INVALID_ARGUMENT = 1,
    FLI_UNSUPPORTED = 2,
    FLI_INVALID_STATE = 3,
    FLI_OUT_OF_MEMORY = 4,
    FLI_WORKSPACE = 5,
    FLI_COMPILE = 6,
    FLI_DEVICE = 7,
    FLI_IO = 8,
    FLI_TIMEOUT = 9,
    FLI_INTERNAL = 10
} fli_status;

/* The values are pinned; fli_tensor holds them as int32_t. */
typedef enum fli_dtype {
    FLI_NO_DTYPE = 0,
    FLI_F32 = 1,
    FLI_F16 = 2,
    FLI_BF16 = 3,
    FLI_I32 = 16,
    FLI_I64 = 17,
    FLI_U8 = 18,
    FLI_BOOL = 19
} fli_dtype;

/* An asynchronous queue of the device: a CUstream on CUDA.  NULL on the CPU,
 * where a call returns when its work is done. */
typedef void *fli_stream;

/* The version of the library that runs, "major.minor.patch". */
FLI_API const char *fli_version(void);

/* "OK", "INVALID_ARGUMENT", ...; "unknown status" for any other value. */
FLI_API const char *fli_status_name(fli_status status);

/* One sentence on the last failure of the calling thread, "" before any.  The
 * text stays valid until the thread's next failing call. */
FLI_API const char *fli_last_error(void);

/* "f32", "bf16", ...; "unknown dtype" for any other value. */
FLI_API const char *fli_dtype_name(int32_t dtype);

/* Bytes of an element; 0 for an unknown dtype. */
FLI_API size_t fli_dtype_bytes(int32_t dtype);

#ifdef __cplusplus
}
#endif
#endif
