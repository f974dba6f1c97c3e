/* SPDX-License-Identifier: Apache-2.0 */
/* The checker's side of a GPU: memory that host and device both reach, so that
 * what drivers fill and compare stays as on the CPU; how a call is made. */
#include "../gpu/gpu.h"

#include "flicheck.h"

static gpu_stream own;

void *check_gpu_alloc(size_t bytes)
{
    if (!own)
        own = gpu_stream_create();
    return gpu_alloc_managed(bytes);
}

void check_gpu_free(void *memory)
{
    gpu_free(memory);
}

int check_gpu_wait(void)
{
    return gpu_wait();
}

fli_stream check_stream(const check *c)
{
    return c->gpu_mode == GPU_DEFAULT_STREAM ? NULL : own;
}

void check_gpu_begin(const check *c)
{
    if (c->gpu_mode == GPU_GRAPH)
        gpu_capture_begin(own);
}

/* What was captured runs once, and is over. */
void check_gpu_end(const check *c)
{
    if (c->gpu_mode == GPU_GRAPH) {
        const gpu_graph graph = gpu_capture_end(own);

        gpu_graph_launch(graph, own);
        gpu_wait();
        gpu_graph_destroy(graph);
    }
    gpu_wait();
}
