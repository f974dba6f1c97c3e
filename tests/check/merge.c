/* SPDX-License-Identifier: Apache-2.0 */
/* Driver of merge_states. */
#include "check.h"

#include <math.h>

static const char *const keys[] = {
    "dtype=bf16", "rows=4",         "states=3",   "heads=4",   "d=128",
    "empty=none", "stride=compact", "in_place=0", "lse_out=1", NULL
};

/* empty=some: every third state has lse -inf and holds NaN; all: every one. */
static void make_empty(const check *c, const fli_merge_states_args *args)
{
    const int64_t *shape = args->v.shape, *v = args->v.stride;
    const int64_t *lse = args->lse.stride;
    const int64_t step = check_is(c, "empty", "all") ? 1 : 3;
    int64_t n = 0;

    if (check_is(c, "empty", "none"))
        return;
    for (int64_t r = 0; r < shape[0]; r++)
        for (int64_t s = 0; s < shape[1]; s++)
            for (int64_t h = 0; h < shape[2]; h++) {
                if (n++ % step != 0)
                    continue;
                check_set((fli_tensor *)&args->lse,
                          r * lse[0] + s * lse[1] + h * lse[2], -INFINITY);
                for (int64_t i = 0; i < shape[3]; i++)
                    check_set((fli_tensor *)&args->v,
                              r * v[0] + s * v[1] + h * v[2] + i, NAN);
            }
}

/* What state 0 of v is as an output. */
static fli_tensor first_state(const fli_tensor *v)
{
    fli_tensor first = *v;

    first.ndim = 3;
    first.shape[1] = v->shape[2];
    first.shape[2] = v->shape[3];
    first.stride[1] = v->stride[2];
    first.stride[2] = v->stride[3];
    return first;
}

static void *setup(check *c)
{
    fli_merge_states_args *args = check_state(c, sizeof(*args));
    const int64_t rows = check_int(c, "rows"), heads = check_int(c, "heads");
    const int64_t states = check_int(c, "states"), dim = check_int(c, "d");
    const int64_t pad = check_is(c, "stride", "pad") ? 3 : 0;
    const int in_place = check_int(c, "in_place") && states > 0;
    const check_spec v = {
        .name = "v",
        .role = in_place ? CHECK_INOUT : CHECK_IN,
        .fill = CHECK_NORMAL,
        .dtype = check_dtype(c, "dtype"),
        .ndim = 4,
        .shape = { rows, states, heads, dim },
        .pad = { pad, 2 * pad, pad },
    };
    const check_spec lse = {
        .name = "lse",
        .fill = CHECK_NORMAL,
        .dtype = FLI_F32,
        .ndim = 3,
        .shape = { rows, states, heads },
        .pad = { pad, pad },
    };
    const check_spec out = {
        .name = "v_out",
        .role = CHECK_OUT,
        .dtype = v.dtype,
        .ndim = 3,
        .shape = { rows, heads, dim },
        .pad = { pad, pad },
    };
    const check_spec lse_out = {
        .name = "lse_out",
        .role = CHECK_OUT,
        .dtype = FLI_F32,
        .ndim = 2,
        .shape = { rows, heads },
        .pad = { pad },
    };

    args->size = sizeof(*args);
    args->v = check_tensor(c, &v);
    args->lse = check_tensor(c, &lse);
    make_empty(c, args);
    args->v_out = in_place ? first_state(&args->v) : check_tensor(c, &out);
    if (check_int(c, "lse_out"))
        args->lse_out = check_tensor(c, &lse_out);
    check_work(c,
               (double)(rows * heads * dim * (states + 1))
                   * (double)fli_dtype_bytes(v.dtype),
               (double)(rows * heads * dim * states) * 2, "copy");
    return args;
}

static fli_status call(check *c, void *state, fli_context *ctx)
{
    const fli_merge_states_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_merge_states(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_merge_states = { "merge_states", keys, setup, call };
