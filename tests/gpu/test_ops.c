/* SPDX-License-Identifier: Apache-2.0 */
/* What holds for every op on a GPU: a graph replays it with the bits of a direct
 * call, also when it is captured first of all; streams and tensors from elsewhere
 * are refused. */
#include "gpu_unit.h"

#include "ops.h"

#include "gpu_fixture.h"

/* What state is: the kind of the test. */
static const ops_kind *kind_of(void **state)
{
    return *state;
}

static char *outputs(const ops_case *c)
{
    assert_well(c->ctx, c->kind->name);
    return ops_read(c);
}

/* A direct call with inputs of seed. */
static char *called(const ops_case *c, uint64_t seed)
{
    ops_fill(c, seed);
    if (ops_call(c, stream))
        fail_msg("%s: %s", c->kind->name, fli_last_error());
    return outputs(c);
}

static gpu_graph captured(const ops_case *c)
{
    gpu_capture_begin(stream);
    const fli_status status = ops_call(c, stream);
    const gpu_graph graph = gpu_capture_end(stream);

    if (status)
        fail_msg("%s, captured: %s", c->kind->name, fli_last_error());
    return graph;
}

/* A replay with inputs of seed. */
static char *replayed(const ops_case *c, gpu_graph graph, uint64_t seed)
{
    ops_fill(c, seed);
    gpu_graph_launch(graph, stream);
    return outputs(c);
}

static void replays_as_called(void **state)
{
    ops_case *const c = ops_make(kind_of(state), ctx, stream);
    char *const first = called(c, 1);
    const gpu_graph graph = captured(c);

    for (uint64_t seed = 1; seed <= 3; seed++) {
        char *const want = called(c, seed);
        char *const got = replayed(c, graph, seed);

        assert_same(c->kind->name, got, want, c->out_bytes);
        if (seed > 1 && !memcmp(first, got, c->out_bytes))
            fail_msg("%s: other inputs gave the same outputs", c->kind->name);
        free(want);
        free(got);
    }
    gpu_graph_destroy(graph);
    free(first);
    ops_free(c);
}

/* In a context that has run nothing. */
static void prepared_is_captured_at_once(void **state)
{
    fli_context *const fresh = create_context(NULL);
    ops_case *const c = ops_make(kind_of(state), fresh, stream);

    if (c->kind->prepare(c))
        fail_msg("%s: %s", c->kind->name, fli_last_error());
    const gpu_graph graph = captured(c);
    char *const got = replayed(c, graph, 2);
    char *const want = called(c, 2);

    assert_same(c->kind->name, got, want, c->out_bytes);
    gpu_graph_destroy(graph);
    free(got);
    free(want);
    ops_free(c);
    fli_context_destroy(fresh);
}

static void foreign_stream_is_refused(void **state)
{
    static gpu_stream foreign;
    ops_case *const c = ops_make(kind_of(state), ctx, stream);

    if (!foreign)
        foreign = gpu_stream_elsewhere();
    ops_fill(c, 1);
    char *const before = ops_read(c);

    if (ops_call(c, foreign) != FLI_INVALID_ARGUMENT
        || !strstr(fli_last_error(), "stream is "))
        fail_msg("%s: a stream of another context gave \"%s\"", c->kind->name,
                 fli_last_error());
    char *const after = outputs(c);

    assert_same(c->kind->name, after, before, c->out_bytes);
    free(before);
    free(after);
    ops_free(c);
}

/* --- one test each ---------------------------------------------------------- */

static void every_op_is_here(void **state)
{
    static const char *const ops[] = {
#define FLI_OP(name, family, kind, stem, summary) #name,
#include "../../src/ops.def"
#undef FLI_OP
    };

    (void)state;
    for (int i = 0; i < COUNT(ops); i++) {
        int n = !strcmp(ops[i], "gemm_pack"); /* refused, below */

        for (int k = 0; k < ops_n_kinds; k++)
            n += !strcmp(ops[i], ops_kinds[k].op);
        if (!n)
            fail_msg("%s has no call in ops.c", ops[i]);
    }
}

static void packing_is_refused(void **state)
{
    fli_gemm_pack_args args = FLI_GEMM_PACK_ARGS_INIT;

    (void)state;
    assert_int_equal(fli_gemm_packed_bytes(ctx, FLI_BF16, 64, 64), 0);
    args.b = fli_tensor_2d(NULL, ctx, FLI_BF16, 64, 64);
    args.packed = fli_tensor_1d(NULL, ctx, FLI_U8, 1 << 16);
    assert_int_equal(fli_gemm_pack_prepare(ctx, &args), FLI_UNSUPPORTED);
}

static const ops_kind *find_kind(const char *name)
{
    int i = 0;

    while (strcmp(ops_kinds[i].name, name))
        i++;
    return &ops_kinds[i];
}

/* The call names the argument and the two devices. */
static void assert_foreign(const ops_case *c, const char *argument,
                           const char *device)
{
    assert_int_equal(ops_call(c, stream), FLI_INVALID_ARGUMENT);
    if (!strstr(fli_last_error(), argument) || !strstr(fli_last_error(), device)
        || !strstr(fli_last_error(), " on cuda:0"))
        fail_msg("a tensor%s gave \"%s\"", device, fli_last_error());
}

static void foreign_tensors_are_refused(void **state)
{
    static const char *const names[] = { " on cpu", " on cuda:1" };
    const fli_device devices[] = { fli_cpu(), fli_cuda(1) };
    ops_case *const c = ops_make(find_kind("attention"), ctx, stream);
    ops_case *const norm = ops_make(find_kind("rmsnorm"), ctx, stream);

    (void)state;
    for (int i = 0; i < COUNT(devices); i++) {
        norm->args.norm.x.device = devices[i];
        assert_foreign(norm, "rmsnorm run: x is ", names[i]);
        c->args.attention.kv.page_indices.device = devices[i];
        assert_foreign(c, "attention run: page_indices is ", names[i]);
    }
    assert_well(ctx, "refusals");
    ops_free(c);
    ops_free(norm);
}

/* --- running ---------------------------------------------------------------- */

enum { MAX_TESTS = 128, NAME_BYTES = 96 };

static struct CMUnitTest tests[MAX_TESTS];
static int n_tests;

static void add(const char *name, CMUnitTestFunction f, const ops_kind *kind)
{
    static char names[MAX_TESTS][NAME_BYTES];

    snprintf(names[n_tests], NAME_BYTES, "%s%s%s", name, kind ? ": " : "",
             kind ? kind->name : "");
    tests[n_tests] = (struct CMUnitTest){ .name = names[n_tests],
                                          .test_func = f,
                                          .initial_state = (void *)kind };
    n_tests++;
}

int main(void)
{
    add("every_op_is_here", every_op_is_here, NULL);
    for (int i = 0; i < ops_n_kinds; i++)
        add("replays_as_called", replays_as_called, &ops_kinds[i]);
    for (int i = 0; i < ops_n_kinds; i++)
        add("prepared_is_captured_at_once", prepared_is_captured_at_once,
            &ops_kinds[i]);
    for (int i = 0; i < ops_n_kinds; i++)
        add("foreign_stream_is_refused", foreign_stream_is_refused,
            &ops_kinds[i]);
    add("packing_is_refused", packing_is_refused, NULL);
    add("foreign_tensors_are_refused", foreign_tensors_are_refused, NULL);
    return _cmocka_run_group_tests("ops", tests, (size_t)n_tests, setup_gpu,
                                   teardown_gpu);
}
