/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the fake driver, and what tests do with it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda_driver.h"
#include "state.h"

fake_state fake;
fake_primary fake_primaries[MAX_DEVICES];
_Thread_local fake_object *fake_current;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* --- control ------------------------------------------------------------------ */

static void set_h100(void)
{
    static const struct {
        int32_t attribute, value;
    } h100[] = {
        { FLI__CU_ATTRIBUTE_SMS, 132 },
        { FLI__CU_ATTRIBUTE_L2_BYTES, 52428800 },
        { FLI__CU_ATTRIBUTE_MAJOR, 9 },
        { FLI__CU_ATTRIBUTE_MINOR, 0 },
        { FLI__CU_ATTRIBUTE_SHARED_OPTIN, 232448 },
    };

    for (size_t i = 0; i < sizeof(h100) / sizeof(*h100); i++)
        fake.attributes[h100[i].attribute] = h100[i].value;
    snprintf(fake.name, sizeof(fake.name), "NVIDIA H100 80GB HBM3");
}

static void reset(void)
{
    const int32_t is_initialized = fake.is_initialized;
    const int32_t n_capturing = fake.n_capturing;

    free(fake.launches);
    memset(&fake, 0, sizeof(fake));
    fake.is_initialized = is_initialized;
    fake.n_capturing = n_capturing;
    fake.version = FAKE_VERSION;
    fake.n_devices = 1;
    fake.fail_at = -1;
    set_h100();
}

__attribute__((constructor)) static void start(void)
{
    reset();
}

void fake_reset(void)
{
    pthread_mutex_lock(&lock);
    reset();
    pthread_mutex_unlock(&lock);
}

void fake_set_version(int32_t version)
{
    fake.version = version;
}

void fake_set_devices(int32_t n)
{
    fake.n_devices = n;
}

void fake_set_name(const char *name)
{
    snprintf(fake.name, sizeof(fake.name), "%s", name);
}

void fake_set_attribute(int32_t attribute, int32_t value)
{
    fake.attributes[attribute] = value;
}

void fake_fail_at(int64_t n, int32_t result)
{
    pthread_mutex_lock(&lock);
    fake.fail_at = n < 0 ? -1 : fake.n_calls + n;
    fake.fail_with = result;
    fake.failed[0] = 0;
    pthread_mutex_unlock(&lock);
}

const char *fake_failed_call(void)
{
    return fake.failed;
}

int64_t fake_n_calls(void)
{
    return fake.n_calls;
}

int64_t fake_n_allocations(void)
{
    return fake.n_allocations;
}

int64_t fake_n_synchronisations(void)
{
    return fake.n_synchronisations;
}

int32_t fake_n_alive(void)
{
    pthread_mutex_lock(&lock);
    const int32_t n = object_count(MEMORY) + object_count(PINNED)
                      + object_count(EVENT) + object_count(MODULE);

    pthread_mutex_unlock(&lock);
    return n;
}

void *fake_context_create(int32_t device)
{
    pthread_mutex_lock(&lock);
    fake_object *context = object_create(CONTEXT, NULL);

    context->device = device;
    pthread_mutex_unlock(&lock);
    return context;
}

void fake_context_destroy(void *context)
{
    pthread_mutex_lock(&lock);
    object_destroy(object_of(CONTEXT, context));
    pthread_mutex_unlock(&lock);
}

int32_t fake_n_retained(int32_t device)
{
    return fake_primaries[device].n;
}

void *fake_stream_create(void *context)
{
    pthread_mutex_lock(&lock);
    fake_object *stream = object_create(STREAM, object_of(CONTEXT, context));

    pthread_mutex_unlock(&lock);
    return stream;
}

void fake_stream_destroy(void *stream)
{
    pthread_mutex_lock(&lock);
    copy_run(stream, 0, copy_last());
    object_destroy(object_of(STREAM, stream));
    pthread_mutex_unlock(&lock);
}

void fake_stream_run(void *stream)
{
    pthread_mutex_lock(&lock);
    copy_run(stream, 0, copy_last());
    pthread_mutex_unlock(&lock);
}

void fake_begin_capture(void *stream)
{
    pthread_mutex_lock(&lock);
    object_of(STREAM, stream)->capture = CAPTURE_ACTIVE;
    fake.n_capturing++;
    pthread_mutex_unlock(&lock);
}

int32_t fake_end_capture(void *stream)
{
    pthread_mutex_lock(&lock);
    fake_object *ended = object_of(STREAM, stream);
    const int32_t is_good = ended->capture == CAPTURE_ACTIVE;

    if (ended->capture == CAPTURE_NONE)
        fake_die("a stream that is not captured ends a capture");
    ended->capture = CAPTURE_NONE;
    fake.n_capturing--;
    pthread_mutex_unlock(&lock);
    return is_good;
}

int32_t fake_n_launches(void)
{
    return fake.n_launches;
}

const fake_launch *fake_launch_at(int32_t i)
{
    if (i < 0 || i >= fake.n_launches)
        fake_die("launch %d of %d", (int)i, (int)fake.n_launches);
    return &fake.launches[i];
}

/* --- every call --------------------------------------------------------------- */

static void spoil(fake_object *stream, void *arg)
{
    (void)arg;
    if (stream->capture)
        stream->capture = CAPTURE_INVALIDATED;
}

/* The failure that is due, or 0. */
static int32_t injected(const char *function)
{
    if (fake.n_calls++ != fake.fail_at)
        return 0;
    snprintf(fake.failed, sizeof(fake.failed), "%.*s",
             (int)strcspn(function, "_"), function);
    return fake.fail_with;
}

int32_t fake_begin(const char *function, int rules)
{
    pthread_mutex_lock(&lock);
    const int32_t result = injected(function);

    if (result)
        return result;
    if (!fake.is_initialized && !(rules & ANY_TIME))
        return FAKE_NOT_INITIALIZED;
    if ((rules & NEEDS_CURRENT) && !fake_current)
        return FAKE_INVALID_CONTEXT;
    if ((rules & UNSAFE) && fake.n_capturing) {
        object_each(STREAM, spoil, NULL);
        return FAKE_CAPTURE_UNSUPPORTED;
    }
    fake.n_allocations += !!(rules & ALLOCATES);
    fake.n_synchronisations += !!(rules & WAITS);
    return 0;
}

int32_t fake_end(int32_t result)
{
    pthread_mutex_unlock(&lock);
    return result;
}
