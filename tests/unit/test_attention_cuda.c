/* SPDX-License-Identifier: Apache-2.0 */
/* attention's host side on CUDA, over the fake driver and the real NVRTC: what a
 * plan copies, what a run launches, what both never do, refusals, captures.  That
 * kernels are right is for the checker on a GPU. */
#include "cuda_unit.h"

#include "abi/attention_launch.h"
#include "abi/plan_launch.h"
#include "attention/attention.h"

enum { HEADS = 32, KV_HEADS = 8, DIM = 128, PAGE = 16, N_PAGES = 1000 };
enum { MAX_REQUESTS = 8, MAX_ROWS = 512, SMS = 132 };

/* Addresses on the device that nobody reads here. */
#define Q       ((void *)0x10000000)
#define OUT     ((void *)0x20000000)
#define K       ((void *)0x30000000)
#define V       ((void *)0x50000000)
#define LENGTHS ((void *)0x70000000)

typedef struct {
    fli_context *ctx;
    void *stream;
    fli_attention_desc desc;
    fli_attention_batch batch;
    fli_attention_args args;
    fli_attention *op;
    void *workspace;
    size_t bytes;
    int32_t q_indptr[MAX_REQUESTS + 1], kv_len[MAX_REQUESTS];
} step;

static fli_attention_desc desc_of(int32_t dtype)
{
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;

    desc.n_qo_heads = HEADS;
    desc.n_kv_heads = KV_HEADS;
    desc.head_dim_qk = desc.head_dim_vo = DIM;
    desc.dtype_q = dtype;
    desc.max_requests = MAX_REQUESTS;
    desc.max_rows = MAX_ROWS;
    return desc;
}

static void make_tensors(step *s)
{
    const int32_t dtype = s->desc.dtype_q;

    s->args = (fli_attention_args)FLI_ATTENTION_ARGS_INIT;
    s->args.q = fli_tensor_3d(Q, s->ctx, dtype, MAX_ROWS, HEADS, DIM);
    s->args.out = fli_tensor_3d(OUT, s->ctx, dtype, MAX_ROWS, HEADS, DIM);
    s->args.kv = fli_paged_kv(
        fli_tensor_4d(K, s->ctx, dtype, N_PAGES, PAGE, KV_HEADS, DIM),
        fli_tensor_4d(V, s->ctx, dtype, N_PAGES, PAGE, KV_HEADS, DIM),
        fli_tensor_1d(LENGTHS, s->ctx, FLI_I32, MAX_REQUESTS + 1),
        fli_tensor_1d(LENGTHS, s->ctx, FLI_I32, N_PAGES));
    s->args.mask = FLI_MASK_CAUSAL;
}

/* Requests of these rows, of kv_len 700, 1400, .. */
static void set_batch(step *s, const int32_t *rows, int32_t n)
{
    s->batch = (fli_attention_batch)FLI_ATTENTION_BATCH_INIT;
    s->batch.n_requests = n;
    s->batch.q_indptr = s->q_indptr;
    s->batch.kv_len = s->kv_len;
    s->batch.mask = FLI_MASK_CAUSAL;
    for (int32_t i = 0; i < n; i++) {
        s->q_indptr[i + 1] = s->q_indptr[i] + rows[i];
        s->kv_len[i] = 700 * (i + 1);
    }
}

static void *device_memory(size_t bytes)
{
    uint64_t pointer = 0;

    assert_int_equal(cuCtxSetCurrent(primary), 0);
    assert_int_equal(cuMemAlloc_v2(&pointer, bytes), 0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    return (void *)(uintptr_t)pointer;
}

static void free_device(void *memory)
{
    assert_int_equal(cuCtxSetCurrent(primary), 0);
    assert_int_equal(cuMemFree_v2((uint64_t)(uintptr_t)memory), 0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
}

static step *make_step(uint32_t flags, int32_t dtype)
{
    static const int32_t ones[MAX_REQUESTS] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    step *s = calloc(1, sizeof(*s));

    s->ctx = create_cuda();
    s->stream = fake_stream_create(primary);
    s->desc = desc_of(dtype);
    s->desc.flags = flags;
    assert_ok(fli_attention_create(&s->op, s->ctx, &s->desc));
    s->bytes = fli_attention_workspace(s->op);
    s->workspace = device_memory(s->bytes);
    memset(s->workspace, 0xa5, s->bytes);
    set_batch(s, ones, MAX_REQUESTS);
    make_tensors(s);
    return s;
}

static fli_status plan(step *s)
{
    return fli_attention_plan(s->op, &s->batch, s->workspace, s->bytes,
                              s->stream);
}

static fli_status run(step *s)
{
    return fli_attention_run(s->op, &s->args, s->stream);
}

static fli_attention_device_batch device_batch(const step *s)
{
    fli_attention_device_batch b = FLI_ATTENTION_DEVICE_BATCH_INIT;

    b.n_requests = MAX_REQUESTS;
    b.mask = FLI_MASK_CAUSAL;
    b.q_indptr = fli_tensor_1d(LENGTHS, s->ctx, FLI_I32, MAX_REQUESTS + 1);
    b.kv_len = fli_tensor_1d(LENGTHS, s->ctx, FLI_I32, MAX_REQUESTS);
    return b;
}

static fli_status plan_device(step *s, const fli_attention_device_batch *b)
{
    return fli_attention_plan_device(s->op, b, s->workspace, s->bytes,
                                     s->stream);
}

static void drop(step *s)
{
    fli_attention_destroy(s->op);
    free_device(s->workspace);
    fake_stream_destroy(s->stream);
    fli_context_destroy(s->ctx);
    free(s);
}

/* --- plan ------------------------------------------------------------------- */

/* The workspace holds what the planner writes to host memory for the same step. */
static void assert_planned(step *s)
{
    const fli_attention *op = s->op;
    const fli__plan_step lengths = { s->batch.n_requests, s->q_indptr,
                                     s->kv_len, 1, 0 };
    char *schedule = aligned_alloc(64, op->bounds.schedule_bytes);
    char *scratch = aligned_alloc(64, op->bounds.scratch_bytes);
    const size_t n = (size_t)s->batch.n_requests;
    fli_plan_output want;

    fli__plan_place(&op->config, &op->bounds, schedule, scratch, &want);
    assert_ok(
        fli__plan_run("test plan", &op->config, &op->bounds, &lengths, &want));
    fake_stream_run(s->stream);
    const fli_attention_params *p = &op->params;
    const fli_plan_summary *sum = want.summary;

    assert_memory_equal(p->q_indptr, s->q_indptr, (n + 1) * 4);
    assert_memory_equal(p->kv_len, s->kv_len, n * 4);
    assert_memory_equal(p->items, want.items,
                        (size_t)sum->n_items * sizeof(*want.items));
    assert_memory_equal(p->merges, want.merges,
                        (size_t)sum->n_merges * sizeof(*want.merges));
    assert_memory_equal(p->sources, want.sources, (size_t)sum->n_sources * 4);
    for (int32_t i = 0; i < op->bounds.max_merges; i++)
        assert_int_equal(p->counters[i], 0);
    free(schedule);
    free(scratch);
}

static void a_plan_is_copied_to_the_workspace(void **state)
{
    static const int32_t mixed[] = { 1, 300, 20, 1, 2 };
    step *s = make_step(0, FLI_BF16);

    (void)state;
    assert_ok(plan(s));
    assert_planned(s);
    set_batch(s, mixed, 5);
    assert_ok(plan(s));
    assert_planned(s);
    set_batch(s, mixed, 1); /* few workers have work, the others are told */
    assert_ok(plan(s));
    assert_planned(s);
    set_batch(s, NULL, 0);
    assert_ok(plan(s));
    assert_planned(s);
    drop(s);
}

static void parts_of_the_workspace_are_apart(void **state)
{
    step *s = make_step(FLI_ATTENTION_BATCH_INVARIANT, FLI_BF16);
    const fli_attention *op = s->op;
    const fli_attention_params *p = &op->params;

    (void)state;
    assert_ok(plan(s));
    const char *base = s->workspace;
    const char *const ends[] = {
        (const char *)(p->q_indptr + MAX_REQUESTS + 1),
        (const char *)(p->kv_len + MAX_REQUESTS),
        (const char *)(p->items + op->bounds.max_items),
        (const char *)(p->partial_o
                       + (size_t)op->bounds.max_partial_rows * DIM),
        (const char *)(p->partial_md + 2 * (size_t)op->bounds.max_partial_rows),
        p->scratch + p->n_workers * p->scratch_bytes,
        base + s->bytes,
    };
    const char *const begins[] = {
        (const char *)p->kv_len,
        (const char *)p->counters,
        (const char *)p->partial_o,
        (const char *)p->partial_md,
        p->scratch,
        base + op->at.planner,
    };

    assert_ptr_equal(p->q_indptr, base);
    for (size_t i = 0; i < COUNT(begins); i++) {
        assert_true(ends[i] <= begins[i] && begins[i] <= ends[i + 1]);
        assert_int_equal((begins[i] - base) % 64, 0);
    }
    assert_true(base + op->at.planner + op->bounds.scratch_bytes
                <= base + s->bytes);
    drop(s);
}

static void plans_may_run_ahead_of_the_device(void **state)
{
    step *s = make_step(0, FLI_BF16);

    (void)state;
    assert_ok(plan(s));
    const int64_t waits = fake_n_synchronisations();
    const int64_t allocations = fake_n_allocations();

    for (int i = 0; i < 3; i++) {
        s->kv_len[0]++;
        assert_ok(plan(s));
        assert_ok(run(s));
    }
    assert_int_equal(fake_n_synchronisations(), waits);
    assert_int_equal(fake_n_allocations(), allocations);
    assert_planned(s);
    drop(s);
}

/* --- run -------------------------------------------------------------------- */

/* Launch i is this kernel, over class c of the op's table. */
static void assert_launch(const step *s, int32_t i, const char *kernel,
                          int32_t c)
{
    const fake_launch *l = fake_launch_at(i);
    const fli_tile_class *t = &s->op->config.tile_class[c];
    fli_attention_launch params;

    assert_string_equal(l->name, kernel);
    assert_int_equal(l->grid[0], t->n_workers);
    assert_int_equal(l->grid[1] * l->grid[2], 1);
    assert_ptr_equal(l->stream, s->stream);
    assert_true(l->is_programmatic);
    assert_int_equal(l->param_bytes, sizeof(params));
    memcpy(&params, l->params, sizeof(params));
    assert_int_equal(params.first_worker, t->first_worker);
    assert_ptr_equal(params.p.items, s->op->params.items);
    assert_ptr_equal(params.p.q, s->args.q.data);
    assert_ptr_equal(params.p.page_indptr, LENGTHS);
    assert_int_equal(params.p.n_rows, MAX_ROWS);
    assert_int_equal(params.p.n_pages, N_PAGES);
    assert_int_equal(params.p.n_indices, N_PAGES);
    assert_int_equal(params.p.n_requests, MAX_REQUESTS);
    assert_ptr_equal(params.p.sticky, s->ctx->cuda->sticky);
}

static void classes_have_ranges_of_their_own(void **state)
{
    step *s = make_step(0, FLI_BF16);
    const fli__plan_config *c = &s->op->config;
    int32_t first = 0;

    (void)state;
    assert_int_equal(c->n_classes, 3);
    assert_int_equal(c->tile_class[0].rows, 8);
    assert_int_equal(c->tile_class[0].n_workers, SMS);
    for (int32_t i = 0; i < c->n_classes; i++) {
        assert_int_equal(c->tile_class[i].first_worker, first);
        assert_int_equal(c->tile_class[i].n_workers % SMS, 0);
        first += c->tile_class[i].n_workers;
    }
    assert_int_equal(s->op->params.n_workers, first);
    drop(s);
}

static void only_classes_with_work_are_launched(void **state)
{
    static const int32_t long_rows[] = { 300 }, mixed[] = { 1, 16, 100 };
    step *s = make_step(0, FLI_BF16);

    (void)state;
    assert_ok(plan(s));
    assert_ok(run(s));
    assert_int_equal(fake_n_launches(), 1);
    assert_launch(s, 0, "fli_attention_decode", 0);
    set_batch(s, long_rows, 1);
    assert_ok(plan(s));
    assert_ok(run(s));
    assert_int_equal(fake_n_launches(), 2);
    assert_launch(s, 1, "fli_attention_prefill", 2);
    set_batch(s, mixed, 3);
    assert_ok(plan(s));
    assert_ok(run(s));
    assert_int_equal(fake_n_launches(), 5);
    assert_launch(s, 2, "fli_attention_decode", 0);
    assert_launch(s, 3, "fli_attention_prefill", 1);
    assert_launch(s, 4, "fli_attention_prefill", 2);
    set_batch(s, NULL, 0);
    assert_ok(plan(s));
    assert_ok(run(s));
    assert_int_equal(fake_n_launches(), 5);
    drop(s);
}

static void graph_launches_all(void **state)
{
    step *s = make_step(FLI_ATTENTION_GRAPH, FLI_BF16);

    (void)state;
    set_batch(s, NULL, 0);
    assert_ok(plan(s));
    assert_ok(run(s));
    assert_int_equal(fake_n_launches(), 3);
    for (int32_t i = 0; i < 3; i++)
        assert_launch(s, i,
                      i ? "fli_attention_prefill" : "fli_attention_decode", i);
    drop(s);
}

static void what_is_not_aligned_is_generic(void **state)
{
    step *s = make_step(0, FLI_BF16);

    (void)state;
    assert_ok(plan(s));
    s->args.q.data = (char *)Q + 2;
    assert_ok(run(s));
    assert_launch(s, 0, "fli_attention_generic", 0);
    s->args.q.data = Q;
    s->args.kv.v.stride[1] += 4;
    assert_ok(run(s));
    assert_launch(s, 1, "fli_attention_generic", 0);
    s->args.kv.v.stride[1] += 4;
    assert_ok(run(s));
    assert_launch(s, 2, "fli_attention_decode", 0);
    drop(s);
}

static void other_dtypes_are_generic(void **state)
{
    step *s = make_step(0, FLI_F32);

    (void)state;
    assert_ok(plan(s));
    assert_planned(s);
    assert_ok(run(s));
    assert_int_equal(fake_n_launches(), 1);
    assert_launch(s, 0, "fli_attention_generic", 0);
    drop(s);
}

static void invariant_has_one_class(void **state)
{
    step *s = make_step(FLI_ATTENTION_BATCH_INVARIANT, FLI_BF16);

    (void)state;
    assert_ok(plan(s));
    assert_planned(s);
    assert_ok(run(s));
    assert_int_equal(s->op->config.n_classes, 1);
    assert_int_equal(fake_n_launches(), 1);
    assert_launch(s, 0, "fli_attention_prefill", 0);
    assert_true(s->op->params.chunk > 0 && s->op->params.scratch_bytes > 0);
    drop(s);
}

static void run_waits_for_nothing_and_allocates_nothing(void **state)
{
    step *s = make_step(0, FLI_BF16);

    (void)state;
    assert_ok(plan(s));
    const int64_t waits = fake_n_synchronisations();
    const int64_t allocations = fake_n_allocations();

    assert_ok(run(s));
    assert_int_equal(fake_n_synchronisations(), waits);
    assert_int_equal(fake_n_allocations(), allocations);
    drop(s);
}

static void run_checks_what_it_can(void **state)
{
    step *s = make_step(0, FLI_BF16);

    (void)state;
    assert_ok(plan(s));
    s->args.q.device = fli_cpu();
    assert_int_equal(run(s), FLI_INVALID_ARGUMENT);
    make_tensors(s);
    s->args.q.shape[0] = MAX_REQUESTS - 1;
    assert_int_equal(run(s), FLI_INVALID_ARGUMENT);
    make_tensors(s);
    s->args.kv.page_indptr.shape[0] = MAX_REQUESTS;
    assert_fails(
        run(s), INVALID_ARGUMENT,
        "attention run: page_indptr is i32 [8] on cuda:0, expected i32 "
        "[>= 9] on cuda:0");
    assert_fails(fli_attention_run_part(s->op, &s->args, 0, 1), UNSUPPORTED,
                 "attention run_part: the op runs on cuda, whose parts are "
                 "blocks; expected fli_attention_run");
    assert_int_equal(fake_n_launches(), 0);
    drop(s);
}

/* --- plans on the device ---------------------------------------------------- */

static void the_device_plans_for_itself(void **state)
{
    step *s = make_step(0, FLI_BF16);
    const fli_attention_device_batch b = device_batch(s);
    fli_attention_stats stats = FLI_ATTENTION_STATS_INIT;
    fli_plan_launch p;
    char text[1000];

    (void)state;
    assert_ok(plan_device(s, &b));
    assert_int_equal(fake_n_launches(), 1);
    assert_string_equal(fake_launch_at(0)->name, "fli_plan");
    assert_int_equal(fake_launch_at(0)->grid[0], 1);
    memcpy(&p, fake_launch_at(0)->params, sizeof(p));
    assert_ptr_equal(p.in.q_indptr, LENGTHS);
    assert_ptr_equal(p.out.items, s->op->params.items);
    assert_ptr_equal(p.q_indptr, s->op->params.q_indptr);
    assert_int_equal(p.max_rows, MAX_ROWS);
    assert_int_equal(p.scratch_bytes, fake_launch_at(0)->shared_bytes);
    assert_ok(run(s));
    assert_int_equal(fake_n_launches(), 4);
    for (int32_t i = 0; i < 3; i++)
        assert_launch(s, 1 + i,
                      i ? "fli_attention_prefill" : "fli_attention_decode", i);
    assert_fails(fli_attention_get_stats(s->op, &stats), INVALID_STATE,
                 "attention get_stats: the last plan was made on the device, "
                 "expected one by fli_attention_plan");
    fli_attention_print(s->op, text, sizeof(text));
    assert_non_null(strstr(text, "plan  made on the device\n"));
    assert_ok(plan(s));
    assert_ok(fli_attention_get_stats(s->op, &stats));
    assert_planned(s);
    drop(s);
}

static void max_rows_is_what_tensors_must_have(void **state)
{
    step *s = make_step(0, FLI_BF16);
    fli_attention_device_batch b = device_batch(s);

    (void)state;
    b.max_rows = MAX_ROWS - 1;
    assert_ok(plan_device(s, &b));
    s->args.q.shape[0] = MAX_ROWS - 1;
    s->args.out.shape[0] = MAX_ROWS - 1;
    assert_ok(run(s));
    s->args.q.shape[0] = MAX_ROWS - 2;
    assert_int_equal(run(s), FLI_INVALID_ARGUMENT);
    b.max_rows = MAX_ROWS + 1;
    assert_fails(plan_device(s, &b), INVALID_ARGUMENT,
                 "attention plan_device: max_rows is 513, expected 0 to "
                 "desc.max_rows 512");
    b = device_batch(s);
    b.q_indptr.dtype = FLI_I64;
    assert_int_equal(plan_device(s, &b), FLI_INVALID_ARGUMENT);
    b = device_batch(s);
    b.kv_len.shape[0] = MAX_REQUESTS - 1;
    assert_int_equal(plan_device(s, &b), FLI_INVALID_ARGUMENT);
    b = device_batch(s);
    b.n_requests = MAX_REQUESTS + 1;
    assert_int_equal(plan_device(s, &b), FLI_INVALID_ARGUMENT);
    assert_int_equal(fli_attention_plan_device(s->op, &b, s->workspace,
                                               s->bytes - 1, s->stream),
                     FLI_INVALID_ARGUMENT);
    b = device_batch(s);
    assert_int_equal(fli_attention_plan_device(s->op, &b, s->workspace,
                                               s->bytes - 1, s->stream),
                     FLI_WORKSPACE);
    drop(s);
}

static void the_cpu_has_no_device_plan(void **state)
{
    fli_attention_desc desc = desc_of(FLI_F32);
    fli_attention_device_batch b = FLI_ATTENTION_DEVICE_BATCH_INIT;
    fli_attention *op;
    fli_context *ctx;

    (void)state;
    assert_ok(fli_context_create(&ctx, fli_cpu(), NULL));
    assert_ok(fli_attention_create(&op, ctx, &desc));
    assert_fails(fli_attention_plan_device(op, &b, &b, 1, NULL), UNSUPPORTED,
                 "attention plan_device: the op runs on cpu, expected "
                 "fli_attention_plan");
    fli_attention_destroy(op);
    fli_context_destroy(ctx);
}

/* --- captures --------------------------------------------------------------- */

static void a_capture_holds_runs_and_device_plans(void **state)
{
    step *s = make_step(FLI_ATTENTION_GRAPH, FLI_BF16);
    const fli_attention_device_batch b = device_batch(s);

    (void)state;
    assert_ok(plan(s));
    fake_begin_capture(s->stream);
    assert_ok(run(s));
    assert_ok(plan_device(s, &b));
    assert_ok(run(s));
    assert_int_equal(plan(s), FLI_INVALID_STATE);
    assert_non_null(strstr(fli_last_error(), "fli_attention_plan_device"));
    assert_true(fake_end_capture(s->stream));
    assert_int_equal(fake_n_launches(), 7);
    for (int32_t i = 0; i < 7; i++)
        assert_true(fake_launch_at(i)->is_captured);
    drop(s);
}

static void without_graph_the_first_device_plan_compiles(void **state)
{
    step *s = make_step(0, FLI_BF16);
    const fli_attention_device_batch b = device_batch(s);

    (void)state;
    assert_ok(plan(s));
    fake_begin_capture(s->stream);
    assert_fails(plan_device(s, &b), INVALID_STATE,
                 "attention plan_device: the planner is not compiled and "
                 "stream is being captured, expected a call before the "
                 "capture, or GRAPH in desc.flags");
    assert_ok(run(s)); /* the last plan is still there */
    assert_true(fake_end_capture(s->stream));
    assert_ok(plan_device(s, &b));
    fake_begin_capture(s->stream);
    assert_ok(plan_device(s, &b));
    assert_true(fake_end_capture(s->stream));
    assert_int_equal(fake_n_launches(), 3);
    drop(s);
}

/* --- create ----------------------------------------------------------------- */

static void without_a_device_it_only_compiles(void **state)
{
    static const int32_t ones[] = { 1 };
    fli_context *ctx = create_arch("sm_90a");
    step s = { .desc = desc_of(FLI_BF16) };
    static char memory[256] __attribute__((aligned(256)));

    (void)state;
    assert_ok(fli_attention_create(&s.op, ctx, &s.desc));
    set_batch(&s, ones, 1);
    assert_int_equal(fli_attention_plan(s.op, &s.batch, memory,
                                        fli_attention_workspace(s.op), NULL),
                     FLI_UNSUPPORTED);
    fli_attention_destroy(s.op);
    fli_context_destroy(ctx);
}

/* Whatever call of the driver fails, create says so and leaves nothing. */
static void every_failure_of_create_cleans_up(void **state)
{
    fli_context *ctx = create_cuda();
    const fli_attention_desc desc = desc_of(FLI_BF16);
    fli_attention *op = NULL;
    int n = 0;

    (void)state;
    for (;; n++) {
        fake_fail_at(n, FAKE_ILLEGAL_ADDRESS);
        const fli_status status = fli_attention_create(&op, ctx, &desc);

        fake_fail_at(-1, 0);
        assert_int_equal(cuCtxSetCurrent(NULL), 0); /* if leaving failed */
        if (!status)
            break;
        assert_int_equal(status, FLI_DEVICE);
        assert_null(op);
    }
    assert_true(n > 5);
    fli_attention_destroy(op);
    fli_context_destroy(ctx);
}

static void a_failed_copy_leaves_no_plan(void **state)
{
    step *s = make_step(0, FLI_BF16);
    fli_status status = FLI_DEVICE;

    (void)state;
    assert_ok(plan(s));
    for (int n = 0; status; n++) {
        fake_fail_at(n, FAKE_ILLEGAL_ADDRESS);
        status = plan(s);
        if (status && !strcmp(fake_failed_call(), "cuMemcpyHtoDAsync_v2"))
            assert_fails(run(s), INVALID_STATE,
                         "attention run: op has no plan, expected "
                         "fli_attention_plan before");
        fake_fail_at(-1, 0);
        assert_int_equal(cuCtxSetCurrent(NULL), 0);
    }
    assert_ok(run(s));
    drop(s);
}

static void explain_names_the_classes(void **state)
{
    fli_context *ctx = create_cuda();
    fli_attention_desc desc = desc_of(FLI_BF16);
    char text[500];

    (void)state;
    fli_attention_explain(ctx, &desc, text, sizeof(text));
    assert_string_equal(
        text, "attention  q bf16  kv bf16  d 128  group 4  cuda:0 (sm_90a)\n"
              "  portable      yes  tile classes: decode 8x128, prefill 64x64, "
              "prefill 128x64\n"
              "  generic       -\n");
    desc.n_qo_heads = 12 * KV_HEADS;
    desc.head_dim_qk = 320;
    fli_attention_explain(ctx, &desc, text, sizeof(text));
    assert_string_equal(
        text,
        "attention  q bf16  kv bf16  d 320/128  group 12  cuda:0 (sm_90a)\n"
        "  portable      no   a head_dim is above 256\n"
        "  generic       yes  tile classes: 16x64\n");
    desc.head_dim_qk = 128;
    fli_attention_explain(ctx, &desc, text, sizeof(text));
    assert_non_null(strstr(text, "decode 16x128"));
    desc.n_qo_heads = 17 * KV_HEADS;
    fli_attention_explain(ctx, &desc, text, sizeof(text));
    assert_null(strstr(text, "decode"));
    fli_context_destroy(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CUDA_TEST(a_plan_is_copied_to_the_workspace),
        CUDA_TEST(parts_of_the_workspace_are_apart),
        CUDA_TEST(plans_may_run_ahead_of_the_device),
        CUDA_TEST(classes_have_ranges_of_their_own),
        CUDA_TEST(only_classes_with_work_are_launched),
        CUDA_TEST(graph_launches_all),
        CUDA_TEST(what_is_not_aligned_is_generic),
        CUDA_TEST(other_dtypes_are_generic),
        CUDA_TEST(invariant_has_one_class),
        CUDA_TEST(run_waits_for_nothing_and_allocates_nothing),
        CUDA_TEST(run_checks_what_it_can),
        CUDA_TEST(the_device_plans_for_itself),
        CUDA_TEST(max_rows_is_what_tensors_must_have),
        CUDA_TEST(the_cpu_has_no_device_plan),
        CUDA_TEST(a_capture_holds_runs_and_device_plans),
        CUDA_TEST(without_graph_the_first_device_plan_compiles),
        CUDA_TEST(without_a_device_it_only_compiles),
        CUDA_TEST(every_failure_of_create_cleans_up),
        CUDA_TEST(a_failed_copy_leaves_no_plan),
        CUDA_TEST(explain_names_the_classes),
    };

    setenv("FLI_LIBCUDA", FAKECUDA, 1);
    return RUN(tests);
}
