/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers of rmsnorm and fused_add_rmsnorm. */
#include "check.h"

/* --- rmsnorm -------------------------------------------------------------- */

static const char *const rmsnorm_keys[] = { "dtype=bf16", "rows=4",
                                            "heads=0",    "hidden=128",
                                            "eps=1e-6",   "stride=compact",
                                            "in_place=0", NULL };

/* [rows, hidden], with heads [rows, heads, hidden]; stride=pad puts an odd
 * number of elements behind each row and head. */
static check_spec rows_of(const check *c, const char *name, check_role role,
                          int64_t heads)
{
    const int is_padded = check_is(c, "stride", "pad");
    check_spec spec = {
        .name = name,
        .role = role,
        .fill = CHECK_NORMAL,
        .dtype = check_dtype(c, "dtype"),
        .ndim = heads ? 3 : 2,
        .shape = { check_int(c, "rows"), heads, check_int(c, "hidden") },
        .pad = { is_padded ? 5 : 0, is_padded ? 3 : 0 },
    };

    if (!heads)
        spec.shape[1] = spec.shape[2];
    return spec;
}

static double bytes_of(const fli_tensor *tensor)
{
    double bytes = (double)fli_dtype_bytes(tensor->dtype);

    for (int i = 0; i < tensor->ndim; i++)
        bytes *= (double)tensor->shape[i];
    return bytes;
}

static void *rmsnorm_setup(check *c)
{
    fli_rmsnorm_args *args = check_state(c, sizeof(*args));
    const int in_place = check_int(c, "in_place") != 0;
    const int64_t hidden = check_int(c, "hidden");
    check_spec spec = rows_of(c, "x", in_place ? CHECK_INOUT : CHECK_IN,
                              check_int(c, "heads"));

    args->size = sizeof(*args);
    args->x = check_tensor(c, &spec);
    args->weight =
        check_make(c, "weight", CHECK_IN, CHECK_NORMAL, spec.dtype, 1, &hidden);
    spec.name = "out";
    spec.role = CHECK_OUT;
    spec.pad[0] *= 2; /* strides of its own */
    args->out = in_place ? args->x : check_tensor(c, &spec);
    args->eps = (float)check_float(c, "eps");
    check_work(c, 2 * bytes_of(&args->x), 4 * bytes_of(&args->x), "copy");
    return args;
}

static fli_status rmsnorm_call(check *c, void *state, fli_context *ctx)
{
    const fli_rmsnorm_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_rmsnorm(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_rmsnorm = { "rmsnorm", rmsnorm_keys, rmsnorm_setup,
                                     rmsnorm_call };

/* --- fused_add_rmsnorm ---------------------------------------------------- */

static const char *const fused_keys[] = { "dtype=bf16",     "rows=4",
                                          "hidden=128",     "eps=1e-6",
                                          "stride=compact", NULL };

static void *fused_setup(check *c)
{
    fli_fused_add_rmsnorm_args *args = check_state(c, sizeof(*args));
    const int64_t hidden = check_int(c, "hidden");
    check_spec spec = rows_of(c, "x", CHECK_INOUT, 0);

    args->size = sizeof(*args);
    args->x = check_tensor(c, &spec);
    spec.name = "residual";
    spec.pad[0] *= 2;
    args->residual = check_tensor(c, &spec);
    args->weight =
        check_make(c, "weight", CHECK_IN, CHECK_NORMAL, spec.dtype, 1, &hidden);
    args->eps = (float)check_float(c, "eps");
    check_work(c, 4 * bytes_of(&args->x), 5 * bytes_of(&args->x), "copy");
    return args;
}

static fli_status fused_call(check *c, void *state, fli_context *ctx)
{
    const fli_fused_add_rmsnorm_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_fused_add_rmsnorm(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_fused_add_rmsnorm = { "fused_add_rmsnorm", fused_keys,
                                               fused_setup, fused_call };
