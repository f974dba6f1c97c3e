/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers of silu_and_mul, gelu_and_mul and gelu_tanh_and_mul. */
#include "check.h"

/* spread: standard deviation of x; in_place: out is x[:, :h]. */
static const char *const keys[] = { "dtype=bf16", "rows=4",
                                    "h=128",      "spread=1",
                                    "in_place=0", "stride=compact",
                                    NULL };

static void spread(check *c, fli_tensor *x)
{
    const double factor = check_float(c, "spread");

    if (factor == 1)
        return;
    for (int64_t row = 0; row < x->shape[0]; row++)
        for (int64_t i = 0; i < x->shape[1]; i++) {
            const int64_t at = row * x->stride[0] + i;

            check_set(x, at, factor * check_get(x, at));
        }
}

static void *setup(check *c)
{
    fli_act_and_mul_args *args = check_state(c, sizeof(*args));
    const int in_place = check_int(c, "in_place") != 0;
    const int is_padded = check_is(c, "stride", "pad");
    const int64_t rows = check_int(c, "rows"), h = check_int(c, "h");
    check_spec spec = {
        .name = "x",
        .role = in_place ? CHECK_INOUT : CHECK_IN,
        .fill = CHECK_NORMAL,
        .dtype = check_dtype(c, "dtype"),
        .ndim = 2,
        .shape = { rows, 2 * h },
        .pad = { is_padded ? 5 : 0 },
    };

    args->size = sizeof(*args);
    args->x = check_tensor(c, &spec);
    spread(c, &args->x);
    spec.name = "out";
    spec.role = CHECK_OUT;
    spec.shape[1] = h;
    spec.pad[0] = is_padded ? 3 : 0;
    args->out = in_place ? args->x : check_tensor(c, &spec);
    args->out.shape[1] = h;
    const double elements = (double)rows * (double)h;

    check_work(c, 3 * elements * (double)fli_dtype_bytes(spec.dtype),
               20 * elements, "copy");
    return args;
}

static fli_status silu_call(check *c, void *state, fli_context *ctx)
{
    const fli_act_and_mul_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_silu_and_mul(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

static fli_status gelu_call(check *c, void *state, fli_context *ctx)
{
    const fli_act_and_mul_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_gelu_and_mul(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

static fli_status gelu_tanh_call(check *c, void *state, fli_context *ctx)
{
    const fli_act_and_mul_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_gelu_tanh_and_mul(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_silu_and_mul = {
    .op = "silu_and_mul",
    .keys = keys,
    .setup = setup,
    .call = silu_call,
};
const check_driver check_gelu_and_mul = {
    .op = "gelu_and_mul",
    .keys = keys,
    .setup = setup,
    .call = gelu_call,
};
const check_driver check_gelu_tanh_and_mul = {
    .op = "gelu_tanh_and_mul",
    .keys = keys,
    .setup = setup,
    .call = gelu_tanh_call,
};
