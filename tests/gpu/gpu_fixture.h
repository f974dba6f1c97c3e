/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of one program share.  The last header of that program. */
#ifndef TESTS_GPU_FIXTURE_H
#define TESTS_GPU_FIXTURE_H

#include "gpu_unit.h"

/* On device 0, with a stream that does not wait for the default one. */
static fli_context *ctx;
static gpu_stream stream;

static inline int setup_gpu(void **state)
{
    (void)state;
    gpu_open();
    stream = gpu_stream_create();
    return fli_context_create(&ctx, fli_cuda(0), NULL);
}

static inline int teardown_gpu(void **state)
{
    (void)state;
    fli_context_destroy(ctx);
    return 0;
}

#endif
