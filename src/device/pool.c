/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in executor: n - 1 threads and the caller.
 *
 * A run publishes the task under a new generation; workers spin for about 200
 * us after their last task (a wake-up costs 50 us in a virtual machine, a
 * hand-over while spinning 0.3 us), then sleep on a condition variable.  A
 * caller that finds the pool busy runs all parts itself, so nothing waits on
 * another run and a task may run tasks. */
#include "device/device.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#define SPIN_NS 200000

struct fli__pool {
    int32_t n;
    int32_t n_started; /* threads to join */
    fli_task *task;    /* these two are published by generation */
    void *arg;
    atomic_int busy;
    atomic_int stop;
    atomic_uint generation;
    atomic_int n_running; /* parts of this generation not yet done */
    atomic_int n_sleeping;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct worker {
        struct fli__pool *pool;
        pthread_t thread;
        int32_t ith;
    } worker[];
};

static size_t pool_bytes(int32_t n)
{
    return sizeof(struct fli__pool) + (size_t)n * sizeof(struct worker);
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int is_new(struct fli__pool *pool, unsigned seen)
{
    return atomic_load_explicit(&pool->generation, memory_order_acquire)
           != seen;
}

/* Spins, yielding so that an oversubscribed machine makes progress; true when a
 * new generation came. */
static int spin(struct fli__pool *pool, unsigned seen)
{
    const int64_t deadline = now_ns() + SPIN_NS;

    do {
        for (int i = 0; i < 200; i++) {
            if (is_new(pool, seen))
                return 1;
            relax();
        }
        sched_yield();
    } while (now_ns() < deadline);
    return 0;
}

static void sleep_until_new(struct fli__pool *pool, unsigned seen)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->n_sleeping, 1);
    while (!is_new(pool, seen))
        pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->n_sleeping, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct fli__pool *pool = worker->pool;

    for (unsigned seen = 0;; seen++) {
        if (!spin(pool, seen))
            sleep_until_new(pool, seen);
        if (atomic_load(&pool->stop))
            return NULL;
        pool->task(pool->arg, worker->ith, pool->n);
        atomic_fetch_sub_explicit(&pool->n_running, 1, memory_order_release);
    }
}

/* A sleeper counts itself under the mutex before it looks at the generation, so
 * either it sees the new one or we see it sleeping. */
static void publish(struct fli__pool *pool)
{
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->n_sleeping)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
}

void fli__pool_run(void *arg_pool, fli_task *task, void *arg)
{
    struct fli__pool *pool = arg_pool;

    if (pool->n == 1 || atomic_exchange(&pool->busy, 1)) {
        for (int32_t i = 0; i < pool->n; i++)
            task(arg, i, pool->n);
        return;
    }
    pool->task = task;
    pool->arg = arg;
    atomic_store(&pool->n_running, pool->n - 1);
    publish(pool);
    task(arg, 0, pool->n);
    for (int i = 0;
         atomic_load_explicit(&pool->n_running, memory_order_acquire); i++) {
        relax();
        if (i % 1000 == 999)
            sched_yield();
    }
    atomic_store(&pool->busy, 0);
}

struct fli__pool *fli__pool_create(const fli_context *ctx, int32_t n)
{
    struct fli__pool *pool = fli__alloc(ctx, pool_bytes(n));

    if (!pool)
        return NULL;
    pool->n = n;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (int32_t i = 1; i < n; i++) {
        struct worker *worker = &pool->worker[i];

        worker->pool = pool;
        worker->ith = i;
        if (pthread_create(&worker->thread, NULL, work, worker)) {
            fli__pool_destroy(ctx, pool);
            return NULL;
        }
        pool->n_started++;
    }
    return pool;
}

void fli__pool_destroy(const fli_context *ctx, struct fli__pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->stop, 1);
    publish(pool);
    for (int32_t i = 1; i <= pool->n_started; i++)
        pthread_join(pool->worker[i].thread, NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    fli__free(ctx, pool, pool_bytes(pool->n));
}
