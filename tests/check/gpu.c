/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU of the checker: memory that host and device both reach, so that what
 * drivers fill and compare stays as on the CPU; streams and captured graphs.
 * The driver's few entry points are opened at run time. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "flicheck.h"

typedef unsigned long long device_pointer;

static struct {
    int (*cuInit)(unsigned);
    int (*cuDeviceGet)(int *, int);
    int (*cuDevicePrimaryCtxRetain)(void **, int);
    int (*cuCtxSetCurrent)(void *);
    int (*cuCtxSynchronize)(void);
    int (*cuMemAllocManaged)(device_pointer *, size_t, unsigned);
    int (*cuMemFree)(device_pointer);
    int (*cuStreamCreate)(void **, unsigned);
    int (*cuStreamBeginCapture)(void *, int);
    int (*cuStreamEndCapture)(void *, void **);
    int (*cuGraphInstantiate)(void **, void *, unsigned long long);
    int (*cuGraphLaunch)(void *, void *);
    int (*cuGraphExecDestroy)(void *);
    int (*cuGraphDestroy)(void *);
} cu;

static void *stream;

static int load(void *library)
{
    const struct {
        void *where;
        const char *name;
    } symbols[] = {
        { &cu.cuInit, "cuInit" },
        { &cu.cuDeviceGet, "cuDeviceGet" },
        { &cu.cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain" },
        { &cu.cuCtxSetCurrent, "cuCtxSetCurrent" },
        { &cu.cuCtxSynchronize, "cuCtxSynchronize" },
        { &cu.cuMemAllocManaged, "cuMemAllocManaged" },
        { &cu.cuMemFree, "cuMemFree_v2" },
        { &cu.cuStreamCreate, "cuStreamCreate" },
        { &cu.cuStreamBeginCapture, "cuStreamBeginCapture_v2" },
        { &cu.cuStreamEndCapture, "cuStreamEndCapture" },
        { &cu.cuGraphInstantiate, "cuGraphInstantiateWithFlags" },
        { &cu.cuGraphLaunch, "cuGraphLaunch" },
        { &cu.cuGraphExecDestroy, "cuGraphExecDestroy" },
        { &cu.cuGraphDestroy, "cuGraphDestroy" },
    };

    for (size_t i = 0; i < sizeof(symbols) / sizeof(*symbols); i++) {
        void *const symbol = dlsym(library, symbols[i].name);

        if (!symbol)
            return 0;
        memcpy(symbols[i].where, &symbol, sizeof(symbol));
    }
    return 1;
}

static void must(int result, const char *what)
{
    if (result) {
        printf("flicheck: %s failed with %d\n", what, result);
        exit(3);
    }
}

#define MUST(call) must(cu.call, #call)

void check_gpu_open(void)
{
    void *const library = dlopen("libcuda.so.1", RTLD_NOW);
    void *context;
    int device;

    if (stream)
        return;
    must(!library || !load(library), "opening libcuda.so.1");
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    MUST(cuStreamCreate(&stream, 1 /* does not wait for the default one */));
}

void *check_gpu_alloc(size_t bytes)
{
    device_pointer memory;

    check_gpu_open();
    MUST(cuMemAllocManaged(&memory, bytes, 1 /* global */));
    return (void *)(size_t)memory;
}

void check_gpu_free(void *memory)
{
    MUST(cuMemFree((size_t)memory));
}

fli_stream check_stream(const check *c)
{
    return c->gpu_mode == GPU_DEFAULT_STREAM ? NULL : stream;
}

int check_gpu_wait(void)
{
    return cu.cuCtxSynchronize();
}

void check_gpu_begin(const check *c)
{
    if (c->gpu_mode == GPU_GRAPH)
        MUST(cuStreamBeginCapture(stream, 2 /* relaxed */));
}

/* What was captured runs once, and is over. */
void check_gpu_end(const check *c)
{
    void *graph, *exec;

    if (c->gpu_mode == GPU_GRAPH) {
        MUST(cuStreamEndCapture(stream, &graph));
        MUST(cuGraphInstantiate(&exec, graph, 0));
        MUST(cuGraphLaunch(exec, stream));
        MUST(cuCtxSynchronize());
        MUST(cuGraphExecDestroy(exec));
        MUST(cuGraphDestroy(graph));
    }
    MUST(cuCtxSynchronize());
}
