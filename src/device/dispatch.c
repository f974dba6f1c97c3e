/* SPDX-License-Identifier: Apache-2.0 */
/* The op table: how an op picks an implementation and runs it. */
#include "device/cuda.h"

#include <stdio.h>
#include <string.h>

/* Below this much work the hand-over to other threads costs more than it gains:
 * 0.3 us against about 10 bytes a nanosecond, with a margin. */
#define INLINE_WORK 16384

static const char *const op_names[] = {
#define FLI_OP(name, family, kind, stem, summary) #name,
#include "ops.def"
#undef FLI_OP
};

const char *fli__op_name(fli__op op)
{
    return op_names[op];
}

static const char *reject_cuda(const fli_context *ctx, const fli__impl *impl)
{
    static const struct {
        uint32_t feature;
        const char *reason;
    } needs[] = {
        { FLI__CUDA_CLUSTER, "this GPU has no thread block clusters" },
        { FLI__CUDA_TMA, "this GPU has no bulk tensor copies" },
        { FLI__CUDA_WGMMA, "this GPU has no wgmma" },
        { FLI__CUDA_FP8, "this GPU has no fp8 mma" },
    };
    const uint32_t missing = impl->needs & ~ctx->cuda->caps.features;

    for (size_t i = 0; i < sizeof(needs) / sizeof(*needs); i++)
        if (missing & needs[i].feature)
            return needs[i].reason;
    return NULL;
}

static const char *reject_cpu(const fli_context *ctx, const fli__impl *impl)
{
    if (impl->isa > ctx->isa)
        return fli__cpu_isa() < impl->isa ? "this CPU has no such ISA"
                                          : "the context's ISA is lower";
    return NULL;
}

const char *fli__reject(const fli_context *ctx, fli__op op,
                        const fli__impl *impl, const void *params)
{
    const char *forced = ctx->forced[op];
    const char *reason;

    if (*forced && strcmp(forced, impl->name))
        return "another implementation is forced";
    if (!*forced && !strcmp(impl->name, "plain"))
        return "only by name";
    if (!impl->launch != !ctx->cuda)
        return impl->launch ? "runs on cuda" : "runs on cpu";
    reason = ctx->cuda ? reject_cuda(ctx, impl) : reject_cpu(ctx, impl);
    if (reason)
        return reason;
    return impl->reject ? impl->reject(params) : NULL;
}

/* "cpu avx2: head_dim ...; ref: ..." */
static void add_reason(char *reasons, size_t n, const fli__impl *impl,
                       const char *reason)
{
    const size_t used = strlen(reasons);

    snprintf(reasons + used, n - used, "%s%s%s%s: %s", used ? "; " : "",
             impl->name, impl->isa ? " " : "", fli__isa_name(impl->isa),
             reason);
}

fli_status fli__choose(const fli_context *ctx, const char *where,
                       const fli__impl_list *list, const void *params,
                       const fli__impl **out)
{
    char reasons[400] = "";

    for (int32_t i = 0; i < list->n; i++) {
        const fli__impl *impl = &list->impls[i];

        if (!impl->launch != !ctx->cuda)
            continue;
        const char *reason = fli__reject(ctx, list->op, impl, params);

        if (!reason) {
            fli__log(ctx, FLI__LOG_DISPATCH, "%s: %s%s%s%s%s", where,
                     impl->name, impl->isa ? " " : "", fli__isa_name(impl->isa),
                     *reasons ? ", not " : "", reasons);
            if (out)
                *out = impl;
            return FLI_OK;
        }
        add_reason(reasons, sizeof(reasons), impl, reason);
    }
    return FAIL(UNSUPPORTED, "%s: no implementation takes this (%s)", where,
                reasons);
}

fli_status fli__check_call(const fli_context *ctx, const char *where,
                           fli_stream stream)
{
    CHECK(ctx, INVALID_ARGUMENT, "%s: ctx is NULL, expected a context", where);
    if (ctx->cuda)
        return fli__cuda_check_stream(ctx, where, stream);
    CHECK(!stream, INVALID_ARGUMENT, "%s: stream is %p, expected NULL on cpu",
          where, stream);
    return FLI_OK;
}

void fli__run_task(const fli_context *ctx, fli_task *task, void *params,
                   int64_t work)
{
    if (work <= INLINE_WORK || ctx->n_threads == 1)
        task(params, 0, 1);
    else
        ctx->executor.run(ctx->executor.ctx, task, params);
}

static fli_status launch(const fli__call *call, const fli__impl *impl,
                         const void *params)
{
    void *previous;

    TRY(fli__cuda_enter(call->ctx, call->where, &previous));
    const fli_status status = impl->launch(call, params);

    fli__cuda_leave(call->ctx, previous);
    return status;
}

fli_status fli__run_impl(const fli__call *call, const fli__impl *impl,
                         void *params, int64_t work)
{
    if (work == 0)
        return FLI_OK;
    if (impl->launch)
        return launch(call, impl, params);
    fli__run_task(call->ctx, impl->task, params, work);
    return FLI_OK;
}

fli_status fli__dispatch(const fli__call *call, const fli__impl_list *list,
                         void *params, int64_t work)
{
    const fli__impl *impl;

    TRY(fli__choose(call->ctx, call->where, list, params, &impl));
    return fli__run_impl(call, impl, params, work);
}

fli_status fli__prepare(const fli_context *ctx, const char *where,
                        const fli__impl_list *list, const void *params)
{
    const fli__call call = { .ctx = ctx, .where = where, .prepare = 1 };
    const fli__impl *impl;

    TRY(fli__choose(ctx, where, list, params, &impl));
    return impl->launch ? launch(&call, impl, params) : FLI_OK;
}
