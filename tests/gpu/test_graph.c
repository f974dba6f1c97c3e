/* SPDX-License-Identifier: Apache-2.0 */
/* Attention in graphs: what was captured at one batch serves any other, planned by
 * the host behind the last run, or by the device inside the graph. */
#include "attend.h"

#include "attention/attention.h"

#include "gpu_fixture.h"

static const attend_shape bf16 = { FLI_BF16, 8, 2, 128, 16, 8, 400, 128 };
static const attend_shape wide = { FLI_BF16, 32, 8, 64, 16, 32, 600, 16 };
static const attend_shape f32 = { FLI_F32, 4, 2, 64, 16, 6, 200, 32 };

static gpu_graph capture_run(const attend_op *op,
                             const fli_attention_args *args)
{
    gpu_capture_begin(stream);
    const fli_status status = fli_attention_run(op->op, args, stream);
    const gpu_graph graph = gpu_capture_end(stream);

    if (status)
        fail_msg("run, captured: %s", fli_last_error());
    return graph;
}

/* --- planned by the host ------------------------------------------------------ */

/* Steps that a graph captured at the first of them is replayed for. */
static int steps_of(const attend_shape *s, attend_step *steps)
{
    const int32_t most = s->pages_each * s->page, n = s->n_requests;
    uint64_t state = 77;
    int k = 0;

    steps[k++] = attend_random(s, n, &state);
    steps[k++] = attend_random(s, n, &state);     /* other lengths */
    steps[k++] = attend_random(s, n / 2, &state); /* fewer requests */
    steps[k++] = (attend_step){ .n = 1, .q_len = { 1 }, .kv_len = { 1 } };
    steps[k++] = (attend_step){ .n = 0 };
    steps[k++] = (attend_step){ .n = n }; /* no rows, no tokens */
    steps[k] = (attend_step){ .n = n };   /* all there can be */
    for (int32_t i = 0; i < n; i++) {
        steps[k].q_len[i] = s->n_rows / n;
        steps[k].kv_len[i] = most;
    }
    k++;
    steps[k] = (attend_step){ .n = n }; /* rows that see nothing */
    for (int32_t i = 0; i < n; i++) {
        steps[k].q_len[i] = i % 3;
        steps[k].kv_len[i] = i % 2 ? most : 0;
    }
    k++;
    steps[k] = (attend_step){ .n = n }; /* a decode batch, and one of no rows */
    for (int32_t i = 0; i < n; i++) {
        steps[k].q_len[i] = i != n / 2;
        steps[k].kv_len[i] = 1 + (most - 1) * i / n;
    }
    k++;
    steps[k++] = attend_random(s, 1, &state);
    steps[k] = steps[0];
    return k + 1;
}

static void replays_other_batches(const attend_shape *shape, uint32_t flags)
{
    attend_data *const d = attend_make(shape, 1);
    attend_op op = attend_create(d, ctx, flags | FLI_ATTENTION_GRAPH, stream);
    void *const out = gpu_alloc(attend_out_bytes(d));
    const fli_attention_args args = attend_args(d, ctx, out);
    attend_step steps[16];
    const int n = steps_of(shape, steps);
    char name[64];

    attend_plan(&op, &steps[0]);
    const gpu_graph graph = capture_run(&op, &args);

    for (int i = 0; i < n; i++) {
        char *const want = attend_fresh(d, ctx, flags | FLI_ATTENTION_GRAPH,
                                        &steps[i], stream);

        snprintf(name, sizeof(name), "replay at step %d", i);
        attend_poison(d, out);
        attend_plan(&op, &steps[i]);
        gpu_graph_launch(graph, stream);
        assert_well(ctx, name);
        char *const got = received(out, attend_out_bytes(d));

        assert_same(name, got, want, attend_out_bytes(d));
        assert_close_to_cpu(name, d, &steps[i], got);
        free(got);
        free(want);
    }
    gpu_graph_destroy(graph);
    gpu_free(out);
    attend_destroy(&op);
    attend_free(d);
}

static void replays_other_batches_bf16(void **state)
{
    (void)state;
    replays_other_batches(&bf16, 0);
}

static void replays_other_batches_wide(void **state)
{
    (void)state;
    replays_other_batches(&wide, 0);
}

static void replays_other_batches_invariant(void **state)
{
    (void)state;
    replays_other_batches(&bf16, FLI_ATTENTION_BATCH_INVARIANT);
}

static void replays_other_batches_f32(void **state)
{
    (void)state;
    replays_other_batches(&f32, 0);
}

/* --- plans behind runs ---------------------------------------------------------- */

enum { N_STEPS = 200 };

/* Keeps the device busy for some milliseconds, so that plans run ahead of it. */
static void hold_up(void)
{
    enum { N = 2048 };
    static void *a, *out;
    fli_gemm_args args = FLI_GEMM_ARGS_INIT;

    if (!a) {
        a = gpu_alloc((size_t)N * N * 4);
        out = gpu_alloc((size_t)N * N * 4);
        gpu_fill(a, 0, (size_t)N * N * 4);
    }
    args.a = args.b = fli_tensor_2d(a, ctx, FLI_F32, N, N);
    args.out = fli_tensor_2d(out, ctx, FLI_F32, N, N);
    assert_ok(fli_gemm(ctx, &args, stream));
}

/* Every step writes to memory of its own; nothing is waited for until the end. */
static void plans_behind_runs(const attend_shape *shape, uint32_t flags)
{
    static attend_step steps[N_STEPS];
    attend_data *const d = attend_make(shape, 2);
    attend_op op = attend_create(d, ctx, flags, stream);
    const size_t bytes = attend_out_bytes(d);
    char *const all = gpu_alloc(N_STEPS * bytes);
    uint64_t state = 5;
    char name[64];

    gpu_fill(all, 0xe5, N_STEPS * bytes);
    for (int i = 0; i < N_STEPS; i++) {
        const fli_attention_args args =
            attend_args(d, ctx, all + (size_t)i * bytes);

        steps[i] = attend_random(shape, 1 + (int32_t)(attend_roll(&state) % 8),
                                 &state);
        if (i % 10 == 0)
            hold_up();
        attend_plan(&op, &steps[i]);
        attend_run(&op, &args);
        if (i % 3 == 0) /* a layer more */
            attend_run(&op, &args);
    }
    assert_well(ctx, "plans behind runs");
    char *const got = received(all, N_STEPS * bytes);

    for (int i = 0; i < N_STEPS; i++) {
        char *const want = attend_fresh(d, ctx, flags, &steps[i], stream);

        snprintf(name, sizeof(name), "plan %d behind its run", i);
        assert_same(name, got + (size_t)i * bytes, want, bytes);
        free(want);
    }
    free(got);
    gpu_free(all);
    attend_destroy(&op);
    attend_free(d);
}

static void plans_behind_runs_plain(void **state)
{
    (void)state;
    plans_behind_runs(&bf16, 0);
}

static void plans_behind_runs_graph(void **state)
{
    (void)state;
    plans_behind_runs(&bf16, FLI_ATTENTION_GRAPH);
}

/* --- planned by the device ------------------------------------------------------ */

/* Where a graph reads its lengths. */
typedef struct {
    int32_t *q_indptr, *kv_len;
} device_lengths;

/* Requests behind the step's are padding: no rows. */
static void send_lengths(const attend_data *d, const device_lengths *to,
                         attend_step *step)
{
    const int32_t n = d->s.n_requests;

    for (; step->n < n; step->n++)
        step->q_len[step->n] = step->kv_len[step->n] = 0;
    attend_sum(step);
    gpu_send(to->q_indptr, step->q_indptr, (size_t)(n + 1) * 4);
    gpu_send(to->kv_len, step->kv_len, (size_t)n * 4);
}

static fli_attention_device_batch device_batch(const attend_data *d,
                                               const device_lengths *lengths)
{
    fli_attention_device_batch b = FLI_ATTENTION_DEVICE_BATCH_INIT;
    const int32_t n = d->s.n_requests;

    b.n_requests = n;
    b.mask = FLI_MASK_CAUSAL;
    b.q_indptr = fli_tensor_1d(lengths->q_indptr, ctx, FLI_I32, n + 1);
    b.kv_len = fli_tensor_1d(lengths->kv_len, ctx, FLI_I32, n);
    return b;
}

static gpu_graph capture_plan_and_run(const attend_op *op,
                                      const fli_attention_device_batch *batch,
                                      const fli_attention_args *args)
{
    gpu_capture_begin(stream);
    fli_status status = fli_attention_plan_device(op->op, batch, op->workspace,
                                                  op->bytes, stream);

    if (!status)
        status = fli_attention_run(op->op, args, stream);
    const gpu_graph graph = gpu_capture_end(stream);

    if (status)
        fail_msg("plan_device, captured: %s", fli_last_error());
    return graph;
}

static void assert_part(const char *name, const char *part, const void *got,
                        const void *want, size_t bytes)
{
    char *const a = received(got, bytes), *const b = received(want, bytes);
    char text[96];

    snprintf(text, sizeof(text), "%s: the %s", name, part);
    assert_same(text, a, b, bytes);
    free(a);
    free(b);
}

/* The workspaces hold the same schedule; the host's op knows how long it is. */
static void assert_same_schedule(const char *name, const attend_op *device,
                                 const attend_op *host)
{
    const fli_attention_params *const a = &device->op->params;
    const fli_attention_params *const b = &host->op->params;
    const fli_plan_summary *const sum = &host->op->summary;
    const size_t n = (size_t)b->n_requests;
    const size_t counters = (size_t)host->op->bounds.max_merges;

    assert_part(name, "q_indptr", a->q_indptr, b->q_indptr, (n + 1) * 4);
    assert_part(name, "kv_len", a->kv_len, b->kv_len, n * 4);
    assert_part(name, "items", a->items, b->items,
                (size_t)sum->n_items * sizeof(*a->items));
    assert_part(name, "merges", a->merges, b->merges,
                (size_t)sum->n_merges * sizeof(*a->merges));
    assert_part(name, "sources", a->sources, b->sources,
                (size_t)sum->n_sources * sizeof(*a->sources));
    assert_part(name, "counters", a->counters, b->counters,
                counters * sizeof(*a->counters));
}

/* An op planned in a graph, and one planned by the host for the same steps. */
typedef struct {
    attend_data *d;
    uint32_t flags;
    attend_op device, host;
    device_lengths lengths;
    void *out;
    gpu_graph graph;
} both_planners;

static both_planners *make_both(const attend_shape *shape, uint32_t flags)
{
    both_planners *const b = xalloc(sizeof(*b));
    uint64_t state = 3;

    b->d = attend_make(shape, 3);
    b->flags = flags;
    b->device = attend_create(b->d, ctx, flags, stream);
    b->host = attend_create(b->d, ctx, flags | FLI_ATTENTION_GRAPH, stream);
    b->out = gpu_alloc(attend_out_bytes(b->d));
    b->lengths.q_indptr = gpu_alloc((size_t)(shape->n_requests + 1) * 4);
    b->lengths.kv_len = gpu_alloc((size_t)shape->n_requests * 4);
    attend_step step = attend_random(shape, shape->n_requests, &state);

    send_lengths(b->d, &b->lengths, &step);
    const fli_attention_device_batch batch = device_batch(b->d, &b->lengths);
    const fli_attention_args args = attend_args(b->d, ctx, b->out);

    if (!(flags & FLI_ATTENTION_GRAPH)) /* with it, create has compiled */
        assert_ok(fli_attention_plan_device(b->device.op, &batch,
                                            b->device.workspace,
                                            b->device.bytes, stream));
    b->graph = capture_plan_and_run(&b->device, &batch, &args);
    return b;
}

static void free_both(both_planners *b)
{
    gpu_graph_destroy(b->graph);
    attend_destroy(&b->device);
    attend_destroy(&b->host);
    gpu_free(b->lengths.q_indptr);
    gpu_free(b->lengths.kv_len);
    gpu_free(b->out);
    attend_free(b->d);
    free(b);
}

static char *replayed(const both_planners *b)
{
    attend_poison(b->d, b->out);
    gpu_graph_launch(b->graph, stream);
    assert_waits("a plan on the device");
    return received(b->out, attend_out_bytes(b->d));
}

static void assert_planned_alike(const both_planners *b, attend_step *step,
                                 const char *name)
{
    const size_t bytes = attend_out_bytes(b->d);

    send_lengths(b->d, &b->lengths, step);
    char *const got = replayed(b);

    assert_well(ctx, name);
    char *const want =
        attend_fresh(b->d, ctx, b->flags | FLI_ATTENTION_GRAPH, step, stream);

    attend_plan(&b->host, step);
    assert_waits(name);
    assert_same_schedule(name, &b->device, &b->host);
    assert_same(name, got, want, bytes);
    free(got);
    free(want);
}

static void plans_on_the_device(const attend_shape *shape, uint32_t flags)
{
    both_planners *const b = make_both(shape, flags);
    attend_step steps[16];
    const int n = steps_of(shape, steps);
    uint64_t state = 9;
    char name[64];

    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "plan of step %d on the device", i);
        assert_planned_alike(b, &steps[i], name);
    }
    for (int i = 0; i < 40; i++) {
        attend_step step = attend_random(
            shape, (int32_t)(attend_roll(&state) % (uint32_t)shape->n_requests),
            &state);

        snprintf(name, sizeof(name), "random plan %d on the device", i);
        assert_planned_alike(b, &step, name);
    }
    free_both(b);
}

static void plans_on_the_device_bf16(void **state)
{
    (void)state;
    plans_on_the_device(&bf16, FLI_ATTENTION_GRAPH);
}

static void plans_on_the_device_wide(void **state)
{
    (void)state;
    plans_on_the_device(&wide, 0);
}

static void plans_on_the_device_invariant(void **state)
{
    (void)state;
    plans_on_the_device(&bf16, FLI_ATTENTION_BATCH_INVARIANT);
}

static void plans_on_the_device_f32(void **state)
{
    (void)state;
    plans_on_the_device(&f32, 0);
}

/* Breaks rule i of a batch; returns its name, NULL behind the last. */
static const char *break_step(const attend_shape *s, int i, attend_step *step)
{
    switch (i) {
    case 0:
        step->kv_len[2] = -1;
        return "a negative kv_len";
    case 1:
        step->q_indptr[0] = 1;
        return "q_indptr that begins at 1";
    case 2:
        step->q_indptr[3] = step->q_indptr[2] - 1;
        return "q_indptr that descends";
    case 3:
        step->q_indptr[s->n_requests] = s->n_rows + 1;
        return "more rows than there may be";
    case 4:
        step->q_indptr[1] = INT32_MAX;
        return "a huge q_indptr";
    case 5:
        step->q_indptr[1] = INT32_MIN;
        return "a hugely negative q_indptr";
    default:
        return NULL;
    }
}

static void send_broken(const both_planners *b, attend_step *step)
{
    const int32_t n = b->d->s.n_requests;

    gpu_send(b->lengths.q_indptr, step->q_indptr, (size_t)(n + 1) * 4);
    gpu_send(b->lengths.kv_len, step->kv_len, (size_t)n * 4);
}

static void bad_lengths_plan_nothing(void **state)
{
    both_planners *const b = make_both(&bf16, FLI_ATTENTION_GRAPH);
    const size_t bytes = attend_out_bytes(b->d);
    char *const poison = xalloc(bytes);
    uint64_t dice = 21;
    const char *name = "";

    (void)state;
    memset(poison, 0xe5, bytes);
    for (int i = 0; name; i++) {
        attend_step step = attend_random(&bf16, bf16.n_requests, &dice);

        assert_planned_alike(b, &step, "between bad lengths");
        name = break_step(&bf16, i, &step);
        if (!name)
            break;
        send_broken(b, &step);
        char *const got = replayed(b);

        assert_same(name, got, poison, bytes);
        assert_int_equal(fli_context_check(ctx), FLI_INVALID_ARGUMENT);
        if (!strstr(fli_last_error(), "lengths on the device"))
            fail_msg("%s gave \"%s\"", name, fli_last_error());
        assert_well(ctx, "the check after the one that told");
        free(got);
    }
    free(poison);
    free_both(b);
}

/* --- running ---------------------------------------------------------------- */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_other_batches_bf16),
        cmocka_unit_test(replays_other_batches_wide),
        cmocka_unit_test(replays_other_batches_invariant),
        cmocka_unit_test(replays_other_batches_f32),
        cmocka_unit_test(plans_behind_runs_plain),
        cmocka_unit_test(plans_behind_runs_graph),
        cmocka_unit_test(plans_on_the_device_bf16),
        cmocka_unit_test(plans_on_the_device_wide),
        cmocka_unit_test(plans_on_the_device_invariant),
        cmocka_unit_test(plans_on_the_device_f32),
        cmocka_unit_test(bad_lengths_plan_nothing),
    };

    return cmocka_run_group_tests(tests, setup_gpu, teardown_gpu);
}
