/* SPDX-License-Identifier: Apache-2.0 */
/* flicheck: every implementation of every op against the reference, over case
 * files; the same cases timed with --bench. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "flicheck.h"

static const char usage[] =
    "usage: flicheck [OPTION]... [FILE]...\n"
    "\n"
    "FILE is <op>.txt or <op>.gen.txt; none: all that there are.\n"
    "\n"
    "  --op NAME       only this op\n"
    "  --cuda          the implementations for CUDA, on device 0, each on the\n"
    "                  default stream, a stream or in a graph (full: all "
    "three)\n"
    "  --impl NAME     only this implementation: cpu, ref; portable, generic,\n"
    "                  cublaslt\n"
    "  --isa NAME      only this ISA: baseline, avx2\n"
    "  --case ID       only this case, of any tier\n"
    "  --tier NAME     smoke (the default) or full: more cases, each by 1 and "
    "3\n"
    "                  threads and in parts, and twice\n"
    "  --seed N        seed of all inputs; without it a new one, printed "
    "first\n"
    "  --threads N     threads of every call\n"
    "  --timeout N     seconds that a case may take (120)\n"
    "  --list          what each implementation takes: op, case, "
    "implementation,\n"
    "                  yes or no, reason; tabs between\n"
    "  --dump DIR      inputs and the reference's outputs as .npy files\n"
    "  --bench         times the cases that have a bench key\n"
    "  --tsv FILE      with --bench: rows for other programs too\n"
    "\n"
    "The last line counts cases; the exit status is 1 when one failed, 2 for "
    "bad\n"
    "options.\n";

static const check_driver *const drivers[] = {
#define FLI_OP(name, family, kind, stem, summary) &check_##name,
#include "../../src/ops.def"
#undef FLI_OP
};

enum { N_DRIVERS = sizeof(drivers) / sizeof(drivers[0]) };

static const char *const driver_ops[] = {
#define FLI_OP(name, family, kind, stem, summary) #name,
#include "../../src/ops.def"
#undef FLI_OP
};

static const check_driver *find_driver(const char *op, size_t n)
{
    for (int i = 0; i < N_DRIVERS; i++)
        if (strlen(drivers[i]->op) == n && !memcmp(drivers[i]->op, op, n))
            return drivers[i];
    return NULL;
}

static int bad(const char *what, const char *value)
{
    fprintf(stderr, "flicheck: %s %s; see --help\n", what, value);
    return 2;
}

/* --- options -------------------------------------------------------------- */

typedef struct {
    const char *name;
    const char **text; /* or one of these */
    int *number, *flag;
} option;

static int take_number(const char *text, int *out)
{
    char *end;
    const long n = strtol(text, &end, 10);

    *out = (int)n;
    return end != text && !*end && n >= 1 && n <= 1000000;
}

static int parse(int argc, char **argv, check_options *o, int *first_file)
{
    const char *tier = "smoke", *seed = NULL;
    const option options[] = {
        { .name = "--op", .text = &o->op },
        { .name = "--impl", .text = &o->impl },
        { .name = "--isa", .text = &o->isa },
        { .name = "--case", .text = &o->id },
        { .name = "--tier", .text = &tier },
        { .name = "--seed", .text = &seed },
        { .name = "--dump", .text = &o->dump },
        { .name = "--tsv", .text = &o->tsv },
        { .name = "--threads", .number = &o->threads },
        { .name = "--timeout", .number = &o->timeout },
        { .name = "--list", .flag = &o->list },
        { .name = "--bench", .flag = &o->bench },
        { .name = "--cuda", .flag = &o->cuda },
    };
    const int n = sizeof(options) / sizeof(options[0]);
    int at = 1;

    for (; at < argc && !strncmp(argv[at], "--", 2); at++) {
        int i = 0;

        while (i < n && strcmp(options[i].name, argv[at]))
            i++;
        if (i == n)
            return bad("unknown option", argv[at]);
        if (options[i].flag) {
            *options[i].flag = 1;
            continue;
        }
        if (++at == argc)
            return bad("a value is missing after", argv[at - 1]);
        if (options[i].text)
            *options[i].text = argv[at];
        else if (!take_number(argv[at], options[i].number))
            return bad("not a positive number:", argv[at]);
    }
    *first_file = at;
    if (strcmp(tier, "smoke") && strcmp(tier, "full"))
        return bad("unknown tier", tier);
    o->tier = !strcmp(tier, "full") ? TIER_FULL : TIER_SMOKE;
    o->seed = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
    if (seed) {
        char *end;

        o->seed = strtoull(seed, &end, 10);
        if (end == seed || *end)
            return bad("not a seed:", seed);
    }
    if (o->op && !find_driver(o->op, strlen(o->op)))
        return bad("unknown op", o->op);
    if (o->list && o->bench)
        return bad("--list goes not with", "--bench");
    if (o->cuda && o->bench)
        return bad("--cuda goes not with", "--bench");
    return 0;
}

/* The filters must name something, else nothing would be checked. */
static int check_filters(const check_options *o)
{
    for (int i = 0; i < check_n_impls; i++)
        if (check_chosen(o, &check_impls[i]))
            return 0;
    return bad("there is no such implementation:", o->impl ? o->impl : o->isa);
}

/* --- running -------------------------------------------------------------- */

static void skip_absent(const check_options *o, check_sum *sum)
{
    /* a CUDA context does not survive the fork of what runs the cases */
    for (int i = 0; i < check_n_impls && !o->cuda; i++)
        if (!check_impls[i].gpu && !check_context(&check_impls[i], 1)) {
            printf("SKIP %s %s: %s\n", check_impls[i].impl,
                   check_impls[i].isa ? check_impls[i].isa : "",
                   fli_last_error());
            sum->skipped++;
        }
    check_contexts_destroy();
}

static int run_file(const check_options *o, const char *file, check_sum *sum)
{
    const char *const slash = strrchr(file, '/');
    const char *const name = slash ? slash + 1 : file;
    const size_t n = strcspn(name, ".");
    const check_driver *const driver = find_driver(name, n);

    if (!driver)
        return bad("no op is called as this file:", file);
    if (!o->op || !strcmp(o->op, driver->op))
        check_run(o, driver, file, sum);
    return 0;
}

static void run_all(const check_options *o, check_sum *sum)
{
    static const char *const forms[] = { CHECK_CASES "/%s.txt",
                                         CHECK_GENERATED "/%s.gen.txt" };
    char file[4096];

    for (int i = 0; i < N_DRIVERS; i++)
        for (int f = 0; f < 2; f++) {
            snprintf(file, sizeof(file), f ? forms[1] : forms[0],
                     drivers[i]->op);
            if (!access(file, F_OK))
                run_file(o, file, sum);
        }
}

int main(int argc, char **argv)
{
    check_options options = { .timeout = 120 };
    check_sum sum = { 0 };
    int at = 1, status = 0;

    if (argc == 2 && !strcmp(argv[1], "--help")) {
        fputs(usage, stdout);
        return 0;
    }
    for (int i = 0; i < N_DRIVERS; i++)
        if (strcmp(drivers[i]->op, driver_ops[i]))
            return bad("the driver calls itself otherwise:", driver_ops[i]);
    status = parse(argc, argv, &options, &at);
    if (!status)
        status = check_filters(&options);
    if (status)
        return status;
    /* what runs is for the options to say */
    unsetenv("FLI_IMPL");
    unsetenv("FLI_CPU_ISA");
    unsetenv("FLI_THREADS");
    printf("seed %llu\n", (unsigned long long)options.seed);
    skip_absent(&options, &sum);
    if (options.bench)
        check_bench_begin(&options);
    if (at == argc)
        run_all(&options, &sum);
    for (; at < argc && !status; at++)
        status = run_file(&options, argv[at], &sum);
    if (options.bench && !check_bench_end(&options))
        sum.failed++;
    printf("%d passed, %d failed, %d skipped\n", sum.passed, sum.failed,
           sum.skipped);
    return status ? status : sum.failed > 0;
}
