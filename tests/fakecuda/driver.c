/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points of the fake driver: those that the library uses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda_driver.h"
#include "image.h"
#include "state.h"

#define SHARED_UNASKED 49152

/* cuda_driver.h is what there must be. */
#pragma GCC visibility push(default)
#define FLI_CU(name, suffix, arguments) int32_t name##suffix arguments;
FLI__CUDA_DRIVER(FLI_CU)
#undef FLI_CU
#pragma GCC visibility pop

/* Calls that free do not use it: they free even where they report a failure. */
#define BEGIN(rules)                                                           \
    do {                                                                       \
        const int32_t begun = fake_begin(__func__, rules);                     \
        if (begun)                                                             \
            return fake_end(begun);                                            \
    } while (0)

#define REQUIRE(condition, result)                                             \
    do {                                                                       \
        if (!(condition))                                                      \
            return fake_end(result);                                           \
    } while (0)

/* The default streams are of the current context. */
static int is_default(const void *stream)
{
    return (uintptr_t)stream <= 2;
}

static fake_object *context_of(const void *stream)
{
    return is_default(stream) ? fake_current : object_of(STREAM, stream)->owner;
}

static int32_t capture_of(const void *stream)
{
    return is_default(stream) ? CAPTURE_NONE
                              : object_of(STREAM, stream)->capture;
}

/* --- the driver, devices ------------------------------------------------------ */

int32_t cuInit(uint32_t flags)
{
    BEGIN(ANY_TIME);
    REQUIRE(!flags, FAKE_INVALID_VALUE);
    REQUIRE(fake.n_devices, FAKE_NO_DEVICE);
    fake.is_initialized = 1;
    return fake_end(0);
}

int32_t cuDriverGetVersion(int32_t *version)
{
    BEGIN(ANY_TIME);
    *version = fake.version;
    return fake_end(0);
}

static const struct {
    int32_t result;
    const char *name, *text;
} errors[] = {
    { 0, "CUDA_SUCCESS", "no error" },
    { FAKE_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument" },
    { FAKE_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" },
    { FAKE_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED",
      "initialization error" },
    { FAKE_NO_DEVICE, "CUDA_ERROR_NO_DEVICE",
      "no CUDA-capable device is detected" },
    { FAKE_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE",
      "invalid device ordinal" },
    { FAKE_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE",
      "device kernel image is invalid" },
    { FAKE_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT",
      "invalid device context" },
    { FAKE_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE",
      "invalid resource handle" },
    { FAKE_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found" },
    { FAKE_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS",
      "an illegal memory access was encountered" },
    { FAKE_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
      "operation not permitted when stream is capturing" },
    { FAKE_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
      "operation failed due to a previous error during capture" },
    { FAKE_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT",
      "operation not permitted on an event last recorded in a capturing "
      "stream" },
};

int32_t cuGetErrorName(int32_t result, const char **text)
{
    *text = NULL;
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
        if (errors[i].result == result)
            *text = errors[i].name;
    return *text ? 0 : FAKE_INVALID_VALUE;
}

int32_t cuGetErrorString(int32_t result, const char **text)
{
    *text = NULL;
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
        if (errors[i].result == result)
            *text = errors[i].text;
    return *text ? 0 : FAKE_INVALID_VALUE;
}

int32_t cuDeviceGetCount(int32_t *n)
{
    BEGIN(0);
    *n = fake.n_devices;
    return fake_end(0);
}

int32_t cuDeviceGet(int32_t *device, int32_t ordinal)
{
    BEGIN(0);
    REQUIRE(ordinal >= 0 && ordinal < fake.n_devices, FAKE_INVALID_DEVICE);
    *device = ordinal;
    return fake_end(0);
}

int32_t cuDeviceGetName(char *name, int32_t bytes, int32_t device)
{
    BEGIN(0);
    REQUIRE(device >= 0 && device < fake.n_devices, FAKE_INVALID_DEVICE);
    snprintf(name, (size_t)bytes, "%s", fake.name);
    return fake_end(0);
}

int32_t cuDeviceGetAttribute(int32_t *value, int32_t attribute, int32_t device)
{
    BEGIN(0);
    REQUIRE(device >= 0 && device < fake.n_devices, FAKE_INVALID_DEVICE);
    REQUIRE(attribute > 0 && attribute < N_ATTRIBUTES, FAKE_INVALID_VALUE);
    *value = fake.attributes[attribute];
    return fake_end(0);
}

/* --- contexts and streams ----------------------------------------------------- */

int32_t cuDevicePrimaryCtxRetain(void **context, int32_t device)
{
    BEGIN(0);
    REQUIRE(device >= 0 && device < fake.n_devices, FAKE_INVALID_DEVICE);
    if (!fake_primaries[device].n++) {
        fake_primaries[device].context = object_create(CONTEXT, NULL);
        fake_primaries[device].context->device = device;
    }
    *context = fake_primaries[device].context;
    return fake_end(0);
}

int32_t cuDevicePrimaryCtxRelease_v2(int32_t device)
{
    const int32_t begun = fake_begin(__func__, 0);

    if (!fake_primaries[device].n)
        fake_die("a primary context is released that nobody has");
    if (!--fake_primaries[device].n)
        object_destroy(fake_primaries[device].context);
    return fake_end(begun);
}

int32_t cuCtxGetCurrent(void **context)
{
    BEGIN(0);
    *context = fake_current;
    return fake_end(0);
}

int32_t cuCtxSetCurrent(void *context)
{
    BEGIN(0);
    REQUIRE(!context || object_find(CONTEXT, context), FAKE_INVALID_CONTEXT);
    fake_current = context;
    return fake_end(0);
}

int32_t cuCtxGetDevice(int32_t *device)
{
    BEGIN(NEEDS_CURRENT);
    *device = fake_current->device;
    return fake_end(0);
}

int32_t cuCtxSynchronize(void)
{
    BEGIN(NEEDS_CURRENT | WAITS | UNSAFE);
    copy_run(NULL, 1, copy_last());
    return fake_end(0);
}

int32_t cuStreamIsCapturing(void *stream, int32_t *status)
{
    BEGIN(is_default(stream) ? NEEDS_CURRENT : 0);
    *status = capture_of(stream);
    return fake_end(0);
}

int32_t cuStreamGetCtx(void *stream, void **context)
{
    BEGIN(is_default(stream) ? NEEDS_CURRENT : 0);
    REQUIRE(is_default(stream) || object_find(STREAM, stream),
            FAKE_INVALID_HANDLE);
    *context = context_of(stream);
    return fake_end(0);
}

/* --- modules ------------------------------------------------------------------ */

int32_t cuModuleLoadData(void **module, const void *image)
{
    BEGIN(NEEDS_CURRENT | ALLOCATES | WAITS | UNSAFE);
    REQUIRE(image_is_known(image), FAKE_INVALID_IMAGE);
    fake_object *made = object_create(MODULE, fake_current);

    made->bytes = image_bytes(image);
    made->data = malloc(made->bytes);
    if (!made->data)
        fake_die("out of memory");
    memcpy(made->data, image, made->bytes);
    *module = made;
    return fake_end(0);
}

int32_t cuModuleUnload(void *module)
{
    const int32_t begun = fake_begin(__func__, NEEDS_CURRENT);

    REQUIRE(fake_current, FAKE_INVALID_CONTEXT);
    object_destroy(object_of(MODULE, module));
    return fake_end(begun);
}

int32_t cuModuleGetFunction(void **function, void *module, const char *name)
{
    BEGIN(0);
    const int bytes = image_param_bytes(object_of(MODULE, module)->data, name);

    REQUIRE(bytes >= 0, FAKE_NOT_FOUND);
    fake_object *made = object_create(FUNCTION, module);

    snprintf(made->name, sizeof(made->name), "%s", name);
    made->param_bytes = (size_t)bytes;
    made->dynamic_shared = SHARED_UNASKED;
    *function = made;
    return fake_end(0);
}

int32_t cuFuncGetAttribute(int32_t *value, int32_t attribute, void *function)
{
    BEGIN(0);
    const fake_object *of = object_of(FUNCTION, function);

    switch (attribute) {
    case FLI__CU_FUNC_MAX_THREADS:
        *value = 1024;
        break;
    case FLI__CU_FUNC_REGISTERS:
        *value = 32;
        break;
    case FLI__CU_FUNC_MAX_DYNAMIC_SHARED:
        *value = of->dynamic_shared;
        break;
    default:
        *value = 0;
    }
    return fake_end(0);
}

int32_t cuFuncSetAttribute(void *function, int32_t attribute, int32_t value)
{
    BEGIN(0);
    REQUIRE(attribute == FLI__CU_FUNC_MAX_DYNAMIC_SHARED && value >= 0
                && value <= fake.attributes[FLI__CU_ATTRIBUTE_SHARED_OPTIN],
            FAKE_INVALID_VALUE);
    object_of(FUNCTION, function)->dynamic_shared = value;
    return fake_end(0);
}

int32_t cuOccupancyMaxActiveBlocksPerMultiprocessor(int32_t *n, void *function,
                                                    int32_t block,
                                                    size_t shared_bytes)
{
    BEGIN(0);
    const fake_object *of = object_of(FUNCTION, function);

    REQUIRE(block > 0 && block <= 1024, FAKE_INVALID_VALUE);
    *n = 2048 / block;
    while (*n && (size_t)*n * (shared_bytes + 1024) > 233472)
        --*n;
    if (shared_bytes > (size_t)of->dynamic_shared)
        *n = 0;
    return fake_end(0);
}

/* --- launches ------------------------------------------------------------------ */

/* Without cuLaunchKernelEx: CUDA 11.8 brought it. */
#if FAKE_VERSION >= 11080

static int is_launchable(const fli__cu_launch_config *config,
                         const fake_object *function)
{
    const uint32_t *block = config->block;
    const int64_t n_threads = (int64_t)block[0] * block[1] * block[2];

    return config->grid[0] > 0 && config->grid[0] <= INT32_MAX
           && config->grid[1] > 0 && config->grid[1] <= 65535
           && config->grid[2] > 0 && config->grid[2] <= 65535 && n_threads > 0
           && n_threads <= 1024 && block[2] <= 64
           && config->shared_bytes <= (uint32_t)function->dynamic_shared;
}

/* Attributes into launch; 0 for one that this device has not. */
static int read_attributes(const fli__cu_launch_config *config,
                           fake_launch *launch)
{
    const int is_hopper = fake.attributes[FLI__CU_ATTRIBUTE_MAJOR] >= 9;

    for (uint32_t i = 0; i < config->n_attributes; i++) {
        const fli__cu_launch_attribute *a = &config->attributes[i];

        if (!is_hopper)
            return 0;
        if (a->id == FLI__CU_LAUNCH_PROGRAMMATIC_SERIALIZATION) {
            launch->is_programmatic =
                a->value.programmatic_stream_serialization;
        } else if (a->id == FLI__CU_LAUNCH_CLUSTER) {
            launch->cluster = a->value.cluster.x;
            if (!launch->cluster || config->grid[0] % launch->cluster
                || a->value.cluster.y != 1 || a->value.cluster.z != 1)
                return 0;
        } else {
            return 0;
        }
    }
    return 1;
}

static void record(const fake_launch *launch)
{
    fake.launches =
        realloc(fake.launches, (size_t)(fake.n_launches + 1) * sizeof(*launch));
    if (!fake.launches)
        fake_die("out of memory");
    fake.launches[fake.n_launches++] = *launch;
}

int32_t cuLaunchKernelEx(const fli__cu_launch_config *config, void *function,
                         void **params, void **extra)
{
    BEGIN(NEEDS_CURRENT);
    const fake_object *of = object_of(FUNCTION, function);
    fake_launch launch = { .shared_bytes = config->shared_bytes,
                           .stream = config->stream,
                           .param_bytes = of->param_bytes };

    REQUIRE(!extra, FAKE_INVALID_VALUE);
    REQUIRE(of->owner->owner == context_of(config->stream),
            FAKE_INVALID_HANDLE);
    REQUIRE(of->owner->owner == fake_current, FAKE_INVALID_CONTEXT);
    REQUIRE(is_launchable(config, of), FAKE_INVALID_VALUE);
    REQUIRE(read_attributes(config, &launch), FAKE_INVALID_VALUE);
    REQUIRE(capture_of(config->stream) != CAPTURE_INVALIDATED,
            FAKE_CAPTURE_INVALIDATED);
    if (of->param_bytes > sizeof(launch.params))
        fake_die("%s has a parameter of %zu bytes", of->name, of->param_bytes);
    memcpy(launch.name, of->name, sizeof(launch.name));
    memcpy(launch.grid, config->grid, sizeof(launch.grid));
    memcpy(launch.block, config->block, sizeof(launch.block));
    launch.is_captured = capture_of(config->stream);
    if (of->param_bytes)
        memcpy(launch.params, params[0], of->param_bytes);
    record(&launch);
    return fake_end(0);
}

#endif

/* --- memory --------------------------------------------------------------------- */

int32_t cuMemAlloc_v2(uint64_t *pointer, size_t bytes)
{
    BEGIN(NEEDS_CURRENT | ALLOCATES | UNSAFE);
    REQUIRE(bytes, FAKE_INVALID_VALUE);
    fake_object *made = object_create(MEMORY, fake_current);

    if (!memory_create(made, bytes))
        fake_die("out of memory");
    *pointer = (uintptr_t)made->data;
    return fake_end(0);
}

static void free_memory(fake_kind kind, const void *pointer)
{
    fake_object *gone = object_at(kind, pointer, 1);

    if (!gone || gone->data != pointer)
        fake_die("%p is freed and is no memory of the kind", pointer);
    object_destroy(gone);
}

int32_t cuMemFree_v2(uint64_t pointer)
{
    const int32_t begun = fake_begin(__func__, NEEDS_CURRENT);

    REQUIRE(fake_current, FAKE_INVALID_CONTEXT);
    free_memory(MEMORY, (const void *)(uintptr_t)pointer);
    return fake_end(begun);
}

int32_t cuMemHostAlloc(void **pointer, size_t bytes, uint32_t flags)
{
    BEGIN(NEEDS_CURRENT | ALLOCATES | UNSAFE);
    REQUIRE(bytes && !(flags & ~7u), FAKE_INVALID_VALUE);
    fake_object *made = object_create(PINNED, fake_current);

    if (!memory_create(made, bytes))
        fake_die("out of memory");
    *pointer = made->data;
    return fake_end(0);
}

int32_t cuMemFreeHost(void *pointer)
{
    const int32_t begun = fake_begin(__func__, NEEDS_CURRENT);

    REQUIRE(fake_current, FAKE_INVALID_CONTEXT);
    free_memory(PINNED, pointer);
    return fake_end(begun);
}

static char *device_memory(uint64_t pointer, size_t bytes)
{
    char *at = (char *)(uintptr_t)pointer;

    if (!object_at(MEMORY, at, bytes))
        fake_die("%zu bytes at %p are not in device memory", bytes, (void *)at);
    return at;
}

int32_t cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes,
                             void *stream)
{
    BEGIN(NEEDS_CURRENT);
    char *at = device_memory(to, bytes);

    REQUIRE(context_of(stream) == fake_current, FAKE_INVALID_HANDLE);
    REQUIRE(capture_of(stream) != CAPTURE_INVALIDATED,
            FAKE_CAPTURE_INVALIDATED);
    if (capture_of(stream))
        return fake_end(0); /* a node of a graph that nobody launches */
    copy_enqueue(stream, at, from, bytes);
    if (!object_at(PINNED, from, bytes))
        copy_run(stream, 0, copy_last());
    return fake_end(0);
}

int32_t cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes)
{
    BEGIN(NEEDS_CURRENT | WAITS | UNSAFE);
    copy_run(NULL, 0, copy_last());
    memcpy(to, device_memory(from, bytes), bytes);
    return fake_end(0);
}

int32_t cuMemsetD8_v2(uint64_t to, uint8_t value, size_t bytes)
{
    BEGIN(NEEDS_CURRENT | WAITS | UNSAFE);
    copy_run(NULL, 0, copy_last());
    memset(device_memory(to, bytes), value, bytes);
    return fake_end(0);
}

/* --- events ----------------------------------------------------------------------- */

int32_t cuEventCreate(void **event, uint32_t flags)
{
    BEGIN(NEEDS_CURRENT | ALLOCATES);
    REQUIRE(!(flags & ~7u), FAKE_INVALID_VALUE);
    *event = object_create(EVENT, fake_current);
    return fake_end(0);
}

int32_t cuEventDestroy_v2(void *event)
{
    const int32_t begun = fake_begin(__func__, NEEDS_CURRENT);

    REQUIRE(fake_current, FAKE_INVALID_CONTEXT);
    object_destroy(object_of(EVENT, event));
    return fake_end(begun);
}

int32_t cuEventRecord(void *event, void *stream)
{
    BEGIN(NEEDS_CURRENT);
    fake_object *recorded = object_of(EVENT, event);

    REQUIRE(context_of(stream) == recorded->owner, FAKE_INVALID_HANDLE);
    recorded->stream = stream;
    recorded->position = copy_last();
    recorded->is_captured = capture_of(stream);
    return fake_end(0);
}

int32_t cuEventSynchronize(void *event)
{
    BEGIN(WAITS | UNSAFE);
    const fake_object *awaited = object_of(EVENT, event);

    REQUIRE(!awaited->is_captured, FAKE_CAPTURED_EVENT);
    copy_run(awaited->stream, 0, awaited->position);
    return fake_end(0);
}
