/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for libcublasLt and opens it: FLI_CUBLASLT, what the process has loaded,
 * Python wheels, conda, the system, a toolkit. */
#define _GNU_SOURCE /* RTLD_NOLOAD */

#include "gemm/cublaslt.h"

#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>

#include "core/env.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static fli__cublaslt lt;
static const char *reason;

static const char *const names[] = { "libcublasLt.so.13", "libcublasLt.so.12" };

#define N_NAMES (sizeof(names) / sizeof(*names))

/* Where it may lie under the folder that a variable names. */
static const struct {
    fli__env root;
    const char *folders;
} places[] = {
    { FLI__ENV_VIRTUAL_ENV, "lib/python*/site-packages/nvidia/*/lib" },
    { FLI__ENV_CONDA_PREFIX, "lib" },
    { FLI__ENV_CONDA_PREFIX, "lib/python*/site-packages/nvidia/*/lib" },
    { FLI__ENV_CUDA_HOME, "lib64" },
    { FLI__ENV_CUDA_PATH, "lib64" },
};

/* The first that opens in the folders of a pattern. */
static void *open_folders(const char *root, const char *folders)
{
    void *library = NULL;

    for (size_t i = 0; i < N_NAMES && !library; i++) {
        char pattern[1024];
        glob_t found;

        snprintf(pattern, sizeof(pattern), "%s/%s/%s", root, folders, names[i]);
        if (glob(pattern, 0, NULL, &found))
            continue;
        for (size_t j = 0; j < found.gl_pathc && !library; j++)
            library = dlopen(found.gl_pathv[j], RTLD_NOW | RTLD_LOCAL);
        globfree(&found);
    }
    return library;
}

static void *open_names(int flags)
{
    void *library = NULL;

    for (size_t i = 0; i < N_NAMES && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | flags);
    return library;
}

static void *search(void)
{
    const char *const given = fli__env_get(FLI__ENV_FLI_CUBLASLT);
    void *library;

    if (given) {
        library = open_folders(given, ".");
        return library ? library : dlopen(given, RTLD_NOW | RTLD_LOCAL);
    }
    library = open_names(RTLD_NOLOAD);
    for (size_t i = 0; i < sizeof(places) / sizeof(*places) && !library; i++) {
        const char *const root = fli__env_get(places[i].root);

        if (root)
            library = open_folders(root, places[i].folders);
    }
    if (!library)
        library = open_names(0);
    return library ? library : open_folders("/usr/local/cuda", "lib64");
}

static void open_once(void)
{
    void *const library = search();

    if (!library) {
        reason = "libcublasLt.so.13 or .12 not found";
        return;
    }
#define FLI_LT(name, arguments)                                                \
    *(void **)&lt.name = dlsym(library, #name);                                \
    if (!lt.name)                                                              \
        reason = "libcublasLt has no " #name;
    FLI__CUBLASLT(FLI_LT)
#undef FLI_LT
}

const fli__cublaslt *fli__cublaslt_open(const char **why)
{
    pthread_once(&once, open_once);
    *why = reason;
    return reason ? NULL : &lt;
}
