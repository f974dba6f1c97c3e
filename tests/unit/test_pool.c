/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in pool: every part once, from many threads at once, nested, asleep
 * and awake.  Also run under the thread sanitizer. */
#include "unit.h"

#include <pthread.h>
#include <time.h>

#include "device/device.h"

enum { MAX_PARTS = 8 };

static fli_context host(void)
{
    return (fli_context){ .allocator = fli__default_allocator };
}

/* Plain ints: parts may not share one, and run must order them. */
typedef struct {
    int done[MAX_PARTS];
    int n;
} parts;

static void mark(void *arg, int32_t ith, int32_t nth)
{
    parts *p = arg;

    p->done[ith]++;
    if (ith == 0)
        p->n = nth;
}

static void assert_each_once(parts *p, int n, int times)
{
    assert_int_equal(p->n, n);
    for (int i = 0; i < MAX_PARTS; i++)
        assert_int_equal(p->done[i], i < n ? times : 0);
}

static void every_part_once(void **state)
{
    const fli_context ctx = host();

    (void)state;
    for (int32_t n = 1; n <= MAX_PARTS; n++) {
        struct fli__pool *pool = fli__pool_create(&ctx, n);
        parts p = { 0 };

        assert_non_null(pool);
        fli__pool_run(pool, mark, &p);
        assert_each_once(&p, n, 1);
        fli__pool_destroy(&ctx, pool);
    }
}

static void many_runs_in_a_row(void **state)
{
    const fli_context ctx = host();
    struct fli__pool *pool = fli__pool_create(&ctx, 3);
    parts p = { 0 };

    (void)state;
    for (int i = 0; i < 3000; i++)
        fli__pool_run(pool, mark, &p);
    assert_each_once(&p, 3, 3000);
    fli__pool_destroy(&ctx, pool);
}

/* Longer than workers spin, so that they must be woken. */
static void wakes_sleepers(void **state)
{
    const fli_context ctx = host();
    struct fli__pool *pool = fli__pool_create(&ctx, 4);
    parts p = { 0 };

    (void)state;
    for (int i = 0; i < 30; i++) {
        const struct timespec pause = { 0, 200000 * (i % 4) };

        nanosleep(&pause, NULL);
        fli__pool_run(pool, mark, &p);
    }
    assert_each_once(&p, 4, 30);
    fli__pool_destroy(&ctx, pool);
}

typedef struct {
    struct fli__pool *pool;
    parts p;
} caller;

static void *call_often(void *arg)
{
    caller *c = arg;

    for (int i = 0; i < 1000; i++)
        fli__pool_run(c->pool, mark, &c->p);
    return NULL;
}

static void many_callers_at_once(void **state)
{
    enum { N_CALLERS = 5 };
    const fli_context ctx = host();
    struct fli__pool *pool = fli__pool_create(&ctx, 3);
    caller callers[N_CALLERS] = { 0 };
    pthread_t threads[N_CALLERS];

    (void)state;
    for (int i = 0; i < N_CALLERS; i++) {
        callers[i].pool = pool;
        assert_int_equal(
            pthread_create(&threads[i], NULL, call_often, &callers[i]), 0);
    }
    for (int i = 0; i < N_CALLERS; i++) {
        pthread_join(threads[i], NULL);
        assert_each_once(&callers[i].p, 3, 1000);
    }
    fli__pool_destroy(&ctx, pool);
}

static void run_inner(void *arg, int32_t ith, int32_t nth)
{
    caller *callers = arg;

    (void)nth;
    fli__pool_run(callers[ith].pool, mark, &callers[ith].p);
}

static void a_task_may_run_tasks(void **state)
{
    const fli_context ctx = host();
    struct fli__pool *pool = fli__pool_create(&ctx, 3);
    caller callers[3] = { { .pool = pool },
                          { .pool = pool },
                          { .pool = pool } };

    (void)state;
    fli__pool_run(pool, run_inner, callers);
    for (int i = 0; i < 3; i++)
        assert_each_once(&callers[i].p, 3, 1);
    fli__pool_destroy(&ctx, pool);
}

/* Two threads on one context, each with outputs of its own. */
typedef struct {
    fli_context *ctx;
    int ok;
} user;

static void *norm_often(void *arg)
{
    enum { N = 40, HIDDEN = 512 }; /* enough to be split over the pool */
    user *u = arg;
    static const float weight[HIDDEN];
    float x[HIDDEN] = { 0 };
    fli_rmsnorm_args args = FLI_RMSNORM_ARGS_INIT;

    args.x = fli_tensor_2d(x, u->ctx, FLI_F32, N, HIDDEN);
    args.x.stride[0] = 0; /* one row, N times */
    args.weight = fli_tensor_1d(weight, u->ctx, FLI_F32, HIDDEN);
    u->ok = 1;
    for (int i = 0; i < 50; i++) {
        static _Thread_local float big[N * HIDDEN];

        memset(big, 0x7f, sizeof(big));
        args.out = fli_tensor_2d(big, u->ctx, FLI_F32, N, HIDDEN);
        if (fli_rmsnorm(u->ctx, &args, NULL))
            u->ok = 0;
        for (int j = 0; j < N * HIDDEN; j++)
            u->ok &= big[j] == 0;
    }
    return NULL;
}

static void a_context_is_for_many_threads(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    user users[3] = { { 0 } };
    pthread_t threads[3];
    fli_context *ctx;

    (void)state;
    options.n_threads = 3;
    assert_ok(fli_context_create(&ctx, fli_cpu(), &options));
    for (int i = 0; i < 3; i++) {
        users[i].ctx = ctx;
        assert_int_equal(
            pthread_create(&threads[i], NULL, norm_often, &users[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_true(users[i].ok);
    }
    fli_context_destroy(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_once),
        cmocka_unit_test(many_runs_in_a_row),
        cmocka_unit_test(wakes_sleepers),
        cmocka_unit_test(many_callers_at_once),
        cmocka_unit_test(a_task_may_run_tasks),
        cmocka_unit_test(a_context_is_for_many_threads),
    };

    return RUN(tests);
}
