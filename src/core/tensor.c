/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors: dtypes, constructors, DLPack. */
#include <flashinfer/tensor.h>

#include "abi/types.h"
#include "core/context.h"
#include "core/dlpack.h"
#include "core/status.h"

_Static_assert(sizeof(fli_tensor) == 120, "the ABI says 120 bytes");
_Static_assert((int)FLI_F32 == FLI_ABI_F32 && (int)FLI_F16 == FLI_ABI_F16
                   && (int)FLI_BF16 == FLI_ABI_BF16
                   && (int)FLI_I32 == FLI_ABI_I32 && (int)FLI_I64 == FLI_ABI_I64
                   && (int)FLI_U8 == FLI_ABI_U8
                   && (int)FLI_BOOL == FLI_ABI_BOOL,
               "kernels and headers number dtypes alike");

typedef struct {
    const char *name;
    size_t bytes;
    fli__dl_dtype dl;
} dtype_info;

static const dtype_info dtypes[] = {
    [FLI_F32] = { "f32", 4, { FLI__DL_FLOAT, 32, 1 } },
    [FLI_F16] = { "f16", 2, { FLI__DL_FLOAT, 16, 1 } },
    [FLI_BF16] = { "bf16", 2, { FLI__DL_BFLOAT, 16, 1 } },
    [FLI_I32] = { "i32", 4, { FLI__DL_INT, 32, 1 } },
    [FLI_I64] = { "i64", 8, { FLI__DL_INT, 64, 1 } },
    [FLI_U8] = { "u8", 1, { FLI__DL_UINT, 8, 1 } },
    [FLI_BOOL] = { "bool", 1, { FLI__DL_BOOL, 8, 1 } },
};

#define N_DTYPES ((int32_t)(sizeof(dtypes) / sizeof(*dtypes)))

/* NULL for an unknown dtype. */
static const dtype_info *find_dtype(int32_t dtype)
{
    if (dtype < 0 || dtype >= N_DTYPES || !dtypes[dtype].name)
        return NULL;
    return &dtypes[dtype];
}

const char *fli_dtype_name(int32_t dtype)
{
    const dtype_info *info = find_dtype(dtype);

    return info ? info->name : "unknown dtype";
}

size_t fli_dtype_bytes(int32_t dtype)
{
    const dtype_info *info = find_dtype(dtype);

    return info ? info->bytes : 0;
}

fli_device fli_cpu(void)
{
    return (fli_device){ FLI_DEVICE_CPU, 0 };
}

fli_device fli_cuda(int32_t ordinal)
{
    return (fli_device){ FLI_DEVICE_CUDA, ordinal };
}

static void set_compact_strides(fli_tensor *tensor)
{
    uint64_t stride = 1; /* unsigned: absurd shapes are refused where used */

    for (int32_t i = tensor->ndim - 1; i >= 0; i--) {
        tensor->stride[i] = (int64_t)stride;
        stride *= (uint64_t)MAX(tensor->shape[i], 1);
    }
}

static fli_tensor make(const void *data, const fli_context *ctx,
                       fli_dtype dtype, int32_t ndim, const int64_t *shape)
{
    fli_tensor tensor = {
        .data = (void *)(uintptr_t)data, /* inputs come as const too */
        .dtype = dtype,
        .device = ctx ? ctx->device : fli_cpu(),
        .ndim = ndim,
    };

    for (int32_t i = 0; i < ndim; i++)
        tensor.shape[i] = shape[i];
    set_compact_strides(&tensor);
    return tensor;
}

fli_tensor fli_tensor_1d(const void *data, const fli_context *ctx,
                         fli_dtype dtype, int64_t n0)
{
    return make(data, ctx, dtype, 1, (int64_t[]){ n0 });
}

fli_tensor fli_tensor_2d(const void *data, const fli_context *ctx,
                         fli_dtype dtype, int64_t n0, int64_t n1)
{
    return make(data, ctx, dtype, 2, (int64_t[]){ n0, n1 });
}

fli_tensor fli_tensor_3d(const void *data, const fli_context *ctx,
                         fli_dtype dtype, int64_t n0, int64_t n1, int64_t n2)
{
    return make(data, ctx, dtype, 3, (int64_t[]){ n0, n1, n2 });
}

fli_tensor fli_tensor_4d(const void *data, const fli_context *ctx,
                         fli_dtype dtype, int64_t n0, int64_t n1, int64_t n2,
                         int64_t n3)
{
    return make(data, ctx, dtype, 4, (int64_t[]){ n0, n1, n2, n3 });
}

/* FLI_NO_DTYPE where the library has none like it. */
static int32_t dtype_from_dl(fli__dl_dtype dl)
{
    for (int32_t i = 0; i < N_DTYPES; i++)
        if (dtypes[i].name && dtypes[i].dl.code == dl.code
            && dtypes[i].dl.bits == dl.bits && dl.lanes == 1)
            return i;
    return FLI_NO_DTYPE;
}

fli_status fli_tensor_from_dlpack(fli_tensor *out, const void *dl_tensor)
{
    static const char where[] = "tensor from_dlpack";
    const fli__dl_tensor *dl = dl_tensor;

    CHECK(out, INVALID_ARGUMENT, "%s: out is NULL, expected a tensor", where);
    CHECK(dl, INVALID_ARGUMENT, "%s: dl_tensor is NULL, expected a DLTensor",
          where);
    CHECK(dl->ndim >= 0 && dl->ndim <= FLI_MAX_NDIM, INVALID_ARGUMENT,
          "%s: ndim is %d, expected 0 to %d", where, (int)dl->ndim,
          FLI_MAX_NDIM);
    CHECK(dl->ndim == 0 || dl->shape, INVALID_ARGUMENT,
          "%s: shape is NULL, expected %d extents", where, (int)dl->ndim);
    for (int32_t i = 0; i < dl->ndim; i++)
        CHECK(dl->shape[i] >= 0, INVALID_ARGUMENT,
              "%s: shape[%d] is %lld, expected >= 0", where, (int)i,
              (long long)dl->shape[i]);
    const int32_t dtype = dtype_from_dl(dl->dtype);

    CHECK(dtype, UNSUPPORTED,
          "%s: dtype is code %d, %d bits, %d lanes, expected one of f32 f16 "
          "bf16 i32 i64 u8 bool",
          where, dl->dtype.code, dl->dtype.bits, dl->dtype.lanes);
    CHECK(dl->device.type == FLI_DEVICE_CPU
              || dl->device.type == FLI_DEVICE_CUDA,
          UNSUPPORTED, "%s: device type is %d, expected 1 (cpu) or 2 (cuda)",
          where, (int)dl->device.type);
    *out = (fli_tensor){
        .data = dl->data ? (char *)dl->data + dl->byte_offset : NULL,
        .dtype = dtype,
        .device = { dl->device.type, dl->device.index },
        .ndim = dl->ndim,
    };
    for (int32_t i = 0; i < dl->ndim; i++)
        out->shape[i] = dl->shape[i];
    if (dl->strides)
        for (int32_t i = 0; i < dl->ndim; i++)
            out->stride[i] = dl->strides[i];
    else
        set_compact_strides(out);
    return FLI_OK;
}

void fli_tensor_to_dlpack(const fli_tensor *tensor, void *dl_tensor)
{
    const dtype_info *info = find_dtype(tensor->dtype);

    *(fli__dl_tensor *)dl_tensor = (fli__dl_tensor){
        .data = tensor->data,
        .device = { tensor->device.type, tensor->device.index },
        .ndim = tensor->ndim,
        .dtype = info ? info->dl : (fli__dl_dtype){ 0 },
        .shape = (int64_t *)(uintptr_t)tensor->shape,
        .strides = (int64_t *)(uintptr_t)tensor->stride,
    };
}
