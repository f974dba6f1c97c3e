/* SPDX-License-Identifier: Apache-2.0 */
/* The cache folder and what may be wrong with it, and packs. */
#define _GNU_SOURCE

#include "jit_unit.h"

#include <signal.h>
#include <sys/resource.h>

#include <flashinfer/jit.h>

/* --- the cache folder ------------------------------------------------------- */

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

int main(int argc, char **argv)
{
    (void)argc;
#define TEST(name) cmocka_unit_test_setup(name, begin)
    const struct CMUnitTest tests[] = {
        TEST(found_in_the_cache),
        TEST(damaged_files_are_replaced),
        TEST(a_file_of_another_kernel),
        TEST(a_folder_that_others_write),
        TEST(a_folder_of_somebody_else),
        TEST(a_folder_that_cannot_be),
        TEST(folders_by_default),
        TEST(a_full_disk),
        TEST(the_folder_is_listed_and_cleared),
        TEST(a_pack_has_all_that_is_sound),
        TEST(damaged_packs),
    };

    return RUN_JIT(tests);
}
