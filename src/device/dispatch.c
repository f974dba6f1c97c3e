/* SPDX-License-Identifier: Apache-2.0 */
/* The op table: how an op picks an implementation and runs it. */
#include "device/device.h"

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

const char *fli__reject(const fli_context *ctx, fli__op op,
                        const fli__impl *impl, const void *params)
{
    const char *forced = ctx->forced[op];

    if (*forced && strcmp(forced, impl->name))
        return "another implementation is forced";
    if (!*forced && !strcmp(impl->name, "plain"))
        return "only by name";
    if (impl->isa > ctx->isa)
        return fli__cpu_isa() < impl->isa ? "this CPU has no such ISA"
                                          : "the context's ISA is lower";
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

fli_status fli__dispatch(const fli_context *ctx, const char *where,
                         const fli__impl_list *list, void *params, int64_t work)
{
    const fli__impl *impl;

    TRY(fli__choose(ctx, where, list, params, &impl));
    if (work > 0)
        fli__run_task(ctx, impl->task, params, work);
    return FLI_OK;
}
