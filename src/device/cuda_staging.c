/* SPDX-License-Identifier: Apache-2.0 */
/* Pinned host memory that plans go through on their way to the device. */
#include "device/cuda.h"

/* As many plans may be on their way before the next one waits. */
#define N_SLOTS 4

/* Slots share no cache line. */
#define SLOT_ALIGN ((size_t)256)

struct fli__staging {
    char *memory; /* NULL where the context compiles only */
    size_t slot_bytes;
    int32_t turn;             /* the slot to fill */
    int32_t is_sent[N_SLOTS]; /* the event stands behind its copy */
    void *events[N_SLOTS];
};

static fli_status allocate(const fli_context *ctx, const char *where,
                           size_t bytes, fli__staging *staging)
{
    void *memory;

    staging->slot_bytes = (bytes + SLOT_ALIGN - 1) / SLOT_ALIGN * SLOT_ALIGN;
    TRY(FLI__CU(ctx, where, cuMemHostAlloc, &memory,
                N_SLOTS * staging->slot_bytes, 0));
    staging->memory = memory;
    for (int i = 0; i < N_SLOTS; i++)
        TRY(FLI__CU(ctx, where, cuEventCreate, &staging->events[i],
                    FLI__CU_EVENT_NO_TIMING));
    return FLI_OK;
}

static fli_status enter_and_allocate(const fli_context *ctx, const char *where,
                                     size_t bytes, fli__staging *staging)
{
    void *previous;

    if (!ctx->cuda->driver)
        return FLI_OK;
    TRY(fli__cuda_enter(ctx, where, &previous));
    const fli_status status = allocate(ctx, where, bytes, staging);

    fli__cuda_leave(ctx, previous);
    return status;
}

fli_status fli__staging_create(const fli_context *ctx, const char *where,
                               size_t bytes, fli__staging **out)
{
    fli__staging *staging = fli__alloc(ctx, sizeof(*staging));

    CHECK(staging, OUT_OF_MEMORY, "%s: the allocator has no %zu bytes", where,
          sizeof(*staging));
    const fli_status status = enter_and_allocate(ctx, where, bytes, staging);

    if (status)
        fli__staging_destroy(ctx, staging);
    else
        *out = staging;
    return status;
}

/* Waits for the copies on their way. */
static void release(const fli_context *ctx, fli__staging *staging)
{
    const fli__cuda_driver *driver = ctx->cuda->driver;

    for (int i = 0; i < N_SLOTS; i++) {
        if (staging->is_sent[i])
            driver->cuEventSynchronize(staging->events[i]);
        if (staging->events[i])
            driver->cuEventDestroy(staging->events[i]);
    }
    driver->cuMemFreeHost(staging->memory);
}

void fli__staging_destroy(const fli_context *ctx, fli__staging *staging)
{
    void *previous;

    if (!staging)
        return;
    if (staging->memory
        && !fli__cuda_enter(ctx, "staging destroy", &previous)) {
        release(ctx, staging);
        fli__cuda_leave(ctx, previous);
    }
    fli__free(ctx, staging, sizeof(*staging));
}

static fli_status wait_for_slot(const fli__call *call,
                                const fli__staging *staging)
{
    const int32_t slot = staging->turn;
    int32_t is_capturing;

    TRY(fli__cuda_is_capturing(call, &is_capturing));
    CHECK(
        !is_capturing, INVALID_STATE,
        "%s: the stream is being captured, and a graph cannot hold a plan made "
        "of lengths on the host: plan before the capture, or capture "
        "fli_attention_plan_device",
        call->where);
    return staging->is_sent[slot]
               ? FLI__CU(call->ctx, call->where, cuEventSynchronize,
                         staging->events[slot])
               : FLI_OK;
}

fli_status fli__staging_next(const fli__call *call, fli__staging *staging,
                             void **out)
{
    void *previous;

    TRY(fli__cuda_enter(call->ctx, call->where, &previous));
    const fli_status status = wait_for_slot(call, staging);

    fli__cuda_leave(call->ctx, previous);
    TRY(status);
    *out = staging->memory + (size_t)staging->turn * staging->slot_bytes;
    return FLI_OK;
}

static fli_status copy_slot(const fli__call *call, fli__staging *staging,
                            void *device, size_t bytes)
{
    const int32_t slot = staging->turn;

    TRY(FLI__CU(call->ctx, call->where, cuMemcpyHtoDAsync, (uintptr_t)device,
                staging->memory + (size_t)slot * staging->slot_bytes, bytes,
                call->stream));
    const fli_status status = FLI__CU(call->ctx, call->where, cuEventRecord,
                                      staging->events[slot], call->stream);

    /* nothing stands behind the copy: its slot is free only once it has run */
    if (status)
        call->ctx->cuda->driver->cuCtxSynchronize();
    staging->is_sent[slot] = 1;
    staging->turn = (slot + 1) % N_SLOTS;
    return status;
}

fli_status fli__staging_send(const fli__call *call, fli__staging *staging,
                             void *device, size_t bytes)
{
    void *previous;

    TRY(fli__cuda_enter(call->ctx, call->where, &previous));
    const fli_status status = copy_slot(call, staging, device, bytes);

    fli__cuda_leave(call->ctx, previous);
    return status;
}
