/* SPDX-License-Identifier: Apache-2.0 */
/* attention on CUDA: the tile classes of its implementations, their kernels, and
 * the launches of a run.
 *
 * Each class is a kernel with a range of workers of its own, a block each.  Run
 * only fills a launch struct and hands it to the driver: kernels, grids and which
 * classes have work were found by create and plan. */
#include "attention/attention.h"

#include <string.h>

#include "abi/attention_launch.h"
#include "abi/plan_launch.h"
#include "jit/jit.h"

/* --- tile classes --------------------------------------------------------- */

#define DECODE_ROWS  16 /* packed rows that decode takes at most */
#define DECODE_STEP  (16 * FLI_DECODE_WARPS) /* its tokens of a step */
#define DECODE_SLOTS 16  /* its copies under way: enough for small head dims */
#define PREFILL_TILE 64  /* tokens of a step; fewer where they do not fit */
#define CHUNK        256 /* INVARIANT: few enough merges, many enough cuts */

#define PLANNER_STATIC 2048 /* shared memory of plan.cu that is not scratch */
#define PLANNER_LANES  512  /* most of its time goes to write the items */

/* Picoseconds on one SM of an H100, by which the planner balances.  Decode reads
 * K and V at an SM's share of 3.1 TB/s; prefill multiplies at about 350 TFLOP/s on
 * all of them, tiles of 64 rows at less.  Dims are those of q and v together. */
typedef struct {
    uint32_t item, row_dim, token_dim, cell_dim, merge_dim;
} costs;

static const costs decode_costs = { 2000000, 10, 85, 0, 800 };
static const costs prefill_costs[] = { { 3000000, 20, 40, 60, 100 },
                                       { 3000000, 20, 40, 48, 100 } };
static const costs generic_costs = { 3000000, 20, 400, 400, 100 };

static void add_class(fli_attention_tiles *tiles, const char *name,
                      const fli_attention_shape *s, const costs *c,
                      fli_tile_class made)
{
    const uint32_t dims = (uint32_t)(s->head_dim_qk + s->head_dim_vo);
    const uint32_t tile_dims = dims * (uint32_t)made.kv_tile;

    made.heads = 1;
    made.cost_item = c->item;
    made.cost_row = c->row_dim * dims;
    made.cost_tile = c->token_dim * tile_dims;
    made.cost_cell = c->cell_dim * tile_dims;
    made.cost_merge = c->merge_dim * (uint32_t)s->head_dim_vo;
    tiles->tile_class[tiles->n_classes] = made;
    tiles->name[tiles->n_classes++] = name;
}

static fli_attention_tiles no_tiles(const fli_attention_shape *s)
{
    const int64_t bytes = (int64_t)fli_dtype_bytes(s->dtype_kv);

    return (fli_attention_tiles){
        .policy = {
            .flags = s->flags,
            .snap = 40, /* 4 %: what a merge costs a small batch */
            .chunk = s->flags & FLI_PLAN_INVARIANT ? CHUNK : 0,
            .l2_bytes = s->l2_bytes / 2, /* queries and outputs need some too */
            .token_bytes = (s->head_dim_qk + s->head_dim_vo) * bytes,
        },
    };
}

static int64_t prefill_shared(const fli_attention_shape *s, int32_t rows,
                              int32_t kv_tile)
{
    return (int64_t)FLI_ATTENTION_PREFILL_SHARED(rows, kv_tile, s->head_dim_qk,
                                                 s->head_dim_vo);
}

/* A warp has 32 rows where its registers hold their output, else 16. */
static uint32_t prefill_threads(const fli_attention_shape *s, int32_t rows)
{
    const int32_t warp_rows = rows == 128 && s->head_dim_vo <= 128 ? 32 : 16;

    return (uint32_t)(rows / warp_rows * 32);
}

static int64_t decode_shared(const fli_attention_shape *s, int32_t slots)
{
    return (int64_t)FLI_ATTENTION_DECODE_SHARED(slots, s->head_dim_qk,
                                                s->head_dim_vo);
}

/* As many as fit beside 64 bytes of the kernel's own; 0 where two do not. */
static int32_t decode_slots(const fli_attention_shape *s)
{
    int32_t slots = DECODE_SLOTS;

    while (slots > 0 && decode_shared(s, slots) + 64 > s->shared_bytes)
        slots--;
    return slots >= 2 ? slots : 0;
}

static void add_prefill(fli_attention_tiles *tiles,
                        const fli_attention_shape *s, int32_t rows)
{
    int32_t kv_tile = PREFILL_TILE;

    while (kv_tile > 16 && prefill_shared(s, rows, kv_tile) > s->shared_bytes)
        kv_tile /= 2;
    if (prefill_shared(s, rows, kv_tile) > s->shared_bytes)
        return;
    add_class(tiles, "prefill", s, &prefill_costs[rows > 64],
              (fli_tile_class){ .rows = rows,
                                .kv_tile = kv_tile,
                                .cut = PREFILL_TILE,
                                .longest_first = 1 });
}

/* Decode tiles are dealt in the order of the batch, and whole where a worker comes
 * near enough to its share: a merge costs more than a little imbalance while
 * memory is the limit.  INVARIANT: one class for all, so that a row's bits do not
 * depend on how many come with it. */
void fli__attention_tiles_portable(const fli_attention_shape *s,
                                   fli_attention_tiles *tiles)
{
    const int invariant = s->flags & FLI_PLAN_INVARIANT;

    *tiles = no_tiles(s);
    if (!invariant && s->group <= DECODE_ROWS && decode_slots(s) > 0)
        add_class(tiles, "decode", s, &decode_costs,
                  (fli_tile_class){ .rows = s->group <= 8 ? 8 : DECODE_ROWS,
                                    .kv_tile = DECODE_STEP,
                                    .cut = DECODE_STEP });
    if (!invariant)
        add_prefill(tiles, s, 64);
    add_prefill(tiles, s, 128);
    if (invariant)
        tiles->scratch_bytes =
            FLI_ATTENTION_PREFILL_SCRATCH(128, s->head_dim_vo);
}

void fli__attention_tiles_generic(const fli_attention_shape *s,
                                  fli_attention_tiles *tiles)
{
    *tiles = no_tiles(s);
    add_class(tiles, NULL, s, &generic_costs,
              (fli_tile_class){ .rows = 16, .kv_tile = 64, .cut = 64 });
}

const char *fli__attention_reject_portable(const void *shape)
{
    const fli_attention_shape *s = shape;

    if (s->dtype_q != FLI_F16 && s->dtype_q != FLI_BF16)
        return "dtype_q is not f16 or bf16";
    if (s->dtype_kv != s->dtype_q)
        return "dtype_kv is not dtype_q";
    if (s->head_dim_qk > 256 || s->head_dim_vo > 256)
        return "a head_dim is above 256";
    return NULL;
}

/* --- kernels -------------------------------------------------------------- */

typedef enum { DECODE, PREFILL, GENERIC } kind;

static const struct {
    const char *name, *source, *entry;
    int32_t most; /* blocks of an SM */
} kinds[] = {
    { "decode", "cuda/attention_decode.cu", "fli_attention_decode", 1 },
    { "prefill", "cuda/attention_prefill.cu", "fli_attention_prefill", 4 },
    { "generic", "cuda/attention_generic.cu", "fli_attention_generic", 4 },
};

/* A kernel as a run launches it. */
typedef struct {
    const fli__kernel *kernel;
    fli__launch launch;
} ready;

struct fli__attention_device {
    ready classes[FLI_MAX_CLASSES]; /* a block a worker */
    ready generic; /* in place of each class where a tensor is not aligned */
    ready planner;
    fli__staging *staging;
    char *scratch; /* of the planner on the host */
    size_t scratch_bytes;
    uint32_t has_work; /* bit i: class i has, or may have */
};

static kind kind_of(const fli_attention *op, const fli_tile_class *c)
{
    if (!strcmp(op->impl->name, "generic"))
        return GENERIC;
    return c->rows <= DECODE_ROWS ? DECODE : PREFILL;
}

/* What to compile for a class, and how it is launched. */
static void describe(const fli_attention_shape *s, kind k,
                     const fli_tile_class *c, fli__instance *instance,
                     fli__launch *launch)
{
    const int32_t rows = k == GENERIC ? 0 : c->rows;

    *launch = (fli__launch){ .grid = { 1, 1, 1 }, .block = { 256, 1, 1 } };
    fli__instance_init(instance, kinds[k].source, kinds[k].entry,
                       "attention_%s_%s_%s_d%dx%d_rows%d", kinds[k].name,
                       fli_dtype_name(s->dtype_q), fli_dtype_name(s->dtype_kv),
                       (int)s->head_dim_qk, (int)s->head_dim_vo, (int)rows);
    fli__instance_define(instance, "FLI_DTYPE_Q", s->dtype_q);
    fli__instance_define(instance, "FLI_DTYPE_KV", s->dtype_kv);
    fli__instance_define(instance, "HEAD_DIM_QK", s->head_dim_qk);
    fli__instance_define(instance, "HEAD_DIM_VO", s->head_dim_vo);
    if (k == GENERIC)
        return;
    fli__instance_define(instance, "ROWS", rows);
    if (k == DECODE) {
        fli__instance_define(instance, "SLOTS", decode_slots(s));
        launch->block[0] = FLI_DECODE_WARPS * 32;
        launch->shared_bytes = (uint32_t)decode_shared(s, decode_slots(s));
    } else {
        fli__instance_define(instance, "KV_TILE", c->kv_tile);
        launch->block[0] = prefill_threads(s, rows);
        launch->shared_bytes = (uint32_t)prefill_shared(s, rows, c->kv_tile);
    }
    instance->shared_bytes = launch->shared_bytes;
}

/* The planner on the device, with as much shared memory as a block may have. */
static void describe_planner(const fli_attention_shape *s,
                             fli__instance *instance, fli__launch *launch)
{
    *launch =
        (fli__launch){ .grid = { 1, 1, 1 }, .block = { PLANNER_LANES, 1, 1 } };
    fli__instance_init(instance, "cuda/plan.cu", "fli_plan", "plan");
    instance->shared_bytes = (uint32_t)MAX(s->shared_bytes - PLANNER_STATIC, 0);
}

/* Classes first, then the fallback.  The planner only where plans may be captured
 * from the start: else the first one on the device compiles it, as most engines
 * plan on the host. */
static fli_status compile(const fli__call *call, const fli_attention *op,
                          fli__attention_device *device)
{
    const fli_attention_shape *s = &op->params.shape;
    const int32_t n = op->config.n_classes;
    const int32_t plans = (s->flags & FLI_PLAN_GRAPH) != 0;
    fli__instance instances[FLI_MAX_CLASSES + 2];
    const fli__kernel *kernels[FLI_MAX_CLASSES + 2];

    for (int32_t i = 0; i < n; i++) {
        const fli_tile_class *c = &op->config.tile_class[i];

        describe(s, kind_of(op, c), c, &instances[i],
                 &device->classes[i].launch);
    }
    describe(s, GENERIC, NULL, &instances[n], &device->generic.launch);
    describe_planner(s, &instances[n + 1], &device->planner.launch);
    TRY(fli__jit_kernels(call, instances, n + 1 + plans, kernels));
    for (int32_t i = 0; i < n; i++)
        device->classes[i].kernel = kernels[i];
    device->generic.kernel = kernels[n];
    device->planner.kernel = plans ? kernels[n + 1] : NULL;
    return FLI_OK;
}

/* A range for each class: a worker for each block that the GPU holds at once. */
static void share_blocks(fli_attention *op)
{
    const fli_context *ctx = op->ctx;
    int32_t first = 0;

    for (int32_t i = 0; i < op->config.n_classes; i++) {
        fli_tile_class *c = &op->config.tile_class[i];
        ready *r = &op->device->classes[i];
        const int32_t fit =
            fli__cuda_occupancy(ctx, r->kernel, (int32_t)r->launch.block[0],
                                r->launch.shared_bytes);

        c->first_worker = first;
        c->n_workers = MAX(ctx->cuda->caps.n_sms, 1)
                       * MIN(fit, kinds[kind_of(op, c)].most);
        r->launch.grid[0] = (uint32_t)c->n_workers;
        first += c->n_workers;
    }
}

fli_status fli__attention_compile(const char *where, fli_attention *op)
{
    const fli__call call = { .ctx = op->ctx, .where = where, .prepare = 1 };
    void *previous;

    op->device = fli__alloc(op->ctx, sizeof(*op->device));
    CHECK(op->device, OUT_OF_MEMORY,
          "%s: the op needs %zu bytes, the allocator has none", where,
          sizeof(*op->device));
    TRY(fli__cuda_enter(op->ctx, where, &previous));
    const fli_status status = compile(&call, op, op->device);

    if (!status)
        share_blocks(op);
    fli__cuda_leave(op->ctx, previous);
    op->params.sticky = op->ctx->cuda->sticky;
    return status;
}

fli_status fli__attention_reserve(const char *where, fli_attention *op)
{
    fli__attention_device *device = op->device;
    const size_t bytes = op->bounds.scratch_bytes;

    device->scratch = fli__alloc(op->ctx, bytes);
    CHECK(device->scratch, OUT_OF_MEMORY,
          "%s: the planner needs %zu bytes, the allocator has none", where,
          bytes);
    device->scratch_bytes = bytes;
    return fli__staging_create(op->ctx, where, op->at.partial_o,
                               &device->staging);
}

void fli__attention_release(const fli_context *ctx,
                            fli__attention_device *device)
{
    if (!device)
        return;
    fli__staging_destroy(ctx, device->staging);
    fli__free(ctx, device->scratch, device->scratch_bytes);
    fli__free(ctx, device, sizeof(*device));
}

/* --- plan ----------------------------------------------------------------- */

fli_status fli__attention_begin_plan(const fli__call *call, fli_attention *op,
                                     char **head, char **scratch)
{
    void *slot;

    TRY(fli__staging_next(call, op->device->staging, &slot));
    *head = slot;
    *scratch = op->device->scratch;
    return FLI_OK;
}

static uint32_t all_classes(const fli_attention *op)
{
    return (1u << op->config.n_classes) - 1;
}

fli_status fli__attention_end_plan(const fli__call *call, fli_attention *op,
                                   void *workspace)
{
    const fli_plan_output *plan = &op->schedule;
    const char *end = (const char *)(plan->items + plan->summary->n_items);
    const char *head = (const char *)plan->counters - op->at.schedule;

    op->device->has_work = op->desc.flags & FLI_ATTENTION_GRAPH
                               ? all_classes(op)
                               : plan->summary->classes;
    return fli__staging_send(call, op->device->staging, workspace,
                             (size_t)(end - head));
}

fli_status fli__attention_planner(const fli__call *call, fli_attention *op)
{
    ready *planner = &op->device->planner;
    fli__instance instance;
    void *previous;

    if (planner->kernel)
        return FLI_OK;
    describe_planner(&op->params.shape, &instance, &planner->launch);
    TRY(fli__cuda_enter(call->ctx, call->where, &previous));
    const fli_status status =
        fli__jit_kernel(call, &instance, &planner->kernel);

    fli__cuda_leave(call->ctx, previous);
    CHECK(status != FLI_INVALID_STATE, INVALID_STATE,
          "%s: the planner is not compiled and stream is being captured, "
          "expected a call before the capture, or GRAPH in desc.flags",
          call->where);
    return status;
}

fli_status fli__attention_plan_there(const fli__call *call, fli_attention *op,
                                     fli_plan_launch *plan, void *workspace)
{
    const ready *planner = &op->device->planner;
    const size_t most =
        (size_t)MAX(op->params.shape.shared_bytes - PLANNER_STATIC, 0);
    fli__launch launch = planner->launch;
    void *previous;

    plan->scratch = (char *)workspace + op->at.planner;
    if (op->bounds.scratch_bytes <= most) {
        launch.shared_bytes = (uint32_t)op->bounds.scratch_bytes;
        plan->scratch_bytes = (int64_t)op->bounds.scratch_bytes;
    }
    op->device->has_work = all_classes(op);
    TRY(fli__cuda_enter(call->ctx, call->where, &previous));
    const fli_status status =
        fli__cuda_launch(call, planner->kernel, &launch, plan);

    fli__cuda_leave(call->ctx, previous);
    return status;
}

/* --- run ------------------------------------------------------------------ */

/* Are data and strides multiples of 16 bytes, as all but generic need it? */
static int is_aligned(const fli_attention_params *p)
{
    const uintptr_t data =
        (uintptr_t)p->q | (uintptr_t)p->k | (uintptr_t)p->v | (uintptr_t)p->out;
    const int64_t in = p->q_stride[0] | p->q_stride[1] | p->k_page_stride
                       | p->k_token_stride | p->k_head_stride | p->v_page_stride
                       | p->v_token_stride | p->v_head_stride;
    const int64_t out = p->out_stride[0] | p->out_stride[1];

    return data % 16 == 0
           && in * (int64_t)fli_dtype_bytes(p->shape.dtype_kv) % 16 == 0
           && out * (int64_t)fli_dtype_bytes(p->shape.dtype_out) % 16 == 0;
}

fli_status fli__attention_cuda(const fli__call *call, const void *params)
{
    const fli__attention_run *run = params;
    const fli_attention *op = run->op;
    const fli__attention_device *device = op->device;
    const int aligned = is_aligned(&run->params);
    fli_attention_launch launch = { .p = run->params };

    for (int32_t i = 0; i < op->config.n_classes; i++) {
        ready r = aligned ? device->classes[i] : device->generic;

        if (!(device->has_work >> i & 1))
            continue;
        r.launch.grid[0] = device->classes[i].launch.grid[0];
        launch.first_worker = op->config.tile_class[i].first_worker;
        TRY(fli__cuda_launch(call, r.kernel, &r.launch, &launch));
    }
    return FLI_OK;
}
