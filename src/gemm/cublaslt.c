/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for libcublasLt and opens it: FLI_CUBLASLT, what the process has loaded,
 * Python wheels, conda, the system, a toolkit. */
#define _GNU_SOURCE /* RTLD_NOLOAD */

#include "gemm/cublaslt.h"

#include <dlfcn.h>
#include <pthread.h>

#include "core/env.h"
#include "jit/library.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static fli__cublaslt lt;
static const char *reason;

static const char *const names[] = { "libcublasLt.so.13", "libcublasLt.so.12" };

static const fli__library_names library_names = { names, sizeof(names)
                                                             / sizeof(*names) };

/* Where it may lie under the folder that a variable names. */
static const struct {
    fli__env root;
    const char *folders;
} places[] = {
    { FLI__ENV_VIRTUAL_ENV, "/lib/python*/site-packages/nvidia/*/lib" },
    { FLI__ENV_CONDA_PREFIX, "/lib" },
    { FLI__ENV_CONDA_PREFIX, "/lib/python*/site-packages/nvidia/*/lib" },
    { FLI__ENV_CUDA_HOME, "/lib64" },
    { FLI__ENV_CUDA_PATH, "/lib64" },
};

static void *search(void)
{
    const char *const given = fli__env_get(FLI__ENV_FLI_CUBLASLT);
    void *library;

    if (given) {
        library = fli__library_in(&library_names, given, "");
        return library ? library : dlopen(given, RTLD_NOW | RTLD_LOCAL);
    }
    library = fli__library_named(&library_names, RTLD_NOLOAD);
    for (size_t i = 0; i < sizeof(places) / sizeof(*places) && !library; i++)
        library = fli__library_in(&library_names, fli__env_get(places[i].root),
                                  places[i].folders);
    if (!library)
        library = fli__library_named(&library_names, 0);
    return library
               ? library
               : fli__library_in(&library_names, "/usr/local/cuda", "/lib64");
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
