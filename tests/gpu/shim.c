/* SPDX-License-Identifier: Apache-2.0 */
/* A driver for FLI_LIBCUDA that counts the calls of each entry point and hands
 * them on to libcuda.so.1.
 *
 * All arguments are integers or pointers, six at most, which every calling
 * convention at hand passes in registers: they go on unseen. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda_driver.h"

typedef uintptr_t word;
typedef int32_t entry(word, word, word, word, word, word);

enum {
#define FLI_CU(name, suffix, arguments) AT_##name,
    FLI__CUDA_DRIVER(FLI_CU)
#undef FLI_CU
        N_ENTRIES
};

static const char *const names[N_ENTRIES] = {
#define FLI_CU(name, suffix, arguments) #name,
    FLI__CUDA_DRIVER(FLI_CU)
#undef FLI_CU
};
static const char *const symbols[N_ENTRIES] = {
#define FLI_CU(name, suffix, arguments) #name #suffix,
    FLI__CUDA_DRIVER(FLI_CU)
#undef FLI_CU
};

static entry *entries[N_ENTRIES];
static atomic_long counts[N_ENTRIES];

__attribute__((constructor)) static void bind(void)
{
    void *const library = dlopen("libcuda.so.1", RTLD_NOW);

    for (int i = 0; i < N_ENTRIES && library; i++) {
        void *const symbol = dlsym(library, symbols[i]);

        memcpy(&entries[i], &symbol, sizeof(symbol));
    }
}

static int32_t hand_on(int i, const word a[6])
{
    atomic_fetch_add(&counts[i], 1);
    return entries[i] ? entries[i](a[0], a[1], a[2], a[3], a[4], a[5]) : 999;
}

#pragma GCC visibility push(default)

/* Calls of name so far, of all entry points for NULL. */
long shim_count(const char *name);

long shim_count(const char *name)
{
    long n = 0;

    for (int i = 0; i < N_ENTRIES; i++)
        if (!name || !strcmp(name, names[i]))
            n += atomic_load(&counts[i]);
    return n;
}

#define FLI_CU(name, suffix, arguments)                                        \
    int32_t name##suffix(word a, word b, word c, word d, word e, word f);      \
    int32_t name##suffix(word a, word b, word c, word d, word e, word f)       \
    {                                                                          \
        const word all[] = { a, b, c, d, e, f };                               \
                                                                               \
        return hand_on(AT_##name, all);                                        \
    }
FLI__CUDA_DRIVER(FLI_CU)
#undef FLI_CU

#pragma GCC visibility pop
