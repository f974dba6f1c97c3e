/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for libnvrtc and opens it: FLI_NVRTC, what the process has loaded, Python
 * wheels, conda, the system, a toolkit. */
#define _GNU_SOURCE /* dladdr, RTLD_NOLOAD */

#include "jit/nvrtc.h"

#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/env.h"
#include "jit/library.h"

#define WHEELS "/nvidia/*/lib"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static fli__nvrtc nvrtc;
static int is_open;
static char reason[600];

static const char *const names[] = { "libnvrtc.so.13", "libnvrtc.so.12",
                                     "libnvrtc.so" };

static const fli__library_names library_names = { names, sizeof(names)
                                                             / sizeof(*names) };

/* The folder of path, which is cut there. */
static char *folder_of(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash)
        *slash = 0;
    return path;
}

/* Wheels beside this library: it is in site-packages, or a folder or two below.
 */
static void *open_beside(void)
{
    static const char *const rests[] = { WHEELS, "/.." WHEELS,
                                         "/../.." WHEELS };
    void *library = NULL;
    char path[512];
    Dl_info info;

    if (!dladdr((void *)&once, &info))
        return NULL;
    snprintf(path, sizeof(path), "%s", info.dli_fname);
    folder_of(path);
    for (size_t i = 0; i < sizeof(rests) / sizeof(*rests) && !library; i++)
        library = fli__library_in(&library_names, path, rests[i]);
    return library;
}

static void *open_python(const char *prefix)
{
    return fli__library_in(&library_names, prefix,
                           "/lib/python*/site-packages" WHEELS);
}

static void *search(void)
{
    const char *const conda = fli__env_get(FLI__ENV_CONDA_PREFIX);
    void *library = fli__library_named(&library_names, RTLD_NOLOAD);

    if (!library)
        library = open_beside();
    if (!library)
        library = open_python(fli__env_get(FLI__ENV_VIRTUAL_ENV));
    if (!library)
        library = fli__library_in(&library_names, conda, "/lib");
    if (!library)
        library = open_python(conda);
    if (!library)
        library = fli__library_named(&library_names, 0);
    if (!library)
        library = fli__library_in(&library_names,
                                  fli__env_get(FLI__ENV_CUDA_HOME), "/lib64");
    if (!library)
        library = fli__library_in(&library_names,
                                  fli__env_get(FLI__ENV_CUDA_PATH), "/lib64");
    if (!library)
        library = fli__library_in(&library_names, "/usr/local/cuda", "/lib64");
    return library;
}

static void *search_or_given(void)
{
    const char *const given = fli__env_get(FLI__ENV_FLI_NVRTC);
    void *library;

    if (given) {
        library = fli__library_in(&library_names, given, "");
        if (!library)
            library = dlopen(given, RTLD_NOW | RTLD_LOCAL);
        if (!library)
            snprintf(reason, sizeof(reason),
                     "FLI_NVRTC is '%s', which is neither libnvrtc nor a "
                     "folder that has it",
                     given);
        return library;
    }
    library = search();
    if (!library)
        snprintf(reason, sizeof(reason),
                 "%s not found; looked in: FLI_NVRTC, loaded libraries, "
                 "nvidia/*/lib beside libflashinfer.so and in $VIRTUAL_ENV, "
                 "$CONDA_PREFIX/lib, the system, $CUDA_HOME/lib64",
                 names[0]);
    return library;
}

/* libnvrtc opens its builtins by name when it compiles first; wheels have no
 * RPATH that would find them, so they are loaded by path before that. */
static void open_builtins(void)
{
    char folder[sizeof(nvrtc.path)], pattern[sizeof(folder) + 32];
    Dl_info info;
    glob_t found;

    if (!dladdr(*(void **)&nvrtc.nvrtcVersion, &info))
        return;
    snprintf(nvrtc.path, sizeof(nvrtc.path), "%s", info.dli_fname);
    snprintf(folder, sizeof(folder), "%s", info.dli_fname);
    snprintf(pattern, sizeof(pattern), "%s/libnvrtc-builtins.so*",
             folder_of(folder));
    if (glob(pattern, 0, NULL, &found))
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_LOCAL);
    globfree(&found);
}

/* The name of an entry point that library lacks; NULL if it has all. */
static const char *take_symbols(void *library)
{
#define FLI_RTC(name, arguments)                                               \
    *(void **)&nvrtc.name = dlsym(library, #name);                             \
    if (!nvrtc.name)                                                           \
        return #name;
    FLI__NVRTC(FLI_RTC)
#undef FLI_RTC
    return NULL;
}

static void open_once(void)
{
    void *const library = search_or_given();

    if (!library)
        return;
    const char *const lacking = take_symbols(library);

    if (lacking) {
        snprintf(reason, sizeof(reason), "libnvrtc has no %s: it is too old",
                 lacking);
        return;
    }
    open_builtins();
    if (nvrtc.nvrtcVersion(&nvrtc.major, &nvrtc.minor)
        || nvrtc.nvrtcGetNumSupportedArchs(&nvrtc.n_archs) || nvrtc.n_archs < 1
        || nvrtc.n_archs > FLI__NVRTC_MAX_ARCHS
        || nvrtc.nvrtcGetSupportedArchs(nvrtc.archs)) {
        snprintf(reason, sizeof(reason), "%s does not tell its version",
                 nvrtc.path);
        return;
    }
    is_open = 1;
}

const fli__nvrtc *fli__nvrtc_open(const char **why)
{
    pthread_once(&once, open_once);
    *why = reason;
    return is_open ? &nvrtc : NULL;
}
