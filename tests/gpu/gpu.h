/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU for test programs, through a few entry points of libcuda.so.1 opened at
 * run time: device 0's primary context, memory, copies, streams, graphs, time.
 * What fails ends the program with a sentence and status 3. */
#ifndef TESTS_GPU_H
#define TESTS_GPU_H

#include <stddef.h>
#include <stdint.h>

typedef void *gpu_stream; /* a CUstream */
typedef void *gpu_graph;  /* a CUgraphExec */

/* Makes the context current for this thread; any number of times. */
void gpu_open(void);
/* A stream that does not wait for the default one. */
gpu_stream gpu_stream_create(void);
/* The same in another CUcontext, made for it; the primary one stays current. */
gpu_stream gpu_stream_elsewhere(void);

/* Device memory; memory that host and device both reach. */
void *gpu_alloc(size_t bytes);
void *gpu_alloc_managed(size_t bytes);
void gpu_free(void *memory);

/* They return when it is done, whatever stream comes next. */
void gpu_send(void *device, const void *host, size_t bytes);
void gpu_receive(void *host, const void *device, size_t bytes);
void gpu_fill(void *device, int value, size_t bytes);
/* Waits for the device; its error, or 0. */
int gpu_wait(void);

/* What is enqueued on stream between the two becomes a graph. */
void gpu_capture_begin(gpu_stream stream);
gpu_graph gpu_capture_end(gpu_stream stream);
void gpu_graph_launch(gpu_graph graph, gpu_stream stream);
void gpu_graph_destroy(gpu_graph graph);

/* Seconds of a launch of the graph on the device: the median of n, after one
 * more. */
double gpu_graph_seconds(gpu_graph graph, gpu_stream stream, int n);

#endif
