/* SPDX-License-Identifier: Apache-2.0 */
/* A tensor: a pointer with a shape.  The library never owns one.
 *
 * Strides are in elements and any value is accepted as long as the last
 * dimension has stride 1 (or at most one element); an output must not overlap
 * itself.  data is aligned to its element.  data NULL means absent. */
#ifndef FLASHINFER_TENSOR_H
#define FLASHINFER_TENSOR_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FLI_MAX_NDIM 6

/* The values are DLPack's. */
typedef enum fli_device_type {
    FLI_DEVICE_CPU = 1,
    FLI_DEVICE_CUDA = 2
} fli_device_type;

typedef struct fli_device {
    int32_t type;  /* fli_device_type */
    int32_t index; /* ordinal; 0 on the CPU */
} fli_device;

/* 120 bytes; the layout never changes. */
typedef struct fli_tensor {
    void *data;
    int64_t shape[FLI_MAX_NDIM];
    int64_t stride[FLI_MAX_NDIM]; /* elements */
    int32_t dtype;                /* fli_dtype */
    fli_device device;
    int32_t ndim;
} fli_tensor;

FLI_API fli_device fli_cpu(void);
FLI_API fli_device fli_cuda(int32_t ordinal);

struct fli_context;

/* Compact row-major tensors on the device of ctx (the CPU for NULL). */
FLI_API fli_tensor fli_tensor_1d(const void *data,
                                 const struct fli_context *ctx, fli_dtype dtype,
                                 int64_t n0);
FLI_API fli_tensor fli_tensor_2d(const void *data,
                                 const struct fli_context *ctx, fli_dtype dtype,
                                 int64_t n0, int64_t n1);
FLI_API fli_tensor fli_tensor_3d(const void *data,
                                 const struct fli_context *ctx, fli_dtype dtype,
                                 int64_t n0, int64_t n1, int64_t n2);
FLI_API fli_tensor fli_tensor_4d(const void *data,
                                 const struct fli_context *ctx, fli_dtype dtype,
                                 int64_t n0, int64_t n1, int64_t n2,
                                 int64_t n3);

/* Fills *out from a DLTensor (dl_tensor points to one, as in dlpack.h).  NULL
 * strides mean compact; byte_offset is added.  Nothing is copied or owned: the
 * memory must outlive the use of *out.
 * Errors: INVALID_ARGUMENT on NULL, more than 6 dimensions, negative extents;
 * UNSUPPORTED on a dtype or device that the library does not know. */
FLI_API fli_status fli_tensor_from_dlpack(fli_tensor *out,
                                          const void *dl_tensor);

/* Fills the DLTensor at dl_tensor from *tensor.  Its shape and strides point
 * into *tensor, which must outlive it. */
FLI_API void fli_tensor_to_dlpack(const fli_tensor *tensor, void *dl_tensor);

#ifdef __cplusplus
}
#endif
#endif
