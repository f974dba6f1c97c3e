/* SPDX-License-Identifier: Apache-2.0 */
/* Driver of page_copy. */
#include "check.h"

/* n pages of pool; shape: the two middle dimensions, whatever the layout. */
static const char *const page_copy_keys[] = { "dtype=bf16",     "n=5",
                                              "pool=16",        "shape=16,2",
                                              "d_qk=128",       "d_vo=128",
                                              "stride=compact", NULL };

static fli_tensor make_pages(check *c, const char *name, const int32_t *shape,
                             const char *d)
{
    const int is_padded = check_is(c, "stride", "pad");
    const check_spec spec = {
        .name = name,
        .role = CHECK_INOUT_EXACT,
        .fill = CHECK_NORMAL,
        .dtype = check_dtype(c, "dtype"),
        .ndim = 4,
        .shape = { check_int(c, "pool"), shape[0], shape[1], check_int(c, d) },
        .pad = { is_padded ? 8 : 0, is_padded ? 4 : 0, is_padded ? 1 : 0 },
    };

    return check_tensor(c, &spec);
}

/* to: n pages; from: any of the others, some of them more than once. */
static void make_lists(check *c, fli_page_copy_args *args)
{
    const int64_t n = check_int(c, "n"), pool = check_int(c, "pool");
    int32_t *ids = check_state(c, (size_t)(pool + 1) * sizeof(*ids));
    int32_t *from = check_state(c, (size_t)(n + 1) * sizeof(*from));

    if (n > 0 && n >= pool) {
        check_broken(c, "n is not less than pool");
        return;
    }
    for (int64_t i = 0; i < pool; i++) {
        const int64_t j = check_below(c, i + 1);

        ids[i] = ids[j];
        ids[j] = (int32_t)i;
    }
    for (int64_t i = 0; i < n; i++)
        from[i] = ids[n + check_below(c, pool - n)];
    args->from = check_indices(c, "from", from, n);
    args->to = check_indices(c, "to", ids, n);
}

static void *page_copy_setup(check *c)
{
    fli_page_copy_args *args = check_state(c, sizeof(*args));
    int32_t shape[2] = { 1, 1 };

    check_ints(c, "shape", shape, 2);
    args->size = sizeof(*args);
    args->k = make_pages(c, "k", shape, "d_qk");
    args->v = make_pages(c, "v", shape, "d_vo");
    make_lists(c, args);
    const double elements =
        (double)check_int(c, "n") * shape[0] * shape[1]
        * (double)(check_int(c, "d_qk") + check_int(c, "d_vo"));

    check_work(c,
               2 * elements * (double)fli_dtype_bytes(check_dtype(c, "dtype")),
               0, "copy");
    return args;
}

static fli_status page_copy_call(check *c, void *state, fli_context *ctx)
{
    const fli_page_copy_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_page_copy(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_page_copy = {
    .op = "page_copy",
    .keys = page_copy_keys,
    .setup = page_copy_setup,
    .call = page_copy_call,
};
