/* SPDX-License-Identifier: Apache-2.0 */
/* A case against every implementation, in a process that may die. */
#include <fenv.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flicheck.h"

const check_impl check_impls[] = {
    { "ref", NULL, 0 },      { "plain", NULL, 0 },    { "cpu", "baseline", 0 },
    { "cpu", "avx2", 0 },    { "portable", NULL, 1 }, { "generic", NULL, 1 },
    { "cublaslt", NULL, 1 },
};
const int check_n_impls = sizeof(check_impls) / sizeof(check_impls[0]);

/* Threads of the pool; negative: parts of an executor of ours.  A case takes
 * the one that its id says, with --tier full all. */
static const int thread_modes[] = { 1, 3, -4 };

enum { N_MODES = sizeof(thread_modes) / sizeof(thread_modes[0]) };

/* --- contexts ------------------------------------------------------------- */

static struct {
    const check_impl *impl;
    int n;
    fli_context *ctx;
} contexts[64];
static int n_contexts;

static void run_descending(void *ctx, fli_task *task, void *arg)
{
    const int n = *(const int *)ctx;

    for (int i = n - 1; i >= 0; i--)
        task(arg, i, n);
}

fli_context *check_context(const check_impl *impl, int n)
{
    static int parts[64];
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    int i = 0;

    while (i < n_contexts && (contexts[i].impl != impl || contexts[i].n != n))
        i++;
    if (i < n_contexts || i == 64)
        return i < 64 ? contexts[i].ctx : NULL;
    parts[i] = -n;
    options.impl = impl->impl;
    options.cpu_isa = impl->isa;
    if (n >= 0)
        options.n_threads = n;
    else
        options.executor = (fli_executor){ &parts[i], -n, run_descending };
    if (fli_context_create(&contexts[i].ctx,
                           impl->gpu ? fli_cuda(0) : fli_cpu(), &options))
        return NULL;
    contexts[i].impl = impl;
    contexts[i].n = n;
    return contexts[n_contexts++].ctx;
}

void check_contexts_destroy(void)
{
    while (n_contexts > 0)
        fli_context_destroy(contexts[--n_contexts].ctx);
}

/* --- where we are --------------------------------------------------------- */

/* Shared with the process that runs the cases. */
static struct {
    check_sum sum;
    int next;      /* case to begin with */
    int in_flight; /* the case that runs, -1: none */
    char stage[128], fault[128];
} *shared;

static const check *current;

void check_progress(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vsnprintf(shared->stage, sizeof(shared->stage), format, list);
    va_end(list);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif

#if !defined(SANITIZED) /* they report faults themselves */
/* Says which tensor's trap was touched; then the signal kills as usual. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    const char *const at = info->si_addr;
    const long page = sysconf(_SC_PAGESIZE);

    (void)context;
    for (int i = 0; current && i < current->n_items; i++) {
        const check_block *const block = &current->items[i].block;
        const char *const trap = block->pages + block->pages_bytes;

        if (at >= trap && at < trap + page)
            snprintf(shared->fault, sizeof(shared->fault),
                     ", %td bytes behind the end of %s",
                     at - (block->data + block->data_bytes),
                     current->items[i].spec.name);
    }
    raise(number); /* again, when this returns, if the fault is not */
}

static void catch_faults(void)
{
    struct sigaction action = { .sa_flags = SA_SIGINFO | SA_RESETHAND };

    action.sa_sigaction = on_fault;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}
#else
static void catch_faults(void)
{
}
#endif

/* --- a case --------------------------------------------------------------- */

typedef enum {
    DONE,
    REFUSED,
    WRONG,
    ABSENT /* not on this machine */
} outcome;

/* "3 threads", "a graph" */
static const char *mode_name(const check_impl *impl, int n)
{
    static const char *const gpu_modes[N_GPU_MODES] = {
        "the default stream",
        "a stream",
        "a graph",
    };
    static char text[32];

    if (impl->gpu)
        return gpu_modes[n];
    snprintf(text, sizeof(text), n < 0 ? "%d parts" : "%d thread%s", abs(n),
             n == 1 ? "" : "s");
    return text;
}

static const char *impl_name(const check_impl *impl)
{
    static char text[32];

    snprintf(text, sizeof(text), "%s%s%s", impl->impl, impl->isa ? " " : "",
             impl->isa ? impl->isa : "");
    return text;
}

/* Ends the process, for a device that gave an error gives nothing else; the
 * parent counts the case and goes on with the next. */
static void report_lost(const check *c, const char *reason)
{
    printf("LOST %s %s: %s: %s\n", c->one->driver->op,
           check_value(c->one, "id"), shared->stage, reason);
    fflush(stdout);
    _exit(4);
}

/* 0 and a reason when the device went wrong after a call that did not. */
static int gpu_is_well(const check *c, fli_context *ctx, char *reason)
{
    if (!c->gpu)
        return 1;
    const int result = check_gpu_wait();

    if (result) { /* nothing works from here on */
        snprintf(reason, REASON_BYTES, "CUDA error %d", result);
        report_lost(c, reason);
    }
    if (fli_context_check(ctx)) {
        snprintf(reason, REASON_BYTES, "%s", fli_last_error());
        return 0;
    }
    return 1;
}

static outcome call(check *c, void *state, const check_impl *impl, int n,
                    char *reason)
{
    fli_context *const ctx = check_context(impl, impl->gpu ? 0 : n);

    if (!ctx)
        return ABSENT;
    c->impl = impl->impl;
    c->gpu_mode = impl->gpu ? (check_gpu_mode)n : GPU_DEFAULT_STREAM;
    check_refill(c);
    check_progress("%s, %s", impl_name(impl), mode_name(impl, n));
    const fli_status status = c->one->driver->call(c, state, ctx);

    if (c->broken[0]) {
        snprintf(reason, REASON_BYTES, "%s", c->broken);
        return WRONG;
    }
    if (status) {
        const int length =
            snprintf(reason, REASON_BYTES, "%s: ", fli_status_name(status));

        snprintf(reason + length, REASON_BYTES - (size_t)length, "%s",
                 fli_last_error());
        if (c->gpu && (check_gpu_wait() || c->gpu_mode == GPU_GRAPH))
            report_lost(c, reason);
        if (status != FLI_UNSUPPORTED)
            return WRONG;
        return check_untouched(c, reason) ? REFUSED : WRONG;
    }
    if (!gpu_is_well(c, ctx, reason))
        return WRONG;
    return check_intact(c, reason) ? DONE : WRONG;
}

static void report(const check *c, const check_impl *impl, int n,
                   const char *reason)
{
    const check_options *const options = c->options;
    const check_case *const one = c->one;
    const char *const id = check_value(one, "id");

    printf("FAIL %s %s: %s, %s: %s\n"
           "  again: flicheck --op %s --case %s --impl %s%s%s --seed %llu%s%s "
           "%s\n",
           one->driver->op, id, impl_name(impl), mode_name(impl, n), reason,
           one->driver->op, id, impl->impl, impl->isa ? " --isa " : "",
           impl->isa ? impl->isa : "", (unsigned long long)options->seed,
           options->tier == TIER_FULL ? " --tier full" : "",
           options->cuda ? " --cuda" : "", one->file);
}

int check_setup(check *c, const check_case *one, const check_options *options,
                int gpu, void **state)
{
    const char *const id = check_value(one, "id");

    memset(c, 0, sizeof(*c));
    c->one = one;
    c->options = options;
    c->bench = options->bench;
    c->gpu = gpu;
    c->impl = "setup";
    c->random = check_hash(options->seed, one->driver->op);
    c->random = check_hash(c->random, id);
    if (strcmp(check_value(one, "seed"), "0"))
        c->random = check_hash((uint64_t)check_int(c, "seed"), id);
    c->aligned = c->bench || check_int(c, "aligned")
                 || (gpu && check_hash(c->random, "aligned") & 1);
    c->in_setup = 1;
    *state = one->driver->setup(c);
    c->in_setup = 0;
    return !c->broken[0];
}

int check_chosen(const check_options *options, const check_impl *impl)
{
    const int is_reference = impl < &check_impls[2];

    return (is_reference ? !options->cuda : impl->gpu == options->cuda)
           && (!options->impl || !strcmp(options->impl, impl->impl))
           && (!options->isa
               || (impl->isa && !strcmp(options->isa, impl->isa)));
}

/* Twice the same call gives twice the same bits. */
static int repeats(check *c, void *state, const check_impl *impl, int n,
                   char *reason)
{
    check_keep(c, CHECK_KEEP_AGAIN);
    if (call(c, state, impl, n, reason) != DONE)
        return 0;
    return check_same_bits(c, reason);
}

static int check_impl_modes(check *c, void *state, const check_impl *impl)
{
    const char *const id = check_value(c->one, "id");
    const int n_modes = impl->gpu ? (int)N_GPU_MODES : N_MODES;
    const int pick = (int)(check_hash(0, id) % (uint64_t)n_modes);
    const int full = c->options->tier == TIER_FULL;
    const int threads = impl->gpu ? 0 : c->options->threads;
    char reason[REASON_BYTES] = "";

    for (int i = 0; i < n_modes; i++) {
        const int n = impl->gpu ? i : threads ? threads : thread_modes[i];

        /* what is captured must have been compiled before */
        if (!full && !threads && i != pick
            && !(impl->gpu && pick == GPU_GRAPH && i == GPU_STREAM))
            continue;
        const outcome what = call(c, state, impl, n, reason);

        if (what == ABSENT)
            return 1;
        if (c->options->list)
            printf("%s\t%s\t%s\t%s\t%s\n", c->one->driver->op, id,
                   impl_name(impl), what == DONE ? "yes" : "no",
                   what == DONE ? "" : reason);
        if (what == WRONG
            || (what == DONE
                && (!check_outputs(c, reason)
                    || (full && !repeats(c, state, impl, n, reason))))) {
            report(c, impl, n, reason);
            return 0;
        }
        if (what == REFUSED || threads)
            return 1;
    }
    return 1;
}

/* The reference, and plain in each way of rounding; their outputs are kept.
 * plain runs on this thread, whose rounding is set. */
static int run_reference(check *c, void *state)
{
    static const struct {
        check_keep_in keep;
        int impl, rounding;
    } runs[] = {
        { CHECK_KEEP_REF, 0, FE_TONEAREST },
        { CHECK_KEEP_PLAIN, 1, FE_TONEAREST },
        { CHECK_KEEP_UP, 1, FE_UPWARD },
        { CHECK_KEEP_DOWN, 1, FE_DOWNWARD },
    };
    const uint64_t pick = check_hash(1, check_value(c->one, "id")) % N_MODES;
    char reason[REASON_BYTES] = "";

    for (int i = 0; i < 4; i++) {
        const check_impl *const impl = &check_impls[runs[i].impl];
        const int n = i ? 1 : thread_modes[pick];

        fesetround(runs[i].rounding);
        const outcome what = call(c, state, impl, n, reason);

        fesetround(FE_TONEAREST);
        if (what != DONE) {
            report(c, impl, n, reason);
            return 0;
        }
        check_keep(c, runs[i].keep);
    }
    return 1;
}

static int check_impl_list(check *c, void *state)
{
    for (int i = 0; i < check_n_impls; i++)
        if (i != 1 && check_chosen(c->options, &check_impls[i])
            && !check_impl_modes(c, state, &check_impls[i]))
            return 0;
    return 1;
}

/* The same case once more on the GPU: its inputs are the same, and it is held
 * against what the reference gave on the CPU. */
static int check_on_gpu(const check *c)
{
    static check gpu;
    void *state;
    int right = check_setup(&gpu, c->one, c->options, 1, &state);

    if (right) {
        check_seal(&gpu);
        for (int i = 0; i < c->n_items; i++)
            memcpy(gpu.items[i].keep, c->items[i].keep,
                   sizeof(gpu.items[i].keep));
        right = check_impl_list(&gpu, state);
        for (int i = 0; i < c->n_items; i++)
            memset(gpu.items[i].keep, 0, CHECK_KEEP_AGAIN * sizeof(char *));
    }
    check_release(&gpu);
    return right;
}

static int check_sealed(check *c, void *state)
{
    check_seal(c);
    if (!run_reference(c, state))
        return 0;
    if (c->options->dump && !check_dump(c)) {
        report(c, &check_impls[0], 1, "its files could not be written");
        return 0;
    }
    return c->options->cuda ? check_on_gpu(c) : check_impl_list(c, state);
}

static int check_one(const check_options *options, const check_case *one)
{
    static check c;
    void *state;
    int right;

    if (one->error[0]) {
        printf("FAIL %s: %s:%d: %s\n", one->driver->op, one->file, one->line,
               one->error);
        return 0;
    }
    check_progress("setup");
    current = &c;
    right = check_setup(&c, one, options, 0, &state);
    if (right)
        right = check_sealed(&c, state);
    else
        report(&c, &check_impls[0], 1, c.broken);
    current = NULL;
    check_release(&c);
    return right;
}

/* --- the cases of a file -------------------------------------------------- */

static int selected(const check_options *options, const check_case *one)
{
    if (one->error[0])
        return !options->id && !options->bench;
    if (options->id)
        return !strcmp(options->id, check_value(one, "id"));
    if (options->bench)
        return check_value(one, "bench")[0] != 0;
    return one->tier <= options->tier;
}

static void run_cases(const check_options *options, const check_case *cases,
                      int n)
{
    catch_faults();
    for (int i = shared->next; i < n; i++) {
        if (!selected(options, &cases[i]))
            continue;
        shared->in_flight = i;
        shared->fault[0] = 0;
        alarm((unsigned)options->timeout);
        if (check_one(options, &cases[i]))
            shared->sum.passed++;
        else
            shared->sum.failed++;
        fflush(stdout);
        shared->in_flight = -1;
        shared->next = i + 1;
    }
    alarm(0);
    check_contexts_destroy();
}

static void report_death(const check_options *options, const check_case *cases,
                         int how)
{
    const int dead = shared->in_flight;
    const check_case *const one = &cases[dead < 0 ? 0 : dead];
    const int number = WIFSIGNALED(how) ? WTERMSIG(how) : 0;
    const char *const id = dead < 0 ? "(end)" : check_value(one, "id");

    printf("FAIL %s %s: %s: ", one->driver->op, id,
           dead < 0 ? "after the last case" : shared->stage);
    if (number == SIGALRM)
        printf("took more than %d s\n", options->timeout);
    else if (number)
        printf("died of %s%s\n", strsignal(number), shared->fault);
    else
        printf("ended with exit status %d\n", WEXITSTATUS(how));
    if (dead >= 0)
        printf("  again: flicheck --op %s --case %s --seed %llu%s %s\n",
               one->driver->op, id, (unsigned long long)options->seed,
               options->tier == TIER_FULL ? " --tier full" : "", one->file);
    shared->sum.failed++;
}

static void run_until_done(const check_options *options,
                           const check_case *cases, int n)
{
    while (shared->next < n) {
        int how = 0;

        shared->in_flight = -1;
        fflush(stdout);
        const pid_t child = fork();

        if (child == 0) {
            run_cases(options, cases, n);
            exit(0);
        }
        if (child < 0 || waitpid(child, &how, 0) != child) {
            printf("FAIL %s: fork failed\n", cases[0].driver->op);
            shared->sum.failed++;
            return;
        }
        if (WIFEXITED(how) && WEXITSTATUS(how) == 0)
            return;
        report_death(options, cases, how);
        if (shared->in_flight < 0)
            return;
        shared->next = shared->in_flight + 1;
    }
}

static void bench_cases(const check_options *options, const check_case *cases,
                        int n, check_sum *sum)
{
    for (int i = 0; i < n; i++)
        if (selected(options, &cases[i]))
            check_bench_case(options, &cases[i], sum);
}

void check_run(const check_options *options, const check_driver *driver,
               const char *file, check_sum *sum)
{
    int n;
    check_case *const cases = check_load(driver, file, &n);

    if (!cases) {
        printf("FAIL %s: %s cannot be read\n", driver->op, file);
        sum->failed++;
        return;
    }
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        fprintf(stderr, "flicheck: no shared memory\n");
        exit(2);
    }
    if (options->bench)
        bench_cases(options, cases, n, sum);
    else
        run_until_done(options, cases, n);
    sum->passed += shared->sum.passed;
    sum->failed += shared->sum.failed;
    munmap(shared, sizeof(*shared));
    free(cases);
}
