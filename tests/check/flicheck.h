/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the checker share; drivers see check.h only.
 *
 *   flicheck.c  options, the drivers, the sum       case.c     lines and keys
 *   run.c       a case against every implementation memory.c   guards, poison
 *   compare.c   the tolerance                       value.c    dtypes, random
 *   bench.c     timing; host.c, ceiling.c what stands beside it
 *   gpu.c       memory and calls on a GPU           npy.c      files for the oracle */
#ifndef TESTS_FLICHECK_H
#define TESTS_FLICHECK_H

#include <stdio.h>

#include "check.h"

enum {
    MAX_KEYS = 48,
    MAX_TENSORS = 32,
    MAX_BLOCKS = 128,
    LINE_BYTES = 2048,
    REASON_BYTES = 512
};

typedef enum { TIER_SMOKE, TIER_FULL, TIER_BENCH } check_tier;

typedef struct {
    const char *op, *impl, *isa, *id, *dump, *tsv; /* NULL: any, none */
    check_tier tier;
    int list, bench, cuda;
    int threads; /* 0: as the case's id says; of --bench: all CPUs */
    int timeout; /* seconds a case may take */
    uint64_t seed;
} check_options;

/* --- case.c --------------------------------------------------------------- */

/* A line: all keys of the driver and the common ones, with their values. */
typedef struct {
    const check_driver *driver;
    const char *file;
    int line, n_keys;
    const char *key[MAX_KEYS], *value[MAX_KEYS];
    char text[LINE_BYTES]; /* the keys and values */
    check_tier tier;
    char error[REASON_BYTES]; /* "" where the line is right */
} check_case;

void check_parse(check_case *out, const check_driver *driver, const char *line);

/* NULL for a key that the case has not. */
const char *check_value(const check_case *one, const char *key);

/* The cases of a file, to be freed; NULL when it cannot be read. */
check_case *check_load(const check_driver *driver, const char *file, int *n);

/* --- memory.c ------------------------------------------------------------- */

/* Pages with the data in them, poison around it, and a page behind them that
 * traps.  Half of the tensors end at that page, which finds reads behind the
 * end; the others start at a cache line, some shifted by an element. */
typedef struct {
    char *pages, *data;
    size_t pages_bytes, data_bytes;
    int gpu;
} check_block;

typedef enum {
    CHECK_KEEP_REF,
    CHECK_KEEP_PLAIN, /* to nearest, as everything else */
    CHECK_KEEP_UP,    /* plain, every operation rounded up, */
    CHECK_KEEP_DOWN,  /* and down */
    CHECK_KEEP_AGAIN, /* of an implementation, for its next call */
    CHECK_N_KEEPS
} check_keep_in;

typedef struct {
    check_spec spec;
    fli_tensor view;
    check_block block;
    char *before;              /* the pages as setup left them */
    char *keep[CHECK_N_KEEPS]; /* the data after calls, by check_keep_in */
} check_item;

/* How a call is made on the GPU: on the default stream, on one of its own,
 * captured into a graph that runs once. */
typedef enum {
    GPU_DEFAULT_STREAM,
    GPU_STREAM,
    GPU_GRAPH,
    N_GPU_MODES
} check_gpu_mode;

struct check {
    const check_case *one;
    const check_options *options;
    const char *impl; /* whose turn it is */
    int bench, in_setup;
    int aligned; /* every tensor begins at a cache line */
    int gpu;     /* tensors are on the GPU; calls are made as gpu_mode says */
    check_gpu_mode gpu_mode;
    uint64_t random, random_after_setup;
    char broken[REASON_BYTES]; /* "" while the case is right */

    int n_items, n_blocks, n_states;
    check_item items[MAX_TENSORS];
    check_block blocks[MAX_BLOCKS];
    void *states[MAX_BLOCKS];

    double bytes, flops;
    const char *ceiling;

    /* bench.c: the loop that is timed */
    void *timing;
    int64_t batch, turns; /* turns between two looks at the clock */
    int warm;
    double begun, started;
};

/* Rows, that is last dimensions, and the element that row r begins at.  They
 * ascend in memory. */
int64_t check_n_rows(const fli_tensor *view);
int64_t check_row(const fli_tensor *view, int64_t r);

/* A 16-bit word that is a NaN in f16 and bf16, twice in f32. */
#define CHECK_POISON_WORD 0xffe5

/* Before the first call: remembers what setup left. */
void check_seal(check *c);
/* Before each call: outputs are poison or refilled. */
void check_refill(check *c);
/* After a call: 0 and a reason if anything but outputs changed. */
int check_intact(const check *c, char *reason);
/* After a failed call: 0 and a reason if anything changed. */
int check_untouched(const check *c, char *reason);
/* Keeps the outputs of a call. */
void check_keep(check *c, check_keep_in where);
/* 0 and a reason if an output is not as kept in CHECK_KEEP_AGAIN. */
int check_same_bits(const check *c, char *reason);
void check_release(check *c);

/* --- value.c -------------------------------------------------------------- */

double check_decode(const void *data, int32_t dtype, int64_t i);
void check_encode(void *data, int32_t dtype, int64_t i, double value);
int check_is_float(int32_t dtype);
uint64_t check_hash(uint64_t seed, const char *text);

/* --- compare.c ------------------------------------------------------------ */

/* Distance from |x| to the next greater number of a float dtype. */
double check_ulp(int32_t dtype, double x);
/* The greatest differences between ref and plain in a row of n. */
typedef struct {
    double greatest; /* of |ref| */
    double nearest;  /* of |plain - ref|, plain rounding to nearest */
    double one_way;  /* and up or down */
} check_spread;

/* plain holds n_plain rows: to nearest, then those that round one way. */
check_spread check_measure(const double *ref, const double *plain, int n_plain,
                           int64_t n);
/* nearest by one_way; a tensor's is the greatest of its rows. */
double check_ratio(check_spread row);
double check_tolerance(int32_t dtype, check_spread row, double ratio);
int check_close(double want, double got, double tolerance);

/* 0 and a reason if an output is not as the reference's. */
int check_outputs(const check *c, char *reason);

/* --- run.c ---------------------------------------------------------------- */

typedef struct {
    const char *impl, *isa; /* isa NULL: any */
    int gpu;
} check_impl;

extern const check_impl check_impls[]; /* ref, plain, then those to check */
extern const int check_n_impls;

/* The context of impl with n threads, or -n: n parts run one after the other in
 * descending order; on a GPU n is 0.  NULL where the machine has not the ISA. */
fli_context *check_context(const check_impl *impl, int n);
void check_contexts_destroy(void);

typedef struct {
    int passed, failed, skipped;
} check_sum;

/* Runs the chosen cases in processes of their own; adds to sum. */
void check_run(const check_options *options, const check_driver *driver,
               const char *file, check_sum *sum);

/* Where the process that runs the cases is; read by its parent when it dies. */
void check_progress(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* 0 when setup breaks the case; then c->broken says why. */
int check_setup(check *c, const check_case *one, const check_options *options,
                int gpu, void **state);

/* Whether the options ask for impl. */
int check_chosen(const check_options *options, const check_impl *impl);

/* --- bench.c, host.c, ceiling.c, npy.c ------------------------------------ */

double check_now(void);
/* Sorts values. */
double check_median(double *values, int64_t n);
/* 0 when a call failed. */
int check_host_costs(void);
void check_bench_case(const check_options *options, const check_case *one,
                      check_sum *sum);
void check_bench_begin(const check_options *options);
/* 0 when something could not be measured. */
int check_bench_end(const check_options *options);

/* Units a second of "read", "copy" (bytes) or "fma" (operations), the best of a
 * few turns by n threads; bytes is the footprint. */
double check_ceiling(const char *name, const char *isa, int n, double bytes);

/* The inputs as setup left them, before any call. */
int check_dump(const check *c);

/* --- gpu.c ---------------------------------------------------------------- */

/* Memory that host and device reach, aligned to a page. */
void *check_gpu_alloc(size_t bytes);
void check_gpu_free(void *memory);
/* Around what is called, by check_start and check_again. */
void check_gpu_begin(const check *c);
void check_gpu_end(const check *c);
/* Waits for the device; its error, or 0. */
int check_gpu_wait(void);

/* --- memory for all ------------------------------------------------------- */

void *check_xalloc(size_t bytes); /* zeroed; the program ends without memory */

#endif
