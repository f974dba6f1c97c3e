/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests on a GPU include: cmocka, and checks that say what differs. */
#ifndef TESTS_GPU_UNIT_H
#define TESTS_GPU_UNIT_H

#include "../unit/unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "gpu.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof(*(array))))

static inline void *xalloc(size_t bytes)
{
    void *const memory = calloc(1, bytes ? bytes : 1);

    if (!memory)
        fail_msg("no memory for %zu bytes", bytes);
    return memory;
}

/* The device did all that it was asked to. */
static inline void assert_waits(const char *name)
{
    const int result = gpu_wait();

    if (result) { /* the CUDA context is lost, and every test behind it */
        printf("# %s: the device failed with CUDA error %d\n", name, result);
        fflush(stdout);
        exit(3);
    }
}

/* The same, and no kernel had anything to tell. */
static inline void assert_well(fli_context *ctx, const char *name)
{
    assert_waits(name);
    if (fli_context_check(ctx))
        fail_msg("%s: %s", name, fli_last_error());
}

/* The first byte that differs; n where none does. */
static inline size_t first_difference(const void *a, const void *b, size_t n)
{
    const unsigned char *const x = a, *const y = b;
    size_t i = 0;

    while (i < n && x[i] == y[i])
        i++;
    return i;
}

static inline void assert_same(const char *name, const void *got,
                               const void *want, size_t n)
{
    const size_t i = first_difference(got, want, n);

    if (i < n)
        fail_msg("%s: byte %zu of %zu is %02x, expected %02x", name, i, n,
                 ((const unsigned char *)got)[i],
                 ((const unsigned char *)want)[i]);
}

/* What device memory holds, to be freed. */
static inline void *received(const void *device, size_t bytes)
{
    void *const host = xalloc(bytes);

    if (bytes)
        gpu_receive(host, device, bytes);
    return host;
}

/* A copy of host memory on the device. */
static inline void *sent(const void *host, size_t bytes)
{
    void *const device = gpu_alloc(bytes);

    if (bytes)
        gpu_send(device, host, bytes);
    return device;
}

static inline fli_context *create_context(const char *impl)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx = NULL;

    options.impl = impl;
    if (fli_context_create(&ctx, fli_cuda(0), &options))
        fail_msg("%s", fli_last_error());
    return ctx;
}

#endif
