/* SPDX-License-Identifier: Apache-2.0 */
/* The checker: one program that tests and times every implementation of every
 * op over the same case files, on the CPU or with --cuda on a GPU.
 *
 * A driver (tests/check/<stem>.c) describes one op: the keys of its cases, a
 * setup that declares the tensors of a case, and a call.  The framework owns
 * the memory: it fills inputs from the seed, poisons outputs and padding with
 * NaN, puts guard bytes around every tensor, calls the reference and then
 * every implementation, each on fresh outputs, and compares:
 *
 *   |out - ref| <= 2 max over the row |plain - ref| + 1 ulp of the output dtype
 *                  at max over the row |ref|
 *
 * A row is the last dimension.  Inputs and guards must be untouched, padding
 * between strides too.  The public API only. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <flashinfer/flashinfer.h>

typedef struct check check; /* one case being checked */

/* --- keys of a case line ------------------------------------------------- */

/* "name=default", or "name" where every case must say it; the form (int,
 * float, word, comma list) is the driver's business.  A value that has not the
 * form asked for breaks the case.  Common keys:
 *
 *   id     letters, digits, _ . - ; unique in the file; required
 *   tier   smoke (the default); full: only with --tier full; bench: only timed
 *   seed   fixes the seed of this case
 *   bench  a label: the case is timed by --bench
 *   aligned  1: every tensor begins at a cache line; on a GPU so do half of the
 *            other cases, for what only reads whole vectors */
int64_t check_int(const check *c, const char *key);
double check_float(const check *c, const char *key);
const char *check_word(const check *c, const char *key);
int check_is(const check *c, const char *key, const char *word);
/* "8,1,4097" into out; returns how many. */
int check_ints(const check *c, const char *key, int32_t *out, int max);
int32_t check_dtype(const check *c, const char *key); /* f32 -> FLI_F32 */

/* --- tensors -------------------------------------------------------------- */

typedef enum {
    CHECK_NORMAL,  /* N(0, 1) */
    CHECK_UNIFORM, /* [0, 1) */
    CHECK_NAN,     /* poison; the driver fills what is used */
    CHECK_ZERO
} check_fill;

typedef enum {
    CHECK_IN,        /* must be untouched by every call */
    CHECK_OUT,       /* NaN before each call, compared within tolerance */
    CHECK_OUT_EXACT, /* compared bit for bit with the reference */
    CHECK_INOUT,     /* refilled before each call, compared within tolerance */
    CHECK_INOUT_EXACT
} check_role;

/* A row-major tensor whose dimension i (but the last) has a pitch of pad[i]
 * elements more than it needs (stride=pad cases).  The driver may write to the
 * data of inputs in setup. */
typedef struct {
    const char *name;
    check_role role;
    check_fill fill;
    int32_t dtype;
    int32_t ndim;
    int64_t shape[FLI_MAX_NDIM];
    int64_t pad[FLI_MAX_NDIM];
} check_spec;

fli_tensor check_tensor(check *c, const check_spec *spec);

/* The common compact case. */
fli_tensor check_make(check *c, const char *name, check_role role,
                      check_fill fill, int32_t dtype, int32_t ndim,
                      const int64_t *shape);

/* i32 inputs copied from values. */
fli_tensor check_indices(check *c, const char *name, const int32_t *values,
                         int64_t n);

/* Element i (in memory order of data) as double, and back. */
double check_get(const fli_tensor *tensor, int64_t i);
void check_set(fli_tensor *tensor, int64_t i, double value);

/* Zeroed, 256-byte aligned, guarded memory of the case (workspaces, blobs). */
void *check_memory(check *c, size_t bytes);

/* Random numbers of the case. */
uint64_t check_random(check *c);
int64_t check_below(check *c, int64_t n); /* [0, n) */
double check_normal(check *c);

/* Work of a call, for --bench: bytes moved, operations.  ceiling names what the
 * rate is compared with: "read", "copy", "fma". */
void check_work(check *c, double bytes, double flops, const char *ceiling);

/* Ends the setup: the case cannot be right; printed as FAIL. */
void check_broken(check *c, const char *reason);

/* --- drivers -------------------------------------------------------------- */

/* The driver of op <name> of src/ops.def is a constant of this type called
 * check_<name>, in tests/check/<stem>.c:
 *
 *     const check_driver check_rmsnorm = { "rmsnorm", keys, setup, call };
 *
 * flicheck does not link while one is missing. */
typedef struct {
    const char *op;          /* as in src/ops.def */
    const char *const *keys; /* "name=default", NULL-terminated */
    /* Declares tensors; returns the driver's state (check_state). */
    void *(*setup)(check *c);
    /* Calls the op on ctx; create, plan and pack happen here too. */
    fli_status (*call)(check *c, void *state, fli_context *ctx);
} check_driver;

/* A call that returns UNSUPPORTED is a refusal, other failures fail the case.
 * check_random starts from the same place in each call.
 *
 * What is timed stands in a loop that turns once when testing:
 *
 *     check_start(c);
 *     do
 *         status = fli_x(ctx, &args, check_stream(c));
 *     while (!status && check_again(c));
 */
void check_start(check *c);
int check_again(check *c);

/* The stream that every call and plan takes: NULL on the CPU. */
fli_stream check_stream(const check *c);

/* Zeroed memory that lives as long as the case. */
void *check_state(check *c, size_t bytes);

#define FLI_OP(name, family, kind, stem, summary)                              \
    extern const check_driver check_##name;
#include "../../src/ops.def"
#undef FLI_OP

#endif
