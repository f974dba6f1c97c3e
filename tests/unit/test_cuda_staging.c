/* SPDX-License-Identifier: Apache-2.0 */
/* Staging memory on the fake driver, where copies are as late as they may be: plans
 * stay apart, whatever fails; captures, threads. */
#include <pthread.h>
#include <stdio.h>

#include "cuda_unit.h"

/* A context and two of its streams. */
typedef struct {
    fli_context *ctx;
    void *streams[2];
} setting;

static setting create(void)
{
    setting s = { .ctx = create_cuda() };

    for (int i = 0; i < 2; i++)
        s.streams[i] = fake_stream_create(primary);
    return s;
}

static void destroy(setting *s)
{
    for (int i = 0; i < 2; i++)
        fake_stream_destroy(s->streams[i]);
    fli_context_destroy(s->ctx);
}

#define BYTES   ((size_t)1000)
#define N_PLANS 11

static void *device_memory(void)
{
    uint64_t pointer;

    assert_int_equal(cuCtxSetCurrent(primary), 0);
    assert_int_equal(cuMemAlloc_v2(&pointer, BYTES), 0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    return (void *)(uintptr_t)pointer;
}

static void device_memory_free(void *pointer)
{
    assert_int_equal(cuCtxSetCurrent(primary), 0);
    assert_int_equal(cuMemFree_v2((uintptr_t)pointer), 0);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
}

/* A plan whose every byte is value. */
static fli_status plan(const fli__call *call, fli__staging *staging,
                       void *device, int value)
{
    void *slot;

    TRY(fli__staging_next(call, staging, &slot));
    memset(slot, value, BYTES);
    return fli__staging_send(call, staging, device, BYTES);
}

/* Each plan has device memory of its own, so that one which is overwritten on its
 * way shows. */
static void plans_arrive_however_late(void **state)
{
    setting s = create();
    void *device[N_PLANS];
    fli__staging *staging;

    (void)state;
    assert_ok(fli__staging_create(s.ctx, "op create", BYTES, &staging));
    const int64_t n_allocations = fake_n_allocations() + N_PLANS;
    const int64_t n_synchronisations = fake_n_synchronisations();

    for (int i = 0; i < N_PLANS; i++)
        device[i] = device_memory();
    for (int i = 0; i < N_PLANS; i++) {
        const fli__call call = { s.ctx, "op plan", s.streams[i % 3 == 1], 0 };

        assert_ok(plan(&call, staging, device[i], i));
        /* the first four wait for nothing */
        assert_int_equal(fake_n_synchronisations() - n_synchronisations,
                         MAX(i - 3, 0));
    }
    assert_int_equal(fake_n_allocations(), n_allocations);
    assert_null(current_context());
    fli__staging_destroy(s.ctx, staging); /* waits */
    for (int i = 0; i < N_PLANS; i++) {
        for (size_t byte = 0; byte < BYTES; byte++)
            assert_int_equal(((unsigned char *)device[i])[byte], i);
        device_memory_free(device[i]);
    }
    fli__staging_destroy(s.ctx, NULL);
    destroy(&s);
}

static void slot_stays_until_it_is_sent(void **state)
{
    setting s = create();
    const fli__call call = { s.ctx, "op plan", s.streams[0], 0 };
    void *device = device_memory();
    void *slots[6];
    fli__staging *staging;

    (void)state;
    assert_ok(fli__staging_create(s.ctx, "op create", BYTES, &staging));
    assert_ok(fli__staging_next(&call, staging, &slots[0]));
    assert_ok(fli__staging_next(&call, staging, &slots[1]));
    assert_ptr_equal(slots[0], slots[1]);
    for (int i = 1; i < 6; i++) {
        assert_ok(fli__staging_send(&call, staging, device, BYTES));
        assert_ok(fli__staging_next(&call, staging, &slots[i]));
        for (int j = MAX(0, i - 3); j < i; j++)
            assert_true(labs((char *)slots[i] - (char *)slots[j])
                        >= (long)BYTES);
    }
    assert_ptr_equal(slots[4], slots[0]);
    fli__staging_destroy(s.ctx, staging);
    device_memory_free(device);
    destroy(&s);
}

static void no_plan_in_a_capture(void **state)
{
    setting s = create();
    const fli__call call = { s.ctx, "op plan", s.streams[0], 0 };
    void *device = device_memory();
    fli__staging *staging;

    (void)state;
    assert_ok(fli__staging_create(s.ctx, "op create", BYTES, &staging));
    assert_ok(plan(&call, staging, device, 1));
    fake_begin_capture(s.streams[0]);
    assert_fails(plan(&call, staging, device, 2), INVALID_STATE,
                 "op plan: the stream is being captured, and a graph cannot "
                 "hold a plan made of lengths on the host: plan before the "
                 "capture, or capture fli_attention_plan_device");
    assert_int_equal(fake_end_capture(s.streams[0]), 1); /* not spoiled */
    assert_ok(plan(&call, staging, device, 3));
    fli__staging_destroy(s.ctx, staging);
    assert_int_equal(*(unsigned char *)device, 3);
    device_memory_free(device);
    destroy(&s);
}

static void staging_without_a_device(void **state)
{
    fli_context *ctx = create_arch("sm_90a");
    const fli__call call = { ctx, "op plan", NULL, 0 };
    fli__staging *staging;
    void *slot;

    (void)state;
    assert_ok(fli__staging_create(ctx, "op create", BYTES, &staging));
    assert_fails(fli__staging_next(&call, staging, &slot), UNSUPPORTED,
                 "op plan: the context compiles for sm_90a and has no device, "
                 "expected one made without cuda_arch");
    fli__staging_destroy(ctx, staging);
    fli_context_destroy(ctx);
}

static void each_call_of_staging_create_fails(void **state)
{
    setting s = create();
    const int32_t n_alive = fake_n_alive();
    fli__staging *staging = NULL;

    (void)state;
    for (int64_t i = 0; !staging; i++) {
        fake_fail_at(i, FAKE_ILLEGAL_ADDRESS);
        const fli_status status =
            fli__staging_create(s.ctx, "op create", BYTES, &staging);

        if (status) {
            assert_int_equal(status, FLI_DEVICE);
            assert_driver_text("op create", fake_failed_call());
            assert_null(current_context());
            assert_int_equal(fake_n_alive(), n_alive);
        }
    }
    /* two to enter, the memory, four events; the next one only leaves */
    assert_string_equal(fake_failed_call(), "cuCtxSetCurrent");
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    fli__staging_destroy(s.ctx, staging);
    assert_int_equal(fake_n_alive(), n_alive);
    destroy(&s);
}

/* A plan that fails anywhere leaves a ring that still keeps plans apart. */
static void each_call_of_a_plan_fails(void **state)
{
    setting s = create();
    const fli__call call = { s.ctx, "op plan", s.streams[0], 0 };
    void *device[2] = { device_memory(), device_memory() };
    fli__staging *staging;
    int n_failed = 0;

    (void)state;
    assert_ok(fli__staging_create(s.ctx, "op create", BYTES, &staging));
    for (int64_t i = 0; i < 20; i++) {
        for (int j = 0; j < 4; j++) /* each slot has a copy on its way */
            assert_ok(plan(&call, staging, device[0], 100 + j));
        fake_fail_at(i, FAKE_ILLEGAL_ADDRESS);
        const fli_status status = plan(&call, staging, device[1], 50);

        fake_fail_at(-1, 0);
        if (status) {
            assert_int_equal(status, FLI_DEVICE);
            assert_null(current_context());
            n_failed++;
        }
        assert_int_equal(cuCtxSetCurrent(NULL), 0);
        for (int j = 0; j < 4; j++)
            assert_ok(plan(&call, staging, device[0], j));
        fake_stream_run(s.streams[0]);
        assert_int_equal(*(unsigned char *)device[0], 3);
        if (!status)
            assert_int_equal(*(unsigned char *)device[1], 50);
    }
    /* enter, ask, wait; enter, copy, record; each enters and leaves */
    assert_true(n_failed >= 7);
    fli__staging_destroy(s.ctx, staging);
    device_memory_free(device[0]);
    device_memory_free(device[1]);
    destroy(&s);
}

/* Without its event nothing tells when the copy has run: send has to wait. */
static void copy_without_an_event_is_waited_for(void **state)
{
    setting s = create();
    const fli__call call = { s.ctx, "op plan", s.streams[0], 0 };
    void *device = device_memory();
    fli__staging *staging;
    void *slot;

    (void)state;
    assert_ok(fli__staging_create(s.ctx, "op create", BYTES, &staging));
    assert_ok(fli__staging_next(&call, staging, &slot));
    memset(slot, 9, BYTES);
    fake_fail_at(3, FAKE_ILLEGAL_ADDRESS);
    assert_int_equal(fli__staging_send(&call, staging, device, BYTES),
                     FLI_DEVICE);
    assert_driver_text("op plan", "cuEventRecord");
    assert_int_equal(*(unsigned char *)device, 9);
    fli__staging_destroy(s.ctx, staging);
    device_memory_free(device);
    destroy(&s);
}

/* --- threads ------------------------------------------------------------------ */

#define N_ROUNDS 50

/* Its own staging, its own stream, the same context. */
typedef struct {
    const setting *s;
    int32_t number;
    void *device;
    int failed;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    const fli__call call = { w->s->ctx, "op plan", w->s->streams[w->number],
                             0 };
    fli__staging *staging = NULL;
    void *current = w;

    w->failed =
        fli__staging_create(w->s->ctx, "op create", BYTES, &staging) != FLI_OK;
    for (int32_t i = 0; i < N_ROUNDS && !w->failed; i++)
        w->failed |= plan(&call, staging, w->device, w->number + i) != FLI_OK;
    fli__staging_destroy(w->s->ctx, staging);
    w->failed |= *(unsigned char *)w->device != w->number + N_ROUNDS - 1;
    w->failed |= cuCtxGetCurrent(&current) || current;
    return NULL;
}

static void two_threads_plan(void **state)
{
    setting s = create();
    worker workers[2];
    pthread_t threads[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        workers[i] = (worker){ &s, i, device_memory(), 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]),
                         0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_false(workers[i].failed);
        device_memory_free(workers[i].device);
    }
    destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CUDA_TEST(plans_arrive_however_late),
        CUDA_TEST(slot_stays_until_it_is_sent),
        CUDA_TEST(no_plan_in_a_capture),
        CUDA_TEST(staging_without_a_device),
        CUDA_TEST(each_call_of_staging_create_fails),
        CUDA_TEST(each_call_of_a_plan_fails),
        CUDA_TEST(copy_without_an_event_is_waited_for),
        CUDA_TEST(two_threads_plan),
    };

    setenv("FLI_LIBCUDA", FAKECUDA, 1);
    return RUN(tests);
}
