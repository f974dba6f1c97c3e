/* SPDX-License-Identifier: Apache-2.0 */
/* The JIT with the real NVRTC and no device: instances, reports, failures, threads
 * and processes at once, finding NVRTC.  What must start in a process of its own
 * (NVRTC is looked for once) is a child: this program with --child. */
#define _GNU_SOURCE

#include "jit_unit.h"

#include <flashinfer/jit.h>

/* --- instances -------------------------------------------------------------- */

static void text_of_an_instance(void **state)
{
    fli__instance instance;
    char text[1024];

    (void)state;
    fli__instance_init(&instance, "cuda/x.cu", "x", "x_%s_%d", "bf16", 8);
    fli__instance_define(&instance, "A", 0);
    fli__instance_define(&instance, "LONG_NAME", 128);
    fli__instance_define(&instance, "MINUS", -1);
    fli__instance_define(&instance, "LEAST", INT64_MIN);
    fli__instance_define(&instance, "MOST", INT64_MAX);
    fli__instance_text(&instance, text, sizeof(text));
    assert_string_equal(instance.name, "x_bf16_8");
    assert_string_equal(text, "#define A 0\n#define LONG_NAME 128\n"
                              "#define MINUS -1\n"
                              "#define LEAST -9223372036854775808\n"
                              "#define MOST 9223372036854775807\n"
                              "#include \"cuda/x.cu\"\n");
}

static void too_many_defines(void **state)
{
    fli_context *ctx = compiler_for("sm_90a");
    const fli__call call = { .ctx = ctx, .where = "rope run" };
    const fli__kernel *kernel;
    fli__instance instance;

    (void)state;
    fli__instance_init(&instance, BASE, "x", "x");
    for (int i = 0; i < 100; i++)
        fli__instance_define(&instance, "A_NAME", i);
    assert_fails(fli__jit_kernel(&call, &instance, &kernel), INTERNAL,
                 "rope run: kernel x has too long a name or too many defines");
    fli__instance_init(&instance, BASE, "x", "%064d", 1);
    assert_int_equal(fli__jit_kernel(&call, &instance, &kernel), FLI_INTERNAL);
    fli_context_destroy(ctx);
}

static void key_of(const char *arch, int value, const char *text, fli__key *key)
{
    const fli__instance instance = instance_of(value, text);
    fli_context *ctx = compiler_for(arch);

    fli__key_make(ctx, &instance, key);
    fli_context_destroy(ctx);
}

static void keys_tell_apart(void **state)
{
    fli__key keys[4], again;

    (void)state;
    key_of("sm_90a", 1, "", &keys[0]);
    key_of("sm_90a", 2, "", &keys[1]);
    key_of("sm_80", 1, "", &keys[2]);
    key_of("sm_90a", 1, "\n", &keys[3]);
    key_of("sm_90a", 1, "", &again);
    assert_memory_equal(&keys[0], &again, sizeof(again));
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(keys[i].hash, keys[j].hash,
                                    sizeof(again.hash));
}

/* --- compiling -------------------------------------------------------------- */

static void compiles_and_reports(void **state)
{
    fli_context *ctx;
    fli__image image;

    (void)state;
    needs_nvrtc();
    ctx = compiler_for("sm_90a");
    const fli__kernel *kernel = kernel_of(ctx, 1);

    assert_null(kernel->function);
    assert_in_range(kernel->registers, 2, 64);
    assert_int_equal(kernel->spill_bytes, 0);
    assert_ptr_equal(kernel, kernel_of(ctx, 1));
    assert_ptr_not_equal(kernel, kernel_of(ctx, 2));
    assert_int_equal(n_logged("compiled for sm_90a"), 2);
    assert_int_equal(n_files(), 4);
    assert_int_equal(mode_of(cache), 0700);
    run("test -z \"$(find %s -type f -not -perm 600)\"", cache);
    run("grep -q 'define VALUE 1' %s/store_1-*.log", cache);
    run("grep -q 'Used .* registers' %s/store_1-*.log", cache);
    run("rm %s/store_1-*", cache);
    assert_int_equal(fli__file_read_image(ctx, file_in_cache(".cubin"), &image),
                     0);
    assert_null(fli__image_problem(&image, NULL));
    assert_string_equal(image.header->key.name, "store_2");
    assert_string_equal(image.header->key.arch, "sm_90a");
    assert_true(image.header->seconds > 0 && !image.header->is_ptx);
    assert_true(image.header->nvrtc_version >= 12000);
    fli__image_free(ctx, &image);
    fli_context_destroy(ctx);
}

static void report_of_spills_and_shared(void **state)
{
    static const char spills[] =
        "#define store store_\n"
        "extern \"C\" __global__ void __launch_bounds__(1024, 2) spill(float "
        "*p)"
        "{ __shared__ float s[128]; float a[96];\n"
        "_Pragma(\"unroll\") for (int i = 0; i < 96; i++) a[i] = p[i * i];\n"
        "s[threadIdx.x & 127] = a[0]; __syncthreads();\n"
        "for (int j = 0; j < 100; j++)\n"
        "_Pragma(\"unroll\") for (int i = 0; i < 96; i++)\n"
        "a[i] = a[i] * a[(i * 7 + 1) % 96] + s[(i + j) & 127];\n"
        "_Pragma(\"unroll\") for (int i = 0; i < 96; i++) p[i] = a[i]; }\n";
    fli_context *ctx;
    const fli__kernel *kernel;

    (void)state;
    needs_nvrtc();
    ctx = compiler_for("sm_90a");
    const fli__call call = { .ctx = ctx, .where = "rmsnorm run" };
    fli__instance instance = instance_of(1, spills);

    instance.entry = "spill";
    assert_ok(fli__jit_kernel(&call, &instance, &kernel));
    assert_true(kernel->spill_bytes > 0);
    assert_int_equal(kernel->registers, 32);
    assert_int_equal(kernel->shared_bytes, 512);
    fli_context_destroy(ctx);
}

static void a_failure_is_remembered(void **state)
{
    fli_context *ctx;
    const fli__kernel *kernel;
    char expected[512], text[512];

    (void)state;
    needs_nvrtc();
    ctx = compiler_for("sm_90a");
    const fli__instance instance = instance_of(3, "this is no C;\n");
    fli__call call = { .ctx = ctx, .where = "rmsnorm run" };

    assert_int_equal(fli__jit_kernel(&call, &instance, &kernel), FLI_COMPILE);
    snprintf(expected, sizeof(expected),
             "rmsnorm run: kernel store_3 does not compile for sm_90a (NVRTC "
             "6): store_3.cu(2): error: identifier \"this\" is undefined; see "
             "%s",
             file_in_cache(".log"));
    snprintf(text, sizeof(text), "%s", fli_last_error());
    assert_null(strstr(text, ".cu.log"));
    assert_string_equal(strstr(text, "; see "), strstr(expected, "; see "));
    assert_memory_equal(text, expected, 80);
    assert_int_equal(n_files(), 1); /* the log */
    run("rm %s/*", cache);
    call.where = "rope run";
    assert_int_equal(fli__jit_kernel(&call, &instance, &kernel), FLI_COMPILE);
    assert_memory_equal(fli_last_error(), "rope run: kernel store_3", 24);
    assert_int_equal(n_files(), 0);
    fli_context_destroy(ctx);
}

static void an_entry_that_is_not_there(void **state)
{
    fli_context *ctx;
    const fli__kernel *kernel;

    (void)state;
    needs_nvrtc();
    ctx = compiler_for("sm_90a");
    const fli__call call = { .ctx = ctx, .where = "rmsnorm run" };
    fli__instance instance = instance_of(1, "");

    instance.entry = "stor";
    assert_int_equal(fli__jit_kernel(&call, &instance, &kernel), FLI_COMPILE);
    assert_non_null(strstr(fli_last_error(), "has no kernel stor"));
    fli_context_destroy(ctx);
}

/* An arch that NVRTC does not know yet. */
static void ptx_for_a_newer_gpu(void **state)
{
    fli_context *ctx;
    fli__image image;

    (void)state;
    needs_nvrtc();
    ctx = compiler_for("sm_90a");
    strcpy(ctx->cuda->caps.arch, "sm_999");
    kernel_of(ctx, 1);
    assert_int_equal(n_logged("does not know sm_999"), 1);
    assert_int_equal(fli__file_read_image(ctx, file_in_cache(".cubin"), &image),
                     0);
    assert_int_equal(image.header->is_ptx, 1);
    const char *ptx = (const char *)(image.header + 1);

    assert_non_null(strstr(ptx, ".entry store"));
    assert_int_equal(strlen(ptx) + 1, image.header->payload_bytes);
    fli__image_free(ctx, &image);
    fli_context_destroy(ctx);
}

/* --- at once ---------------------------------------------------------------- */

#define N_THREADS 8

typedef struct {
    pthread_t thread;
    const fli_context *ctx;
    pthread_barrier_t *start;
    const fli__kernel *kernel;
    fli_status status;
    fli__instance instance;
} asker;

static void *ask(void *arg)
{
    asker *const a = arg;
    const fli__call call = { .ctx = a->ctx, .where = "rmsnorm run" };

    pthread_barrier_wait(a->start);
    a->status = fli__jit_kernel(&call, &a->instance, &a->kernel);
    return NULL;
}

/* Threads ask for kernels 0 to n - 1 in turn, threads of contexts in turn. */
static void ask_at_once(asker *askers, fli_context **ctx, int n_ctx, int n)
{
    pthread_barrier_t start;

    pthread_barrier_init(&start, NULL, N_THREADS);
    for (int i = 0; i < N_THREADS; i++) {
        askers[i] = (asker){ .ctx = ctx[i % n_ctx], .start = &start };
        askers[i].instance = instance_of(i % n, "");
        pthread_create(&askers[i].thread, NULL, ask, &askers[i]);
    }
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(askers[i].thread, NULL);
    pthread_barrier_destroy(&start);
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(askers[i].status, FLI_OK);
}

static void threads_compile_once(void **state)
{
    asker askers[N_THREADS];
    fli_context *ctx;

    (void)state;
    needs_nvrtc();
    ctx = compiler_for("sm_90a");
    ask_at_once(askers, &ctx, 1, 2);
    for (int i = 2; i < N_THREADS; i++)
        assert_ptr_equal(askers[i].kernel, askers[i - 2].kernel);
    assert_int_equal(n_logged("store_0 compiled"), 1);
    assert_int_equal(n_logged("store_1 compiled"), 1);
    assert_int_equal(n_logged("from the cache"), 0);
    fli_context_destroy(ctx);
}

static void contexts_compile_once(void **state)
{
    asker askers[N_THREADS];
    fli_context *ctx[4];

    (void)state;
    needs_nvrtc();
    for (int i = 0; i < 4; i++)
        ctx[i] = compiler_for("sm_90a");
    ask_at_once(askers, ctx, 4, 1);
    assert_int_equal(n_logged("compiled for"), 1);
    assert_int_equal(n_logged("from the cache"), 3);
    for (int i = 0; i < 4; i++)
        fli_context_destroy(ctx[i]);
}

static void several_at_once(void **state)
{
    enum { N = 6 };
    const fli__kernel *kernels[N];
    fli__instance instances[N];
    fli_context *ctx;

    (void)state;
    needs_nvrtc();
    ctx = compiler_for("sm_90a");
    const fli__call call = { .ctx = ctx, .where = "attention create" };

    for (int i = 0; i < N; i++)
        instances[i] = instance_of(i / 2, "");
    assert_ok(fli__jit_kernels(&call, instances, N, kernels));
    assert_int_equal(n_logged("compiled for"), N / 2);
    for (int i = 0; i < N; i++)
        assert_ptr_equal(kernels[i], kernel_of(ctx, i / 2));
    assert_ok(fli__jit_kernels(&call, instances, 0, kernels));
    instances[4] = instance_of(9, "this is no C;\n");
    assert_int_equal(fli__jit_kernels(&call, instances, N, kernels),
                     FLI_COMPILE);
    assert_memory_equal(fli_last_error(), "attention create: kernel store_9",
                        32);
    fli_context_destroy(ctx);
}

static void processes_compile_once(void **state)
{
    (void)state;
    needs_nvrtc();
    const char *text = children(4, "FLI_LOG=jit", "compile");

    assert_int_equal(n_of(text, "store_1 compiled"), 1);
    assert_int_equal(n_of(text, "store_1 from the cache"), 3);
    assert_int_equal(n_files(), 2);
}

/* --- finding NVRTC ----------------------------------------------------------- */

#define NOWHERE                                                                \
    "-u FLI_NVRTC -u VIRTUAL_ENV -u CONDA_PREFIX -u CUDA_HOME -u CUDA_PATH"

static void assert_described(const char *environment, const char *expected)
{
    char text[1024];

    snprintf(text, sizeof(text), "%s\n", expected);
    assert_string_equal(children(1, environment, "describe"), text);
}

static void nvrtc_that_is_named(void **state)
{
    char environment[1024], file[512], path[512];

    (void)state;
    assert_described("FLI_NVRTC=/none",
                     "cuda: FLI_NVRTC is '/none', which is neither libnvrtc "
                     "nor a folder that has it");
    assert_described("FLI_NVRTC=libm.so.6",
                     "cuda: libnvrtc has no nvrtcVersion: it is too old");
    needs_nvrtc();
    fli_nvrtc_describe(file, sizeof(file));
    snprintf(path, sizeof(path), "%s", strchr(file, '/'));
    snprintf(environment, sizeof(environment), NOWHERE " FLI_NVRTC=%s", path);
    assert_described(environment, file);
    *strrchr(path, '/') = 0;
    snprintf(environment, sizeof(environment), NOWHERE " FLI_NVRTC=%s", path);
    assert_described(environment, file);
}

/* In each place where packages put it, and there it compiles. */
static void nvrtc_that_is_found(void **state)
{
    static const struct {
        const char *variable, *folder;
    } places[] = {
        { "VIRTUAL_ENV", "lib/python3.12/site-packages/nvidia/cu13/lib" },
        { "CONDA_PREFIX", "lib" },
        { "CONDA_PREFIX", "lib/python3.12/site-packages/nvidia/cu13/lib" },
        { "CUDA_HOME", "lib64" },
        { "CUDA_PATH", "lib64" },
    };
    char real[512], environment[1024], where[512];

    (void)state;
    needs_nvrtc();
    fli_nvrtc_describe(real, sizeof(real));
    *strrchr(real, '/') = 0;
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        snprintf(where, sizeof(where), "%s/place/%s", folder, places[i].folder);
        run("mkdir -p $(dirname %s) && ln -s %s %s", where, strchr(real, '/'),
            where);
        snprintf(environment, sizeof(environment), NOWHERE " %s=%s/place",
                 places[i].variable, folder);
        const char *text = children(1, environment, "describe");

        if (!strstr(text, where)) { /* the system's comes before a toolkit's */
            assert_true(i >= 3);
            assert_non_null(strstr(text, "libnvrtc.so"));
        }
        run("rm -rf %s", cache);
        assert_int_equal(
            n_of(children(1, environment, "compile"), "store_1 compiled"), 1);
        run("rm -r %s/place", folder);
    }
}

static void nvrtc_that_is_nowhere(void **state)
{
    (void)state;
    const char *text = children(1, NOWHERE, "describe");

    if (!strstr(text, "not found")) {
        printf("the system has NVRTC: %s", text);
        skip();
    }
    assert_string_equal(
        text, "cuda: libnvrtc.so.13 not found; looked in: FLI_NVRTC, loaded "
              "libraries, nvidia/*/lib beside libflashinfer.so and in "
              "$VIRTUAL_ENV, $CONDA_PREFIX/lib, the system, "
              "$CUDA_HOME/lib64\n");
}

static void without_nvrtc(void **state)
{
    (void)state;
    needs_nvrtc();
    assert_string_equal(
        children(1, "FLI_NVRTC=/none", "compile"),
        "rmsnorm run: FLI_NVRTC is '/none', which is neither libnvrtc nor a "
        "folder that has it\n");
    compile_again();
    assert_string_equal(children(1, "FLI_NVRTC=/none", "compile"),
                        "jit: store_1 from the cache\n");
}

/* --- children ---------------------------------------------------------------- */

static int compile_here(void)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    const fli__instance instance = instance_of(1, "");
    fli__call call = { .where = "rmsnorm run" };
    const fli__kernel *kernel;
    fli_context *ctx;

    options.cuda_arch = "sm_90a";
    options.log = take_line;
    if (fli_context_create(&ctx, fli_cuda(0), &options))
        return 1;
    call.ctx = ctx;
    if (fli__jit_kernel(&call, &instance, &kernel))
        printf("%s\n", fli_last_error());
    fputs(logged.text, stdout);
    fli_context_destroy(ctx);
    return 0;
}

static int describe_here(void)
{
    char text[1024];

    puts(fli_nvrtc_describe(text, sizeof(text)) ? text : fli_last_error());
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return !strcmp(argv[2], "compile") ? compile_here() : describe_here();
#define TEST(name) cmocka_unit_test_setup(name, begin)
    const struct CMUnitTest tests[] = {
        TEST(text_of_an_instance),
        TEST(too_many_defines),
        TEST(keys_tell_apart),
        TEST(compiles_and_reports),
        TEST(report_of_spills_and_shared),
        TEST(a_failure_is_remembered),
        TEST(an_entry_that_is_not_there),
        TEST(ptx_for_a_newer_gpu),
        TEST(threads_compile_once),
        TEST(contexts_compile_once),
        TEST(several_at_once),
        TEST(processes_compile_once),
        TEST(nvrtc_that_is_named),
        TEST(nvrtc_that_is_found),
        TEST(nvrtc_that_is_nowhere),
        TEST(without_nvrtc),
    };

    return RUN_JIT(tests);
}
