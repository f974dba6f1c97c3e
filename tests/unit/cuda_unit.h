/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests on the fake driver: what is there before each of them and must be
 * gone behind it. */
#ifndef TESTS_CUDA_UNIT_H
#define TESTS_CUDA_UNIT_H

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "device/cuda.h"
#include "fakecuda.h"

#define FLI_CU(name, suffix, arguments) int32_t name##suffix arguments;
FLI__CUDA_DRIVER(FLI_CU)
#undef FLI_CU

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static void *primary; /* of cuda:0, held so that it does not hide leaks */

static inline void *current_context(void)
{
    void *context;

    assert_int_equal(cuCtxGetCurrent(&context), 0);
    return context;
}

/* As a program does that uses CUDA on its own, with nothing current; whatever a
 * test that failed has left is thrown away. */
static inline int set_up(void **state)
{
    (void)state;
    fake_reset();
    if (cuInit(0) || cuCtxSetCurrent(NULL))
        return 1;
    while (fake_n_retained(0) > 0)
        cuDevicePrimaryCtxRelease_v2(0);
    return cuDevicePrimaryCtxRetain(&primary, 0);
}

static inline int tear_down(void **state)
{
    (void)state;
    fake_fail_at(-1, 0);
    assert_int_equal(fake_n_alive(), 0);
    assert_null(current_context());
    assert_int_equal(fake_n_retained(0), 1);
    return cuDevicePrimaryCtxRelease_v2(0);
}

static inline fli_context *create_cuda(void)
{
    fli_context *ctx = NULL;

    assert_ok(fli_context_create(&ctx, fli_cuda(0), NULL));
    assert_non_null(ctx);
    return ctx;
}

static inline fli_context *create_arch(const char *arch)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx = NULL;

    options.cuda_arch = arch;
    assert_ok(fli_context_create(&ctx, fli_cuda(0), &options));
    return ctx;
}

/* The status of a create that must leave *out NULL. */
static inline fli_status refused(fli_device device,
                                 const fli_context_options *options)
{
    fli_context *ctx = (fli_context *)&ctx;
    const fli_status status = fli_context_create(&ctx, device, options);

    assert_null(ctx);
    return status;
}

/* The text that call gives when the driver fails it. */
static inline void assert_driver_text(const char *where, const char *call)
{
    char text[256];

    snprintf(text, sizeof(text),
             "%s: %s failed: CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory "
             "access was encountered)",
             where, call);
    assert_string_equal(fli_last_error(), text);
}

#define CUDA_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
