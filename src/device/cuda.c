/* SPDX-License-Identifier: Apache-2.0 */
/* A CUDA device behind a context: found, asked what it can, entered and left.
 * With options.cuda_arch there is no device and no driver, only its arch. */
#include "device/cuda.h"

#include <stdio.h>
#include <string.h>

#include "abi/types.h"

#define FIRST_SM 80 /* cp.async and mma of bf16 */

static const char create[] = "context create";

/* What kernels are compiled for, and a usual device of that arch: the arch is a
 * feature set of its own ("a") where kernels use what only it has. */
static const struct {
    const char *name;
    int32_t sm, n_sms, shared_kib, l2_mib;
} archs[] = {
    { "sm_80", 80, 108, 163, 40 },    { "sm_86", 86, 84, 99, 6 },
    { "sm_87", 87, 16, 163, 4 },      { "sm_89", 89, 142, 99, 96 },
    { "sm_90a", 90, 132, 227, 50 },   { "sm_100a", 100, 148, 227, 126 },
    { "sm_103", 103, 148, 227, 126 }, { "sm_120", 120, 188, 99, 128 },
    { "sm_121", 121, 48, 99, 24 },
};
#define N_ARCHS ((int)(sizeof(archs) / sizeof(*archs)))

static uint32_t features_of(int32_t sm)
{
    return (sm >= 90 ? FLI__CUDA_CLUSTER | FLI__CUDA_TMA : 0u)
           | (sm == 90 ? FLI__CUDA_WGMMA : 0u)
           | (sm >= 89 ? FLI__CUDA_FP8 : 0u);
}

/* --- without a device ---------------------------------------------------- */

static fli_status open_arch(fli_context *ctx, const char *arch)
{
    char known[128] = "";
    int i = 0;

    while (i < N_ARCHS && strcmp(archs[i].name, arch)) {
        const size_t used = strlen(known);

        snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "",
                 archs[i].name);
        i++;
    }
    CHECK(i < N_ARCHS, INVALID_ARGUMENT,
          "%s: cuda_arch is '%.80s', expected one of %s", create, arch, known);
    fli__cuda_caps *caps = &ctx->cuda->caps;

    caps->sm = archs[i].sm;
    caps->n_sms = archs[i].n_sms;
    caps->shared_bytes = archs[i].shared_kib << 10;
    caps->l2_bytes = (int64_t)archs[i].l2_mib << 20;
    caps->features = features_of(caps->sm);
    snprintf(caps->arch, sizeof(caps->arch), "%s", archs[i].name);
    snprintf(caps->name, sizeof(caps->name), "no device");
    snprintf(ctx->describe, sizeof(ctx->describe),
             "cuda (compiles for %s, no device)", caps->arch);
    return FLI_OK;
}

fli_status fli__cuda_check_device(const fli_context *ctx, const char *where)
{
    CHECK(
        ctx->cuda->driver, UNSUPPORTED,
        "%s: the context compiles for %s and has no device, expected one made "
        "without cuda_arch",
        where, ctx->cuda->caps.arch);
    return FLI_OK;
}

/* --- with one ------------------------------------------------------------ */

fli_status fli__cuda_status(const fli_context *ctx, const char *where,
                            const char *call, int32_t result)
{
    char text[200];

    if (!result)
        return FLI_OK;
    fli__cuda_error_text(ctx->cuda->driver, result, text, sizeof(text));
    return fli__fail(result == FLI__CU_OUT_OF_MEMORY ? FLI_OUT_OF_MEMORY
                                                     : FLI_DEVICE,
                     "%s: %s failed: %s", where, call, text);
}

static fli_status query_caps(fli_context *ctx)
{
    enum { SMS, L2, MAJOR, MINOR, SHARED, N };
    static const int32_t attributes[N] = {
        [SMS] = FLI__CU_ATTRIBUTE_SMS,
        [L2] = FLI__CU_ATTRIBUTE_L2_BYTES,
        [MAJOR] = FLI__CU_ATTRIBUTE_MAJOR,
        [MINOR] = FLI__CU_ATTRIBUTE_MINOR,
        [SHARED] = FLI__CU_ATTRIBUTE_SHARED_OPTIN,
    };
    struct fli__cuda *cuda = ctx->cuda;
    fli__cuda_caps *caps = &cuda->caps;
    int32_t value[N];

    for (int i = 0; i < N; i++)
        TRY(FLI__CU(ctx, create, cuDeviceGetAttribute, &value[i], attributes[i],
                    cuda->device));
    TRY(FLI__CU(ctx, create, cuDeviceGetName, caps->name, sizeof(caps->name),
                cuda->device));
    caps->sm = 10 * value[MAJOR] + value[MINOR];
    caps->n_sms = value[SMS];
    caps->shared_bytes = value[SHARED];
    caps->l2_bytes = value[L2];
    caps->features = features_of(caps->sm);
    snprintf(caps->arch, sizeof(caps->arch), "sm_%d", (int)caps->sm);
    for (int i = 0; i < N_ARCHS; i++)
        if (archs[i].sm == caps->sm)
            snprintf(caps->arch, sizeof(caps->arch), "%s", archs[i].name);
    CHECK(caps->sm >= FIRST_SM, UNSUPPORTED,
          "%s: device is cuda:%d (%s, sm_%d), expected sm_%d or later", create,
          (int)ctx->device.index, caps->name, (int)caps->sm, FIRST_SM);
    return FLI_OK;
}

static fli_status find_device(fli_context *ctx)
{
    struct fli__cuda *cuda = ctx->cuda;
    const int index = ctx->device.index;
    const char *why;
    int32_t n;

    cuda->driver = fli__cuda_driver_open(&why);
    CHECK(cuda->driver, UNSUPPORTED, "%s: device is cuda:%d, and %s", create,
          index, why);
    TRY(FLI__CU(ctx, create, cuDeviceGetCount, &n));
    CHECK(index < n, UNSUPPORTED,
          "%s: device is cuda:%d, this machine has %d (as "
          "CUDA_VISIBLE_DEVICES lets it)",
          create, index, (int)n);
    TRY(FLI__CU(ctx, create, cuDeviceGet, &cuda->device, index));
    return query_caps(ctx);
}

static fli_status choose_context(fli_context *ctx, void *given)
{
    struct fli__cuda *cuda = ctx->cuda;

    if (given) {
        cuda->context = given;
        return FLI_OK;
    }
    TRY(FLI__CU(ctx, create, cuDevicePrimaryCtxRetain, &cuda->context,
                cuda->device));
    cuda->is_primary = 1;
    return FLI_OK;
}

/* Waits, so that no kernel of any stream can come before the zeros. */
static fli_status clear_sticky(const fli_context *ctx, const char *where)
{
    TRY(FLI__CU(ctx, where, cuMemsetD8, (uintptr_t)ctx->cuda->sticky, 0,
                sizeof(*ctx->cuda->sticky)));
    return FLI__CU(ctx, where, cuCtxSynchronize, );
}

/* What is asked of, and made in, the CUcontext once it is current. */
static fli_status set_up(fli_context *ctx)
{
    struct fli__cuda *cuda = ctx->cuda;
    uint64_t sticky;
    int32_t device;

    TRY(FLI__CU(ctx, create, cuCtxGetDevice, &device));
    CHECK(device == cuda->device, INVALID_ARGUMENT,
          "%s: cuda_context is one of cuda:%d, expected one of cuda:%d", create,
          (int)device, (int)cuda->device);
    TRY(FLI__CU(ctx, create, cuMemAlloc, &sticky, sizeof(*cuda->sticky)));
    cuda->sticky = (uint32_t *)(uintptr_t)sticky;
    return clear_sticky(ctx, create);
}

static fli_status open_device(fli_context *ctx, void *given)
{
    const fli__cuda_caps *caps = &ctx->cuda->caps;
    void *previous;

    TRY(find_device(ctx));
    TRY(choose_context(ctx, given));
    TRY(fli__cuda_enter(ctx, create, &previous));
    const fli_status status = set_up(ctx);

    fli__cuda_leave(ctx, previous);
    snprintf(ctx->describe, sizeof(ctx->describe), "cuda:%d (%s, %s, %d SMs)",
             (int)ctx->device.index, caps->name, caps->arch, (int)caps->n_sms);
    return status;
}

/* --- open and close ------------------------------------------------------ */

fli_status fli__cuda_open(fli_context *ctx, const fli_context_options *options)
{
    CHECK(!options->cuda_context || !options->cuda_arch, INVALID_ARGUMENT,
          "%s: cuda_context and cuda_arch are given, expected one of them",
          create);
    ctx->cuda = fli__alloc(ctx, sizeof(*ctx->cuda));
    CHECK(ctx->cuda, OUT_OF_MEMORY, "%s: the allocator has no %zu bytes",
          create, sizeof(*ctx->cuda));
    pthread_mutex_init(&ctx->cuda->lock, NULL);
    ctx->n_threads = 1;
    return options->cuda_arch ? open_arch(ctx, options->cuda_arch)
                              : open_device(ctx, options->cuda_context);
}

/* Also what open has left half done. */
void fli__cuda_close(fli_context *ctx)
{
    struct fli__cuda *cuda = ctx->cuda;
    void *previous = NULL;

    if (!cuda)
        return;
    const int entered =
        cuda->context && !fli__cuda_enter(ctx, "context destroy", &previous);

    if (cuda->kernels)
        cuda->free_kernels(ctx, cuda->kernels);
    if (cuda->blas)
        cuda->free_blas(ctx, cuda->blas);
    if (cuda->sticky)
        cuda->driver->cuMemFree((uintptr_t)cuda->sticky);
    if (entered)
        fli__cuda_leave(ctx, previous);
    if (cuda->is_primary)
        cuda->driver->cuDevicePrimaryCtxRelease(cuda->device);
    pthread_mutex_destroy(&cuda->lock);
    fli__free(ctx, cuda, sizeof(*cuda));
    ctx->cuda = NULL;
}

/* --- calls --------------------------------------------------------------- */

fli_status fli__cuda_enter(const fli_context *ctx, const char *where,
                           void **previous)
{
    const struct fli__cuda *cuda = ctx->cuda;

    *previous = NULL;
    if (!cuda->driver)
        return FLI_OK;
    TRY(FLI__CU(ctx, where, cuCtxGetCurrent, previous));
    return *previous == cuda->context
               ? FLI_OK
               : FLI__CU(ctx, where, cuCtxSetCurrent, cuda->context);
}

void fli__cuda_leave(const fli_context *ctx, void *previous)
{
    const struct fli__cuda *cuda = ctx->cuda;

    if (previous != cuda->context)
        cuda->driver->cuCtxSetCurrent(previous);
}

fli_status fli__cuda_is_capturing(const fli__call *call, int32_t *out)
{
    int32_t capture = FLI__CU_CAPTURE_NONE;
    void *previous;

    TRY(fli__cuda_check_device(call->ctx, call->where));
    TRY(fli__cuda_enter(call->ctx, call->where, &previous));
    const fli_status status = FLI__CU(
        call->ctx, call->where, cuStreamIsCapturing, call->stream, &capture);

    fli__cuda_leave(call->ctx, previous);
    *out = capture != FLI__CU_CAPTURE_NONE;
    return status;
}

fli_status fli__cuda_check_stream(const fli_context *ctx, const char *where,
                                  fli_stream stream)
{
    enum { LEGACY = 1, PER_THREAD = 2 };
    void *context = NULL;

    if ((uintptr_t)stream <= PER_THREAD)
        return FLI_OK;
    TRY(fli__cuda_check_device(ctx, where));
    const int32_t result = ctx->cuda->driver->cuStreamGetCtx(stream, &context);

    if (result != FLI__CU_INVALID_HANDLE)
        TRY(fli__cuda_status(ctx, where, "cuStreamGetCtx", result));
    CHECK(context == ctx->cuda->context, INVALID_ARGUMENT,
          "%s: stream is %p, expected one of the CUDA context of %s", where,
          stream, ctx->describe);
    return FLI_OK;
}

/* --- the sticky word ------------------------------------------------------ */

static fli_status take_sticky(const fli_context *ctx, const char *where,
                              uint32_t *out)
{
    TRY(FLI__CU(ctx, where, cuCtxSynchronize, ));
    TRY(FLI__CU(ctx, where, cuMemcpyDtoH, out, (uintptr_t)ctx->cuda->sticky,
                sizeof(*out)));
    return *out ? clear_sticky(ctx, where) : FLI_OK;
}

static fli_status tell_sticky(const char *where, uint32_t raised)
{
    static const struct {
        uint32_t bit;
        const char *text;
    } flags[] = {
        { FLI_STICKY_PAGE, "a page id outside the pool (clamped)" },
        { FLI_STICKY_INDEX, "a row or request index out of range (skipped)" },
        { FLI_STICKY_LENGTHS,
          "lengths on the device beyond what was declared (nothing planned)" },
        { FLI_STICKY_TABLE,
          "a page table shorter than kv_len needs (clamped)" },
    };
    char text[320] = "";

    for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
        const size_t used = strlen(text);

        if (raised & flags[i].bit)
            snprintf(text + used, sizeof(text) - used, "%s%s", used ? "; " : "",
                     flags[i].text);
    }
    return FAIL(INVALID_ARGUMENT,
                "%s: since the last check kernels were given %s", where, text);
}

fli_status fli__cuda_check_sticky(const fli_context *ctx, const char *where)
{
    uint32_t raised = 0;
    void *previous;

    if (!ctx->cuda->driver)
        return FLI_OK;
    TRY(fli__cuda_enter(ctx, where, &previous));
    const fli_status status = take_sticky(ctx, where, &raised);

    fli__cuda_leave(ctx, previous);
    TRY(status);
    return raised ? tell_sticky(where, raised) : FLI_OK;
}
