/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_pack: weights into the order of the implementation that gemm chooses on
 * the same context, behind a header that says so. */
#include "gemm/gemm.h"

#include <inttypes.h>
#include <string.h>

#include <flashinfer/gemm.h>

#include "abi/kernels.h"
#include "core/check.h"

static const fli__impl impls[] = FLI__IMPLS(gemm_pack, NULL, );
static const fli__impl_list pack_list = FLI__IMPL_LIST(gemm_pack, impls);
static const fli__impl_list gemm_list = FLI__IMPL_LIST(gemm, impls);

/* What is forced for gemm holds for packing too, unless packing is forced. */
static fli_status choose(const fli_context *ctx, const char *where,
                         const fli_gemm_pack_params *p, const fli__impl **impl)
{
    CHECK(!ctx->cuda, UNSUPPORTED,
          "%s: ctx is on cuda, expected cpu: on cuda weights stay as they are",
          where);
    const int forced = *ctx->forced[FLI__OP_gemm_pack] != 0;

    return fli__choose(ctx, where, forced ? &pack_list : &gemm_list, p, impl);
}

int64_t fli__gemm_blob_bytes(const fli__impl *impl, int32_t dtype, int64_t n,
                             int64_t k)
{
    int64_t bytes;

    if (impl->isa == FLI__ISA_NONE)
        bytes = fli__gemm_packed_bytes_ref(dtype, n, k);
#if defined(FLI__BUILD_AVX2)
    else if (impl->isa == FLI__ISA_AVX2)
        bytes = fli__gemm_packed_bytes_avx2(dtype, n, k);
#endif
    else
        bytes = fli__gemm_packed_bytes_baseline(dtype, n, k);
    return bytes < 0 ? -1 : bytes + (int64_t)sizeof(fli_pack_header);
}

const char *fli__gemm_order_name(uint32_t isa)
{
    if (isa == FLI__ISA_NONE)
        return "ref";
    return isa <= FLI__ISA_AVX2 ? fli__isa_name((fli__isa)isa) : "unknown ISA";
}

/* The choice for p and the bytes of its blob. */
static fli_status choose_and_size(const fli_context *ctx, const char *where,
                                  const fli_gemm_pack_params *p,
                                  const fli__impl **impl, int64_t *bytes)
{
    TRY(choose(ctx, where, p, impl));
    *bytes = fli__gemm_blob_bytes(*impl, p->dtype, p->n, p->k);
    CHECK(*bytes >= 0, INVALID_ARGUMENT,
          "%s: b is [%" PRId64 ", %" PRId64
          "], expected less than 2^62 bytes of it",
          where, p->n, p->k);
    return FLI_OK;
}

static fli_status packed_bytes(const fli_context *ctx,
                               const fli_gemm_pack_params *p, int64_t *bytes)
{
    static const char where[] = "gemm packed_bytes";
    const fli__impl *impl;

    TRY(fli__check_call(ctx, where, NULL));
    CHECK(p->dtype > 0 && p->dtype < 32 && (FLI__DTYPE(p->dtype) & FLI__FLOATS),
          INVALID_ARGUMENT, "%s: dtype is %s (%d), expected f32|f16|bf16",
          where, fli_dtype_name(p->dtype), (int)p->dtype);
    CHECK(p->n >= 0, INVALID_ARGUMENT,
          "%s: n is %" PRId64 ", expected 0 or more", where, p->n);
    CHECK(p->k >= 0, INVALID_ARGUMENT,
          "%s: k is %" PRId64 ", expected 0 or more", where, p->k);
    return choose_and_size(ctx, where, p, &impl, bytes);
}

size_t fli_gemm_packed_bytes(const fli_context *ctx, int32_t dtype, int64_t n,
                             int64_t k)
{
    const fli_gemm_pack_params p = { .n = n, .k = k, .dtype = dtype };
    int64_t bytes;

    return packed_bytes(ctx, &p, &bytes) ? 0 : (size_t)bytes;
}

static fli_status pack_params(const fli_context *ctx, const char *where,
                              const fli_gemm_pack_args *args, uint32_t flags,
                              fli_gemm_pack_params *p, const fli__impl **impl)
{
    fli_gemm_pack_args a;
    fli__spec spec = {
        .dtypes = FLI__FLOATS,
        .flags = flags,
        .ndim = 2,
        .shape = { FLI__ANY, FLI__ANY },
    };
    int64_t bytes;

    TRY(fli__copy_struct(where, "args", &a, sizeof(a), args, sizeof(a)));
    TRY(fli__check_tensor(ctx, where, "b", &a.b, &spec));
    *p = (fli_gemm_pack_params){
        .b = a.b.data,
        .packed = a.packed.data,
        .n = a.b.shape[0],
        .k = a.b.shape[1],
        .b_stride = a.b.shape[0] > 1 ? a.b.stride[0] : 0,
        .dtype = a.b.dtype,
    };
    TRY(choose_and_size(ctx, where, p, impl, &bytes));
    spec = (fli__spec){
        .dtypes = FLI__DTYPE(FLI_U8),
        .flags = flags | FLI__OUTPUT,
        .ndim = 1,
        .shape = { FLI__AT_LEAST(bytes) },
    };
    TRY(fli__check_tensor(ctx, where, "packed", &a.packed, &spec));
    CHECK((uintptr_t)a.packed.data % 64 == 0, INVALID_ARGUMENT,
          "%s: packed is at %p, expected a multiple of 64 bytes", where,
          a.packed.data);
    return fli__check_apart(where, "packed", &a.packed, "b", &a.b);
}

fli_status fli_gemm_pack(fli_context *ctx, const fli_gemm_pack_args *args,
                         fli_stream stream)
{
    static const char where[] = "gemm_pack run";
    const fli__impl *impl;
    fli_gemm_pack_params p;

    TRY(fli__check_call(ctx, where, stream));
    TRY(pack_params(ctx, where, args, 0, &p, &impl));
    const fli_pack_header header = {
        .magic = FLI_PACK_MAGIC,
        .isa = (uint32_t)impl->isa,
        .dtype = p.dtype,
        .version = FLI_PACK_VERSION,
        .n = p.n,
        .k = p.k,
    };

    memcpy(p.packed, &header, sizeof(header));
    p.packed = (char *)p.packed + sizeof(header);
    if (p.n && p.k)
        fli__run_task(ctx, impl->task, &p, MIN(p.n, INT64_MAX / p.k) * p.k);
    return FLI_OK;
}

fli_status fli_gemm_pack_prepare(fli_context *ctx,
                                 const fli_gemm_pack_args *args)
{
    static const char where[] = "gemm_pack prepare";
    const fli__impl *impl;
    fli_gemm_pack_params p;

    TRY(fli__check_call(ctx, where, NULL));
    return pack_params(ctx, where, args, FLI__SHAPE_ONLY, &p, &impl);
}
