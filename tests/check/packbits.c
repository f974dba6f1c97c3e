/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers of packbits and segment_packbits. */
#include "check.h"

/* n elements, half of them 0; the others 1, or with u8 anything but 0. */
static fli_tensor make_booleans(check *c, int64_t n)
{
    const int32_t dtype = check_dtype(c, "dtype");
    fli_tensor x = check_make(c, "x", CHECK_IN, CHECK_NAN, dtype, 1, &n);
    uint64_t bits = 0;

    for (int64_t i = 0; i < n; i++) {
        if (i % 64 == 0)
            bits = check_random(c);
        const int value = dtype == FLI_BOOL ? 1 : 1 + (int)(i * 37 % 255);

        ((uint8_t *)x.data)[i] = bits >> i % 64 & 1 ? (uint8_t)value : 0;
    }
    return x;
}

static int32_t bit_order(const check *c)
{
    return check_is(c, "order", "little") ? FLI_BIT_ORDER_LITTLE
                                          : FLI_BIT_ORDER_BIG;
}

/* --- packbits ------------------------------------------------------------ */

static const char *const packbits_keys[] = { "dtype=bool", "n=1000",
                                             "order=big", NULL };

static void *packbits_setup(check *c)
{
    fli_packbits_args *args = check_state(c, sizeof(*args));
    const int64_t n = check_int(c, "n"), bytes = (n + 7) / 8;

    args->size = sizeof(*args);
    args->x = make_booleans(c, n);
    args->out =
        check_make(c, "out", CHECK_OUT_EXACT, CHECK_NAN, FLI_U8, 1, &bytes);
    args->bit_order = bit_order(c);
    check_work(c, (double)(n + bytes), 0, "read");
    return args;
}

static fli_status packbits_call(check *c, void *state, fli_context *ctx)
{
    const fli_packbits_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_packbits(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_packbits = {
    .op = "packbits",
    .keys = packbits_keys,
    .setup = packbits_setup,
    .call = packbits_call,
};

/* --- segment_packbits ---------------------------------------------------- */

/* Segments of 0 .. longest elements; spare: elements of x, and bytes of out,
 * behind the last. */
static const char *const segment_keys[] = { "dtype=bool",  "segments=9",
                                            "longest=100", "spare=5",
                                            "order=big",   NULL };

static void *segment_setup(check *c)
{
    fli_segment_packbits_args *args = check_state(c, sizeof(*args));
    const int64_t n = check_int(c, "segments"), spare = check_int(c, "spare");
    const int64_t n_indptr = n + 1;
    int32_t *indptr = check_state(c, (size_t)(n + 1) * sizeof(*indptr));
    int64_t bytes = spare;

    for (int64_t i = 0; i < n; i++) {
        const int64_t length = check_below(c, check_int(c, "longest") + 1);

        indptr[i + 1] = indptr[i] + (int32_t)length;
        bytes += (length + 7) / 8;
    }
    args->size = sizeof(*args);
    args->x = make_booleans(c, indptr[n] + spare);
    args->indptr = check_indices(c, "indptr", indptr, n + 1);
    args->out =
        check_make(c, "out", CHECK_OUT_EXACT, CHECK_NAN, FLI_U8, 1, &bytes);
    args->out_indptr = check_make(c, "out_indptr", CHECK_OUT_EXACT, CHECK_NAN,
                                  FLI_I32, 1, &n_indptr);
    args->bit_order = bit_order(c);
    check_work(c, (double)(indptr[n] + bytes), 0, "read");
    return args;
}

static fli_status segment_call(check *c, void *state, fli_context *ctx)
{
    const fli_segment_packbits_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_segment_packbits(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_segment_packbits = {
    .op = "segment_packbits",
    .keys = segment_keys,
    .setup = segment_setup,
    .call = segment_call,
};
