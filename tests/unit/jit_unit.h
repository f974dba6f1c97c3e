/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of the JIT: a cache folder of their own, what was logged, a kernel to
 * compile, this program once more as a child. */
#ifndef TESTS_JIT_UNIT_H
#define TESTS_JIT_UNIT_H

#include "unit.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jit/cache.h"
#include "jit/compile.h"
#include "jit/nvrtc.h"

#define BASE "cuda/lib/base.cuh"

static char folder[] = "/tmp/test_jit.XXXXXX";
static char cache[64]; /* FLI_CACHE, made anew by each test */

static struct {
    pthread_mutex_t lock;
    char text[16384];
} logged = { PTHREAD_MUTEX_INITIALIZER, "" };

static inline void take_line(void *ctx, const char *line)
{
    (void)ctx;
    pthread_mutex_lock(&logged.lock);
    const size_t used = strlen(logged.text);

    snprintf(logged.text + used, sizeof(logged.text) - used, "%s\n", line);
    pthread_mutex_unlock(&logged.lock);
}

/* How often word is in text, in what was logged. */
static inline int n_of(const char *text, const char *word)
{
    int n = 0;

    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word))
        n++;
    return n;
}

static inline int n_logged(const char *word)
{
    return n_of(logged.text, word);
}

static inline fli_context *compiler_for(const char *arch)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx;

    options.cuda_arch = arch;
    options.log = take_line;
    assert_ok(fli_context_create(&ctx, fli_cuda(0), &options));
    return ctx;
}

/* A kernel that stores value; text goes in front of it. */
static inline fli__instance instance_of(int value, const char *text)
{
    static const char kernel[] =
        "struct args { int *p; };\n"
        "extern \"C\" __global__ void store(const __grid_constant__ args a)\n"
        "{ *a.p = VALUE; }\n";
    fli__instance instance;

    fli__instance_init(&instance, BASE, "store", "store_%d", value);
    fli__instance_define(&instance, "VALUE", value);
    instance.length +=
        snprintf(instance.defines + instance.length,
                 sizeof(instance.defines) - (size_t)instance.length, "%s%s",
                 text, kernel);
    return instance;
}

static inline const fli__kernel *kernel_of(const fli_context *ctx, int value)
{
    const fli__call call = { .ctx = ctx, .where = "rmsnorm run" };
    const fli__instance instance = instance_of(value, "");
    const fli__kernel *kernel = NULL;

    assert_ok(fli__jit_kernel(&call, &instance, &kernel));
    assert_non_null(kernel);
    return kernel;
}

static inline void run(const char *format, ...)
{
    char command[512];
    va_list args;

    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

/* The path of the one file in the cache whose name ends so; "" if there is none.
 */
static inline const char *file_in_cache(const char *ending)
{
    static char path[512];
    DIR *dir = opendir(cache);
    const struct dirent *entry;
    int n = 0;

    *path = 0;
    while (dir && (entry = readdir(dir))) {
        const size_t length = strlen(entry->d_name), tail = strlen(ending);

        if (length < tail || strcmp(entry->d_name + length - tail, ending))
            continue;
        snprintf(path, sizeof(path), "%s/%s", cache, entry->d_name);
        n++;
    }
    if (dir)
        closedir(dir);
    assert_true(n <= 1);
    return path;
}

static inline int n_files(void)
{
    DIR *dir = opendir(cache);
    int n = -2; /* . and .. */

    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return dir ? n : 0;
}

static inline int mode_of(const char *path)
{
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    return status.st_mode & 0777;
}

static inline int begin(void **state)
{
    (void)state;
    *logged.text = 0;
    run("rm -rf %s", cache);
    setenv("FLI_CACHE", cache, 1);
    setenv("FLI_LOG", "jit", 1);
    unsetenv("FLI_PACK");
    return 0;
}

/* Kernel 1, on a new context. */
static inline void compile_again(void)
{
    fli_context *ctx = compiler_for("sm_90a");

    *logged.text = 0;
    kernel_of(ctx, 1);
    fli_context_destroy(ctx);
}

/* --- children --------------------------------------------------------------- */

static const char *self; /* this program */

/* Runs n children at once, each as "env <environment> <self> --child <what>", and
 * returns what they wrote; each must end with 0. */
static inline const char *children(int n, const char *environment,
                                   const char *what)
{
    static char text[8192];
    FILE *pipes[8];
    char command[2048];
    size_t used = 0;

    snprintf(command, sizeof(command), "env %s %s --child %s", environment,
             self, what);
    for (int i = 0; i < n; i++)
        pipes[i] = popen(command, "r");
    for (int i = 0; i < n; i++) {
        assert_non_null(pipes[i]);
        used += fread(text + used, 1, sizeof(text) - 1 - used, pipes[i]);
        assert_int_equal(pclose(pipes[i]), 0);
    }
    text[used] = 0;
    return text;
}

static inline void needs_nvrtc(void)
{
    const char *why;

    if (fli__nvrtc_open(&why))
        return;
    printf("%s\n", why);
    skip();
}

/* Makes the folder, and removes it behind the tests. */
#define RUN_JIT(tests)                                                         \
    (begin_all(argv[0]), end_all(cmocka_run_group_tests(tests, NULL, NULL)))

static inline void begin_all(const char *program)
{
    self = program;
    if (!mkdtemp(folder))
        perror(folder);
    snprintf(cache, sizeof(cache), "%s/cache", folder);
}

static inline int end_all(int status)
{
    run("rm -rf %s", folder);
    return status;
}

#endif
