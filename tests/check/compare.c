/* SPDX-License-Identifier: Apache-2.0 */
/* The tolerance, all of it:
 *
 *   |out - ref| <= 2 max over the row |plain - ref| + 1 ulp of the output dtype
 *                  at max over the row |ref|
 *
 * A row is the last dimension.  ref is the reference in double, plain the same
 * text in float: what float arithmetic costs in this very case is measured, not
 * guessed.
 *
 * Now and then a short row of plain is right to the last bit by luck, which
 * says nothing of another order of the same sum.  So for f32 outputs plain runs
 * once more rounding up and once rounding down, which is never lucky: n
 * roundings are off by about n ulp that way, to nearest by about sqrt(n), and a
 * large factor behind them magnifies both.  A row's |plain - ref| counts as no
 * less than
 *
 *   one_way * max over the tensor's rows (to nearest / one_way), nor
 *   one_way, in a tensor of less than 16 elements, nor
 *   sqrt(one_way), in ulps
 *
 * where one_way is the greatest difference of the row when rounding one way.
 * f16 and bf16 outputs are coarser than such luck.
 *
 * Numbers that are not finite must be of the same kind and give no tolerance;
 * integers and exact outputs must have the same bits.  What the reference does
 * not write nobody may write. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "flicheck.h"

enum {
    MAX_ROWS = 4, /* ref and three of plain */
    FEW = 16      /* elements that may all be lucky at once */
};

check_spread check_measure(const double *ref, const double *plain, int n_plain,
                           int64_t n)
{
    check_spread s = { 0 };

    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(ref[i]))
            continue;
        s.greatest = fmax(s.greatest, fabs(ref[i]));
        for (int p = 0; p < n_plain; p++) {
            const double difference = fabs(plain[p * n + i] - ref[i]);
            double *const most = p ? &s.one_way : &s.nearest;

            if (isfinite(difference))
                *most = fmax(*most, difference);
        }
    }
    return s;
}

double check_ratio(check_spread s)
{
    return s.one_way > 0 ? fmin(s.nearest / s.one_way, 1) : 0;
}

double check_tolerance(int32_t dtype, check_spread s, double ratio)
{
    const double ulp = check_ulp(dtype, s.greatest);
    const double unlucky = fmax(s.one_way * ratio, sqrt(s.one_way * ulp));

    return 2 * fmax(s.nearest, unlucky) + ulp;
}

int check_close(double want, double got, double tolerance)
{
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got);
    if (isinf(want) || isinf(got))
        return want == got;
    return fabs(got - want) <= tolerance;
}

/* What is wrong with an output, said at the end in one sentence. */
typedef struct {
    const check_item *item;
    double *rows;                /* of ref and plain, MAX_ROWS rows */
    double ratio;                /* check_ratio of the tensor */
    int64_t n_wrong, first;      /* first: element in memory order of data */
    double want, got, tolerance; /* of the first; tolerance < 0: bits */
} verdict;

static void blame(verdict *v, int64_t i, double tolerance)
{
    if (v->n_wrong++)
        return;
    const int32_t dtype = v->item->spec.dtype;

    v->first = i;
    v->want = check_decode(v->item->keep[CHECK_KEEP_REF], dtype, i);
    v->got = check_decode(v->item->block.data, dtype, i);
    v->tolerance = tolerance;
}

/* The bits that a fill with poison gives an element. */
static int is_poison(const char *data, size_t bytes, int32_t dtype)
{
    const char *const word = check_is_float(dtype) ? "\xe5\xff" : "\xa5\xa5";

    for (size_t i = 0; i < bytes; i++)
        if (data[i] != word[i & 1])
            return 0;
    return 1;
}

static int is_exact(const check_spec *spec)
{
    return spec->role == CHECK_OUT_EXACT || spec->role == CHECK_INOUT_EXACT
           || !check_is_float(spec->dtype);
}

/* Row r of ref and plain into v->rows, and their differences. */
static check_spread measure_row(const verdict *v, int64_t r)
{
    const check_item *const item = v->item;
    const int32_t dtype = item->spec.dtype;
    const int n_plain = dtype == FLI_F32 ? 3 : 1;
    const int64_t first = check_row(&item->view, r);
    const int64_t n = item->view.shape[item->view.ndim - 1];

    for (int k = 0; k <= n_plain; k++)
        for (int64_t i = 0; i < n; i++)
            v->rows[k * n + i] = check_decode(item->keep[k], dtype, first + i);
    return check_measure(v->rows, v->rows + n, n_plain, n);
}

static void compare_row(verdict *v, int64_t r)
{
    const check_item *const item = v->item;
    const int32_t dtype = item->spec.dtype;
    const size_t bytes = fli_dtype_bytes(dtype);
    const char *const got = item->block.data;
    const char *const ref = item->keep[CHECK_KEEP_REF];
    const int64_t first = check_row(&item->view, r);
    const int64_t n = item->view.shape[item->view.ndim - 1];
    double tolerance = -1;

    if (!is_exact(&item->spec))
        tolerance = check_tolerance(dtype, measure_row(v, r), v->ratio);
    for (int64_t i = first; i < first + n; i++) {
        const size_t at = (size_t)i * bytes;
        const int same = !memcmp(got + at, ref + at, bytes);

        if (tolerance < 0 || is_poison(ref + at, bytes, dtype)) {
            if (!same)
                blame(v, i, -1);
        } else if (!same
                   && !check_close(v->rows[i - first],
                                   check_decode(got, dtype, i), tolerance)) {
            blame(v, i, tolerance);
        }
    }
}

static void compare_item(verdict *v)
{
    const fli_tensor *const view = &v->item->view;
    const size_t n = (size_t)view->shape[view->ndim - 1];

    v->rows = check_xalloc(MAX_ROWS * sizeof(*v->rows) * n);
    if (check_n_rows(view) * (int64_t)n < FEW)
        v->ratio = 1;
    else if (!is_exact(&v->item->spec))
        for (int64_t r = 0; r < check_n_rows(view); r++)
            v->ratio = fmax(v->ratio, check_ratio(measure_row(v, r)));
    for (int64_t r = 0; r < check_n_rows(view); r++)
        compare_row(v, r);
    free(v->rows);
}

static void say(char *reason, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(char *reason, const char *format, ...)
{
    const size_t used = strlen(reason);
    va_list list;

    va_start(list, format);
    vsnprintf(reason + used, REASON_BYTES - used, format, list);
    va_end(list);
}

static void say_verdict(const verdict *v, char *reason)
{
    const fli_tensor *const view = &v->item->view;
    int64_t rest = v->first;

    say(reason, "%s[", v->item->spec.name);
    for (int i = 0; i < view->ndim; i++) {
        const int64_t stride = view->stride[i] ? view->stride[i] : 1;

        say(reason, "%s%lld", i ? ", " : "", (long long)(rest / stride));
        rest %= stride;
    }
    say(reason, "] is %.9g, expected %.9g", v->got, v->want);
    if (v->tolerance >= 0)
        say(reason, " within %.3g, off by %.3g", v->tolerance,
            fabs(v->got - v->want));
    else
        say(reason, " to the bit");
    if (v->n_wrong > 1)
        say(reason, " (%lld elements are wrong)", (long long)v->n_wrong);
}

int check_outputs(const check *c, char *reason)
{
    reason[0] = 0;
    for (int i = 0; i < c->n_items; i++) {
        verdict v = { .item = &c->items[i] };

        if (v.item->spec.role != CHECK_IN)
            compare_item(&v);
        if (v.n_wrong) {
            say_verdict(&v, reason);
            return 0;
        }
    }
    return 1;
}
