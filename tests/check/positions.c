/* SPDX-License-Identifier: Apache-2.0 */
/* Driver of get_batch_indices_positions. */
#include "check.h"

/* Each request appends 0 .. longest rows behind 0 .. held tokens; spare: rows
 * behind the last. */
static const char *const positions_keys[] = { "requests=4", "longest=7",
                                              "held=100", "spare=3", NULL };

static void *positions_setup(check *c)
{
    fli_batch_indices_positions_args *args = check_state(c, sizeof(*args));
    const int64_t n = check_int(c, "requests");
    int32_t *indptr = check_state(c, (size_t)(n + 1) * sizeof(*indptr));
    int32_t *seq_lens = check_state(c, (size_t)(n + 1) * sizeof(*seq_lens));

    for (int64_t i = 0; i < n; i++) {
        const int64_t rows = check_below(c, check_int(c, "longest") + 1);

        indptr[i + 1] = indptr[i] + (int32_t)rows;
        seq_lens[i] =
            (int32_t)(rows + check_below(c, check_int(c, "held") + 1));
    }
    const int64_t rows = indptr[n] + check_int(c, "spare");

    args->size = sizeof(*args);
    args->append_indptr = check_indices(c, "append_indptr", indptr, n + 1);
    args->seq_lens = check_indices(c, "seq_lens", seq_lens, n);
    args->batch_indices = check_make(c, "batch_indices", CHECK_OUT_EXACT,
                                     CHECK_NAN, FLI_I32, 1, &rows);
    args->positions = check_make(c, "positions", CHECK_OUT_EXACT, CHECK_NAN,
                                 FLI_I32, 1, &rows);
    check_work(c, 8 * (double)rows + 8 * (double)n, 0, "copy");
    return args;
}

static fli_status positions_call(check *c, void *state, fli_context *ctx)
{
    const fli_batch_indices_positions_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_get_batch_indices_positions(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_get_batch_indices_positions = {
    .op = "get_batch_indices_positions",
    .keys = positions_keys,
    .setup = positions_setup,
    .call = positions_call,
};
