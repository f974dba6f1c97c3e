/* SPDX-License-Identifier: Apache-2.0 */
/* A context's table of kernels: each instance is found or compiled once, by the
 * thread that asks first, and stays until the context is destroyed. */
#define _GNU_SOURCE /* sched_getaffinity */

#include "jit/jit.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "jit/cache.h"
#include "jit/compile.h"
#include "jit/pack.h"

#define N_BUCKETS   256
#define MAX_THREADS 16

/* Dynamic and static shared memory that a block may have unasked. */
#define SHARED_UNASKED 49152

typedef enum { COMPILING, READY, FAILED } state;

struct slot {
    struct slot *next;
    uint64_t hash;
    state state;
    fli_status status; /* of FAILED */
    void *module;
    fli__kernel kernel;
    fli__instance instance;
    char failure[512]; /* its sentence, without where */
};

/* Guarded by ctx->cuda->lock; a slot's kernel is constant once it is READY. */
typedef struct {
    pthread_cond_t changed;
    struct slot *buckets[N_BUCKETS];
} table;

/* --- looking up ------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static uint64_t hash_text(uint64_t hash, const char *text, size_t n)
{
    uint64_t word;

    for (; n >= sizeof(word); n -= sizeof(word), text += sizeof(word)) {
        memcpy(&word, text, sizeof(word));
        hash = mix(hash, word);
    }
    word = 0;
    memcpy(&word, text, n);
    return mix(hash, word);
}

static uint64_t hash_instance(const fli__instance *instance)
{
    const uint64_t hash = hash_text(instance->shared_bytes, instance->entry,
                                    strlen(instance->entry));

    return hash_text(hash, instance->defines, (size_t)instance->length);
}

static int is_same(const fli__instance *a, const fli__instance *b)
{
    return a->length == b->length && a->shared_bytes == b->shared_bytes
           && !memcmp(a->defines, b->defines, (size_t)a->length)
           && !strcmp(a->entry, b->entry) && !strcmp(a->source, b->source);
}

static struct slot *find(const fli_context *ctx, const fli__instance *instance,
                         uint64_t hash)
{
    const table *const kernels = ctx->cuda->kernels;
    struct slot *slot = kernels ? kernels->buckets[hash % N_BUCKETS] : NULL;

    while (slot && (slot->hash != hash || !is_same(&slot->instance, instance)))
        slot = slot->next;
    return slot;
}

/* The kernel, if it is ready. */
static const fli__kernel *find_ready(const fli_context *ctx,
                                     const fli__instance *instance)
{
    const uint64_t hash = hash_instance(instance);
    const fli__kernel *found = NULL;

    pthread_mutex_lock(&ctx->cuda->lock);
    const struct slot *const slot = find(ctx, instance, hash);

    if (slot && slot->state == READY)
        found = &slot->kernel;
    pthread_mutex_unlock(&ctx->cuda->lock);
    return found;
}

/* --- making and freeing the table ------------------------------------------- */

/* Between enter and leave. */
static void free_kernels(const fli_context *ctx, void *memory)
{
    table *const kernels = memory;

    for (int32_t i = 0; i < N_BUCKETS; i++)
        for (struct slot *slot = kernels->buckets[i], *next; slot;
             slot = next) {
            next = slot->next;
            if (slot->module)
                ctx->cuda->driver->cuModuleUnload(slot->module);
            fli__free(ctx, slot, sizeof(*slot));
        }
    pthread_cond_destroy(&kernels->changed);
    fli__free(ctx, kernels, sizeof(*kernels));
}

static table *make_table(const fli_context *ctx)
{
    table *const kernels = fli__alloc(ctx, sizeof(*kernels));

    if (!kernels)
        return NULL;
    pthread_cond_init(&kernels->changed, NULL);
    ctx->cuda->kernels = kernels;
    ctx->cuda->free_kernels = free_kernels;
    return kernels;
}

static struct slot *add(const fli_context *ctx, const fli__instance *instance,
                        uint64_t hash)
{
    table *kernels = ctx->cuda->kernels;

    if (!kernels)
        kernels = make_table(ctx);
    struct slot *const slot = kernels ? fli__alloc(ctx, sizeof(*slot)) : NULL;

    if (!slot)
        return NULL;
    slot->hash = hash;
    slot->instance = *instance;
    slot->next = kernels->buckets[hash % N_BUCKETS];
    kernels->buckets[hash % N_BUCKETS] = slot;
    return slot;
}

/* --- from an instance to an image ------------------------------------------- */

/* The compiler's sentence, and where its log is. */
static fli_status name_log(fli_status status, const fli__cache_entry *entry)
{
    char text[512];

    snprintf(text, sizeof(text), "%s", fli_last_error());
    return fli__fail(status, "%.*s; see %s.log",
                     (int)(sizeof(text) - 8 - MIN(strlen(entry->base), 300)),
                     text, entry->base);
}

static fli_status compile(const fli__call *call, const fli__instance *instance,
                          const fli__cache_entry *entry, fli__image *out)
{
    char text[sizeof(instance->defines) + 256];
    fli__compile_log log;
    fli_status status = fli__compile(call, instance, entry->key, out, &log);
    int has_log = 0;

    fli__instance_text(instance, text, sizeof(text));
    if (log.text)
        has_log = fli__cache_write_log(entry, text, log.text);
    if (status && has_log)
        status = name_log(status, entry);
    if (!status)
        fli__cache_write(entry, out);
    fli__compile_log_free(call->ctx, &log);
    return status;
}

static fli_status find_or_compile(const fli__call *call,
                                  const fli__instance *instance,
                                  fli__image *out)
{
    fli__cache_entry entry;
    fli_status status = FLI_OK;
    fli__key key;

    fli__key_make(call->ctx, instance, &key);
    if (call->ctx->cuda->driver) /* else it is to fill the cache: for a pack */
        TRY(fli__pack_find(call, &key, out));
    if (out->header)
        return FLI_OK;
    fli__cache_open(call->ctx, &key, &entry);
    if (fli__cache_read(&entry, out))
        return FLI_OK;
    fli__cache_lock(&entry);
    if (!fli__cache_read(&entry, out))
        status = compile(call, instance, &entry, out);
    fli__cache_unlock(&entry);
    return status;
}

/* --- from an image to a kernel ---------------------------------------------- */

/* What the driver knows better than the compiler's report, which is empty for
 * PTX. */
static fli_status read_attributes(const fli__call *call, fli__kernel *kernel)
{
    const struct {
        int32_t attribute;
        int32_t *value;
    } asked[] = {
        { FLI__CU_FUNC_REGISTERS, &kernel->registers },
        { FLI__CU_FUNC_SHARED_BYTES, &kernel->shared_bytes },
        { FLI__CU_FUNC_MAX_THREADS, &kernel->max_threads },
    };

    for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++)
        TRY(FLI__CU(call->ctx, call->where, cuFuncGetAttribute, asked[i].value,
                    asked[i].attribute, kernel->function));
    return FLI_OK;
}

static fli_status load_module(const fli__call *call, struct slot *slot,
                              const fli__image *image)
{
    const fli_context *const ctx = call->ctx;
    const uint32_t shared_bytes = slot->instance.shared_bytes;
    fli__kernel *const kernel = &slot->kernel;

    TRY(FLI__CU(ctx, call->where, cuModuleLoadData, &slot->module,
                image->header + 1));
    TRY(FLI__CU(ctx, call->where, cuModuleGetFunction, &kernel->function,
                slot->module, slot->instance.entry));
    TRY(read_attributes(call, kernel));
    return shared_bytes + (uint32_t)kernel->shared_bytes <= SHARED_UNASKED
               ? FLI_OK
               : FLI__CU(ctx, call->where, cuFuncSetAttribute, kernel->function,
                         FLI__CU_FUNC_MAX_DYNAMIC_SHARED,
                         (int32_t)shared_bytes);
}

static fli_status load(const fli__call *call, struct slot *slot,
                       const fli__image *image)
{
    const fli__cuda_driver *const driver = call->ctx->cuda->driver;
    const fli__image_header *const header = image->header;
    void *previous;

    slot->kernel.registers = header->registers;
    slot->kernel.spill_bytes = header->spill_store_bytes;
    slot->kernel.shared_bytes = header->shared_bytes;
    if (!driver)
        return FLI_OK;
    TRY(fli__cuda_enter(call->ctx, call->where, &previous));
    const fli_status status = load_module(call, slot, image);

    if (status && slot->module) {
        driver->cuModuleUnload(slot->module);
        slot->module = NULL;
    }
    fli__cuda_leave(call->ctx, previous);
    return status;
}

static fli_status build(const fli__call *call, struct slot *slot)
{
    fli__image image = { 0 };
    fli_status status = find_or_compile(call, &slot->instance, &image);

    if (!status)
        status = load(call, slot, &image);
    fli__image_free(call->ctx, &image);
    return status;
}

/* --- asking ----------------------------------------------------------------- */

/* The slot of instance; *mine if the caller is to build it, else it is READY or
 * FAILED for good: what does not compile will not, but memory may come back. */
static struct slot *claim(const fli_context *ctx, const fli__instance *instance,
                          int *mine)
{
    const uint64_t hash = hash_instance(instance);

    *mine = 0;
    pthread_mutex_lock(&ctx->cuda->lock);
    struct slot *slot = find(ctx, instance, hash);

    if (!slot) {
        slot = add(ctx, instance, hash);
        *mine = 1;
    }
    while (slot && !*mine && slot->state == COMPILING)
        pthread_cond_wait(&((table *)ctx->cuda->kernels)->changed,
                          &ctx->cuda->lock);
    if (slot && slot->state == FAILED && slot->status != FLI_COMPILE) {
        slot->state = COMPILING;
        *mine = 1;
    }
    pthread_mutex_unlock(&ctx->cuda->lock);
    return slot;
}

static void publish(const fli__call *call, struct slot *slot, fli_status status)
{
    const fli_context *const ctx = call->ctx;
    const char *text = fli_last_error();
    const size_t n = strlen(call->where);

    if (!strncmp(text, call->where, n) && !strncmp(text + n, ": ", 2))
        text += n + 2;
    pthread_mutex_lock(&ctx->cuda->lock);
    slot->status = status;
    if (status)
        snprintf(slot->failure, sizeof(slot->failure), "%s", text);
    slot->state = status ? FAILED : READY;
    pthread_cond_broadcast(&((table *)ctx->cuda->kernels)->changed);
    pthread_mutex_unlock(&ctx->cuda->lock);
}

/* Loading waits for the device and would spoil a capture. */
static fli_status check_not_capturing(const fli__call *call,
                                      const fli__instance *instance)
{
    int32_t is_capturing = 0;

    if (call->prepare || !call->ctx->cuda->driver)
        return FLI_OK;
    TRY(fli__cuda_is_capturing(call, &is_capturing));
    CHECK(!is_capturing, INVALID_STATE,
          "%s: kernel %s is not loaded and stream is being captured, expected "
          "fli_%.*s_prepare before",
          call->where, instance->name, (int)strcspn(call->where, " "),
          call->where);
    return FLI_OK;
}

fli_status fli__jit_kernel(const fli__call *call, const fli__instance *instance,
                           const fli__kernel **out)
{
    int mine;

    CHECK(!instance->is_too_long, INTERNAL,
          "%s: kernel %s has too long a name or too many defines", call->where,
          instance->name);
    *out = find_ready(call->ctx, instance);
    if (*out)
        return FLI_OK;
    TRY(check_not_capturing(call, instance));
    struct slot *const slot = claim(call->ctx, instance, &mine);

    CHECK(slot, OUT_OF_MEMORY, "%s: the allocator has no %zu bytes",
          call->where, sizeof(*slot));
    if (mine) {
        const fli_status status = build(call, slot);

        publish(call, slot, status);
        TRY(status);
    }
    if (slot->status)
        return fli__fail(slot->status, "%s: %s", call->where, slot->failure);
    *out = &slot->kernel;
    return FLI_OK;
}

/* --- several at once -------------------------------------------------------- */

struct batch {
    const fli__call *call;
    const fli__instance *instances;
    const fli__kernel **out;
    int32_t n;
    pthread_mutex_t lock;
    int32_t next;      /* instance to take */
    fli_status status; /* the first failure */
    char failure[512];
};

static void take_instances(struct batch *batch)
{
    pthread_mutex_lock(&batch->lock);
    while (batch->next < batch->n && !batch->status) {
        const int32_t i = batch->next++;

        pthread_mutex_unlock(&batch->lock);
        const fli_status status =
            fli__jit_kernel(batch->call, &batch->instances[i], &batch->out[i]);

        pthread_mutex_lock(&batch->lock);
        if (status && !batch->status) {
            batch->status = status;
            snprintf(batch->failure, sizeof(batch->failure), "%s",
                     fli_last_error());
        }
    }
    pthread_mutex_unlock(&batch->lock);
}

static void *work(void *arg)
{
    take_instances(arg);
    return NULL;
}

static int32_t n_threads(int32_t n)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set))
        return 1;
    return MIN(MIN(n, CPU_COUNT(&set)), MAX_THREADS);
}

fli_status fli__jit_kernels(const fli__call *call,
                            const fli__instance *instances, int32_t n,
                            const fli__kernel **out)
{
    struct batch batch = {
        .call = call, .instances = instances, .out = out, .n = n
    };
    pthread_t threads[MAX_THREADS];
    int32_t n_missing = 0, n_started = 0;

    for (int32_t i = 0; i < n; i++) {
        out[i] = find_ready(call->ctx, &instances[i]);
        n_missing += !out[i];
    }
    if (!n_missing)
        return FLI_OK;
    pthread_mutex_init(&batch.lock, NULL);
    while (n_started < n_threads(n_missing) - 1
           && !pthread_create(&threads[n_started], NULL, work, &batch))
        n_started++;
    take_instances(&batch);
    for (int32_t i = 0; i < n_started; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&batch.lock);
    if (batch.status)
        return fli__fail(batch.status, "%s", batch.failure);
    return FLI_OK;
}
