/* SPDX-License-Identifier: Apache-2.0 */
/* Draws against the distribution they come from: nothing outside the kept set,
 * and Pearson's chi-square of the counts.  The seed is new each time and
 * printed first (or given as the argument); a case that fails at p < 1e-9 is
 * run once more with ten times the draws, and fails if it does so again. */
#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <unistd.h>

static fli_context *ctx;
static uint64_t seed;

/* --- chi-square ----------------------------------------------------------- */

/* Q(a, x), the regularised upper incomplete gamma function: the series of P for
 * x < a + 1, else the continued fraction of Q by Lentz's method. */
static double gamma_q(double a, double x)
{
    const double front = exp(a * log(x) - x - lgamma(a));

    if (x <= 0)
        return 1;
    if (x < a + 1) {
        double term = 1 / a, sum = term;

        for (int n = 1; n < 100000 && term > sum * 1e-16; n++) {
            term *= x / (a + n);
            sum += term;
        }
        return 1 - sum * front;
    }
    double b = x + 1 - a, c = 1e300, d = 1 / b, h = d;

    for (int n = 1; n < 100000; n++) {
        const double an = n * (a - n);

        b += 2;
        d = 1 / (an * d + b);
        c = b + an / c;
        h *= c * d;
        if (fabs(c * d - 1) < 1e-15)
            break;
    }
    return h * front;
}

static void gamma_known_values(void **state)
{
    (void)state;
    /* Q(1, x) = exp(-x); Q(1/2, x) = erfc(sqrt(x)); the 95 % point of chi-
     * square with 10 degrees of freedom; Q(n, x) is a Poisson sum */
    for (double x = 0.1; x < 40; x *= 1.7) {
        assert_true(fabs(gamma_q(1, x) / exp(-x) - 1) < 1e-11);
        assert_true(fabs(gamma_q(0.5, x) - erfc(sqrt(x))) < 1e-12);
    }
    assert_true(fabs(gamma_q(5, 18.307038053275146 / 2) - 0.05) < 1e-10);
    for (double x = 1; x < 200; x *= 2) {
        double term = exp(-x), sum = term;

        for (int n = 1; n < 50; n++)
            sum += term *= x / n;
        assert_true(fabs(gamma_q(50, x) - sum) < 1e-12);
    }
}

/* p of counts whose expected values are weight / total of n.  Cells of which
 * less than 10 are expected are counted as one. */
static double chi_square_p(const int64_t *count, const double *weight,
                           int32_t cells, int64_t n)
{
    double total = 0, chi = 0, rest = 0;
    int64_t rest_count = 0;
    int used = 0;

    for (int32_t i = 0; i < cells; i++)
        total += weight[i];
    for (int32_t i = 0; i < cells; i++) {
        const double expected = (double)n * weight[i] / total;

        if (expected < 10) {
            rest += expected;
            rest_count += count[i];
            continue;
        }
        chi += ((double)count[i] - expected) * ((double)count[i] - expected)
               / expected;
        used++;
    }
    if (rest >= 5) {
        chi += ((double)rest_count - rest) * ((double)rest_count - rest) / rest;
        used++;
    }
    return used > 1 ? gamma_q((used - 1) / 2.0, chi / 2) : 1;
}

/* --- a case --------------------------------------------------------------- */

enum { ROWS = 1 << 14, MAX_VOCAB = 8192 };

typedef struct {
    const char *name;
    int32_t vocab;
    float spread; /* of the logits */
    float temperature, top_p, min_p;
    int32_t top_k;
    uint32_t flags;
    int is_probs;
    int has_seeds; /* one a row, offset 0; else one, offsets counted up */
} chi_case;

static float logits[MAX_VOCAB], probs[MAX_VOCAB], kept[MAX_VOCAB];
static int64_t count[MAX_VOCAB];
static double weight[MAX_VOCAB];
static int32_t indices[ROWS], tokens[ROWS];
static uint64_t seeds[ROWS];

static void make_row(const chi_case *c)
{
    srand((unsigned)seed);
    for (int32_t i = 0; i < c->vocab; i++) {
        double sum = -6;

        for (int k = 0; k < 12; k++) /* nearly normal */
            sum += rand() / (double)RAND_MAX;
        logits[i] = (float)(c->spread * sum);
    }
}

static fli_filter_args filters_of(const chi_case *c)
{
    fli_filter_args f = FLI_FILTER_ARGS_INIT;

    f.top_p = c->top_p;
    f.min_p = c->min_p;
    f.top_k = c->top_k;
    f.flags = c->flags;
    return f;
}

/* The probabilities of the kept elements, from exp in f64 and the kept set that
 * renorm_probs or mask_logits gives, which is at T = 1: the set itself is the
 * business of the checker. */
static void expect(const chi_case *c)
{
    fli_softmax_args s = FLI_SOFTMAX_ARGS_INIT;
    fli_filter_args f = filters_of(c);
    float top = -INFINITY;

    s.logits = fli_tensor_2d(logits, ctx, FLI_F32, 1, c->vocab);
    s.probs = fli_tensor_2d(probs, ctx, FLI_F32, 1, c->vocab);
    assert_ok(fli_softmax(ctx, &s, NULL));
    f.x = c->is_probs ? s.probs : s.logits;
    f.out = fli_tensor_2d(kept, ctx, FLI_F32, 1, c->vocab);
    assert_ok(c->is_probs ? fli_renorm_probs(ctx, &f, NULL)
                          : fli_mask_logits(ctx, &f, NULL));
    for (int32_t i = 0; i < c->vocab; i++)
        top = fmaxf(top, logits[i]);
    for (int32_t i = 0; i < c->vocab; i++) {
        const int is_kept = c->is_probs ? kept[i] > 0 : kept[i] > -INFINITY;

        weight[i] =
            is_kept ? exp((double)(logits[i] - top) / (double)c->temperature)
                    : 0;
    }
}

static void draw(const chi_case *c, int64_t call)
{
    fli_sample_args a = FLI_SAMPLE_ARGS_INIT;

    a.x =
        fli_tensor_2d(c->is_probs ? probs : logits, ctx, FLI_F32, 1, c->vocab);
    a.indices = fli_tensor_1d(indices, ctx, FLI_I32, ROWS);
    a.tokens = fli_tensor_1d(tokens, ctx, FLI_I32, ROWS);
    a.temperature = c->temperature;
    a.has_temperature = !c->is_probs;
    a.top_p = c->top_p;
    a.min_p = c->min_p;
    a.top_k = c->top_k;
    a.flags = c->flags;
    a.seed = seed;
    a.offset = (uint64_t)call;
    for (int64_t i = 0; i < ROWS; i++)
        seeds[i] = seed + (uint64_t)(call * ROWS + i);
    if (c->has_seeds) {
        a.seeds = fli_tensor_1d(seeds, ctx, FLI_I64, ROWS);
        a.offset = 0;
    }
    assert_ok(c->is_probs ? fli_sample_from_probs(ctx, &a, NULL)
                          : fli_sample_from_logits(ctx, &a, NULL));
}

/* p of calls * ROWS draws, -1 for a draw outside the kept set. */
static double p_of(const chi_case *c, int64_t first_call, int64_t calls)
{
    memset(count, 0, sizeof(count));
    for (int64_t call = first_call; call < first_call + calls; call++) {
        draw(c, call);
        for (int i = 0; i < ROWS; i++) {
            if (tokens[i] < 0 || tokens[i] >= c->vocab
                || weight[tokens[i]] == 0)
                return -1;
            count[tokens[i]]++;
        }
    }
    return chi_square_p(count, weight, c->vocab, calls * ROWS);
}

static void draws_match(void **state)
{
    const chi_case *const c = *state;
    const int64_t calls = 4;

    make_row(c);
    expect(c);
    double p = p_of(c, 0, calls);

    if (p >= 0 && p < 1e-9) {
        printf("%s: p = %g, once more\n", c->name, p);
        p = p_of(c, calls, 10 * calls);
    }
    if (p < 1e-9)
        fail_msg("%s, seed %llu: %s, p = %g", c->name, (unsigned long long)seed,
                 p < 0 ? "a token outside the kept set" : "other frequencies",
                 p);
}

/* The test can fail: counts a tenth off are seen. */
static void wrong_counts_are_seen(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        weight[i] = 1;
        count[i] = i < 50 ? 1050 : 950;
    }
    assert_true(chi_square_p(count, weight, 100, 100000) < 1e-9);
    for (int i = 0; i < 100; i++)
        count[i] = i % 2 ? 1030 : 970;
    assert_true(chi_square_p(count, weight, 100, 100000) > 1e-9);
}

static chi_case cases[] = {
    { "no filter", 100, 2, 1, 0, 0, 0, 0, 0, 0 },
    { "no filter, large", 5000, 1, 1, 0, 0, 0, 0, 0, 0 },
    { "no filter, seeds of rows", 100, 2, 1, 0, 0, 0, 0, 0, 1 },
    { "no filter, probabilities", 3000, 2, 1, 0, 0, 0, 0, 1, 0 },
    { "temperature 0.5", 300, 2, 0.5f, 0, 0, 0, 0, 0, 0 },
    { "temperature 3, seeds of rows", 300, 2, 3, 0, 0, 0, 0, 0, 1 },
    { "top_p 0.8", 1000, 2, 1, 0.8f, 0, 0, 0, 0, 0 },
    { "top_p 0.9, large", 8000, 1, 1, 0.9f, 0, 0, 0, 0, 0 },
    { "top_p 0.9, probabilities", 8000, 1, 1, 0.9f, 0, 0, 0, 1, 0 },
    { "top_k 50", 4000, 2, 1, 0, 0, 50, 0, 0, 0 },
    { "top_k 50, top_p 0.7", 4000, 2, 1, 0.7f, 0, 50, 0, 0, 1 },
    { "top_k 50, top_p 0.7, joint", 4000, 1, 1, 0.7f, 0, 50, FLI_SAMPLE_JOINT,
      1, 0 },
    { "top_k 2000, large", 6000, 1, 1, 0, 0, 2000, 0, 0, 0 },
    { "min_p 0.1", 1000, 2, 1, 0, 0.1f, 0, 0, 0, 0 },
    { "min_p 0.02, top_p 0.9, top_k 100", 5000, 2, 1, 0.9f, 0.02f, 100, 0, 0,
      1 },
};

enum { N_CASES = sizeof(cases) / sizeof(cases[0]) };

int main(int argc, char **argv)
{
    struct CMUnitTest tests[N_CASES + 2] = {
        cmocka_unit_test(gamma_known_values),
        cmocka_unit_test(wrong_counts_are_seen),
    };

    seed = argc > 1 ? strtoull(argv[1], NULL, 10)
                    : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    for (int i = 0; i < N_CASES; i++)
        tests[i + 2] = (struct CMUnitTest){ cases[i].name, draws_match, NULL,
                                            NULL, &cases[i] };
    if (fli_context_create(&ctx, fli_cpu(), NULL)) {
        fprintf(stderr, "%s\n", fli_last_error());
        return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);

    fli_context_destroy(ctx);
    return failed;
}
