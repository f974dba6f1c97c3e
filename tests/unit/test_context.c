/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: options and environment, forced implementations, the hooks of
 * callers (allocator, log, executor), and what dispatch makes of them. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "device/device.h"

static fli_context *create(const fli_context_options *options)
{
    fli_context *ctx = NULL;

    assert_ok(fli_context_create(&ctx, fli_cpu(), options));
    assert_non_null(ctx);
    return ctx;
}

/* The status of a create that must leave *out NULL. */
static fli_status refused(fli_device device, const fli_context_options *options)
{
    fli_context *ctx = (fli_context *)&ctx;
    const fli_status status = fli_context_create(&ctx, device, options);

    assert_null(ctx);
    return status;
}

/* --- options and environment ----------------------------------------------- */

static void defaults(void **state)
{
    fli_context *ctx = create(NULL);
    char text[64];

    (void)state;
    assert_int_equal(fli_context_device(ctx).type, FLI_DEVICE_CPU);
    assert_true(fli_context_n_threads(ctx) >= 1);
    assert_string_equal(fli_context_cpu_isa(ctx),
                        fli__isa_name(fli__cpu_isa()));
    snprintf(text, sizeof(text), "cpu (%s, %d thread%s)",
             fli_context_cpu_isa(ctx), (int)fli_context_n_threads(ctx),
             fli_context_n_threads(ctx) == 1 ? "" : "s");
    assert_string_equal(fli_context_describe(ctx), text);
    assert_ok(fli_context_check(ctx));
    fli_context_destroy(ctx);
    fli_context_destroy(NULL);
}

static void threads_from_options_before_environment(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx;

    (void)state;
    setenv("FLI_THREADS", "3", 1);
    ctx = create(&options);
    assert_int_equal(fli_context_n_threads(ctx), 3);
    fli_context_destroy(ctx);
    options.n_threads = 2;
    ctx = create(&options);
    assert_int_equal(fli_context_n_threads(ctx), 2);
    fli_context_destroy(ctx);
    options.n_threads = 0;
    setenv("FLI_THREADS", "3x", 1);
    assert_int_equal(refused(fli_cpu(), &options), FLI_INVALID_ARGUMENT);
    assert_string_equal(
        fli_last_error(),
        "context create: FLI_THREADS is '3x', expected 1 to 1024");
    setenv("FLI_THREADS", "0", 1);
    assert_int_equal(refused(fli_cpu(), &options), FLI_INVALID_ARGUMENT);
    setenv("FLI_THREADS", "99999999999999999999", 1);
    assert_int_equal(refused(fli_cpu(), &options), FLI_INVALID_ARGUMENT);
    unsetenv("FLI_THREADS");
}

static void isa_from_options_before_environment(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx;

    (void)state;
    setenv("FLI_CPU_ISA", "baseline", 1);
    ctx = create(&options);
    assert_string_equal(fli_context_cpu_isa(ctx), "baseline");
    fli_context_destroy(ctx);
    setenv("FLI_CPU_ISA", "sse9", 1);
    assert_int_equal(refused(fli_cpu(), &options), FLI_INVALID_ARGUMENT);
    assert_string_equal(fli_last_error(),
                        "context create: FLI_CPU_ISA is 'sse9', expected "
                        "baseline or avx2");
    options.cpu_isa = "baseline";
    ctx = create(&options);
    assert_string_equal(fli_context_cpu_isa(ctx), "baseline");
    fli_context_destroy(ctx);
    unsetenv("FLI_CPU_ISA");
}

static void bad_options(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;

    (void)state;
    assert_fails(fli_context_create(NULL, fli_cpu(), NULL), INVALID_ARGUMENT,
                 "context create: out is NULL, expected a pointer");
    options.n_threads = 1025;
    assert_int_equal(refused(fli_cpu(), &options), FLI_INVALID_ARGUMENT);
    options.n_threads = -1;
    assert_int_equal(refused(fli_cpu(), &options), FLI_INVALID_ARGUMENT);
    options.n_threads = 0;
    options.reserved = 1;
    assert_int_equal(refused(fli_cpu(), &options), FLI_UNSUPPORTED);
    options.reserved = 0;
    options.size = 8;
    assert_int_equal(refused(fli_cpu(), &options), FLI_INVALID_ARGUMENT);
    setenv("FLI_LOG", "everything", 1);
    assert_int_equal(refused(fli_cpu(), NULL), FLI_INVALID_ARGUMENT);
    unsetenv("FLI_LOG");
}

static void devices(void **state)
{
    (void)state;
    setenv("FLI_LIBCUDA", "./no-libcuda.so", 1);
    assert_int_equal(refused(fli_cuda(0), NULL), FLI_UNSUPPORTED);
    assert_string_equal(
        fli_last_error(),
        "context create: device is cuda:0, and the driver cannot be opened "
        "(./no-libcuda.so: cannot open shared object file: No such file or "
        "directory)");
    unsetenv("FLI_LIBCUDA");
    assert_int_equal(refused(fli_cuda(-1), NULL), FLI_INVALID_ARGUMENT);
    assert_int_equal(refused((fli_device){ 7, 0 }, NULL), FLI_INVALID_ARGUMENT);
    assert_int_equal(refused((fli_device){ FLI_DEVICE_CPU, 1 }, NULL),
                     FLI_INVALID_ARGUMENT);
}

/* --- forced implementations ------------------------------------------------ */

static void forced_by_name(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx;

    (void)state;
    options.impl = "rmsnorm:ref,gemm:cpu,rope:plain";
    ctx = create(&options);
    assert_string_equal(ctx->forced[FLI__OP_rmsnorm], "ref");
    assert_string_equal(ctx->forced[FLI__OP_gemm], "cpu");
    assert_string_equal(ctx->forced[FLI__OP_rope], "plain");
    assert_string_equal(ctx->forced[FLI__OP_softmax], "");
    fli_context_destroy(ctx);
    options.impl = "ref,attention:cpu"; /* the later entry wins */
    ctx = create(&options);
    assert_string_equal(ctx->forced[FLI__OP_softmax], "ref");
    assert_string_equal(ctx->forced[FLI__OP_attention], "cpu");
    fli_context_destroy(ctx);
    options.impl = NULL;
    setenv("FLI_IMPL", "gemm_pack:ref", 1);
    ctx = create(&options);
    assert_string_equal(ctx->forced[FLI__OP_gemm], "");
    assert_string_equal(ctx->forced[FLI__OP_gemm_pack], "ref");
    fli_context_destroy(ctx);
    options.impl = ""; /* given: the environment does not count */
    ctx = create(&options);
    assert_string_equal(ctx->forced[FLI__OP_gemm_pack], "");
    fli_context_destroy(ctx);
    unsetenv("FLI_IMPL");
}

static void unknown_names_are_refused(void **state)
{
    static const char *const bad[] = { "fast",  "gemm:fast",  "gem:ref",
                                       "gemm:", ":ref",       ",",
                                       "ref,",  "gemm:ref,,", "gemm:ref x" };
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        options.impl = bad[i];
        /* one comma at the end closes the list */
        const int closes = !strcmp(bad[i], "ref,");

        if (closes)
            fli_context_destroy(create(&options));
        else
            assert_int_equal(refused(fli_cpu(), &options),
                             FLI_INVALID_ARGUMENT);
    }
    options.impl = "gem:ref";
    assert_int_equal(refused(fli_cpu(), &options), FLI_INVALID_ARGUMENT);
    assert_string_equal(fli_last_error(),
                        "context create: impl names op 'gem', expected an op "
                        "of this library");
}

static const char *never(const void *params)
{
    (void)params;
    return "not today";
}

static void task_one(void *params, int32_t ith, int32_t nth)
{
    (void)ith;
    (void)nth;
    *(int *)params = 1;
}

static void task_two(void *params, int32_t ith, int32_t nth)
{
    (void)ith;
    (void)nth;
    *(int *)params = 2;
}

static const fli__impl two_impls[] = {
    { "cpu", FLI__ISA_BASELINE, task_one, never },
    { "ref", FLI__ISA_NONE, task_two, NULL },
    { "plain", FLI__ISA_NONE, task_one, NULL },
};
static const fli__impl_list two_list = FLI__IMPL_LIST(rmsnorm, two_impls);

static void dispatch_takes_the_first_that_accepts(void **state)
{
    fli_context *ctx = create(NULL);
    int ran = 0;

    (void)state;
    assert_ok(fli__dispatch(&(fli__call){ ctx, "op run", NULL, 0 }, &two_list,
                            &ran, 1));
    assert_int_equal(ran, 2);
    ran = 0;
    assert_ok(fli__dispatch(&(fli__call){ ctx, "op run", NULL, 0 }, &two_list,
                            &ran, 0));
    assert_int_equal(ran, 0); /* no work: nothing runs */
    fli_context_destroy(ctx);
}

static void forced_never_falls_back(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx;
    int ran = 0;

    (void)state;
    options.impl = "rmsnorm:cpu";
    ctx = create(&options);
    assert_fails(fli__dispatch(&(fli__call){ ctx, "op run", NULL, 0 },
                               &two_list, &ran, 1),
                 UNSUPPORTED,
                 "op run: no implementation takes this (cpu baseline: not "
                 "today; ref: another implementation is forced; plain: another "
                 "implementation is forced)");
    assert_int_equal(ran, 0);
    fli_context_destroy(ctx);
    options.impl = "plain";
    ctx = create(&options);
    assert_ok(fli__dispatch(&(fli__call){ ctx, "op run", NULL, 0 }, &two_list,
                            &ran, 1));
    assert_int_equal(ran, 1);
    fli_context_destroy(ctx);
}

/* --- hooks ----------------------------------------------------------------- */

/* Counts, and fails at the fail_at-th call (from 0; -1: never). */
typedef struct {
    int n_allocs, n_frees, fail_at;
    size_t bytes;
} counter;

static void *counting_alloc(void *ctx, size_t bytes)
{
    counter *c = ctx;

    if (c->n_allocs++ == c->fail_at)
        return NULL;
    c->bytes += bytes;
    /* what comes is dirty: the library must not count on zeros */
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

    return p ? memset(p, 0xa5, bytes) : p;
}

static void counting_free(void *ctx, void *p, size_t bytes)
{
    counter *c = ctx;

    c->n_frees++;
    c->bytes -= bytes;
    free(p);
}

static const fli_attention_desc small_desc = {
    .size = sizeof(fli_attention_desc),
    .n_qo_heads = 4,
    .n_kv_heads = 2,
    .head_dim_qk = 64,
    .head_dim_vo = 64,
    .dtype_q = FLI_F32,
    .max_requests = 3,
    .max_rows = 16,
};

/* Everything that allocates; -1 as n_allocs cannot be. */
static fli_status create_all(counter *c)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx = NULL;
    fli_attention *op = NULL;

    options.n_threads = 2;
    options.allocator = (fli_allocator){ c, counting_alloc, counting_free };
    fli_status status = fli_context_create(&ctx, fli_cpu(), &options);

    if (status) {
        assert_null(ctx);
        return status;
    }
    status = fli_attention_create(&op, ctx, &small_desc);
    if (status)
        assert_null(op);
    fli_attention_destroy(op);
    fli_context_destroy(ctx);
    return status;
}

static void allocator_that_fails_at_each_call(void **state)
{
    counter c = { .fail_at = -1 };

    (void)state;
    assert_ok(create_all(&c));
    const int n = c.n_allocs;

    assert_true(n >= 3); /* context, pool, op */
    assert_int_equal(c.n_frees, n);
    assert_int_equal(c.bytes, 0);
    for (int i = 0; i < n; i++) {
        c = (counter){ .fail_at = i };
        assert_int_equal(create_all(&c), FLI_OUT_OF_MEMORY);
        assert_non_null(strstr(fli_last_error(), "create: "));
        assert_int_equal(c.n_frees, c.n_allocs - 1);
        assert_int_equal(c.bytes, 0);
    }
}

static void allocator_needs_both_functions(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;

    (void)state;
    options.allocator.alloc = counting_alloc;
    assert_int_equal(refused(fli_cpu(), &options), FLI_INVALID_ARGUMENT);
    options.allocator.alloc = NULL;
    options.allocator.free = counting_free;
    assert_int_equal(refused(fli_cpu(), &options), FLI_INVALID_ARGUMENT);
}

static void keep_line(void *ctx, const char *line)
{
    snprintf(ctx, 256, "%s", line);
}

static void log_hook_hears_dispatch(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    char line[256] = "";
    int ran;

    (void)state;
    options.log = keep_line;
    options.log_ctx = line;
    fli_context *ctx = create(&options);

    assert_ok(fli__dispatch(&(fli__call){ ctx, "op run", NULL, 0 }, &two_list,
                            &ran, 1));
    assert_string_equal(line, ""); /* nothing without FLI_LOG */
    fli_context_destroy(ctx);
    setenv("FLI_LOG", "dispatch", 1);
    ctx = create(&options);
    assert_ok(fli__dispatch(&(fli__call){ ctx, "op run", NULL, 0 }, &two_list,
                            &ran, 1));
    assert_string_equal(line, "op run: ref, not cpu baseline: not today");
    fli_context_destroy(ctx);
    unsetenv("FLI_LOG");
}

/* Runs the parts last first. */
typedef struct {
    int n_runs, n_parts;
} backwards;

static void run_backwards(void *ctx, fli_task *task, void *arg)
{
    backwards *b = ctx;

    b->n_runs++;
    for (int32_t i = 4; i >= 0; i--, b->n_parts++)
        task(arg, i, 5);
}

static void executor_hook_runs_the_parts(void **state)
{
    enum { N = 64, HIDDEN = 512 }; /* enough work to be split */
    static float x[N * HIDDEN], weight[HIDDEN], out[N * HIDDEN];
    backwards b = { 0 };
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_rmsnorm_args args = FLI_RMSNORM_ARGS_INIT;

    (void)state;
    options.executor = (fli_executor){ &b, 5, run_backwards };
    fli_context *ctx = create(&options);

    assert_int_equal(fli_context_n_threads(ctx), 5);
    for (int i = 0; i < N * HIDDEN; i++)
        x[i] = 2;
    for (int i = 0; i < HIDDEN; i++)
        weight[i] = 3;
    args.x = fli_tensor_2d(x, ctx, FLI_F32, N, HIDDEN);
    args.weight = fli_tensor_1d(weight, ctx, FLI_F32, HIDDEN);
    args.out = fli_tensor_2d(out, ctx, FLI_F32, N, HIDDEN);
    assert_ok(fli_rmsnorm(ctx, &args, NULL));
    assert_int_equal(b.n_runs, 1);
    assert_int_equal(b.n_parts, 5);
    for (int i = 0; i < N * HIDDEN; i++)
        assert_float_equal(out[i], 3, 1e-5);
    fli_context_destroy(ctx);
    options.executor.n = 0;
    assert_int_equal(refused(fli_cpu(), &options), FLI_INVALID_ARGUMENT);
    assert_string_equal(fli_last_error(),
                        "context create: executor.n is 0, expected 1 to 1024");
}

static void calls_check_context_and_stream(void **state)
{
    fli_context *ctx = create(NULL);
    int stream;

    (void)state;
    assert_fails(fli__check_call(NULL, "op run", NULL), INVALID_ARGUMENT,
                 "op run: ctx is NULL, expected a context");
    assert_int_equal(fli__check_call(ctx, "op run", &stream),
                     FLI_INVALID_ARGUMENT);
    fli_context_destroy(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(threads_from_options_before_environment),
        cmocka_unit_test(isa_from_options_before_environment),
        cmocka_unit_test(bad_options),
        cmocka_unit_test(devices),
        cmocka_unit_test(forced_by_name),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(dispatch_takes_the_first_that_accepts),
        cmocka_unit_test(forced_never_falls_back),
        cmocka_unit_test(allocator_that_fails_at_each_call),
        cmocka_unit_test(allocator_needs_both_functions),
        cmocka_unit_test(log_hook_hears_dispatch),
        cmocka_unit_test(executor_hook_runs_the_parts),
        cmocka_unit_test(calls_check_context_and_stream),
    };

    return RUN(tests);
}
