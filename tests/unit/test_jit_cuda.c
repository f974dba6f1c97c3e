/* SPDX-License-Identifier: Apache-2.0 */
/* The JIT on the fake driver: loading what NVRTC, the cache folder or a pack gives,
 * each call of the driver failed in turn, captures, threads. */
#include "jit_unit.h"

#include "cuda_unit.h"

#include <flashinfer/jit.h>

static int set_up_all(void **state)
{
    return begin(state) || set_up(state);
}

static fli_context *create_logged(void)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx = NULL;

    options.log = take_line;
    assert_ok(fli_context_create(&ctx, fli_cuda(0), &options));
    return ctx;
}

static fli_status ask(const fli__call *call, int value,
                      const fli__kernel **kernel)
{
    const fli__instance instance = instance_of(value, "");

    return fli__jit_kernel(call, &instance, kernel);
}

/* Launches kernel, which takes one pointer. */
static void assert_launches(const fli_context *ctx, const fli__kernel *kernel)
{
    const fli__call call = { .ctx = ctx, .where = "rmsnorm run" };
    const fli__launch launch = { { 1, 1, 1 }, { 32, 1, 1 }, 0, 0 };
    void *previous, *pointer = NULL;

    assert_ok(fli__cuda_enter(ctx, "test", &previous));
    assert_ok(fli__cuda_launch(&call, kernel, &launch, &pointer));
    fli__cuda_leave(ctx, previous);
    const fake_launch *got = fake_launch_at(fake_n_launches() - 1);

    assert_string_equal(got->name, "store");
    assert_int_equal(got->param_bytes, sizeof(pointer));
}

/* --- loading ----------------------------------------------------------------- */

static void a_kernel_is_loaded_once(void **state)
{
    fli_context *ctx;
    const fli__kernel *kernel;

    (void)state;
    needs_nvrtc();
    ctx = create_logged();
    const int32_t n = fake_n_alive();

    kernel = kernel_of(ctx, 1);
    assert_non_null(kernel->function);
    assert_int_equal(kernel->registers, 32); /* the driver's word counts */
    assert_int_equal(kernel->max_threads, 1024);
    assert_null(current_context());
    assert_int_equal(fake_n_alive(), n + 1);
    const int64_t calls = fake_n_calls();

    assert_ptr_equal(kernel, kernel_of(ctx, 1));
    assert_int_equal(fake_n_calls(), calls);
    kernel_of(ctx, 2);
    assert_launches(ctx, kernel);
    fli_context_destroy(ctx); /* tear_down looks for what is left */
}

static int32_t dynamic_shared_of(const fli__kernel *kernel)
{
    int32_t bytes = -1;

    assert_int_equal(cuCtxSetCurrent(primary), 0);
    assert_int_equal(cuFuncGetAttribute(&bytes, FLI__CU_FUNC_MAX_DYNAMIC_SHARED,
                                        kernel->function),
                     0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    return bytes;
}

static void dynamic_shared_memory_is_asked_for(void **state)
{
    fli__instance instance = instance_of(1, "");
    const fli__kernel *kernels[3];
    fli_context *ctx;

    (void)state;
    needs_nvrtc();
    ctx = create_logged();
    const fli__call call = { .ctx = ctx, .where = "rmsnorm run" };
    static const uint32_t bytes[] = { 0, 49152, 49153 };

    for (int i = 0; i < 3; i++) {
        instance.shared_bytes = bytes[i];
        assert_ok(fli__jit_kernel(&call, &instance, &kernels[i]));
    }
    assert_int_not_equal(dynamic_shared_of(kernels[0]), 49153);
    assert_int_not_equal(dynamic_shared_of(kernels[1]), 49153);
    assert_int_equal(dynamic_shared_of(kernels[2]), 49153);
    instance.shared_bytes = 1 << 20; /* more than a block may have */
    assert_int_equal(fli__jit_kernel(&call, &instance, &kernels[0]),
                     FLI_DEVICE);
    assert_non_null(strstr(fli_last_error(), "cuFuncSetAttribute failed"));
    assert_int_equal(n_logged("compiled for"), 1);
    fli_context_destroy(ctx);
}

/* Fails each driver call of a first use in turn; the next use tries again. */
static void each_call_failed(void **state)
{
    const fli__kernel *kernel;
    fli_context *ctx;
    int n = 0;

    (void)state;
    needs_nvrtc();
    ctx = create_logged();
    const fli__call call = { .ctx = ctx, .where = "rmsnorm run" };

    for (;; n++) {
        const int32_t alive = fake_n_alive();

        fake_fail_at(n, FAKE_ILLEGAL_ADDRESS);
        const fli_status status = ask(&call, n, &kernel);
        const char *const failed = fake_failed_call();

        if (!*failed)
            break;
        if (status) {
            assert_int_equal(status, FLI_DEVICE);
            assert_driver_text("rmsnorm run", failed);
            assert_int_equal(fake_n_alive(), alive);
        } else { /* going back to what was current */
            assert_string_equal(failed, "cuCtxSetCurrent");
        }
        fake_fail_at(-1, 0);
        assert_int_equal(cuCtxSetCurrent(NULL), 0);
        assert_ok(ask(&call, n, &kernel));
        assert_int_equal(fake_n_alive(), alive + 1);
        assert_launches(ctx, kernel);
    }
    fake_fail_at(-1, 0);
    assert_int_equal(n_logged("compiled for"), n + 1);
    assert_int_equal(n, 12);
    fli_context_destroy(ctx);
}

/* NVRTC knows no sm_199: the driver gets PTX. */
static void ptx_is_loaded(void **state)
{
    fli_context *ctx;

    (void)state;
    needs_nvrtc();
    fake_set_attribute(FLI__CU_ATTRIBUTE_MAJOR, 19);
    fake_set_attribute(FLI__CU_ATTRIBUTE_MINOR, 9);
    ctx = create_logged();
    assert_launches(ctx, kernel_of(ctx, 1));
    assert_int_equal(n_logged("does not know sm_199"), 1);
    fli_context_destroy(ctx);
    ctx = create_logged();
    assert_launches(ctx, kernel_of(ctx, 1));
    assert_int_equal(n_logged("from the cache"), 1);
    fli_context_destroy(ctx);
}

/* --- captures ---------------------------------------------------------------- */

static void a_capture_needs_a_prepare(void **state)
{
    const fli__kernel *kernel;
    fli_context *ctx;

    (void)state;
    needs_nvrtc();
    ctx = create_logged();
    void *const stream = fake_stream_create(primary);
    const fli__call call = { ctx, "rmsnorm run", stream, 0 };
    const fli__call prepare = { ctx, "rmsnorm prepare", NULL, 1 };

    fake_begin_capture(stream);
    assert_fails(
        ask(&call, 1, &kernel), INVALID_STATE,
        "rmsnorm run: kernel store_1 is not loaded and stream is being "
        "captured, expected fli_rmsnorm_prepare before");
    assert_true(fake_end_capture(stream)); /* and it was not spoilt */
    assert_int_equal(n_logged("compiled for"), 0);
    assert_ok(ask(&prepare, 1, &kernel));
    fake_begin_capture(stream);
    assert_ok(ask(&call, 1, &kernel));
    assert_true(fake_end_capture(stream));
    fake_stream_destroy(stream);
    fli_context_destroy(ctx);
}

/* --- packs ------------------------------------------------------------------- */

/* The pack is for devices: a context without one fills the cache folder. */
static void a_pack_needs_no_nvrtc(void **state)
{
    char path[256], environment[512];

    (void)state;
    needs_nvrtc();
    snprintf(path, sizeof(path), "%s/some.pack", folder);
    fli_context *ctx = compiler_for("sm_90a");

    kernel_of(ctx, 1);
    kernel_of(ctx, 2);
    fli_context_destroy(ctx);
    assert_ok(fli_pack_write(path, NULL));
    assert_ok(fli_cache_clear(NULL));
    snprintf(environment, sizeof(environment), "FLI_NVRTC=/none FLI_PACK=%s",
             path);
    assert_string_equal(children(1, environment, "load"),
                        "jit: store_1 from the pack\n");
    assert_int_equal(n_files(), 0);
    setenv("FLI_PACK", path, 1);
    ctx = create_logged();
    kernel_of(ctx, 1);
    assert_int_equal(n_logged("from the pack"), 1);
    kernel_of(ctx, 3); /* which it has not */
    assert_int_equal(n_logged("store_3 compiled"), 1);
    fli_context_destroy(ctx);
    *logged.text = 0;
    ctx = compiler_for("sm_90a");
    kernel_of(ctx, 1);
    assert_int_equal(n_logged("compiled for"), 1);
    fli_context_destroy(ctx);
}

static void packs_that_are_none(void **state)
{
    const fli__kernel *kernel;
    char path[256], text[300];
    fli_context *ctx;

    (void)state;
    needs_nvrtc();
    ctx = create_logged();
    const fli__call call = { .ctx = ctx, .where = "rmsnorm run" };

    snprintf(path, sizeof(path), "%s/none.pack", folder);
    setenv("FLI_PACK", path, 1);
    snprintf(text, sizeof(text), "pack: %s: No such file or directory", path);
    assert_fails(ask(&call, 1, &kernel), IO, text);
    run("echo no pack >%s", path);
    snprintf(text, sizeof(text), "pack: %s is no pack of kernels", path);
    assert_fails(ask(&call, 1, &kernel), IO, text);
    unsetenv("FLI_PACK");
    assert_ok(ask(&call, 1, &kernel));
    fli_context_destroy(ctx);
}

static void a_damaged_image_of_a_pack(void **state)
{
    char path[256];

    (void)state;
    needs_nvrtc();
    snprintf(path, sizeof(path), "%s/some.pack", folder);
    fli_context *ctx = compiler_for("sm_90a");

    kernel_of(ctx, 1);
    fli_context_destroy(ctx);
    assert_ok(fli_pack_write(path, NULL));
    assert_ok(fli_cache_clear(NULL));
    run("printf x | dd of=%s bs=1 seek=2000 conv=notrunc 2>/dev/null", path);
    setenv("FLI_PACK", path, 1);
    *logged.text = 0;
    ctx = create_logged();
    assert_launches(ctx, kernel_of(ctx, 1));
    assert_int_equal(n_logged("an image of the pack is damaged"), 1);
    assert_int_equal(n_logged("compiled for"), 1);
    fli_context_destroy(ctx);
}

/* --- threads ------------------------------------------------------------------ */

#define N_THREADS 8

typedef struct {
    const fli_context *ctx;
    const fli__kernel *kernels[3];
} asker;

static void *ask_for_three(void *arg)
{
    asker *const a = arg;

    for (int i = 0; i < 3; i++)
        a->kernels[i] = kernel_of(a->ctx, i);
    return NULL;
}

static void threads_load_once(void **state)
{
    pthread_t threads[N_THREADS];
    asker askers[N_THREADS];
    fli_context *ctx;

    (void)state;
    needs_nvrtc();
    ctx = create_logged();
    const int32_t n = fake_n_alive();

    for (int i = 0; i < N_THREADS; i++) {
        askers[i].ctx = ctx;
        pthread_create(&threads[i], NULL, ask_for_three, &askers[i]);
    }
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 1; i < N_THREADS; i++)
        assert_memory_equal(askers[i].kernels, askers[0].kernels,
                            sizeof(askers[0].kernels));
    assert_int_equal(fake_n_alive(), n + 3);
    assert_int_equal(n_logged("compiled for"), 3);
    fli_context_destroy(ctx);
}

/* --- children ------------------------------------------------------------------ */

static int load_here(void)
{
    fli_context *ctx;
    const fli__kernel *kernel;
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;

    options.log = take_line;
    if (fli_context_create(&ctx, fli_cuda(0), &options))
        return 1;
    const fli__call call = { .ctx = ctx, .where = "rmsnorm run" };

    if (ask(&call, 1, &kernel))
        printf("%s\n", fli_last_error());
    fputs(logged.text, stdout);
    fli_context_destroy(ctx);
    return 0;
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_all, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_kernel_is_loaded_once),
        TEST(dynamic_shared_memory_is_asked_for),
        TEST(each_call_failed),
        TEST(ptx_is_loaded),
        TEST(a_capture_needs_a_prepare),
        TEST(a_pack_needs_no_nvrtc),
        TEST(packs_that_are_none),
        TEST(a_damaged_image_of_a_pack),
        TEST(threads_load_once),
    };

    setenv("FLI_LIBCUDA", FAKECUDA, 1);
    if (argc == 3)
        return load_here();
    return RUN_JIT(tests);
}
