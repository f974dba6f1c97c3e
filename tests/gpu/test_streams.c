/* SPDX-License-Identifier: Apache-2.0 */
/* Work in two streams at once, from one host thread and from two, with a context
 * each and with a shared one: every call gives what it gives alone. */
#include <pthread.h>

#include "gpu_unit.h"

#include "ops.h"

enum { N_ROUNDS = 30, SETS = 2 };

/* Every call of ops.c on memory of its own, and what it gives alone. */
typedef struct {
    fli_context *ctx;
    gpu_stream stream;
    uint64_t seed;
    ops_case **cases;
    char **want;
    char failure[512]; /* of a thread; "" while all is right */
} op_set;

static op_set *make_set(fli_context *ctx, uint64_t seed)
{
    op_set *const s = xalloc(sizeof(*s));

    s->ctx = ctx;
    s->stream = gpu_stream_create();
    s->seed = seed;
    s->cases = xalloc((size_t)ops_n_kinds * sizeof(*s->cases));
    s->want = xalloc((size_t)ops_n_kinds * sizeof(*s->want));
    for (int i = 0; i < ops_n_kinds; i++) {
        ops_case *const c = ops_make(&ops_kinds[i], ctx, s->stream);

        s->cases[i] = c;
        ops_fill(c, seed);
        if (ops_call(c, s->stream))
            fail_msg("%s: %s", c->kind->name, fli_last_error());
        assert_well(ctx, c->kind->name);
        s->want[i] = ops_read(c);
    }
    return s;
}

static void free_set(op_set *s)
{
    for (int i = 0; i < ops_n_kinds; i++) {
        ops_free(s->cases[i]);
        free(s->want[i]);
    }
    free(s->cases);
    free(s->want);
    free(s);
}

static void refill(const op_set *s)
{
    for (int i = 0; i < ops_n_kinds; i++)
        ops_fill(s->cases[i], s->seed);
}

/* Remembers the first thing that went wrong. */
static void note(op_set *s, int round, const char *name, const char *what)
{
    if (!*s->failure)
        snprintf(s->failure, sizeof(s->failure), "round %d, %s: %s", round,
                 name, what);
}

static void call(op_set *s, int round, int i)
{
    if (ops_call(s->cases[i], s->stream))
        note(s, round, ops_kinds[i].name, fli_last_error());
}

static void compare(op_set *s, int round)
{
    for (int i = 0; i < ops_n_kinds; i++) {
        const size_t n = s->cases[i]->out_bytes;
        char *const got = ops_read(s->cases[i]);
        char text[64];

        snprintf(text, sizeof(text), "byte %zu of %zu differs",
                 first_difference(got, s->want[i], n), n);
        if (memcmp(got, s->want[i], n))
            note(s, round, ops_kinds[i].name, text);
        free(got);
    }
}

static void assert_right(const op_set *s)
{
    if (*s->failure)
        fail_msg("%s", s->failure);
}

/* --- one thread --------------------------------------------------------------- */

/* The streams take the calls from both ends, shifted by a call each round. */
static void two_streams(void **state)
{
    fli_context *const ctx = create_context(NULL);
    op_set *const a = make_set(ctx, 1), *const b = make_set(ctx, 2);
    const int n = ops_n_kinds;

    (void)state;
    for (int round = 0; round < N_ROUNDS; round++) {
        refill(a);
        refill(b);
        for (int i = 0; i < n; i++) {
            call(a, round, i);
            call(b, round, (2 * n - 1 - i + round) % n);
        }
        assert_well(ctx, "two streams");
        compare(a, round);
        compare(b, round);
    }
    assert_right(a);
    assert_right(b);
    free_set(a);
    free_set(b);
    fli_context_destroy(ctx);
}

/* --- two threads -------------------------------------------------------------- */

static void *rounds(void *arg)
{
    op_set *const s = arg;

    gpu_open();
    for (int round = 0; round < N_ROUNDS && !*s->failure; round++) {
        refill(s);
        for (int i = 0; i < ops_n_kinds; i++)
            call(s, round, i);
        if (gpu_wait())
            note(s, round, "waiting", "the device failed");
        else
            compare(s, round);
    }
    return NULL;
}

static void run_threads(op_set *sets[SETS])
{
    pthread_t threads[SETS];

    for (int i = 0; i < SETS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, rounds, sets[i]), 0);
    for (int i = 0; i < SETS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < SETS; i++) {
        assert_right(sets[i]);
        assert_well(sets[i]->ctx, "two threads");
    }
}

static void two_threads_a_context_each(void **state)
{
    op_set *sets[SETS];

    (void)state;
    for (int i = 0; i < SETS; i++)
        sets[i] = make_set(create_context(NULL), (uint64_t)i + 3);
    run_threads(sets);
    for (int i = 0; i < SETS; i++) {
        fli_context *const ctx = sets[i]->ctx;

        free_set(sets[i]);
        fli_context_destroy(ctx);
    }
}

static void two_threads_one_context(void **state)
{
    fli_context *const ctx = create_context(NULL);
    op_set *sets[SETS];

    (void)state;
    for (int i = 0; i < SETS; i++)
        sets[i] = make_set(ctx, (uint64_t)i + 5);
    run_threads(sets);
    for (int i = 0; i < SETS; i++)
        free_set(sets[i]);
    fli_context_destroy(ctx);
}

/* Both ask for kernels that the context has not loaded yet. */
static void *first_calls(void *arg)
{
    op_set *const s = arg;

    gpu_open();
    for (int i = 0; i < ops_n_kinds; i++) {
        s->cases[i]->ctx = s->ctx;
        if (!s->cases[i]->attention) /* which belongs to a context */
            call(s, 0, i);
    }
    return NULL;
}

static void two_threads_first_calls(void **state)
{
    fli_context *const made = create_context(NULL);
    fli_context *const fresh = create_context(NULL);
    pthread_t threads[SETS];
    op_set *sets[SETS];

    (void)state;
    for (int i = 0; i < SETS; i++) {
        sets[i] = make_set(made, 7);
        refill(sets[i]);
        sets[i]->ctx = fresh;
    }
    for (int i = 0; i < SETS; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, first_calls, sets[i]), 0);
    for (int i = 0; i < SETS; i++)
        pthread_join(threads[i], NULL);
    assert_well(fresh, "first calls of two threads");
    for (int i = 0; i < SETS; i++) {
        for (int k = 0; k < ops_n_kinds; k++) /* attention was not called */
            if (sets[i]->cases[k]->attention)
                call(sets[i], 0, k);
        assert_waits("first calls of two threads");
        compare(sets[i], 0);
        assert_right(sets[i]);
        free_set(sets[i]);
    }
    fli_context_destroy(fresh);
    fli_context_destroy(made);
}

static int setup(void **state)
{
    (void)state;
    gpu_open();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_streams),
        cmocka_unit_test(two_threads_a_context_each),
        cmocka_unit_test(two_threads_one_context),
        cmocka_unit_test(two_threads_first_calls),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
