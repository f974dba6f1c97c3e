/* SPDX-License-Identifier: Apache-2.0 */
/* The JIT with the real NVRTC and no device: instances, reports, the cache folder
 * and what may be wrong with it, failures, packs.  What must start in a process
 * of its own (NVRTC is looked for once) is a child: this program with --child. */
#define _GNU_SOURCE

#include "jit_unit.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <flashinfer/jit.h>

#include "jit/pack.h"

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

/* --- the cache folder ------------------------------------------------------- */

static void compile_again(void)
{
    fli_context *ctx = compiler_for("sm_90a");

    *logged.text = 0;
    kernel_of(ctx, 1);
    fli_context_destroy(ctx);
}

static void found_in_the_cache(void **state)
{
    (void)state;
    needs_nvrtc();
    compile_again();
    assert_int_equal(n_logged("compiled for"), 1);
    compile_again();
    assert_int_equal(n_logged("compiled for"), 0);
    assert_int_equal(n_logged("store_1 from the cache"), 1);
}

/* Changes one byte, or cuts the file there. */
static void damage(const char *path, long at, int cut)
{
    FILE *file = fopen(path, "r+b");

    assert_non_null(file);
    if (cut) {
        assert_int_equal(ftruncate(fileno(file), at), 0);
    } else {
        fseek(file, at, SEEK_SET);
        const int byte = fgetc(file);

        fseek(file, at, SEEK_SET);
        fputc(byte ^ 1, file);
    }
    fclose(file);
}

static void damaged_files_are_replaced(void **state)
{
    static const struct {
        long at;
        int cut;
        const char *problem;
    } damages[] = {
        { 0, 1, "is cut short" },   { 100, 1, "is cut short" },
        { 256, 1, "is cut short" }, { 1000, 1, "is cut short" },
        { 0, 0, "is no kernel" },   { 8, 0, "is of another version" },
        { 20, 0, "is damaged" },    { 112, 0, "is damaged" },
        { 200, 0, "is damaged" },   { 300, 0, "is damaged" },
        { 2000, 0, "is damaged" },
    };

    (void)state;
    needs_nvrtc();
    compile_again();
    for (size_t i = 0; i < sizeof(damages) / sizeof(*damages); i++) {
        damage(file_in_cache(".cubin"), damages[i].at, damages[i].cut);
        compile_again();
        assert_int_equal(n_logged(damages[i].problem), 1);
        assert_int_equal(n_logged("compiling again"), 1);
        assert_int_equal(n_logged("compiled for"), 1);
        compile_again();
        assert_int_equal(n_logged("from the cache"), 1);
    }
}

/* A sound file under another kernel's name. */
static void a_file_of_another_kernel(void **state)
{
    char name[512];

    (void)state;
    needs_nvrtc();
    compile_again();
    snprintf(name, sizeof(name), "%s", file_in_cache(".cubin"));
    run("mv %s %s/keep", name, cache);
    fli_context *ctx = compiler_for("sm_90a");

    kernel_of(ctx, 2);
    fli_context_destroy(ctx);
    run("mv %s/store_2-*.cubin %s", cache, name);
    compile_again();
    assert_int_equal(n_logged("is of another kernel"), 1);
    assert_int_equal(n_logged("compiled for"), 1);
}

/* Compiles without a cache, for the reason that is logged. */
static void assert_without_cache(const char *reason)
{
    compile_again();
    assert_int_equal(n_logged(reason), 1);
    assert_int_equal(n_logged("going on without"), 1);
    assert_int_equal(n_logged("compiled for"), 1);
}

static void a_folder_that_others_write(void **state)
{
    static const int modes[] = { 0770, 0702, 0777 };

    (void)state;
    needs_nvrtc();
    run("mkdir %s", cache);
    for (int i = 0; i < 3; i++) {
        char text[64];

        chmod(cache, (mode_t)modes[i]);
        snprintf(text, sizeof(text), "has mode %03o", (unsigned)modes[i]);
        assert_without_cache(text);
        assert_int_equal(n_files(), 0);
    }
    chmod(cache, 0755);
    compile_again();
    assert_int_equal(n_files(), 2);
}

static void a_folder_of_somebody_else(void **state)
{
    (void)state;
    needs_nvrtc();
    if (geteuid()) {
        setenv("FLI_CACHE", "/usr", 1);
    } else {
        run("mkdir %s", cache);
        assert_int_equal(chown(cache, 12345, 12345), 0);
    }
    assert_without_cache("belongs to user");
}

static void a_folder_that_cannot_be(void **state)
{
    char path[128];

    (void)state;
    needs_nvrtc();
    snprintf(path, sizeof(path), "%s/file", folder);
    run("touch %s", path);
    setenv("FLI_CACHE", path, 1);
    assert_without_cache("is no folder");
    snprintf(path, sizeof(path), "%s/file/folder", folder);
    setenv("FLI_CACHE", path, 1);
    assert_without_cache("cannot be made: Not a directory");
    snprintf(path, sizeof(path), "%s/deep/er/cache", folder);
    setenv("FLI_CACHE", path, 1);
    compile_again();
    assert_int_equal(n_logged("going on without"), 0);
    assert_int_equal(mode_of(path), 0700);
    run("rm -r %s/deep", folder);
}

static void folders_by_default(void **state)
{
    char path[256], name[256];

    (void)state;
    unsetenv("FLI_CACHE");
    setenv("XDG_CACHE_HOME", "/x", 1);
    assert_ok(fli__cache_name(name, sizeof(name)));
    assert_string_equal(name, "/x/flashinfer");
    unsetenv("XDG_CACHE_HOME");
    snprintf(path, sizeof(path), "%s/.cache/flashinfer", getenv("HOME"));
    assert_ok(fli__cache_name(name, sizeof(name)));
    assert_string_equal(name, path);
    char *home = strdup(getenv("HOME"));

    unsetenv("HOME");
    assert_fails(fli__cache_name(name, sizeof(name)), IO,
                 "cache: none of FLI_CACHE, XDG_CACHE_HOME and HOME is set");
    setenv("HOME", home, 1);
    free(home);
}

/* No file may grow: as when the disk is full. */
static void a_full_disk(void **state)
{
    struct rlimit old, none;

    (void)state;
    needs_nvrtc();
    run("mkdir -m 700 %s", cache);
    getrlimit(RLIMIT_FSIZE, &old);
    none = old;
    none.rlim_cur = 16;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &none);
    compile_again();
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(n_logged("cannot be written: File too large"), 2);
    assert_int_equal(n_logged("compiled for"), 1);
    assert_int_equal(n_files(), 0);
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

    if (strchr(text, '/') == strstr(text, "/libnvrtc")) {
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

/* --- lists and packs --------------------------------------------------------- */

typedef struct {
    int n, n_damaged;
    char names[256]; /* of the sound ones */
} found;

static void take_file(void *ctx, const fli_kernel_file *file)
{
    found *const to = ctx;
    const size_t used = strlen(to->names);

    to->n++;
    to->n_damaged += !!file->problem;
    if (file->problem)
        return;
    assert_string_equal(file->arch, "sm_90a");
    assert_in_range(file->registers, 2, 64);
    assert_true(file->bytes > 1000 && file->seconds > 0);
    assert_true(file->nvrtc_version >= 12000 && !file->is_ptx);
    snprintf(to->names + used, sizeof(to->names) - used, "%s ", file->name);
}

/* Kernels 1 to n into the cache folder. */
static void compile_some(int n)
{
    fli_context *ctx = compiler_for("sm_90a");

    for (int i = 1; i <= n; i++)
        kernel_of(ctx, i);
    fli_context_destroy(ctx);
}

static void the_folder_is_listed_and_cleared(void **state)
{
    char text[256];
    found all = { 0 };
    int32_t n = -1;

    (void)state;
    needs_nvrtc();
    assert_int_equal(fli_cache_folder(text, sizeof(text)), strlen(cache));
    assert_string_equal(text, cache);
    assert_ok(fli_cache_list(take_file, &all));
    assert_ok(fli_cache_clear(&n));
    assert_true(all.n == 0 && n == 0);
    assert_null(opendir(cache)); /* looking makes no folder */
    compile_some(2);
    run("touch %s/notes.txt %s/other-0123.cubin", cache, cache);
    run("touch %s/x-0123456789abcdef.cubin %s/x-0123456789abcdef.cubin.Ab1xyz",
        cache, cache);
    assert_ok(fli_cache_list(take_file, &all));
    assert_true(all.n == 3 && all.n_damaged == 1);
    assert_non_null(strstr(all.names, "store_1 "));
    assert_non_null(strstr(all.names, "store_2 "));
    assert_ok(fli_cache_clear(&n));
    assert_int_equal(n, 6);
    assert_int_equal(n_files(), 2);
    assert_fails(fli_cache_list(NULL, NULL), INVALID_ARGUMENT,
                 "cache list: visit is NULL, expected a function");
}

static void a_pack_has_all_that_is_sound(void **state)
{
    char path[256], text[512];
    found all = { 0 };
    int32_t n = 0;

    (void)state;
    needs_nvrtc();
    snprintf(path, sizeof(path), "%s/some.pack", folder);
    assert_fails(fli_pack_write(path, &n), IO,
                 "pack write: the cache folder has no kernels");
    compile_some(9);
    run("echo >%s/x-0123456789abcdef.cubin", cache);
    assert_ok(fli_pack_write(path, &n));
    assert_int_equal(n, 9);
    assert_ok(fli_pack_list(path, take_file, &all));
    assert_true(all.n == 9 && all.n_damaged == 0);
    for (int i = 1; i <= 9; i++) {
        snprintf(text, sizeof(text), "store_%d ", i);
        assert_non_null(strstr(all.names, text));
    }
    assert_ok(fli_pack_write(path, NULL)); /* in its place */
    assert_int_equal(fli_pack_write("/dev/null/x", NULL), FLI_IO);
    assert_string_equal(fli_last_error(),
                        "pack write: /dev/null/x: Not a directory");
    setenv("FLI_PACK", path, 1);
    assert_int_equal(fli_pack_path(text, sizeof(text)), strlen(path));
    assert_string_equal(text, path);
}

static void damaged_packs(void **state)
{
    char path[256], text[512];
    found all = { 0 };

    (void)state;
    needs_nvrtc();
    snprintf(path, sizeof(path), "%s/some.pack", folder);
    compile_some(3);
    assert_ok(fli_pack_write(path, NULL));
    damage(path, 64 + 3 * 64 + 300, 0); /* an image */
    assert_ok(fli_pack_list(path, take_file, &all));
    assert_true(all.n == 3 && all.n_damaged == 1);
    damage(path, 64 + 3 * 64 + 2000, 1);
    all = (found){ 0 };
    assert_ok(fli_pack_list(path, take_file, &all));
    assert_true(all.n == 3 && all.n_damaged == 3);
    damage(path, 64 + 70, 0); /* the index */
    snprintf(text, sizeof(text), "pack: the index of %s is damaged", path);
    assert_fails(fli_pack_list(path, take_file, &all), IO, text);
    damage(path, 12, 0); /* the number of kernels, 3 to 2 */
    assert_fails(fli_pack_list(path, take_file, &all), IO, text);
    damage(path, 8, 0);
    snprintf(text, sizeof(text), "pack: %s has version 0, expected 1", path);
    assert_fails(fli_pack_list(path, take_file, &all), IO, text);
    damage(path, 40, 1);
    snprintf(text, sizeof(text), "pack: %s is no pack of kernels", path);
    assert_fails(fli_pack_list(path, take_file, &all), IO, text);
    assert_fails(fli_pack_list("/none", take_file, &all), IO,
                 "pack: /none: No such file or directory");
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
        TEST(found_in_the_cache),
        TEST(damaged_files_are_replaced),
        TEST(a_file_of_another_kernel),
        TEST(a_folder_that_others_write),
        TEST(a_folder_of_somebody_else),
        TEST(a_folder_that_cannot_be),
        TEST(folders_by_default),
        TEST(a_full_disk),
        TEST(threads_compile_once),
        TEST(contexts_compile_once),
        TEST(several_at_once),
        TEST(processes_compile_once),
        TEST(nvrtc_that_is_named),
        TEST(nvrtc_that_is_found),
        TEST(nvrtc_that_is_nowhere),
        TEST(without_nvrtc),
        TEST(the_folder_is_listed_and_cleared),
        TEST(a_pack_has_all_that_is_sound),
        TEST(damaged_packs),
    };

    return RUN_JIT(tests);
}
