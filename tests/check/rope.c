/* SPDX-License-Identifier: Apache-2.0 */
/* Driver of rope. */
#include "check.h"

/* heads: of q and k, k's 0: absent.  place: apart; in_place; fused, where q
 * and k are turned in place in one [rows, q k v] buffer.  positions are
 * drawn from first .. first + span - 1.  cache: rows of cos_sin_cache, 0:
 * theta form. */
static const char *const rope_keys[] = {
    "dtype=bf16",    "rows=4",      "heads=8,2",      "d=128",     "rotary=0",
    "interleaved=0", "theta=0",     "scale=0",        "llama31=0", "low=0",
    "high=0",        "context=0",   "positions=i32",  "first=0",   "span=4096",
    "cache=0",       "place=apart", "stride=compact", NULL
};

static fli_tensor make_positions(check *c, int64_t n)
{
    const int64_t first = check_int(c, "first"), span = check_int(c, "span");
    fli_tensor positions = check_make(c, "positions", CHECK_IN, CHECK_NAN,
                                      check_dtype(c, "positions"), 1, &n);

    for (int64_t i = 0; i < n; i++)
        check_set(&positions, i, (double)(first + check_below(c, span)));
    return positions;
}

/* A view of heads heads from column on of rows of a fused projection. */
static fli_tensor slice(const fli_tensor *fused, int64_t column, int64_t heads,
                        int64_t d)
{
    fli_tensor view = *fused;

    view.data =
        (char *)fused->data + (size_t)column * fli_dtype_bytes(fused->dtype);
    view.ndim = 3;
    view.shape[1] = heads;
    view.shape[2] = d;
    view.stride[1] = d;
    view.stride[2] = 1;
    return view;
}

static void make_fused(check *c, fli_rope_args *args, const int32_t *heads)
{
    const int64_t d = check_int(c, "d");
    const check_spec spec = {
        .name = "qkv",
        .role = CHECK_INOUT,
        .fill = CHECK_NORMAL,
        .dtype = check_dtype(c, "dtype"),
        .ndim = 2,
        .shape = { check_int(c, "rows"), (heads[0] + 2 * heads[1]) * d },
        .pad = { check_is(c, "stride", "pad") ? 7 : 0 },
    };
    const fli_tensor fused = check_tensor(c, &spec);

    args->q = args->q_out = slice(&fused, 0, heads[0], d);
    if (heads[1])
        args->k = args->k_out = slice(&fused, heads[0] * d, heads[1], d);
}

static void make_pair(check *c, const char *const names[2], int32_t heads,
                      fli_tensor *in, fli_tensor *out)
{
    const int in_place = check_is(c, "place", "in_place");
    const int is_padded = check_is(c, "stride", "pad");
    check_spec spec = {
        .name = names[0],
        .role = in_place ? CHECK_INOUT : CHECK_IN,
        .fill = CHECK_NORMAL,
        .dtype = check_dtype(c, "dtype"),
        .ndim = 3,
        .shape = { check_int(c, "rows"), heads, check_int(c, "d") },
        .pad = { is_padded ? 5 : 0, is_padded ? 3 : 0 },
    };

    *in = check_tensor(c, &spec);
    spec.name = names[1];
    spec.role = CHECK_OUT;
    spec.pad[0] *= 2; /* strides of its own */
    *out = in_place ? *in : check_tensor(c, &spec);
}

static void *rope_setup(check *c)
{
    static const char *const q_names[] = { "q", "q_out" };
    static const char *const k_names[] = { "k", "k_out" };
    fli_rope_args *args = check_state(c, sizeof(*args));
    const int64_t rows = check_int(c, "rows"), d = check_int(c, "d");
    const int64_t n_positions = check_int(c, "cache");
    int32_t heads[2] = { 0, 0 };

    check_ints(c, "heads", heads, 2);
    args->size = sizeof(*args);
    args->rotary_dim = (int32_t)check_int(c, "rotary");
    args->interleaved = (int32_t)check_int(c, "interleaved");
    args->theta = (float)check_float(c, "theta");
    args->scale = (float)check_float(c, "scale");
    args->llama31 = (int32_t)check_int(c, "llama31");
    args->low_freq_factor = (float)check_float(c, "low");
    args->high_freq_factor = (float)check_float(c, "high");
    args->old_context_len = (float)check_float(c, "context");
    args->positions = make_positions(c, rows);
    if (n_positions) {
        const int64_t rotary = args->rotary_dim ? args->rotary_dim : d;
        const check_spec spec = {
            .name = "cos_sin_cache",
            .role = CHECK_IN,
            .fill = CHECK_NORMAL, /* any numbers will do */
            .dtype = FLI_F32,
            .ndim = 2,
            .shape = { n_positions, rotary },
            .pad = { check_is(c, "stride", "pad") ? 2 : 0 },
        };

        args->cos_sin_cache = check_tensor(c, &spec);
    }
    if (check_is(c, "place", "fused")) {
        make_fused(c, args, heads);
    } else {
        make_pair(c, q_names, heads[0], &args->q, &args->q_out);
        if (heads[1])
            make_pair(c, k_names, heads[1], &args->k, &args->k_out);
    }
    const double elements = (double)rows * (heads[0] + heads[1]) * (double)d;

    check_work(c,
               2 * elements * (double)fli_dtype_bytes(check_dtype(c, "dtype")),
               3 * elements, "copy");
    return args;
}

static fli_status rope_call(check *c, void *state, fli_context *ctx)
{
    const fli_rope_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_rope(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_rope = {
    .op = "rope",
    .keys = rope_keys,
    .setup = rope_setup,
    .call = rope_call,
};
