/* SPDX-License-Identifier: Apache-2.0 */
/* attention: the op and the choice of its implementation as text. */
#include <stdio.h>
#include <string.h>

#include "attention/attention.h"
#include "device/cuda.h"

/* "cpu", "cuda:0 (sm_90a)" */
static const char *device_text(const fli_context *ctx, char *buf, size_t n)
{
    if (!ctx->cuda)
        return "cpu";
    snprintf(buf, n, "cuda:%d (%s)", (int)ctx->device.index,
             ctx->cuda->caps.arch);
    return buf;
}

static void add_desc(fli__text *text, const fli_context *ctx,
                     const fli_attention_shape *s)
{
    char device[40];

    fli__text_add(text, "attention  q %s  kv %s", fli_dtype_name(s->dtype_q),
                  fli_dtype_name(s->dtype_kv));
    if (s->dtype_out != s->dtype_q)
        fli__text_add(text, "  out %s", fli_dtype_name(s->dtype_out));
    fli__text_add(text, "  d %d", (int)s->head_dim_qk);
    if (s->head_dim_vo != s->head_dim_qk)
        fli__text_add(text, "/%d", (int)s->head_dim_vo);
    fli__text_add(text, "  group %d%s%s  %s\n", (int)s->group,
                  s->flags & FLI_PLAN_GRAPH ? "  graph" : "",
                  s->flags & FLI_PLAN_INVARIANT ? "  batch-invariant" : "",
                  device_text(ctx, device, sizeof(device)));
}

/* "tile classes: decode 8x128, prefill 64x64" */
static void add_classes(fli__text *text, const fli__impl *impl,
                        const fli_attention_shape *shape)
{
    fli_attention_tiles tiles = { 0 };

    fli__attention_tiles[impl - fli__attention_list.impls](shape, &tiles);
    for (int32_t i = 0; i < tiles.n_classes; i++)
        fli__text_add(text, "%s%s%s%dx%d", i ? ", " : "tile classes: ",
                      tiles.name[i] ? tiles.name[i] : "",
                      tiles.name[i] ? " " : "", (int)tiles.tile_class[i].rows,
                      (int)tiles.tile_class[i].kv_tile);
    fli__text_add(text, "\n");
}

/* "cpu avx2" in 12 columns. */
static void add_name(fli__text *text, const fli__impl *impl)
{
    fli__text_add(text, "  %s%s%-*s", impl->name, impl->isa ? " " : "",
                  12 - (int)strlen(impl->name) - (impl->isa ? 1 : 0),
                  fli__isa_name(impl->isa));
}

/* The text of one implementation; returns true if it would be chosen. */
static int add_impl(fli__text *text, const fli_context *ctx, int32_t i,
                    const fli_attention_shape *shape)
{
    const fli__impl *impl = &fli__attention_list.impls[i];
    const char *reason = fli__reject(ctx, fli__attention_list.op, impl, shape);

    add_name(text, impl);
    if (reason) {
        fli__text_add(text, "  no   %s\n", reason);
        return 0;
    }
    fli__text_add(text, "  yes  ");
    add_classes(text, impl, shape);
    return 1;
}

size_t fli_attention_explain(fli_context *ctx, const fli_attention_desc *desc,
                             char *buf, size_t n)
{
    static const char where[] = "attention explain";
    fli__text text = { buf, buf ? n : 0, 0 };
    fli_attention_desc d;
    fli_attention_shape shape;
    int chosen = 0;

    if (fli__check_call(ctx, where, NULL)
        || fli__attention_desc(ctx, where, desc, &d, &shape))
        return 0;
    add_desc(&text, ctx, &shape);
    for (int32_t i = 0; i < fli__attention_list.n; i++) {
        const fli__impl *impl = &fli__attention_list.impls[i];
        const int forced = !strcmp(ctx->forced[FLI__OP_attention], "plain");

        if (!impl->launch != !ctx->cuda)
            continue; /* of the other device */
        if (!strcmp(impl->name, "plain") && !forced)
            continue; /* the checker's own */
        if (!chosen) {
            chosen = add_impl(&text, ctx, i, &shape);
            continue;
        }
        add_name(&text, impl);
        fli__text_add(&text, "  -\n");
    }
    return text.length;
}

/* Reads the schedule, so on the CPU the workspace must still be there. */
size_t fli_attention_print(const fli_attention *op, char *buf, size_t n)
{
    fli__text text = { buf, buf ? n : 0, 0 };

    if (!op) {
        FAIL(INVALID_ARGUMENT, "attention print: op is NULL, expected an op");
        return 0;
    }
    add_desc(&text, op->ctx, &op->params.shape);
    add_name(&text, op->impl);
    fli__text_add(&text, "  workspace %zu bytes  ", op->workspace_bytes);
    add_classes(&text, op->impl, &op->params.shape);
    if (!op->workspace)
        fli__text_add(&text, "no plan\n");
    else if (op->is_on_device)
        fli__text_add(&text, "plan  made on the device\n");
    else
        fli__plan_print(&text, &op->schedule);
    return text.length;
}
