/* SPDX-License-Identifier: Apache-2.0 */
/* The memory, copies and graphs of the device that a model runs on.  A GPU's come
 * from a few entry points of libcuda.so.1, opened at run time and declared here,
 * so that building needs no CUDA; on the CPU all of it is host memory. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

/* CU(name, the symbol's suffix, arguments); pointers are those of the device. */
#define DRIVER(CU)                                                             \
    CU(cuGetErrorString, , (int, const char **))                               \
    CU(cuDeviceGet, , (int *, int))                                            \
    CU(cuDevicePrimaryCtxRetain, , (void **, int))                             \
    CU(cuCtxSetCurrent, , (void *))                                            \
    CU(cuMemAlloc, _v2, (void **, size_t))                                     \
    CU(cuMemHostAlloc, , (void **, size_t, unsigned))                          \
    CU(cuMemcpyAsync, , (void *, const void *, size_t, void *))                \
    CU(cuStreamCreate, , (void **, unsigned))                                  \
    CU(cuStreamSynchronize, , (void *))                                        \
    CU(cuStreamBeginCapture, _v2, (void *, int))                               \
    CU(cuStreamEndCapture, , (void *, void **))                                \
    CU(cuGraphInstantiateWithFlags, , (void **, void *, unsigned long long))   \
    CU(cuGraphDestroy, , (void *))                                             \
    CU(cuGraphLaunch, , (void *, void *))

static struct {
#define CU(name, suffix, arguments) int(*name) arguments;
    DRIVER(CU)
#undef CU
    void *stream; /* NULL: the device is the CPU */
} cu;

enum { NON_BLOCKING = 1, THREAD_LOCAL = 1 };

static void check(int result, const char *call)
{
    const char *text = NULL;

    if (!result)
        return;
    cu.cuGetErrorString(result, &text);
    die("%s failed: %s", call, text ? text : "unknown error");
}

#define CALL(name, ...) check(cu.name(__VA_ARGS__), #name)

/* From the file that the library has opened. */
static void load(void)
{
    const char *named = getenv("FLI_LIBCUDA");
    const char *file = named ? named : "libcuda.so.1";
    void *library = dlopen(file, RTLD_NOW), *symbol = NULL;

    if (!library)
        die("%s", dlerror());
#define CU(name, suffix, arguments)                                            \
    symbol = dlsym(library, #name #suffix);                                    \
    if (!symbol)                                                               \
        die("%.400s has no " #name #suffix, file);                             \
    memcpy(&cu.name, &symbol, sizeof(symbol));
    DRIVER(CU)
#undef CU
}

fli_stream device_open(const fli_context *ctx)
{
    const fli_device at = fli_context_device(ctx);
    void *context;
    int device;

    if (at.type != FLI_DEVICE_CUDA)
        return NULL;
    load();
    CALL(cuDeviceGet, &device, at.index);
    CALL(cuDevicePrimaryCtxRetain, &context, device);
    CALL(cuCtxSetCurrent, context);
    CALL(cuStreamCreate, &cu.stream, NON_BLOCKING);
    return cu.stream;
}

/* What CUDA gives goes with the process. */
void *device_take(void **memory, int64_t n, size_t size)
{
    void *block;

    if (!cu.stream)
        return take(memory, n, size);
    if ((double)n * (double)size > 1e15
        || cu.cuMemAlloc(&block, (size_t)n * size))
        die("out of memory on the GPU: %.0f MB",
            (double)n * (double)size / 1e6);
    return block;
}

void *device_take_pinned(void **memory, size_t bytes)
{
    void *block;

    if (!cu.stream)
        return take(memory, 1, bytes);
    CALL(cuMemHostAlloc, &block, bytes, 0);
    return memset(block, 0, bytes);
}

void device_copy(void *to, const void *from, size_t bytes)
{
    if (!cu.stream)
        memcpy(to, from, bytes);
    else if (bytes)
        CALL(cuMemcpyAsync, to, from, bytes, cu.stream);
}

void device_wait(void)
{
    if (cu.stream)
        CALL(cuStreamSynchronize, cu.stream);
}

void graph_begin(void)
{
    CALL(cuStreamBeginCapture, cu.stream, THREAD_LOCAL);
}

void *graph_end(void)
{
    void *graph, *executable;

    CALL(cuStreamEndCapture, cu.stream, &graph);
    CALL(cuGraphInstantiateWithFlags, &executable, graph, 0);
    CALL(cuGraphDestroy, graph);
    return executable;
}

void graph_launch(void *graph)
{
    CALL(cuGraphLaunch, graph, cu.stream);
}
