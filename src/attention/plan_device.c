/* SPDX-License-Identifier: Apache-2.0 */
/* attention: plans of lengths that only the device knows. */
#include "attention/attention.h"

static fli_status check_batch(const char *where, const fli_attention *op,
                              fli_attention_device_batch *b)
{
    const int32_t n = b->n_requests, most = op->desc.max_rows;
    fli__spec spec = { .dtypes = FLI__DTYPE(FLI_I32), .ndim = 1 };

    TRY(fli__attention_check_step(where, op, n, b->mask, b->window));
    CHECK(b->max_rows >= 0 && b->max_rows <= most, INVALID_ARGUMENT,
          "%s: max_rows is %d, expected 0 to desc.max_rows %d", where,
          (int)b->max_rows, (int)most);
    b->max_rows = b->max_rows ? b->max_rows : most;
    spec.shape[0] = FLI__AT_LEAST(n + 1);
    TRY(fli__check_tensor(op->ctx, where, "q_indptr", &b->q_indptr, &spec));
    spec.shape[0] = FLI__AT_LEAST(n);
    return fli__check_tensor(op->ctx, where, "kv_len", &b->kv_len, &spec);
}

/* A plan that is refused leaves the last one as it was. */
fli_status fli_attention_plan_device(fli_attention *op,
                                     const fli_attention_device_batch *batch,
                                     void *workspace, size_t workspace_bytes,
                                     fli_stream stream)
{
    static const char where[] = "attention plan_device";
    fli_attention_device_batch b;
    fli_plan_launch launch = { 0 };

    CHECK(op, INVALID_ARGUMENT, "%s: op is NULL, expected an op", where);
    CHECK(op->device, UNSUPPORTED,
          "%s: the op runs on cpu, expected fli_attention_plan", where);
    const fli__call call = { .ctx = op->ctx, .where = where, .stream = stream };

    TRY(fli__check_call(op->ctx, where, stream));
    TRY(fli__copy_struct(where, "batch", &b, sizeof(b), batch, sizeof(b)));
    TRY(check_batch(where, op, &b));
    TRY(fli__attention_check_workspace(where, op, workspace, workspace_bytes));
    TRY(fli__attention_planner(&call, op));
    const fli__plan_step step = {
        .n_requests = b.n_requests,
        .q_indptr = b.q_indptr.data,
        .kv_len = b.kv_len.data,
        .causal = b.mask == FLI_MASK_CAUSAL,
        .window = b.window,
    };

    op->workspace = NULL;
    fli__attention_place(op, workspace, &launch.out);
    launch.in = fli__plan_input(&op->config, &op->bounds, &step);
    launch.q_indptr = (int32_t *)op->params.q_indptr;
    launch.kv_len = (int32_t *)op->params.kv_len;
    launch.max_rows = b.max_rows;
    launch.sticky = op->params.sticky;
    TRY(fli__attention_plan_there(&call, op, &launch, workspace));
    op->params.n_requests = b.n_requests;
    op->n_rows = b.max_rows;
    op->work = 1;
    op->is_on_device = 1;
    op->workspace = workspace;
    return FLI_OK;
}
