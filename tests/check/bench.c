/* SPDX-License-Identifier: Apache-2.0 */
/* --bench: the time of each implementation on the cases that have a bench key,
 * beside the ceilings of the machine, in rounds that interleave them all. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flicheck.h"

enum {
    ROUNDS = 3,
    MAX_SAMPLES = 4096, /* of an implementation, all rounds */
    MAX_IMPLS = 8
};

static const double round_seconds = 0.1; /* at least, of an implementation */
static const double sample_seconds =
    50e-6;                                 /* at least: the clock costs 50 ns */
static const double reference_seconds = 2; /* slower references are left out */

typedef struct {
    double samples[MAX_SAMPLES];
    double ceilings[ROUNDS];
    int64_t n_samples;
    int n_threads, n_ceilings;
    char isa[16]; /* that the context uses */
    double median, min;
} timing;

static timing timings[MAX_IMPLS];
static FILE *tsv;

double check_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- the loop in a driver's call ------------------------------------------ */

void check_start(check *c)
{
    if (c->gpu)
        check_gpu_begin(c);
    if (!c->bench)
        return;
    c->batch = 1;
    c->turns = 0;
    c->warm = 0;
    c->begun = c->started = check_now();
}

int check_again(check *c)
{
    if (c->gpu)
        check_gpu_end(c);
    if (!c->bench)
        return 0;
    if (++c->turns < c->batch)
        return 1;
    const double now = check_now();
    const double each = (now - c->started) / (double)c->batch;
    timing *const t = c->timing;

    if (!c->warm) { /* the first turns warm up and say how long one takes */
        if (now - c->begun < sample_seconds)
            c->batch *= 2;
        else
            c->warm = 1;
        if (c->warm && each < sample_seconds)
            c->batch = (int64_t)(sample_seconds / each) + 1;
        c->begun = c->warm ? now : c->begun;
    } else if (t->n_samples < MAX_SAMPLES) {
        t->samples[t->n_samples++] = each;
    }
    c->turns = 0;
    c->started = check_now();
    return !c->warm || now - c->begun < round_seconds;
}

/* --- a case --------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double check_median(double *values, int64_t n)
{
    qsort(values, (size_t)n, sizeof(*values), ascending);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* The reference is slow and runs in the first round only. */
static int is_wanted(const check *c, int i, int round)
{
    const check_impl *const impl = &check_impls[i];

    if (!strcmp(impl->impl, "plain"))
        return 0;
    if (!strcmp(impl->impl, "ref")
        && (round > 0
            || c->flops / 0.5e9 + c->bytes / 0.5e9 > reference_seconds))
        return 0;
    return check_chosen(c->options, impl);
}

/* 0 and a FAIL line when the call fails. */
static int time_round(check *c, void *state, int i)
{
    const int n = c->options->threads;
    fli_context *const ctx = check_context(&check_impls[i], n);
    timing *const t = &timings[i];

    if (!ctx)
        return 1;
    const double footprint = c->bytes;

    t->n_threads = fli_context_n_threads(ctx);
    snprintf(t->isa, sizeof(t->isa), "%s", fli_context_cpu_isa(ctx));
    t->ceilings[t->n_ceilings++] =
        check_ceiling(c->ceiling, t->isa, t->n_threads, footprint);
    c->timing = t;
    c->impl = check_impls[i].impl;
    c->random = c->random_after_setup;
    const fli_status status = c->one->driver->call(c, state, ctx);

    if (!status || status == FLI_UNSUPPORTED)
        return 1;
    printf("FAIL %s %s: %s: %s\n", c->one->driver->op,
           check_value(c->one, "id"), fli_status_name(status),
           fli_last_error());
    return 0;
}

static void print_row(const check *c, int i, const timing *t, double ratio)
{
    const check_impl *const impl = &check_impls[i];
    const char *const id = check_value(c->one, "id");
    const int is_fma = !strcmp(c->ceiling, "fma");
    const double work = is_fma ? c->flops : c->bytes;
    const double best_ceiling = t->ceilings[t->n_ceilings - 1]; /* sorted */
    const double ceiling = t->ceilings[t->n_ceilings / 2];
    const double percent = 100 * work / t->median / ceiling;
    const double best = 100 * work / t->min / best_ceiling;
    const char *const isa = impl->isa ? impl->isa : "";
    char ratio_text[16] = "-";

    if (ratio > 0)
        snprintf(ratio_text, sizeof(ratio_text), "%.2f", ratio);
    printf("%-27s %-18s %-4s %-8s %2d %11.2f %11.2f %8.2f %8.2f  %-4s %7.1f "
           "%5.1f %5.1f %7s\n",
           c->one->driver->op, id, impl->impl, isa, t->n_threads,
           t->median * 1e6, t->min * 1e6, c->bytes / t->median * 1e-9,
           c->flops / t->median * 1e-9, c->ceiling, ceiling * 1e-9, percent,
           best, ratio_text);
    if (tsv)
        fprintf(tsv,
                "%s\t%s\t%s\t%s\t%s\t%d\t%.3f\t%.3f\t%.4g\t%.4g\t%s\t%.4g\t"
                "%.2f\t%.2f\t%s\n",
                c->one->driver->op, id, check_value(c->one, "bench"),
                impl->impl, isa, t->n_threads, t->median * 1e6, t->min * 1e6,
                c->bytes / t->median * 1e-9, c->flops / t->median * 1e-9,
                c->ceiling, ceiling * 1e-9, percent, best, ratio_text);
}

/* Best first; each is compared with the next slower kind. */
static void print_rows(const check *c)
{
    for (int i = check_n_impls - 1; i >= 0; i--) {
        double ratio = 0;

        if (!timings[i].n_samples)
            continue;
        for (int next = i - 1; next >= 0 && ratio == 0; next--)
            if (timings[next].n_samples)
                ratio = timings[next].median / timings[i].median;
        print_row(c, i, &timings[i], ratio);
    }
    fflush(stdout);
}

static int time_case(check *c, void *state)
{
    memset(timings, 0, sizeof(timings));
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < check_n_impls; i++)
            if (is_wanted(c, i, round) && !time_round(c, state, i))
                return 0;
    for (int i = 0; i < check_n_impls; i++) {
        timing *const t = &timings[i];

        if (!t->n_samples)
            continue;
        t->median = check_median(t->samples, t->n_samples);
        t->min = t->samples[0];
        check_median(t->ceilings, t->n_ceilings);
    }
    print_rows(c);
    return 1;
}

void check_bench_case(const check_options *options, const check_case *one,
                      check_sum *sum)
{
    static check c;
    void *state;
    int right = !one->error[0];

    if (right)
        right = check_setup(&c, one, options, 0, &state);
    if (right && !c.ceiling)
        check_broken(&c, "the driver does not say how much work this is");
    if (right && !c.broken[0])
        right = time_case(&c, state);
    else
        printf("FAIL %s: %s:%d: %s\n", one->driver->op, one->file, one->line,
               one->error[0] ? one->error : c.broken);
    right = right && !c.broken[0];
    sum->passed += right;
    sum->failed += !right;
    if (!one->error[0])
        check_release(&c);
}

void check_work(check *c, double bytes, double flops, const char *ceiling)
{
    if (strcmp(ceiling, "read") && strcmp(ceiling, "copy")
        && strcmp(ceiling, "fma"))
        check_broken(c, "a ceiling is read, copy or fma");
    c->bytes = bytes;
    c->flops = flops;
    c->ceiling = ceiling;
}

/* --- around the table ----------------------------------------------------- */

static void print_cpu(void)
{
    FILE *const in = fopen("/proc/cpuinfo", "r");
    char line[256];

    while (in && fgets(line, sizeof(line), in))
        if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
            printf("cpu     %s", strchr(line, ':') + 2);
            break;
        }
    if (in)
        fclose(in);
}

void check_bench_begin(const check_options *options)
{
    const time_t now = time(NULL);
    char date[32];

    strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", gmtime(&now));
    print_cpu();
    printf("library %s, %s\n\n", fli_version(), date);
    printf(
        "%-27s %-18s %-4s %-8s %2s %11s %11s %8s %8s  %-4s %7s %5s %5s %7s\n",
        "op", "case", "impl", "isa", "T", "median us", "min us", "GB/s",
        "GFLOP/s", "of", "G/s", "%", "%best", "x next");
    if (!options->tsv)
        return;
    tsv = fopen(options->tsv, "w");
    if (!tsv) {
        fprintf(stderr, "flicheck: %s cannot be written\n", options->tsv);
        exit(2);
    }
    fprintf(tsv,
            "op\tcase\tbench\timpl\tisa\tthreads\tmedian_us\tmin_us\tgb_s\t"
            "gflop_s\tceiling\tceiling_g_s\tpercent\tpercent_best\t"
            "x_next\n");
}

int check_bench_end(const check_options *options)
{
    int right = 1;

    printf(
        "\n%% = median rate of median ceiling, %%best = best of best; the "
        "ceiling is measured in\nturn with the timings, with the ISA, threads "
        "and footprint of the row.\nx next = speed beside the next "
        "implementation.  Memory is in huge pages where the\nsystem has "
        "them.\n");
    if (!options->op)
        right = check_host_costs();
    check_contexts_destroy();
    if (tsv)
        right &= !fclose(tsv);
    return right;
}
