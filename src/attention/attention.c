/* SPDX-License-Identifier: Apache-2.0 */
/* attention: create and plan.  The op keeps pointers into the workspace and
 * figures; what CUDA has beside them is in attention_cuda.c. */
#include "attention/attention.h"

#include <string.h>

#include "abi/kernels.h"
#include "device/cuda.h"

#define MAX_HEAD_DIM    576
#define WORKSPACE_ALIGN 256

static const fli__impl impls[] = FLI__IMPLS(
    attention, NULL,
    FLI__CUDA("portable", fli__attention_reject_portable, fli__attention_cuda,
              0) FLI__CUDA("generic", NULL, fli__attention_cuda, 0));
const fli__impl_list fli__attention_list = FLI__IMPL_LIST(attention, impls);

/* In the order of FLI__IMPLS. */
fli__attention_tiles_fn *const fli__attention_tiles[] = {
    fli__attention_tiles_portable, fli__attention_tiles_generic,
#if defined(FLI__BUILD_AVX2)
    fli__attention_tiles_avx2,
#endif
    fli__attention_tiles_baseline, fli__attention_tiles_ref,
    fli__attention_tiles_plain,
};

_Static_assert(sizeof(fli__attention_tiles) / sizeof(fli__attention_tiles[0])
                   == sizeof(impls) / sizeof(impls[0]),
               "tile classes for each implementation");
_Static_assert((int)FLI_ATTENTION_GRAPH == FLI_PLAN_GRAPH
                   && (int)FLI_ATTENTION_BATCH_INVARIANT == FLI_PLAN_INVARIANT,
               "flags of the planner");

const char *fli__mask_name(int32_t mask)
{
    return mask == FLI_MASK_CAUSAL ? "causal" : "none";
}

fli_kv fli_paged_kv(fli_tensor k, fli_tensor v, fli_tensor page_indptr,
                    fli_tensor page_indices)
{
    return (fli_kv){
        .k = k, .v = v, .page_indptr = page_indptr, .page_indices = page_indices
    };
}

fli_kv fli_ragged_kv(fli_tensor k, fli_tensor v, fli_tensor kv_indptr)
{
    return (fli_kv){ .k = k, .v = v, .kv_indptr = kv_indptr };
}

/* --- create ------------------------------------------------------------- */

static fli_status check_head_dim(const char *where, const char *name, int32_t d)
{
    CHECK(d >= 8 && d <= MAX_HEAD_DIM && d % 8 == 0, INVALID_ARGUMENT,
          "%s: %s is %d, expected a multiple of 8 from 8 to %d", where, name,
          (int)d, MAX_HEAD_DIM);
    return FLI_OK;
}

static fli_status check_dtype(const char *where, const char *name,
                              int32_t dtype)
{
    CHECK(dtype >= FLI_F32 && dtype <= FLI_BF16, INVALID_ARGUMENT,
          "%s: %s is %s (%d), expected f32|f16|bf16", where, name,
          fli_dtype_name(dtype), (int)dtype);
    return FLI_OK;
}

fli_status fli__attention_desc(const fli_context *ctx, const char *where,
                               const fli_attention_desc *desc,
                               fli_attention_desc *d,
                               fli_attention_shape *shape)
{
    const uint32_t all_masks = 1u << FLI_MASK_NONE | 1u << FLI_MASK_CAUSAL;
    const uint32_t all_flags =
        FLI_ATTENTION_GRAPH | FLI_ATTENTION_BATCH_INVARIANT;

    TRY(fli__copy_struct(where, "desc", d, sizeof(*d), desc, sizeof(*d)));
    d->dtype_kv = d->dtype_kv ? d->dtype_kv : d->dtype_q;
    d->dtype_out = d->dtype_out ? d->dtype_out : d->dtype_q;
    CHECK(d->n_qo_heads > 0, INVALID_ARGUMENT,
          "%s: n_qo_heads is %d, expected at least 1", where,
          (int)d->n_qo_heads);
    CHECK(d->n_kv_heads > 0, INVALID_ARGUMENT,
          "%s: n_kv_heads is %d, expected at least 1", where,
          (int)d->n_kv_heads);
    CHECK(d->n_qo_heads % d->n_kv_heads == 0, INVALID_ARGUMENT,
          "%s: n_qo_heads %d is not a multiple of n_kv_heads %d", where,
          (int)d->n_qo_heads, (int)d->n_kv_heads);
    TRY(check_head_dim(where, "head_dim_qk", d->head_dim_qk));
    TRY(check_head_dim(where, "head_dim_vo", d->head_dim_vo));
    TRY(check_dtype(where, "dtype_q", d->dtype_q));
    TRY(check_dtype(where, "dtype_kv", d->dtype_kv));
    TRY(check_dtype(where, "dtype_out", d->dtype_out));
    CHECK((d->flags & ~all_flags) == 0, INVALID_ARGUMENT,
          "%s: flags is 0x%x, expected bits of 0x%x", where, d->flags,
          all_flags);
    CHECK((d->masks & ~all_masks) == 0, INVALID_ARGUMENT,
          "%s: masks is 0x%x, expected bits of 0x%x", where, d->masks,
          all_masks);
    CHECK(d->reserved == 0, INVALID_ARGUMENT, "%s: reserved is %d, expected 0",
          where, (int)d->reserved);
    d->masks = d->masks ? d->masks : all_masks;
    *shape = (fli_attention_shape){
        .n_qo_heads = d->n_qo_heads,
        .n_kv_heads = d->n_kv_heads,
        .group = d->n_qo_heads / d->n_kv_heads,
        .head_dim_qk = d->head_dim_qk,
        .head_dim_vo = d->head_dim_vo,
        .dtype_q = d->dtype_q,
        .dtype_kv = d->dtype_kv,
        .dtype_out = d->dtype_out,
        .flags = d->flags,
    };
    if (ctx->cuda) {
        shape->shared_bytes = ctx->cuda->caps.shared_bytes;
        shape->l2_bytes = ctx->cuda->caps.l2_bytes;
    }
    return FLI_OK;
}

static fli_status check_capacity(const char *where, const fli_attention_desc *d)
{
    CHECK(d->max_requests > 0, INVALID_ARGUMENT,
          "%s: max_requests is %d, expected at least 1", where,
          (int)d->max_requests);
    CHECK(d->max_rows > 0, INVALID_ARGUMENT,
          "%s: max_rows is %d, expected at least 1", where, (int)d->max_rows);
    return FLI_OK;
}

/* --- workspace ---------------------------------------------------------- */

/* The offset of a part of the workspace. */
static size_t take(size_t *at, size_t bytes)
{
    const size_t part = *at;

    *at += (bytes + 63) / 64 * 64;
    return part;
}

static void lay_out(fli_attention *op)
{
    const fli_attention_params *p = &op->params;
    const size_t n = (size_t)op->config.max_requests;
    const size_t rows = (size_t)op->bounds.max_partial_rows;
    const size_t dim = (size_t)op->desc.head_dim_vo;
    size_t at = 0;

    take(&at, (n + 1) * sizeof(int32_t));
    op->at.kv_len = take(&at, n * sizeof(int32_t));
    op->at.schedule = take(&at, op->bounds.schedule_bytes);
    op->at.partial_o = take(&at, rows * dim * sizeof(float));
    op->at.partial_md = take(&at, rows * 2 * sizeof(float));
    op->at.scratch = take(&at, (size_t)p->n_workers * (size_t)p->scratch_bytes);
    op->at.planner = take(&at, op->bounds.scratch_bytes);
    op->workspace_bytes = at;
}

void fli__attention_place(fli_attention *op, void *workspace,
                          fli_plan_output *out)
{
    fli_attention_params *p = &op->params;
    char *base = workspace;

    fli__plan_place(&op->config, &op->bounds, base + op->at.schedule,
                    base + op->at.planner, out);
    p->q_indptr = workspace;
    p->kv_len = (const int32_t *)(base + op->at.kv_len);
    p->items = out->items;
    p->merges = out->merges;
    p->sources = out->sources;
    p->counters = out->counters;
    p->partial_o = (float *)(base + op->at.partial_o);
    p->partial_md = (float *)(base + op->at.partial_md);
    p->scratch = base + op->at.scratch;
}

/* On the CPU all classes share the threads. */
static void share_threads(fli_attention *op)
{
    for (int32_t i = 0; i < op->config.n_classes; i++) {
        op->config.tile_class[i].first_worker = 0;
        op->config.tile_class[i].n_workers = op->ctx->n_threads;
    }
}

/* Everything after the choice of an implementation. */
static fli_status set_up(const char *where, fli_attention *op)
{
    const fli_attention_desc *d = &op->desc;
    fli_attention_params *p = &op->params;
    fli_attention_tiles tiles = { 0 };

    fli__attention_tiles[op->impl - fli__attention_list.impls](&p->shape,
                                                               &tiles);
    op->config = (fli__plan_config){
        .max_requests = d->max_requests,
        .max_rows = d->max_rows,
        .n_kv_heads = d->n_kv_heads,
        .group = p->shape.group,
        .n_classes = tiles.n_classes,
        .policy = tiles.policy,
    };
    memcpy(op->config.tile_class, tiles.tile_class, sizeof(tiles.tile_class));
    op->config.policy.flags = d->flags;
    p->scratch_bytes = (tiles.scratch_bytes + 63) / 64 * 64;
    p->chunk =
        d->flags & FLI_ATTENTION_BATCH_INVARIANT ? tiles.policy.chunk : 0;
    if (op->ctx->cuda)
        TRY(fli__attention_compile(where, op));
    else
        share_threads(op);
    TRY(fli__plan_bound(where, &op->config, &op->bounds));
    p->n_workers = op->bounds.n_workers;
    lay_out(op);
    return op->device ? fli__attention_reserve(where, op) : FLI_OK;
}

fli_status fli_attention_create(fli_attention **out, fli_context *ctx,
                                const fli_attention_desc *desc)
{
    static const char where[] = "attention create";
    fli_attention made = { .ctx = ctx };

    CHECK(out, INVALID_ARGUMENT, "%s: out is NULL, expected a place for the op",
          where);
    TRY(fli__check_call(ctx, where, NULL));
    TRY(fli__attention_desc(ctx, where, desc, &made.desc, &made.params.shape));
    TRY(check_capacity(where, &made.desc));
    TRY(fli__choose(ctx, where, &fli__attention_list, &made.params.shape,
                    &made.impl));
    fli_attention *op = fli__alloc(ctx, sizeof(*op));

    CHECK(op, OUT_OF_MEMORY,
          "%s: the op needs %zu bytes, the allocator has none", where,
          sizeof(*op));
    *op = made;
    const fli_status status = set_up(where, op);

    if (status)
        fli_attention_destroy(op);
    else
        *out = op;
    return status;
}

size_t fli_attention_workspace(const fli_attention *op)
{
    return op ? op->workspace_bytes : 0;
}

void fli_attention_destroy(fli_attention *op)
{
    if (!op)
        return;
    fli__attention_release(op->ctx, op->device);
    fli__free(op->ctx, op, sizeof(*op));
}

/* --- plan --------------------------------------------------------------- */

fli_status fli__attention_check_step(const char *where, const fli_attention *op,
                                     int32_t n, int32_t mask, int32_t window)
{
    CHECK(n >= 0 && n <= op->desc.max_requests, INVALID_ARGUMENT,
          "%s: n_requests is %d, expected 0 to max_requests %d", where, (int)n,
          (int)op->desc.max_requests);
    CHECK(mask == FLI_MASK_NONE || mask == FLI_MASK_CAUSAL, INVALID_ARGUMENT,
          "%s: mask is %d, expected a fli_mask", where, (int)mask);
    CHECK(window >= 0, INVALID_ARGUMENT,
          "%s: window is %d, expected at least 0", where, (int)window);
    return FLI_OK;
}

static fli_status check_batch(const char *where, const fli_attention *op,
                              const fli_attention_batch *b)
{
    const int32_t n = b->n_requests;

    TRY(fli__attention_check_step(where, op, n, b->mask, b->window));
    CHECK(b->reserved == 0, INVALID_ARGUMENT, "%s: reserved is %d, expected 0",
          where, (int)b->reserved);
    if (n == 0)
        return FLI_OK;
    CHECK(b->q_indptr, INVALID_ARGUMENT,
          "%s: q_indptr is NULL, expected %d prefix sums", where, (int)n + 1);
    CHECK(b->kv_len, INVALID_ARGUMENT,
          "%s: kv_len is NULL, expected %d lengths", where, (int)n);
    TRY(fli__check_indptr(where, "q_indptr", b->q_indptr, n,
                          op->desc.max_rows));
    for (int32_t i = 0; i < n; i++)
        CHECK(b->kv_len[i] >= 0, INVALID_ARGUMENT,
              "%s: kv_len[%d] is %d, expected at least 0", where, (int)i,
              (int)b->kv_len[i]);
    return FLI_OK;
}

fli_status fli__attention_check_workspace(const char *where,
                                          const fli_attention *op,
                                          const void *workspace, size_t bytes)
{
    CHECK(workspace, INVALID_ARGUMENT,
          "%s: workspace is NULL, expected %zu bytes", where,
          op->workspace_bytes);
    CHECK((uintptr_t)workspace % WORKSPACE_ALIGN == 0, INVALID_ARGUMENT,
          "%s: workspace is at %p, expected a multiple of %d bytes", where,
          workspace, WORKSPACE_ALIGN);
    CHECK(bytes >= op->workspace_bytes, WORKSPACE,
          "%s: workspace_bytes is %zu, expected at least %zu", where, bytes,
          op->workspace_bytes);
    CHECK(!(op->desc.flags & FLI_ATTENTION_GRAPH) || !op->workspace
              || op->workspace == workspace,
          INVALID_STATE,
          "%s: workspace is %p, expected %p as in the first plan (GRAPH)",
          where, workspace, op->workspace);
    return FLI_OK;
}

/* About the multiplications of a run, as far as it matters whether to share
 * them.  A run that is captured is never without work. */
static int64_t work_of(const fli_attention *op, const fli_attention_batch *b)
{
    const int64_t per_cell = (int64_t)op->desc.n_qo_heads
                             * (op->desc.head_dim_qk + op->desc.head_dim_vo);
    const int64_t enough = INT64_C(1) << 30;
    int64_t cells = op->device && op->desc.flags & FLI_ATTENTION_GRAPH;

    for (int32_t i = 0; i < b->n_requests && cells < enough; i++)
        cells += (int64_t)(b->q_indptr[i + 1] - b->q_indptr[i])
                 * ((int64_t)b->kv_len[i] + 1);
    return MIN(cells, enough) * per_cell;
}

/* Copies the lengths to head and plans there. */
static fli_status plan_step(const char *where, fli_attention *op,
                            const fli_attention_batch *b, char *head)
{
    const size_t n = (size_t)b->n_requests;
    int32_t *q_indptr = (int32_t *)head;
    int32_t *kv_len = (int32_t *)(head + op->at.kv_len);

    q_indptr[0] = 0;
    if (n > 0) {
        memcpy(q_indptr, b->q_indptr, (n + 1) * sizeof(*q_indptr));
        memcpy(kv_len, b->kv_len, n * sizeof(*kv_len));
    }
    const fli__plan_step step = {
        .n_requests = b->n_requests,
        .q_indptr = q_indptr,
        .kv_len = kv_len,
        .causal = b->mask == FLI_MASK_CAUSAL,
        .window = b->window,
    };

    return fli__plan_run(where, &op->config, &op->bounds, &step, &op->schedule);
}

/* A plan that is refused leaves the last one as it was: everything is checked
 * before the workspace is written. */
fli_status fli_attention_plan(fli_attention *op,
                              const fli_attention_batch *batch, void *workspace,
                              size_t workspace_bytes, fli_stream stream)
{
    static const char where[] = "attention plan";
    fli_attention_batch b;
    char *head = workspace, *planner;

    CHECK(op, INVALID_ARGUMENT, "%s: op is NULL, expected an op", where);
    const fli__call call = { .ctx = op->ctx, .where = where, .stream = stream };

    TRY(fli__check_call(op->ctx, where, stream));
    TRY(fli__copy_struct(where, "batch", &b, sizeof(b), batch, sizeof(b)));
    TRY(check_batch(where, op, &b));
    TRY(fli__attention_check_workspace(where, op, workspace, workspace_bytes));
    planner = head + op->at.planner;
    if (op->device)
        TRY(fli__attention_begin_plan(&call, op, &head, &planner));
    op->workspace = NULL;
    fli__attention_place(op, workspace, &op->schedule);
    fli__plan_place(&op->config, &op->bounds, head + op->at.schedule, planner,
                    &op->schedule);
    TRY(plan_step(where, op, &b, head));
    if (op->device)
        TRY(fli__attention_end_plan(&call, op, workspace));
    op->params.n_requests = b.n_requests;
    op->n_rows = b.n_requests > 0 ? b.q_indptr[b.n_requests] : 0;
    op->work = work_of(op, &b);
    op->is_on_device = 0;
    op->summary = *op->schedule.summary;
    op->workspace = workspace;
    return FLI_OK;
}

fli_status fli_attention_get_stats(const fli_attention *op,
                                   fli_attention_stats *stats)
{
    static const char where[] = "attention get_stats";
    fli_attention_stats s;

    CHECK(op, INVALID_ARGUMENT, "%s: op is NULL, expected an op", where);
    TRY(fli__copy_struct(where, "stats", &s, sizeof(s), stats, sizeof(s)));
    CHECK(!op->is_on_device, INVALID_STATE,
          "%s: the last plan was made on the device, expected one by "
          "fli_attention_plan",
          where);
    const size_t size = stats->size;

    s = (fli_attention_stats){
        .size = size,
        .n_workers = op->summary.n_busy,
        .n_items = op->summary.n_pieces,
        .n_merges = op->summary.n_merges,
        .total_cost = op->summary.total_cost,
        .max_cost = op->summary.max_cost,
    };
    memcpy(stats, &s, sizeof(s));
    return FLI_OK;
}
