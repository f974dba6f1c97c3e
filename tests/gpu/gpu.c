/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* GPU_CU(name, the symbol's suffix, arguments) */
#define GPU_DRIVER(GPU_CU)                                                     \
    GPU_CU(cuInit, "", (unsigned))                                             \
    GPU_CU(cuDeviceGet, "", (int *, int))                                      \
    GPU_CU(cuDevicePrimaryCtxRetain, "", (void **, int))                       \
    GPU_CU(cuCtxCreate, "_v2", (void **, unsigned, int))                       \
    GPU_CU(cuCtxSetCurrent, "", (void *))                                      \
    GPU_CU(cuCtxSynchronize, "", (void))                                       \
    GPU_CU(cuMemAlloc, "_v2", (uint64_t *, size_t))                            \
    GPU_CU(cuMemAllocManaged, "", (uint64_t *, size_t, unsigned))              \
    GPU_CU(cuMemFree, "_v2", (uint64_t))                                       \
    GPU_CU(cuMemcpyHtoD, "_v2", (uint64_t, const void *, size_t))              \
    GPU_CU(cuMemcpyDtoH, "_v2", (void *, uint64_t, size_t))                    \
    GPU_CU(cuMemsetD8, "_v2", (uint64_t, unsigned char, size_t))               \
    GPU_CU(cuStreamCreate, "", (void **, unsigned))                            \
    GPU_CU(cuStreamSynchronize, "", (void *))                                  \
    GPU_CU(cuStreamBeginCapture, "_v2", (void *, int))                         \
    GPU_CU(cuStreamEndCapture, "", (void *, void **))                          \
    GPU_CU(cuGraphInstantiateWithFlags, "",                                    \
           (void **, void *, unsigned long long))                              \
    GPU_CU(cuGraphLaunch, "", (void *, void *))                                \
    GPU_CU(cuGraphExecDestroy, "", (void *))                                   \
    GPU_CU(cuGraphDestroy, "", (void *))                                       \
    GPU_CU(cuEventCreate, "", (void **, unsigned))                             \
    GPU_CU(cuEventRecord, "", (void *, void *))                                \
    GPU_CU(cuEventSynchronize, "", (void *))                                   \
    GPU_CU(cuEventElapsedTime, "", (float *, void *, void *))                  \
    GPU_CU(cuEventDestroy, "_v2", (void *))

static struct {
#define GPU_CU(name, suffix, arguments) int(*name) arguments;
    GPU_DRIVER(GPU_CU)
#undef GPU_CU
} cu;

enum { NON_BLOCKING = 1, RELAXED = 2, GLOBAL = 1, MAX_SAMPLES = 64 };

static void must(int result, const char *what)
{
    if (!result)
        return;
    fflush(stdout);
    fprintf(stderr, "gpu: %s failed with %d\n", what, result);
    exit(3);
}

#define MUST(call) must(cu.call, #call)

static int load(void)
{
    static const struct {
        size_t at;
        const char *name;
    } symbols[] = {
#define GPU_CU(name, suffix, arguments)                                        \
    { (size_t)((char *)&cu.name - (char *)&cu), #name suffix },
        GPU_DRIVER(GPU_CU)
#undef GPU_CU
    };
    void *const library = dlopen("libcuda.so.1", RTLD_NOW);

    for (size_t i = 0; i < sizeof(symbols) / sizeof(*symbols); i++) {
        void *const symbol = library ? dlsym(library, symbols[i].name) : NULL;

        if (!symbol)
            return -1;
        memcpy((char *)&cu + symbols[i].at, &symbol, sizeof(symbol));
    }
    return 0;
}

void gpu_open(void)
{
    static void *context;
    int device;

    if (!context) {
        must(load(), "opening libcuda.so.1");
        MUST(cuInit(0));
        MUST(cuDeviceGet(&device, 0));
        MUST(cuDevicePrimaryCtxRetain(&context, device));
    }
    MUST(cuCtxSetCurrent(context));
}

gpu_stream gpu_stream_create(void)
{
    gpu_stream stream;

    gpu_open();
    MUST(cuStreamCreate(&stream, NON_BLOCKING));
    return stream;
}

gpu_stream gpu_stream_elsewhere(void)
{
    gpu_stream stream;
    void *context;

    gpu_open();
    MUST(cuCtxCreate(&context, 0, 0));
    MUST(cuStreamCreate(&stream, NON_BLOCKING));
    gpu_open();
    return stream;
}

void *gpu_alloc(size_t bytes)
{
    uint64_t memory;

    gpu_open();
    MUST(cuMemAlloc(&memory, bytes ? bytes : 1));
    return (void *)memory;
}

void *gpu_alloc_managed(size_t bytes)
{
    uint64_t memory;

    gpu_open();
    MUST(cuMemAllocManaged(&memory, bytes, GLOBAL));
    return (void *)memory;
}

void gpu_free(void *memory)
{
    if (memory)
        MUST(cuMemFree((uint64_t)memory));
}

void gpu_send(void *device, const void *host, size_t bytes)
{
    MUST(cuMemcpyHtoD((uint64_t)device, host, bytes));
    MUST(cuStreamSynchronize(NULL));
}

void gpu_receive(void *host, const void *device, size_t bytes)
{
    MUST(cuMemcpyDtoH(host, (uint64_t)device, bytes));
}

void gpu_fill(void *device, int value, size_t bytes)
{
    MUST(cuMemsetD8((uint64_t)device, (unsigned char)value, bytes));
    MUST(cuStreamSynchronize(NULL));
}

int gpu_wait(void)
{
    return cu.cuCtxSynchronize();
}

void gpu_capture_begin(gpu_stream stream)
{
    MUST(cuStreamBeginCapture(stream, RELAXED));
}

gpu_graph gpu_capture_end(gpu_stream stream)
{
    void *graph, *exec;

    MUST(cuStreamEndCapture(stream, &graph));
    MUST(cuGraphInstantiateWithFlags(&exec, graph, 0));
    MUST(cuGraphDestroy(graph));
    return exec;
}

void gpu_graph_launch(gpu_graph graph, gpu_stream stream)
{
    MUST(cuGraphLaunch(graph, stream));
}

void gpu_graph_destroy(gpu_graph graph)
{
    MUST(cuGraphExecDestroy(graph));
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

double gpu_graph_seconds(gpu_graph graph, gpu_stream stream, int n)
{
    float ms[MAX_SAMPLES];
    void *begin, *end;

    n = n < MAX_SAMPLES ? n : MAX_SAMPLES;
    MUST(cuEventCreate(&begin, 0));
    MUST(cuEventCreate(&end, 0));
    MUST(cuGraphLaunch(graph, stream));
    for (int i = 0; i < n; i++) {
        MUST(cuEventRecord(begin, stream));
        MUST(cuGraphLaunch(graph, stream));
        MUST(cuEventRecord(end, stream));
        MUST(cuEventSynchronize(end));
        MUST(cuEventElapsedTime(&ms[i], begin, end));
    }
    MUST(cuEventDestroy(begin));
    MUST(cuEventDestroy(end));
    qsort(ms, (size_t)n, sizeof(*ms), ascending);
    return 1e-3 * (double)ms[n / 2];
}
