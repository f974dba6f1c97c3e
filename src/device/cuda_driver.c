/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the driver.  It is never closed: its threads and exit handlers stay. */
#include "device/cuda_driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#include "core/env.h"

/* As cuDriverGetVersion tells it.  12.0: lazy loading, clusters and programmatic
 * launches are all there. */
#define NEEDED 12000

#define N_SYMBOLS (sizeof(fli__cuda_driver) / sizeof(void *))

static const char *const symbols[N_SYMBOLS] = {
#define FLI_CU(name, suffix, arguments) #name #suffix,
    FLI__CUDA_DRIVER(FLI_CU)
#undef FLI_CU
};

/* dlsym gives objects, not functions: the union is the way between them. */
static union {
    fli__cuda_driver driver;
    void *symbols[N_SYMBOLS];
} table;
static char failure[320]; /* "" once the driver is open */
static pthread_once_t once = PTHREAD_ONCE_INIT;

const char *fli__cuda_error_text(const fli__cuda_driver *driver, int32_t result,
                                 char *buf, size_t n)
{
    const char *name = NULL;
    const char *text = NULL;

    driver->cuGetErrorName(result, &name);
    driver->cuGetErrorString(result, &text);
    if (name && text)
        snprintf(buf, n, "%s (%s)", name, text);
    else
        snprintf(buf, n, "CUDA error %d", (int)result);
    return buf;
}

/* The first symbol that library does not have, or NULL. */
static const char *bind(void *library)
{
    const char *missing = NULL;

    for (size_t i = 0; i < N_SYMBOLS; i++) {
        table.symbols[i] = dlsym(library, symbols[i]);
        if (!table.symbols[i] && !missing)
            missing = symbols[i];
    }
    return missing;
}

static void init(const char *file)
{
    char text[160];
    const int32_t result = table.driver.cuInit(0);

    if (result)
        snprintf(
            failure, sizeof(failure), "cuInit of %s failed: %s", file,
            fli__cuda_error_text(&table.driver, result, text, sizeof(text)));
}

static void open_once(void)
{
    const char *chosen = fli__env_get(FLI__ENV_FLI_LIBCUDA);
    const char *file = chosen ? chosen : "libcuda.so.1";
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    int32_t version = 0;

    if (!library) {
        snprintf(failure, sizeof(failure), "the driver cannot be opened (%s)",
                 dlerror());
        return;
    }
    const char *missing = bind(library);

    if (table.driver.cuDriverGetVersion)
        table.driver.cuDriverGetVersion(&version);
    if (missing && !version)
        snprintf(failure, sizeof(failure), "%s has no %s, expected a driver",
                 file, missing);
    else if (missing || version < NEEDED)
        snprintf(
            failure, sizeof(failure),
            "%s is of CUDA %d.%d%s%s, expected the driver of CUDA %d.%d or "
            "later",
            file, (int)(version / 1000), (int)(version % 1000 / 10),
            missing ? " without " : "", missing ? missing : "", NEEDED / 1000,
            NEEDED % 1000 / 10);
    else
        init(file);
}

const fli__cuda_driver *fli__cuda_driver_open(const char **why)
{
    pthread_once(&once, open_once);
    *why = failure;
    return *failure ? NULL : &table.driver;
}
