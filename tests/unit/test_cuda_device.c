/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA devices on the fake driver: how the driver is opened and refused, what a
 * context holds, leaves and gives back, streams, sticky flags. */
#define _GNU_SOURCE /* dladdr */

#include <dlfcn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi/types.h"
#include "cuda_unit.h"

/* --- the driver, opened once a process: each of these is a process of its own -- */

/* Makes a context in a child process, after prepare, twice: the second failure
 * comes from memory.  Both must have text. */
static void child_is_refused(const char *library, void (*prepare)(void),
                             const char *text)
{
    const pid_t child = fork();
    int status;

    if (!child) {
        fli_context *ctx = NULL;
        int good = 1;

        setenv("FLI_LIBCUDA", library, 1);
        if (prepare)
            prepare();
        for (int i = 0; i < 2; i++) {
            good &=
                fli_context_create(&ctx, fli_cuda(0), NULL) == FLI_UNSUPPORTED;
            good &= !strcmp(fli_last_error(), text);
            if (!good)
                fprintf(stderr, "got %s\n", fli_last_error());
            fake_reset();
        }
        _exit(!good);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void no_driver_at_all(void **state)
{
    (void)state;
    child_is_refused("libm.so.6", NULL,
                     "context create: device is cuda:0, and libm.so.6 has no "
                     "cuInit, expected a driver");
    child_is_refused(
        "./no-libcuda.so", NULL,
        "context create: device is cuda:0, and the driver cannot be opened "
        "(./no-libcuda.so: cannot open shared object file: No such file or "
        "directory)");
}

static void version_11_8(void)
{
    fake_set_version(11080);
}

/* The path of a library in the fake driver's folder. */
static void beside_fakecuda(char *path, size_t n, const char *name)
{
    void *symbol = dlsym(RTLD_DEFAULT, "fake_reset");
    Dl_info info;

    assert_int_not_equal(dladdr(symbol, &info), 0);
    snprintf(path, n, "%.*s%s",
             (int)(strrchr(info.dli_fname, '/') + 1 - info.dli_fname),
             info.dli_fname, name);
}

static void driver_too_old(void **state)
{
    char library[1024], text[2048];

    (void)state;
    child_is_refused(FAKECUDA, version_11_8,
                     "context create: device is cuda:0, and " FAKECUDA
                     " is of CUDA 11.8, expected the driver of CUDA 12.0 or "
                     "later");
    beside_fakecuda(library, sizeof(library), "libfakecuda_old.so");
    snprintf(text, sizeof(text),
             "context create: device is cuda:0, and %s is of CUDA 11.4 without "
             "cuLaunchKernelEx, expected the driver of CUDA 12.0 or later",
             library);
    child_is_refused(library, NULL, text);
}

static void no_devices(void)
{
    fake_set_devices(0);
}

static void unknown_failure(void)
{
    fake_fail_at(1, 4711); /* behind cuDriverGetVersion */
}

static void init_fails(void **state)
{
    (void)state;
    child_is_refused(FAKECUDA, no_devices,
                     "context create: device is cuda:0, and cuInit of " FAKECUDA
                     " failed: CUDA_ERROR_NO_DEVICE (no CUDA-capable device is "
                     "detected)");
    child_is_refused(FAKECUDA, unknown_failure,
                     "context create: device is cuda:0, and cuInit of " FAKECUDA
                     " failed: CUDA error 4711");
}

/* --- devices ---------------------------------------------------------------- */

static void an_h100(void **state)
{
    fli_context *ctx = create_cuda();
    const fli__cuda_caps *caps = &ctx->cuda->caps;

    (void)state;
    assert_string_equal(fli_context_describe(ctx),
                        "cuda:0 (NVIDIA H100 80GB HBM3, sm_90a, 132 SMs)");
    assert_int_equal(fli_context_device(ctx).type, FLI_DEVICE_CUDA);
    assert_int_equal(fli_context_n_threads(ctx), 1);
    assert_string_equal(fli_context_cpu_isa(ctx), "");
    assert_int_equal(caps->sm, 90);
    assert_int_equal(caps->n_sms, 132);
    assert_int_equal(caps->shared_bytes, 232448);
    assert_int_equal(caps->l2_bytes, 52428800);
    assert_int_equal(caps->features, FLI__CUDA_CLUSTER | FLI__CUDA_TMA
                                         | FLI__CUDA_WGMMA | FLI__CUDA_FP8);
    assert_ptr_equal(ctx->cuda->context, primary);
    assert_int_equal(fake_n_retained(0), 2);
    assert_int_equal(*ctx->cuda->sticky, 0);
    assert_null(current_context());
    fli_context_destroy(ctx);
    assert_int_equal(fake_n_retained(0), 1);
}

static void capability_gives_arch_and_features(void **state)
{
    static const struct {
        int32_t major, minor;
        const char *arch;
        uint32_t features;
    } devices[] = {
        { 8, 0, "sm_80", 0 },
        { 8, 6, "sm_86", 0 },
        { 8, 9, "sm_89", FLI__CUDA_FP8 },
        { 9, 0, "sm_90a",
          FLI__CUDA_CLUSTER | FLI__CUDA_TMA | FLI__CUDA_WGMMA | FLI__CUDA_FP8 },
        { 10, 0, "sm_100a", FLI__CUDA_CLUSTER | FLI__CUDA_TMA | FLI__CUDA_FP8 },
        { 12, 0, "sm_120", FLI__CUDA_CLUSTER | FLI__CUDA_TMA | FLI__CUDA_FP8 },
        { 13, 7, "sm_137", FLI__CUDA_CLUSTER | FLI__CUDA_TMA | FLI__CUDA_FP8 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(devices); i++) {
        fake_set_attribute(FLI__CU_ATTRIBUTE_MAJOR, devices[i].major);
        fake_set_attribute(FLI__CU_ATTRIBUTE_MINOR, devices[i].minor);
        fli_context *ctx = create_cuda();

        assert_string_equal(ctx->cuda->caps.arch, devices[i].arch);
        assert_int_equal(ctx->cuda->caps.features, devices[i].features);
        fli_context_destroy(ctx);
    }
    fake_set_attribute(FLI__CU_ATTRIBUTE_MAJOR, 7);
    fake_set_attribute(FLI__CU_ATTRIBUTE_MINOR, 5);
    fake_set_name("Tesla T4");
    assert_int_equal(refused(fli_cuda(0), NULL), FLI_UNSUPPORTED);
    assert_string_equal(fli_last_error(),
                        "context create: device is cuda:0 (Tesla T4, sm_75), "
                        "expected sm_80 or later");
}

static void long_names_are_cut(void **state)
{
    char name[201];

    (void)state;
    memset(name, 'x', 200);
    name[200] = 0;
    fake_set_name(name);
    fli_context *ctx = create_cuda();
    const char *text = fli_context_describe(ctx);

    assert_non_null(strstr(text, "x, sm_90a, 132 SMs)"));
    fli_context_destroy(ctx);
}

static void device_that_is_not_there(void **state)
{
    (void)state;
    assert_int_equal(refused(fli_cuda(3), NULL), FLI_UNSUPPORTED);
    assert_string_equal(fli_last_error(),
                        "context create: device is cuda:3, this machine has 1 "
                        "(as CUDA_VISIBLE_DEVICES lets it)");
    assert_int_equal(refused(fli_cuda(-1), NULL), FLI_INVALID_ARGUMENT);
}

static void second_device(void **state)
{
    fli_context *ctx;

    (void)state;
    fake_set_devices(2);
    assert_ok(fli_context_create(&ctx, fli_cuda(1), NULL));
    assert_string_equal(fli_context_describe(ctx),
                        "cuda:1 (NVIDIA H100 80GB HBM3, sm_90a, 132 SMs)");
    assert_ptr_not_equal(ctx->cuda->context, primary);
    assert_int_equal(fake_n_retained(1), 1);
    fli_context_destroy(ctx);
    assert_int_equal(fake_n_retained(1), 0);
}

static void context_of_the_caller(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx;

    (void)state;
    fake_set_devices(2);
    options.cuda_context = fake_context_create(1);
    assert_ok(fli_context_create(&ctx, fli_cuda(1), &options));
    assert_ptr_equal(ctx->cuda->context, options.cuda_context);
    assert_int_equal(fake_n_retained(1), 0);
    fli_context_destroy(ctx);
    assert_int_equal(fake_n_alive(), 0);
    assert_int_equal(refused(fli_cuda(0), &options), FLI_INVALID_ARGUMENT);
    assert_string_equal(fli_last_error(),
                        "context create: cuda_context is one of cuda:1, "
                        "expected one of cuda:0");
    options.cuda_arch = "sm_90a";
    assert_int_equal(refused(fli_cuda(1), &options), FLI_INVALID_ARGUMENT);
    assert_string_equal(fli_last_error(),
                        "context create: cuda_context and cuda_arch are given, "
                        "expected one of them");
    fake_context_destroy(options.cuda_context);
}

static void arch_without_a_device(void **state)
{
    static const char *const archs[] = { "sm_80",  "sm_86",  "sm_87",
                                         "sm_89",  "sm_90a", "sm_100a",
                                         "sm_103", "sm_120", "sm_121" };
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    int stream;

    (void)state;
    fake_reset(); /* counts calls from here */
    for (size_t i = 0; i < COUNT(archs); i++) {
        fli_context *ctx = create_arch(archs[i]);

        assert_string_equal(ctx->cuda->caps.arch, archs[i]);
        assert_true(ctx->cuda->caps.n_sms > 0);
        assert_true(ctx->cuda->caps.shared_bytes > 49152);
        fli_context_destroy(ctx);
    }
    fli_context *ctx = create_arch("sm_90a");

    assert_string_equal(fli_context_describe(ctx),
                        "cuda (compiles for sm_90a, no device)");
    assert_int_equal(ctx->cuda->caps.features, FLI__CUDA_CLUSTER | FLI__CUDA_TMA
                                                   | FLI__CUDA_WGMMA
                                                   | FLI__CUDA_FP8);
    assert_ok(fli_context_check(ctx));
    assert_ok(fli__check_call(ctx, "op prepare", NULL));
    assert_fails(fli__check_call(ctx, "op run", &stream), UNSUPPORTED,
                 "op run: the context compiles for sm_90a and has no device, "
                 "expected one made without cuda_arch");
    fli_context_destroy(ctx);
    options.cuda_arch = "sm_70";
    assert_int_equal(refused(fli_cuda(0), &options), FLI_INVALID_ARGUMENT);
    assert_string_equal(
        fli_last_error(),
        "context create: cuda_arch is 'sm_70', expected one of sm_80, sm_86, "
        "sm_87, sm_89, sm_90a, sm_100a, sm_103, sm_120, sm_121");
    assert_int_equal(fake_n_calls(), 0);
}

/* --- failures --------------------------------------------------------------- */

static void each_call_of_create_fails(void **state)
{
    fli_context *ctx;

    (void)state;
    fake_reset();
    ctx = create_cuda();
    const int64_t n = fake_n_calls();

    fli_context_destroy(ctx);
    assert_true(n > 10);
    for (int64_t i = 0; i < n; i++) {
        fake_fail_at(i, FAKE_ILLEGAL_ADDRESS);
        const fli_status status = fli_context_create(&ctx, fli_cuda(0), NULL);
        const char *call = fake_failed_call();

        if (status) {
            assert_int_equal(status, FLI_DEVICE);
            assert_null(ctx);
            assert_driver_text("context create", call);
        } else { /* it only leaves */
            assert_string_equal(call, "cuCtxSetCurrent");
            assert_int_equal(i, n - 1);
            fli_context_destroy(ctx);
            assert_int_equal(cuCtxSetCurrent(NULL), 0);
        }
        assert_null(current_context());
        assert_int_equal(fake_n_alive(), 0);
        assert_int_equal(fake_n_retained(0), 1);
    }
}

/* To look what is current, to free the flags, to release: each frees its own. */
static void each_call_of_destroy_fails(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 3; i++) {
        fli_context *ctx = create_cuda();

        assert_int_equal(cuCtxSetCurrent(primary), 0);
        fake_fail_at(i, FAKE_ILLEGAL_ADDRESS);
        fli_context_destroy(ctx);
        assert_string_not_equal(fake_failed_call(), "");
        assert_int_equal(fake_n_alive(), 0);
        assert_int_equal(fake_n_retained(0), 1);
        assert_int_equal(cuCtxSetCurrent(NULL), 0);
    }
}

static void out_of_device_memory(void **state)
{
    (void)state;
    for (int64_t i = 0; strcmp(fake_failed_call(), "cuMemAlloc"); i++) {
        fake_fail_at(i, FAKE_OUT_OF_MEMORY);
        assert_int_equal(refused(fli_cuda(0), NULL), FLI_OUT_OF_MEMORY);
    }
    assert_string_equal(fli_last_error(),
                        "context create: cuMemAlloc failed: "
                        "CUDA_ERROR_OUT_OF_MEMORY (out of memory)");
}

/* Fails at the fail_at-th call. */
typedef struct {
    int n, fail_at;
    size_t bytes;
} counter;

static void *counting_alloc(void *ctx, size_t bytes)
{
    counter *c = ctx;

    if (c->n++ == c->fail_at)
        return NULL;
    c->bytes += bytes;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void counting_free(void *ctx, void *p, size_t bytes)
{
    ((counter *)ctx)->bytes -= bytes;
    free(p);
}

static void out_of_host_memory(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    counter c = { .fail_at = 1 };

    (void)state;
    options.allocator = (fli_allocator){ &c, counting_alloc, counting_free };
    assert_int_equal(refused(fli_cuda(0), &options), FLI_OUT_OF_MEMORY);
    assert_int_equal(c.bytes, 0);
}

/* --- enter and leave --------------------------------------------------------- */

static void current_context_comes_back(void **state)
{
    fli_context *ctx = create_cuda();
    void *other = fake_context_create(0);
    void *previous;

    (void)state;
    assert_int_equal(cuCtxSetCurrent(other), 0);
    assert_ok(fli__cuda_enter(ctx, "op run", &previous));
    assert_ptr_equal(previous, other);
    assert_ptr_equal(current_context(), primary);
    fli__cuda_leave(ctx, previous);
    assert_ptr_equal(current_context(), other);

    assert_int_equal(cuCtxSetCurrent(primary), 0);
    const int64_t n = fake_n_calls();

    assert_ok(fli__cuda_enter(ctx, "op run", &previous));
    fli__cuda_leave(ctx, previous);
    assert_int_equal(fake_n_calls() - n, 1); /* the usual case is cheap */
    assert_ptr_equal(current_context(), primary);

    fake_fail_at(0, FAKE_ILLEGAL_ADDRESS);
    assert_int_equal(fli__cuda_enter(ctx, "op run", &previous), FLI_DEVICE);
    assert_driver_text("op run", "cuCtxGetCurrent");
    assert_int_equal(cuCtxSetCurrent(other), 0);
    fli_context_destroy(ctx);
    assert_ptr_equal(current_context(), other);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    fake_context_destroy(other);
}

static int n_freed;

static void free_kernels(const fli_context *ctx, void *kernels)
{
    assert_ptr_equal(kernels, &n_freed);
    assert_ptr_equal(current_context(),
                     ctx->cuda->driver ? ctx->cuda->context : NULL);
    n_freed++;
}

static void kernels_are_freed_in_their_context(void **state)
{
    fli_context *contexts[] = { create_cuda(), create_arch("sm_80") };

    (void)state;
    n_freed = 0;
    for (int i = 0; i < 2; i++) {
        contexts[i]->cuda->kernels = &n_freed;
        contexts[i]->cuda->free_kernels = free_kernels;
        fli_context_destroy(contexts[i]);
        assert_int_equal(n_freed, i + 1);
    }
}

/* --- streams ------------------------------------------------------------------ */

static void streams_of_this_context_only(void **state)
{
    fli_context *ctx = create_cuda();
    void *other = fake_context_create(0);
    void *stranger = fake_stream_create(other);
    void *own = fake_stream_create(primary);
    char text[256];

    (void)state;
    for (uintptr_t special = 0; special <= 2; special++)
        assert_ok(fli__check_call(ctx, "op run", (void *)special));
    assert_ok(fli__check_call(ctx, "op run", own));
    snprintf(text, sizeof(text),
             "op run: stream is %p, expected one of the CUDA context of cuda:0 "
             "(NVIDIA H100 80GB HBM3, sm_90a, 132 SMs)",
             stranger);
    assert_fails(fli__check_call(ctx, "op run", stranger), INVALID_ARGUMENT,
                 text);
    snprintf(text, sizeof(text),
             "op run: stream is %p, expected one of the CUDA context of cuda:0 "
             "(NVIDIA H100 80GB HBM3, sm_90a, 132 SMs)",
             (void *)text);
    assert_fails(fli__check_call(ctx, "op run", text), INVALID_ARGUMENT, text);
    fake_fail_at(0, FAKE_ILLEGAL_ADDRESS);
    assert_int_equal(fli__check_call(ctx, "op run", own), FLI_DEVICE);
    assert_driver_text("op run", "cuStreamGetCtx");
    fake_stream_destroy(own);
    fake_context_destroy(other);
    fli_context_destroy(ctx);
}

static void capture_is_seen(void **state)
{
    fli_context *ctx = create_cuda();
    void *stream = fake_stream_create(primary);
    const fli__call call = { ctx, "op run", stream, 0 };
    const fli__call default_call = { ctx, "op run", NULL, 0 };
    int32_t is_capturing = 7;

    (void)state;
    assert_ok(fli__cuda_is_capturing(&call, &is_capturing));
    assert_int_equal(is_capturing, 0);
    fake_begin_capture(stream);
    assert_ok(fli__cuda_is_capturing(&call, &is_capturing));
    assert_int_equal(is_capturing, 1);
    assert_ok(fli__cuda_is_capturing(&default_call, &is_capturing));
    assert_int_equal(is_capturing, 0);
    assert_int_equal(fli_context_check(ctx), FLI_DEVICE); /* spoils it */
    assert_ok(fli__cuda_is_capturing(&call, &is_capturing));
    assert_int_equal(is_capturing, 1);
    assert_int_equal(fake_end_capture(stream), 0);
    fake_fail_at(1, FAKE_ILLEGAL_ADDRESS);
    assert_int_equal(fli__cuda_is_capturing(&call, &is_capturing), FLI_DEVICE);
    assert_null(current_context());
    fake_stream_destroy(stream);
    fli_context_destroy(ctx);
}

/* --- sticky flags --------------------------------------------------------------- */

/* As a kernel on stream would: some time later. */
static void raise_later(fli_context *ctx, void *stream, uint32_t *pinned,
                        uint32_t bits)
{
    *pinned = bits;
    assert_int_equal(cuCtxSetCurrent(primary), 0);
    assert_int_equal(cuMemcpyHtoDAsync_v2((uintptr_t)ctx->cuda->sticky, pinned,
                                          sizeof(bits), stream),
                     0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
}

static void sticky_flags_in_words(void **state)
{
    static const struct {
        uint32_t bits;
        const char *text;
    } cases[] = {
        { FLI_STICKY_PAGE, "a page id outside the pool (clamped)" },
        { FLI_STICKY_INDEX, "a row or request index out of range (skipped)" },
        { FLI_STICKY_LENGTHS,
          "lengths on the device beyond what was declared (nothing planned)" },
        { FLI_STICKY_TABLE,
          "a page table shorter than kv_len needs (clamped)" },
        { FLI_STICKY_PAGE | FLI_STICKY_TABLE,
          "a page id outside the pool (clamped); a page table shorter than "
          "kv_len needs (clamped)" },
    };
    fli_context *ctx = create_cuda();
    void *stream = fake_stream_create(primary);
    void *pinned;
    char text[256];

    (void)state;
    assert_int_equal(cuCtxSetCurrent(primary), 0);
    assert_int_equal(cuMemHostAlloc(&pinned, 4, 0), 0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    for (size_t i = 0; i < COUNT(cases); i++) {
        raise_later(ctx, stream, pinned, cases[i].bits);
        snprintf(text, sizeof(text),
                 "context check: since the last check kernels were given %s",
                 cases[i].text);
        assert_fails(fli_context_check(ctx), INVALID_ARGUMENT, text);
        assert_ok(fli_context_check(ctx));
    }
    for (int64_t i = 0; i < 6; i++) { /* with a failure it is told later */
        raise_later(ctx, stream, pinned, FLI_STICKY_PAGE);
        fake_fail_at(i, FAKE_ILLEGAL_ADDRESS);
        assert_int_equal(fli_context_check(ctx), FLI_DEVICE);
        assert_driver_text("context check", fake_failed_call());
        assert_null(current_context());
        fake_fail_at(-1, 0);
        if (i < 5) /* the last one waits for the zeros, which are there */
            assert_int_equal(fli_context_check(ctx), FLI_INVALID_ARGUMENT);
        assert_ok(fli_context_check(ctx));
    }
    fake_stream_destroy(stream);
    assert_int_equal(cuCtxSetCurrent(primary), 0);
    assert_int_equal(cuMemFreeHost(pinned), 0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    fli_context_destroy(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_driver_at_all),
        cmocka_unit_test(driver_too_old),
        cmocka_unit_test(init_fails),
        CUDA_TEST(an_h100),
        CUDA_TEST(capability_gives_arch_and_features),
        CUDA_TEST(long_names_are_cut),
        CUDA_TEST(device_that_is_not_there),
        CUDA_TEST(second_device),
        CUDA_TEST(context_of_the_caller),
        CUDA_TEST(arch_without_a_device),
        CUDA_TEST(each_call_of_create_fails),
        CUDA_TEST(each_call_of_destroy_fails),
        CUDA_TEST(out_of_device_memory),
        CUDA_TEST(out_of_host_memory),
        CUDA_TEST(current_context_comes_back),
        CUDA_TEST(kernels_are_freed_in_their_context),
        CUDA_TEST(streams_of_this_context_only),
        CUDA_TEST(capture_is_seen),
        CUDA_TEST(sticky_flags_in_words),
    };

    setenv("FLI_LIBCUDA", FAKECUDA, 1);
    return RUN(tests);
}
