/* SPDX-License-Identifier: Apache-2.0 */
/* A CUDA driver without a GPU: libfakecuda.so has the entry points that the
 * library uses, named by FLI_LIBCUDA, and these to look behind them.
 *
 * Device memory is host memory.  Copies from pinned memory and the events behind
 * them wait in their stream until something waits for them, as late as a real
 * device could run them; every other call acts at once.  Streams do not block and
 * are not blocked by the default stream.  Kernels do not run: launches are
 * recorded.  What a real driver leaves undefined (a handle freed twice, memory
 * written past its end) ends the program with a line on stderr.
 *
 * An image for cuModuleLoadData is a cubin, PTX, or text of the form
 *
 *   FAKECUDA kernel:48 another:16
 *
 * with the bytes of each kernel's parameter. */
#ifndef TESTS_FAKECUDA_H
#define TESTS_FAKECUDA_H

#include <stddef.h>
#include <stdint.h>

/* What programs see of it; the rest is hidden, so that two of them fit into one. */
#pragma GCC visibility push(default)

/* Results that tests inject or expect, as in cuda.h. */
enum {
    FAKE_INVALID_VALUE = 1,
    FAKE_OUT_OF_MEMORY = 2,
    FAKE_NOT_INITIALIZED = 3,
    FAKE_NO_DEVICE = 100,
    FAKE_INVALID_DEVICE = 101,
    FAKE_INVALID_IMAGE = 200,
    FAKE_INVALID_CONTEXT = 201,
    FAKE_INVALID_HANDLE = 400,
    FAKE_NOT_FOUND = 500,
    FAKE_ILLEGAL_ADDRESS = 700,
    FAKE_CAPTURE_UNSUPPORTED = 900,
    FAKE_CAPTURE_INVALIDATED = 901,
    FAKE_CAPTURED_EVENT = 907
};

/* --- the machine ------------------------------------------------------------ */

/* One H100 of driver 13.0, no launches, no failure to come, counters at 0.  What
 * is alive stays. */
void fake_reset(void);

void fake_set_version(int32_t version); /* 12040: CUDA 12.4 */
void fake_set_devices(int32_t n);
void fake_set_name(const char *name);

/* Of all devices: 16 SMs, 75 and 76 the compute capability, ... */
void fake_set_attribute(int32_t attribute, int32_t value);

/* --- failures and counters -------------------------------------------------- */

/* Call n from now (the next is 0) gives result, and does nothing unless it frees
 * something; n < 0: none.  Asking for an error's text is no call. */
void fake_fail_at(int64_t n, int32_t result);

/* The call that was failed, "cuMemAlloc"; "" if none was. */
const char *fake_failed_call(void);

/* Since the last reset. */
int64_t fake_n_calls(void);
int64_t fake_n_allocations(void);      /* memory, events, modules */
int64_t fake_n_synchronisations(void); /* calls that may wait for the device */

/* Memory, events and modules that are alive, in all contexts. */
int32_t fake_n_alive(void);

/* --- contexts, streams, captures ------------------------------------------- */

void *fake_context_create(int32_t device);
void fake_context_destroy(void *context); /* with all that it holds */

/* How often the primary context of device is retained. */
int32_t fake_n_retained(int32_t device);

void *fake_stream_create(void *context);
void fake_stream_destroy(void *stream);

/* Runs what waits in stream. */
void fake_stream_run(void *stream);

/* As in mode "global": calls that could wait or allocate fail meanwhile, on any
 * thread, and spoil the capture. */
void fake_begin_capture(void *stream);

/* Returns 1 if the capture is good. */
int32_t fake_end_capture(void *stream);

/* --- launches ---------------------------------------------------------------- */

typedef struct {
    char name[64];
    uint32_t grid[3], block[3], shared_bytes;
    uint32_t cluster; /* along x; 0: none */
    int32_t is_programmatic, is_captured;
    void *stream;
    size_t param_bytes;
    unsigned char params[4096];
} fake_launch;

int32_t fake_n_launches(void);

/* Valid until the next launch or reset. */
const fake_launch *fake_launch_at(int32_t i);

#pragma GCC visibility pop

#endif
