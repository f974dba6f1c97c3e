/* SPDX-License-Identifier: Apache-2.0 */
/* Launches on the fake driver: what the driver is given, how dispatch gets there,
 * captures, threads. */
#include <pthread.h>
#include <stdio.h>

#include "cuda_unit.h"

static const char image[] = "FAKECUDA k_pair:8 k_none:0";

typedef struct {
    int32_t a, b;
} pair;

/* A context with a kernel and two streams. */
typedef struct {
    fli_context *ctx;
    void *module, *streams[2];
    fli__kernel kernel;
} setting;

static void must_load(setting *s, const char *name)
{
    assert_int_equal(cuCtxSetCurrent(primary), 0);
    assert_int_equal(cuModuleLoadData(&s->module, image), 0);
    assert_int_equal(cuModuleGetFunction(&s->kernel.function, s->module, name),
                     0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
}

static setting create(void)
{
    setting s = { .ctx = create_cuda() };

    must_load(&s, "k_pair");
    for (int i = 0; i < 2; i++)
        s.streams[i] = fake_stream_create(primary);
    return s;
}

static void destroy(setting *s)
{
    for (int i = 0; i < 2; i++)
        fake_stream_destroy(s->streams[i]);
    assert_int_equal(cuCtxSetCurrent(primary), 0);
    assert_int_equal(cuModuleUnload(s->module), 0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    fli_context_destroy(s->ctx);
}

/* --- launches ------------------------------------------------------------------- */

static fli_status launch(const setting *s, const fli__call *call,
                         const fli__launch *how, pair *params)
{
    void *previous;

    TRY(fli__cuda_enter(call->ctx, call->where, &previous));
    const fli_status status = fli__cuda_launch(call, &s->kernel, how, params);

    fli__cuda_leave(call->ctx, previous);
    return status;
}

static const fli__launch usual = { { 3, 2, 1 }, { 64, 2, 1 }, 1024, 0 };

static void launch_hands_everything_on(void **state)
{
    setting s = create();
    const fli__call call = { s.ctx, "op run", s.streams[1], 0 };
    pair params = { 17, -4 };

    (void)state;
    assert_ok(launch(&s, &call, &usual, &params));
    assert_int_equal(fake_n_launches(), 1);
    const fake_launch *got = fake_launch_at(0);

    assert_string_equal(got->name, "k_pair");
    assert_memory_equal(got->grid, usual.grid, sizeof(usual.grid));
    assert_memory_equal(got->block, usual.block, sizeof(usual.block));
    assert_int_equal(got->shared_bytes, 1024);
    assert_int_equal(got->cluster, 0);
    assert_int_equal(got->is_programmatic, 1);
    assert_int_equal(got->is_captured, 0);
    assert_ptr_equal(got->stream, s.streams[1]);
    assert_int_equal(got->param_bytes, sizeof(params));
    assert_memory_equal(got->params, &params, sizeof(params));
    destroy(&s);
}

static void launch_of_a_cluster(void **state)
{
    setting s = create();
    const fli__call call = { s.ctx, "op run", NULL, 0 };
    const fli__launch how = { { 4, 1, 1 }, { 32, 1, 1 }, 0, 2 };
    pair params = { 0 };

    (void)state;
    assert_ok(launch(&s, &call, &how, &params));
    assert_int_equal(fake_launch_at(0)->cluster, 2);
    assert_int_equal(fake_launch_at(0)->is_programmatic, 1);
    destroy(&s);
}

static void launch_on_ampere_has_no_attributes(void **state)
{
    setting s;
    pair params = { 0 };

    (void)state;
    fake_set_attribute(FLI__CU_ATTRIBUTE_MAJOR, 8);
    s = create();
    const fli__call call = { s.ctx, "op run", NULL, 0 };

    assert_ok(launch(&s, &call, &usual, &params));
    assert_int_equal(fake_launch_at(0)->is_programmatic, 0);
    destroy(&s);
}

static void empty_grid_is_no_launch(void **state)
{
    setting s = create();
    const fli__call call = { s.ctx, "op run", NULL, 0 };
    pair params = { 0 };

    (void)state;
    for (int i = 0; i < 3; i++) {
        fli__launch how = usual;

        how.grid[i] = 0;
        assert_ok(launch(&s, &call, &how, &params));
    }
    assert_int_equal(fake_n_launches(), 0);
    destroy(&s);
}

static void launch_fails_with_the_drivers_text(void **state)
{
    setting s = create();
    const fli__call call = { s.ctx, "op run", s.streams[0], 0 };
    fli__launch how = usual;
    pair params = { 0 };

    (void)state;
    how.block[0] = 1025;
    assert_fails(launch(&s, &call, &how, &params), DEVICE,
                 "op run: cuLaunchKernelEx failed: CUDA_ERROR_INVALID_VALUE "
                 "(invalid argument)");
    for (int64_t i = 0; i < 3; i++) {
        fake_fail_at(i, FAKE_ILLEGAL_ADDRESS);
        assert_int_equal(launch(&s, &call, &usual, &params), FLI_DEVICE);
        assert_driver_text("op run", fake_failed_call());
        assert_null(current_context());
    }
    assert_int_equal(fake_n_launches(), 0);
    destroy(&s);
}

static void launch_is_captured_as_it_is(void **state)
{
    setting s = create();
    const fli__call call = { s.ctx, "op run", s.streams[0], 0 };
    pair params = { 0 };

    (void)state;
    const int64_t n_allocations = fake_n_allocations();
    const int64_t n_synchronisations = fake_n_synchronisations();

    fake_begin_capture(s.streams[0]);
    assert_ok(fli__check_call(s.ctx, "op run", s.streams[0]));
    assert_ok(launch(&s, &call, &usual, &params));
    assert_int_equal(fake_end_capture(s.streams[0]), 1);
    assert_int_equal(fake_launch_at(0)->is_captured, 1);
    assert_int_equal(fake_n_allocations(), n_allocations);
    assert_int_equal(fake_n_synchronisations(), n_synchronisations);
    destroy(&s);
}

static void no_launch_without_a_device(void **state)
{
    fli_context *ctx = create_arch("sm_100a");
    const setting s = { .ctx = ctx };
    const fli__call call = { ctx, "op run", NULL, 0 };
    pair params = { 0 };

    (void)state;
    assert_fails(launch(&s, &call, &usual, &params), UNSUPPORTED,
                 "op run: the context compiles for sm_100a and has no device, "
                 "expected one made without cuda_arch");
    assert_int_equal(fli__cuda_occupancy(ctx, &s.kernel, 128, 0), 1);
    fli_context_destroy(ctx);
}

static void occupancy_is_at_least_one(void **state)
{
    setting s = create();

    (void)state;
    assert_int_equal(fli__cuda_occupancy(s.ctx, &s.kernel, 256, 0), 8);
    assert_int_equal(fli__cuda_occupancy(s.ctx, &s.kernel, 256, 40000), 5);
    assert_int_equal(fli__cuda_occupancy(s.ctx, &s.kernel, 256, 1 << 20), 1);
    fake_fail_at(0, FAKE_ILLEGAL_ADDRESS);
    assert_int_equal(fli__cuda_occupancy(s.ctx, &s.kernel, 256, 0), 1);
    destroy(&s);
}

/* --- through dispatch ------------------------------------------------------------ */

static struct {
    int n, prepares;
    void *context, *stream;
    fli_status gives;
} seen;

static fli_status see(const fli__call *call, const void *params)
{
    assert_ptr_equal(params, &seen);
    seen.n++;
    seen.prepares += call->prepare;
    seen.stream = call->stream;
    seen.context = current_context();
    return seen.gives ? fli__fail(seen.gives, "%s: no", call->where) : FLI_OK;
}

static void never(void *params, int32_t ith, int32_t nth)
{
    (void)ith;
    (void)nth;
    fail_msg("a CPU task runs on CUDA with %p", params);
}

static const fli__impl impls[] = {
    FLI__CUDA("sm90", NULL, see, FLI__CUDA_WGMMA) FLI__CUDA(
        "portable", NULL, see, 0){ "ref", FLI__ISA_NONE, never, NULL, NULL, 0 },
};
static const fli__impl_list list = FLI__IMPL_LIST(rmsnorm, impls);

static void dispatch_enters_and_leaves(void **state)
{
    setting s = create();
    const fli__call call = { s.ctx, "op run", s.streams[0], 0 };

    (void)state;
    memset(&seen, 0, sizeof(seen));
    assert_ok(fli__dispatch(&call, &list, &seen, 1));
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.prepares, 0);
    assert_ptr_equal(seen.context, primary);
    assert_ptr_equal(seen.stream, s.streams[0]);
    assert_null(current_context());
    assert_ok(fli__prepare(s.ctx, "op prepare", &list, &seen));
    assert_int_equal(seen.n, 2);
    assert_int_equal(seen.prepares, 1);
    assert_ok(fli__dispatch(&call, &list, &seen, 0)); /* no work */
    assert_int_equal(seen.n, 2);
    seen.gives = FLI_COMPILE;
    assert_fails(fli__dispatch(&call, &list, &seen, 1), COMPILE, "op run: no");
    assert_null(current_context());
    destroy(&s);
}

static void features_choose(void **state)
{
    static const struct {
        const char *arch, *impl;
    } cases[] = { { "sm_80", "portable" },
                  { "sm_90a", "sm90" },
                  { "sm_100a", "portable" } };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        fli_context *ctx = create_arch(cases[i].arch);
        const fli__impl *impl;

        assert_ok(fli__choose(ctx, "op create", &list, &seen, &impl));
        assert_string_equal(impl->name, cases[i].impl);
        fli_context_destroy(ctx);
    }
}

/* --- threads ------------------------------------------------------------------------ */

#define N_ROUNDS 50

/* Its own stream, the same context and kernel: its launches come in its order. */
typedef struct {
    const setting *s;
    int32_t number;
    int failed;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    const fli__call call = { w->s->ctx, "op run", w->s->streams[w->number], 0 };
    void *current = w;

    for (int32_t i = 0; i < N_ROUNDS; i++) {
        pair params = { w->number, i };

        w->failed |= launch(w->s, &call, &usual, &params) != FLI_OK;
    }
    w->failed |= cuCtxGetCurrent(&current) || current;
    return NULL;
}

static void two_threads_launch(void **state)
{
    setting s = create();
    worker workers[2];
    pthread_t threads[2];
    int32_t next[2] = { 0 };

    (void)state;
    for (int i = 0; i < 2; i++) {
        workers[i] = (worker){ &s, i, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]),
                         0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_false(workers[i].failed);
    }
    assert_int_equal(fake_n_launches(), 2 * N_ROUNDS);
    for (int i = 0; i < 2 * N_ROUNDS; i++) {
        const fake_launch *got = fake_launch_at(i);
        pair params;

        memcpy(&params, got->params, sizeof(params));
        assert_ptr_equal(got->stream, s.streams[params.a]);
        assert_int_equal(params.b, next[params.a]++);
    }
    destroy(&s);
}

/* --- the fake driver itself ---------------------------------------------------------- */

static void images_of_each_kind(void **state)
{
    static const char ptx[] = "//\n.version 8.8\n.visible .entry fli_norm(\n"
                              "\t.param .align 8 .b8 fli_norm_param_0[112]\n)";
    setting s = create();
    void *module, *function;

    (void)state;
    assert_int_equal(cuCtxSetCurrent(primary), 0);
    assert_int_equal(cuModuleLoadData(&module, ptx), 0);
    assert_int_equal(cuModuleGetFunction(&function, module, "fli_norm"), 0);
    assert_int_equal(cuModuleGetFunction(&function, module, "fli_nor"),
                     FAKE_NOT_FOUND);
    assert_int_equal(cuModuleUnload(module), 0);
    assert_int_equal(cuModuleGetFunction(&function, s.module, "k_none"), 0);
    assert_int_equal(cuModuleGetFunction(&function, s.module, "k_pai"),
                     FAKE_NOT_FOUND);
    assert_int_equal(cuModuleLoadData(&module, "nothing"), FAKE_INVALID_IMAGE);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CUDA_TEST(launch_hands_everything_on),
        CUDA_TEST(launch_of_a_cluster),
        CUDA_TEST(launch_on_ampere_has_no_attributes),
        CUDA_TEST(empty_grid_is_no_launch),
        CUDA_TEST(launch_fails_with_the_drivers_text),
        CUDA_TEST(launch_is_captured_as_it_is),
        CUDA_TEST(no_launch_without_a_device),
        CUDA_TEST(occupancy_is_at_least_one),
        CUDA_TEST(dispatch_enters_and_leaves),
        CUDA_TEST(features_choose),
        CUDA_TEST(two_threads_launch),
        CUDA_TEST(images_of_each_kind),
    };

    setenv("FLI_LIBCUDA", FAKECUDA, 1);
    return RUN(tests);
}
