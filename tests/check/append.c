/* SPDX-License-Identifier: Apache-2.0 */
/* Driver of append. */
#include "check.h"

enum { MAX_REQUESTS = 64 };

/* append: rows of each request, behind its held tokens; skipped: rows of -1
 * among them; spare: pages that nobody uses.  Rows come in any order. */
static const char *const append_keys[] = {
    "dtype=bf16", "cache=bf16", "append=5,1,0,17", "held=3,16,7,0",
    "skipped=0",  "spare=3",    "heads=2",         "d_qk=128",
    "d_vo=128",   "page=16",    "layout=NHD",      "stride=compact",
    NULL
};

/* 0 .. n - 1 in any order. */
static int32_t *shuffled(check *c, int64_t n)
{
    int32_t *ids = check_state(c, (size_t)(n + 1) * sizeof(*ids));

    for (int64_t i = 0; i < n; i++) {
        const int64_t j = check_below(c, i + 1);

        ids[i] = ids[j];
        ids[j] = (int32_t)i;
    }
    return ids;
}

static fli_tensor make_rows(check *c, const char *name, int64_t rows, int64_t d)
{
    const int is_padded = check_is(c, "stride", "pad");
    const check_spec spec = {
        .name = name,
        .role = CHECK_IN,
        .fill = CHECK_NORMAL,
        .dtype = check_dtype(c, "dtype"),
        .ndim = 3,
        .shape = { rows, check_int(c, "heads"), d },
        .pad = { is_padded ? 5 : 0, is_padded ? 3 : 0 },
    };

    return check_tensor(c, &spec);
}

static fli_tensor make_pages(check *c, const char *name, int64_t n_pages,
                             int64_t d)
{
    const int is_padded = check_is(c, "stride", "pad");
    const int64_t page_size = check_int(c, "page");
    const int64_t heads = check_int(c, "heads");
    const int is_hnd = check_is(c, "layout", "HND");
    const check_spec spec = {
        .name = name,
        .role = CHECK_INOUT_EXACT, /* a conversion has one right result */
        .fill = CHECK_NAN,
        .dtype = check_dtype(c, "cache"),
        .ndim = 4,
        .shape = { n_pages, is_hnd ? heads : page_size,
                   is_hnd ? page_size : heads, d },
        .pad = { is_padded ? 8 : 0, is_padded ? 4 : 0, is_padded ? 1 : 0 },
    };

    return check_tensor(c, &spec);
}

/* The tables of the requests; returns the number of pages in use. */
static int64_t make_table(check *c, fli_kv *cache, int n, const int32_t *total)
{
    const int32_t page_size = (int32_t)check_int(c, "page");
    int32_t indptr[MAX_REQUESTS + 1] = { 0 };

    for (int i = 0; i < n; i++)
        indptr[i + 1] = indptr[i] + (total[i] + page_size - 1) / page_size;
    const int64_t n_pages = indptr[n] + check_int(c, "spare");

    cache->page_indptr = check_indices(c, "page_indptr", indptr, n + 1);
    cache->page_indices =
        check_indices(c, "page_indices", shuffled(c, n_pages), indptr[n]);
    return n_pages;
}

static int64_t sum(const int32_t *values, int n)
{
    int64_t total = 0;

    for (int i = 0; i < n; i++)
        total += values[i];
    return total;
}

static void *append_setup(check *c)
{
    fli_append_args *args = check_state(c, sizeof(*args));
    int32_t append[MAX_REQUESTS], held[MAX_REQUESTS], total[MAX_REQUESTS];
    const int n = check_ints(c, "append", append, MAX_REQUESTS);
    const int64_t d_qk = check_int(c, "d_qk"), d_vo = check_int(c, "d_vo");
    const int64_t used = sum(append, n), rows = used + check_int(c, "skipped");

    if (check_ints(c, "held", held, MAX_REQUESTS) != n)
        check_broken(c, "append and held have different lengths");
    for (int i = 0; i < n; i++)
        total[i] = append[i] + held[i];
    args->size = sizeof(*args);
    args->k = make_rows(c, "k", rows, d_qk);
    args->v = make_rows(c, "v", rows, d_vo);
    const int64_t n_pages = make_table(c, &args->cache, n, total);

    args->cache.k = make_pages(c, "cache.k", n_pages, d_qk);
    args->cache.v = make_pages(c, "cache.v", n_pages, d_vo);
    args->cache.layout = check_is(c, "layout", "HND") ? FLI_HND : FLI_NHD;
    int32_t *request = check_state(c, (size_t)(rows + 1) * sizeof(*request));
    int32_t *position = check_state(c, (size_t)(rows + 1) * sizeof(*position));
    const int32_t *order = shuffled(c, rows);
    int64_t row = 0;

    for (int i = 0; i < n; i++)
        for (int32_t j = 0; j < append[i]; j++, row++) {
            request[order[row]] = i;
            position[order[row]] = held[i] + j;
        }
    for (; row < rows; row++) { /* either one tells */
        const int64_t which = check_below(c, 3);

        request[order[row]] = which == 0 ? 0 : -1;
        position[order[row]] = which == 1 ? 0 : -1 - (int32_t)which;
    }
    args->batch_indices = check_indices(c, "batch_indices", request, rows);
    args->positions = check_indices(c, "positions", position, rows);
    const double elements =
        (double)used * (double)check_int(c, "heads") * (double)(d_qk + d_vo);

    check_work(c,
               elements
                   * (double)(fli_dtype_bytes(check_dtype(c, "dtype"))
                              + fli_dtype_bytes(check_dtype(c, "cache"))),
               0, "copy");
    return args;
}

static fli_status append_call(check *c, void *state, fli_context *ctx)
{
    const fli_append_args *args = state;
    fli_status status;

    check_start(c);
    do
        status = fli_append(ctx, args, check_stream(c));
    while (!status && check_again(c));
    return status;
}

const check_driver check_append = {
    .op = "append",
    .keys = append_keys,
    .setup = append_setup,
    .call = append_call,
};
