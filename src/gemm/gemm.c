/* SPDX-License-Identifier: Apache-2.0 */
/* gemm: validate, fill the launch, choose, check the packed weights against the
 * choice, run. */
#include "gemm/gemm.h"

#include <inttypes.h>
#include <string.h>

#include <flashinfer/gemm.h>

#include "abi/kernels.h"
#include "core/check.h"

static const fli__impl impls[] = FLI__IMPLS(
    gemm, NULL,
    FLI__CUDA("cublaslt", fli__gemm_reject_cublaslt, fli__gemm_cublaslt, 0)
        FLI__CUDA("portable", fli__gemm_reject_portable, fli__gemm_portable, 0)
            FLI__CUDA("generic", NULL, fli__gemm_generic, 0));
static const fli__impl_list gemm_list = FLI__IMPL_LIST(gemm, impls);

/* In a prepare a tensor may be there without data. */
static int is_given(const fli_tensor *tensor, uint32_t flags)
{
    return tensor->data || ((flags & FLI__SHAPE_ONLY) && tensor->ndim);
}

/* b, or packed, which is checked further when the implementation is known. */
static fli_status check_weights(const fli_context *ctx, const char *where,
                                const fli_gemm_args *a, uint32_t flags)
{
    const int packed = is_given(&a->packed, flags);
    const int b = packed ? is_given(&a->b, flags) : a->b.data || a->b.ndim;
    fli__spec spec = { .flags = flags };

    CHECK(b || packed, INVALID_ARGUMENT,
          "%s: b and packed are absent, expected one of them", where);
    CHECK(!b || !packed, INVALID_ARGUMENT,
          "%s: b and packed are both given, expected one of them", where);
    if (packed) {
        spec.dtypes = FLI__DTYPE(FLI_U8);
        spec.ndim = 1;
        spec.shape[0] = FLI__AT_LEAST(sizeof(fli_pack_header));
        TRY(fli__check_tensor(ctx, where, "packed", &a->packed, &spec));
        CHECK((uintptr_t)a->packed.data % 64 == 0, INVALID_ARGUMENT,
              "%s: packed is at %p, expected a multiple of 64 bytes", where,
              a->packed.data);
        return FLI_OK;
    }
    spec.dtypes = FLI__FLOATS;
    spec.ndim = 2;
    spec.shape[0] = a->out.shape[1];
    spec.shape[1] = a->a.shape[1];
    return fli__check_tensor(ctx, where, "b", &a->b, &spec);
}

static fli_status check_tensors(const fli_context *ctx, const char *where,
                                const fli_gemm_args *a, uint32_t flags)
{
    fli__spec spec = {
        .dtypes = FLI__FLOATS,
        .flags = flags,
        .ndim = 2,
        .shape = { FLI__ANY, FLI__ANY },
    };

    TRY(fli__check_tensor(ctx, where, "a", &a->a, &spec));
    spec.shape[0] = a->a.shape[0];
    spec.flags = flags | FLI__OUTPUT;
    TRY(fli__check_tensor(ctx, where, "out", &a->out, &spec));
    TRY(check_weights(ctx, where, a, flags));
    spec.flags = flags | FLI__OPTIONAL;
    spec.ndim = 1;
    spec.shape[0] = a->out.shape[1];
    return fli__check_tensor(ctx, where, "bias", &a->bias, &spec);
}

static fli_status check_overlap(const char *where, const fli_gemm_args *a)
{
    const struct {
        const char *name;
        const fli_tensor *tensor;
    } inputs[] = {
        { "a", &a->a },
        { "b", &a->b },
        { "packed", &a->packed },
        { "bias", &a->bias },
    };

    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++)
        TRY(fli__check_apart(where, "out", &a->out, inputs[i].name,
                             inputs[i].tensor));
    return FLI_OK;
}

static fli_status gemm_params(const fli_context *ctx, const char *where,
                              const fli_gemm_args *a, uint32_t flags,
                              fli_gemm_params *p)
{
    CHECK(!ctx->cuda || !is_given(&a->packed, flags), UNSUPPORTED,
          "%s: packed is given, expected b: on cuda weights stay as they are",
          where);
    TRY(check_tensors(ctx, where, a, flags));
    CHECK(!(a->flags & ~(uint32_t)FLI_GEMM_BATCH_INVARIANT), INVALID_ARGUMENT,
          "%s: flags is 0x%x, expected FLI_GEMM_BATCH_INVARIANT (0x1) or 0",
          where, (unsigned)a->flags);
    CHECK(a->add == 0 || a->add == 1, INVALID_ARGUMENT,
          "%s: add is %d, expected 0 or 1", where, (int)a->add);
    TRY(check_overlap(where, a));
    const int64_t m = a->a.shape[0], n = a->out.shape[1];

    *p = (fli_gemm_params){
        .a = a->a.data,
        .b = a->b.data,
        .packed = a->packed.data,
        .bias = a->bias.data,
        .out = a->out.data,
        .m = m,
        .n = n,
        .k = a->a.shape[1],
        /* the stride of a single row may be anything */
        .a_stride = m > 1 ? a->a.stride[0] : 0,
        .b_stride = n > 1 ? a->b.stride[0] : 0,
        .out_stride = m > 1 ? a->out.stride[0] : 0,
        .dtype_a = a->a.dtype,
        .dtype_b = a->b.dtype,
        .dtype_bias = a->bias.dtype,
        .dtype_out = a->out.dtype,
        .invariant = (a->flags & FLI_GEMM_BATCH_INVARIANT) != 0,
        .add = a->add,
    };
    return FLI_OK;
}

/* Takes the blob apart: p->packed then points behind the header. */
static fli_status open_packed(const char *where, const fli_tensor *packed,
                              const fli__impl *impl, fli_gemm_params *p)
{
    fli_pack_header h;

    memcpy(&h, packed->data, sizeof(h));
    CHECK(h.magic == FLI_PACK_MAGIC, INVALID_ARGUMENT,
          "%s: packed begins with 0x%08x, expected a blob of fli_gemm_pack",
          where, (unsigned)h.magic);
    CHECK(h.isa == (uint32_t)impl->isa, INVALID_ARGUMENT,
          "%s: packed is for %s, expected %s", where,
          fli__gemm_order_name(h.isa),
          fli__gemm_order_name((uint32_t)impl->isa));
    CHECK(h.version == FLI_PACK_VERSION, INVALID_ARGUMENT,
          "%s: packed is of version %u, expected %u", where,
          (unsigned)h.version, FLI_PACK_VERSION);
    CHECK(h.n == p->n && h.k == p->k, INVALID_ARGUMENT,
          "%s: packed is [%" PRId64 ", %" PRId64 "], expected [%" PRId64
          ", %" PRId64 "]",
          where, h.n, h.k, p->n, p->k);
    CHECK(h.dtype > 0 && h.dtype < 32 && (FLI__DTYPE(h.dtype) & FLI__FLOATS),
          INVALID_ARGUMENT, "%s: packed is of dtype %d, expected f32|f16|bf16",
          where, (int)h.dtype);
    const int64_t bytes = fli__gemm_blob_bytes(impl, h.dtype, h.n, h.k);

    CHECK(bytes >= 0 && packed->shape[0] >= bytes, INVALID_ARGUMENT,
          "%s: packed has %" PRId64 " bytes, expected at least %" PRId64, where,
          packed->shape[0], bytes);
    p->dtype_b = h.dtype;
    p->packed = (const char *)packed->data + sizeof(h);
    return FLI_OK;
}

/* Bytes read and written, or products / 8, about as long each; saturates.  0
 * where out has no elements. */
static int64_t work_of(const fli_gemm_params *p)
{
    const double m = (double)p->m, n = (double)p->n, k = (double)p->k;
    const double bytes = 4 * (m * k + n * k + m * n), products = m * n * k;

    if (!p->m || !p->n)
        return 0;
    return (int64_t)MIN(MAX(bytes, products / 8), 0x1p60);
}

fli_status fli_gemm(fli_context *ctx, const fli_gemm_args *args,
                    fli_stream stream)
{
    static const char where[] = "gemm run";
    const fli__impl *impl;
    fli_gemm_args a;
    fli_gemm_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    TRY(gemm_params(ctx, where, &a, 0, &p));
    TRY(fli__choose(ctx, where, &gemm_list, &p, &impl));
    if (p.packed)
        TRY(open_packed(where, &a.packed, impl, &p));
    const fli__call call = { .ctx = ctx, .where = where, .stream = stream };

    return fli__run_impl(&call, impl, &p, work_of(&p));
}

fli_status fli_gemm_prepare(fli_context *ctx, const fli_gemm_args *args)
{
    static const char where[] = "gemm prepare";
    fli_gemm_args a;
    fli_gemm_params p;

    TRY(fli__check_call(ctx, where, NULL));
    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    TRY(gemm_params(ctx, where, &a, FLI__SHAPE_ONLY, &p));
    return fli__prepare(ctx, where, &gemm_list, &p);
}
