/* SPDX-License-Identifier: Apache-2.0 */
/* gemm by cuBLASLt, for many rows.  Matrices of cuBLAS lie by columns, so that it
 * computes out^T[n, m] = b a^T; no workspace, no sums in parts through memory. */
#include <pthread.h>
#include <string.h>

#include "core/check.h"
#include "device/cuda.h"
#include "gemm/cublaslt.h"
#include "gemm/gemm.h"

#define N_SHAPES 64
#define ALIGN    16

/* What is known of a product of one shape. */
typedef struct {
    int64_t key[8];
    void *a, *b, *out; /* layouts; out NULL: empty */
    fli__lt_algo algo;
} known_shape;

/* Behind ctx->cuda->blas. */
typedef struct {
    const fli__cublaslt *lt;
    pthread_mutex_t lock;
    void *handle, *desc;
    known_shape shapes[N_SHAPES];
    int32_t next; /* to be forgotten when there is no room */
} blas_state;

/* --- what it takes ----------------------------------------------------------- */

static int32_t is_aligned(const fli_gemm_params *p)
{
    const uint64_t addresses =
        (uintptr_t)p->a | (uintptr_t)p->b | (uintptr_t)p->out;
    const uint64_t strides =
        (uint64_t)(p->a_stride | p->b_stride) * 2
        | (uint64_t)p->out_stride * fli_dtype_bytes(p->dtype_out);

    return (addresses | strides) % ALIGN == 0;
}

const char *fli__gemm_reject_cublaslt(const void *params)
{
    const fli_gemm_params *p = params;
    const char *why;

    if (p->invariant)
        return "its order over k depends on m";
    if (p->k == 0 || p->n == 0)
        return "there are no products";
    if (MAX(MAX(p->m, p->n), p->k) > INT32_MAX)
        return "m, n or k is over 2^31 - 1";
    if (p->dtype_a != p->dtype_b || p->dtype_a == FLI_F32)
        return "a and b are not of one 16-bit dtype";
    if (p->dtype_out != p->dtype_a && p->dtype_out != FLI_F32)
        return "out is neither of the dtype of a nor f32";
    if (p->m <= FLI__GEMM_FEW_ROWS)
        return "m is 32 or less, where portable is faster";
    if (p->dtype_bias)
        return "bias is given";
    if (!is_aligned(p))
        return "a, b or out has rows that are not 16-byte aligned";
    if (p->a_stride < p->k || p->b_stride < p->k || p->out_stride < p->n)
        return "rows overlap";
    fli__cublaslt_open(&why);
    return why;
}

/* --- shapes ------------------------------------------------------------------- */

static int32_t lt_dtype(int32_t dtype)
{
    if (dtype == FLI_F32)
        return FLI__LT_F32;
    return dtype == FLI_F16 ? FLI__LT_F16 : FLI__LT_BF16;
}

static void forget(const fli__cublaslt *lt, known_shape *shape)
{
    if (shape->a)
        lt->cublasLtMatrixLayoutDestroy(shape->a);
    if (shape->b)
        lt->cublasLtMatrixLayoutDestroy(shape->b);
    if (shape->out)
        lt->cublasLtMatrixLayoutDestroy(shape->out);
    *shape = (known_shape){ 0 };
}

/* Of preferences only those that are not the default: rows aligned to 16 bytes
 * where 256 is assumed, and no sums in parts, which round more than once. */
static int32_t prefer(const fli__cublaslt *lt, void *preference)
{
    const uint32_t reductions = 0, align = ALIGN;
    int32_t result = lt->cublasLtMatmulPreferenceSetAttribute(
        preference, FLI__LT_PREFER_REDUCTIONS, &reductions, sizeof(reductions));

    for (int32_t i = FLI__LT_PREFER_ALIGN_A;
         i <= FLI__LT_PREFER_ALIGN_D && !result; i++)
        result = lt->cublasLtMatmulPreferenceSetAttribute(preference, i, &align,
                                                          sizeof(align));
    return result;
}

static int32_t ask(const blas_state *blas, known_shape *shape)
{
    const fli__cublaslt *lt = blas->lt;
    fli__lt_heuristic found;
    int32_t n_found = 0;
    void *preference;
    int32_t result = lt->cublasLtMatmulPreferenceCreate(&preference);

    if (result)
        return result;
    result = prefer(lt, preference);
    if (!result)
        result = lt->cublasLtMatmulAlgoGetHeuristic(
            blas->handle, blas->desc, shape->b, shape->a, shape->out,
            shape->out, preference, 1, &found, &n_found);
    lt->cublasLtMatmulPreferenceDestroy(preference);
    if (!result && n_found)
        shape->algo = found.algo;
    return result || n_found ? result : -1;
}

static int32_t learn(const blas_state *blas, const fli_gemm_params *p,
                     known_shape *shape)
{
    const fli__cublaslt *lt = blas->lt;
    const int32_t dtype = lt_dtype(p->dtype_a);
    const uint64_t m = (uint64_t)p->m, n = (uint64_t)p->n, k = (uint64_t)p->k;
    int32_t result =
        lt->cublasLtMatrixLayoutCreate(&shape->a, dtype, k, m, p->a_stride);

    if (!result)
        result =
            lt->cublasLtMatrixLayoutCreate(&shape->b, dtype, k, n, p->b_stride);
    if (!result)
        result = lt->cublasLtMatrixLayoutCreate(
            &shape->out, lt_dtype(p->dtype_out), n, m, p->out_stride);
    return result ? result : ask(blas, shape);
}

/* The shape of p: known, or learnt in place of the one that came first.  With
 * the lock held. */
static fli_status find_shape(const fli__call *call, blas_state *blas,
                             const fli_gemm_params *p, const known_shape **out)
{
    const int64_t key[8] = {
        p->m,        p->n,          p->k,       p->a_stride,
        p->b_stride, p->out_stride, p->dtype_a, p->dtype_out,
    };
    known_shape *shape = &blas->shapes[blas->next];

    for (int32_t i = 0; i < N_SHAPES; i++)
        if (!memcmp(blas->shapes[i].key, key, sizeof(key))) {
            *out = &blas->shapes[i];
            return FLI_OK;
        }
    forget(blas->lt, shape);
    const int32_t result = learn(blas, p, shape);

    if (result) {
        forget(blas->lt, shape);
        return FAIL(DEVICE,
                    "%s: cuBLASLt has no algorithm (status %d), expected one; "
                    "FLI_IMPL=gemm:portable does without",
                    call->where, (int)result);
    }
    memcpy(shape->key, key, sizeof(key));
    blas->next = (blas->next + 1) % N_SHAPES;
    *out = shape;
    return FLI_OK;
}

/* --- the handle ----------------------------------------------------------------- */

static void free_blas(const fli_context *ctx, void *memory)
{
    blas_state *blas = memory;

    for (int32_t i = 0; i < N_SHAPES; i++)
        forget(blas->lt, &blas->shapes[i]);
    if (blas->desc)
        blas->lt->cublasLtMatmulDescDestroy(blas->desc);
    if (blas->handle)
        blas->lt->cublasLtDestroy(blas->handle);
    pthread_mutex_destroy(&blas->lock);
    fli__free(ctx, blas, sizeof(*blas));
}

static int32_t make_handle(blas_state *blas)
{
    const int32_t transposed = FLI__LT_TRANSPOSED;
    const fli__cublaslt *lt = blas->lt;
    int32_t result = lt->cublasLtCreate(&blas->handle);

    if (!result)
        result = lt->cublasLtMatmulDescCreate(&blas->desc, FLI__LT_COMPUTE_F32,
                                              FLI__LT_F32);
    if (!result)
        result = lt->cublasLtMatmulDescSetAttribute(
            blas->desc, FLI__LT_DESC_TRANSPOSE_A, &transposed,
            sizeof(transposed));
    return result;
}

/* With the lock of ctx->cuda held. */
static fli_status make_blas(const fli__call *call)
{
    struct fli__cuda *cuda = call->ctx->cuda;
    const char *why;
    int32_t is_capturing = 0;

    if (!call->prepare)
        TRY(fli__cuda_is_capturing(call, &is_capturing));
    CHECK(!is_capturing, INVALID_STATE,
          "%s: stream is being captured and cuBLASLt is not ready, expected "
          "fli_gemm_prepare before",
          call->where);
    blas_state *blas = fli__alloc(call->ctx, sizeof(*blas));

    CHECK(blas, OUT_OF_MEMORY, "%s: the allocator has no %zu bytes",
          call->where, sizeof(*blas));
    blas->lt = fli__cublaslt_open(&why);
    pthread_mutex_init(&blas->lock, NULL);
    const int32_t result = make_handle(blas);

    if (result) {
        free_blas(call->ctx, blas);
        return FAIL(DEVICE,
                    "%s: cublasLtCreate failed (status %d); "
                    "FLI_IMPL=gemm:portable does without",
                    call->where, (int)result);
    }
    cuda->blas = blas;
    cuda->free_blas = free_blas;
    return FLI_OK;
}

static fli_status get_blas(const fli__call *call, blas_state **out)
{
    struct fli__cuda *cuda = call->ctx->cuda;
    fli_status status = FLI_OK;

    pthread_mutex_lock(&cuda->lock);
    if (!cuda->blas)
        status = make_blas(call);
    *out = cuda->blas;
    pthread_mutex_unlock(&cuda->lock);
    return status;
}

static fli_status multiply(const fli__call *call, blas_state *blas,
                           const fli_gemm_params *p)
{
    const float alpha = 1, beta = p->add ? 1 : 0;
    const known_shape *shape = NULL;

    TRY(find_shape(call, blas, p, &shape));
    if (call->prepare)
        return FLI_OK;
    const int32_t result = blas->lt->cublasLtMatmul(
        blas->handle, blas->desc, &alpha, p->b, shape->b, p->a, shape->a, &beta,
        p->out, shape->out, p->out, shape->out, &shape->algo, NULL, 0,
        call->stream);

    CHECK(!result, DEVICE, "%s: cublasLtMatmul failed (status %d)", call->where,
          (int)result);
    return FLI_OK;
}

/* A context that compiles only does so for machines that may lack the library. */
fli_status fli__gemm_cublaslt(const fli__call *call, const void *params)
{
    blas_state *blas;

    if (!call->ctx->cuda->driver)
        return fli__gemm_portable(call, params);
    TRY(get_blas(call, &blas));
    pthread_mutex_lock(&blas->lock);
    const fli_status status = multiply(call, blas, params);

    pthread_mutex_unlock(&blas->lock);
    return status;
}
