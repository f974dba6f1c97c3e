/* SPDX-License-Identifier: Apache-2.0 */
/* Compiles an instance with NVRTC: to a cubin of the device's arch, or, where
 * NVRTC is older than the device, to PTX that the driver compiles. */
#include "jit/compile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "jit/nvrtc.h"
#include "jit/source.h"

/* Part of the key, beside the arch.  -v: the report on registers and spills. */
static const char *const options[] = { "--std=c++20", "--ptxas-options=-v" };

#define N_OPTIONS (sizeof(options) / sizeof(*options))

void fli__key_make(const fli_context *ctx, const fli__instance *instance,
                   fli__key *out)
{
    fli__hash hash;

    *out = (fli__key){ 0 };
    snprintf(out->name, sizeof(out->name), "%s", instance->name);
    snprintf(out->arch, sizeof(out->arch), "%s", ctx->cuda->caps.arch);
    fli__hash_begin(&hash);
    fli__hash_add(&hash, fli__sources_hash, sizeof(fli__sources_hash));
    for (size_t i = 0; i < N_OPTIONS; i++)
        fli__hash_add_text(&hash, options[i]);
    fli__hash_add_text(&hash, out->arch);
    fli__hash_add_text(&hash, instance->source);
    fli__hash_add_text(&hash, instance->entry);
    fli__hash_add(&hash, instance->defines, (size_t)instance->length);
    fli__hash_end(&hash, out->hash);
}

/* --- the log ---------------------------------------------------------------- */

void fli__compile_log_free(const fli_context *ctx, fli__compile_log *log)
{
    if (log->bytes)
        fli__free(ctx, log->text, log->bytes);
    *log = (fli__compile_log){ 0 };
}

static void read_log(const fli_context *ctx, const fli__nvrtc *nvrtc,
                     void *program, fli__compile_log *log)
{
    size_t bytes = 0;

    if (nvrtc->nvrtcGetProgramLogSize(program, &bytes))
        return;
    log->text = fli__alloc(ctx, bytes + 1);
    if (!log->text)
        return;
    log->bytes = bytes + 1;
    if (nvrtc->nvrtcGetProgramLog(program, log->text))
        *log->text = 0;
}

/* The first line of an error. */
static void first_error(const char *log, char *out, size_t n)
{
    const char *at = log ? strstr(log, "error") : NULL;

    if (!at) {
        snprintf(out, n, "no message");
        return;
    }
    while (at > log && at[-1] != '\n')
        at--;
    snprintf(out, n, "%.*s", (int)strcspn(at, "\n"), at);
}

/* The number that stands before what, searched from at; 0 if there is none. */
static int32_t number_before(const char *at, const char *end, const char *what)
{
    const char *found = strstr(at, what);

    if (!found || found > end)
        return 0;
    while (found > at && (found[-1] == ' ' || strchr("0123456789", found[-1])))
        found--;
    return (int32_t)strtol(found, NULL, 10);
}

/* What ptxas -v says of entry; false if it has not seen it. */
static int read_report(const char *log, const char *entry,
                       fli__image_header *header)
{
    static const char compiling[] = "Compiling entry function '";
    char line[256];

    snprintf(line, sizeof(line), "%s%s'", compiling, entry);
    const char *const at = log ? strstr(log, line) : NULL;

    if (!at)
        return 0;
    const char *const next = strstr(at + 1, compiling);
    const char *const end = next ? next : at + strlen(at);

    header->registers = number_before(at, end, " registers");
    header->spill_store_bytes = number_before(at, end, " bytes spill stores");
    header->spill_load_bytes = number_before(at, end, " bytes spill loads");
    header->shared_bytes = number_before(at, end, " bytes smem");
    header->wgmma_serial = !!strstr(log, "(C75");
    return 1;
}

/* --- compiling -------------------------------------------------------------- */

struct job {
    const fli__call *call;
    const fli__instance *instance;
    const fli__key *key;
    const fli__nvrtc *nvrtc;
    void *program;
    int is_ptx;
    float seconds;
};

/* The --gpu-architecture for arch, "sm_90a"; true if it means PTX: NVRTC does not
 * know the GPU, and the newest older one is taken. */
static int choose_arch(const fli__nvrtc *nvrtc, const char *arch, char *out,
                       size_t n)
{
    const int32_t sm = (int32_t)strtol(arch + 3, NULL, 10);
    int32_t newest = nvrtc->archs[0];

    for (int32_t i = 0; i < nvrtc->n_archs; i++)
        if (nvrtc->archs[i] <= sm)
            newest = MAX(newest, nvrtc->archs[i]);
    if (newest == sm)
        snprintf(out, n, "--gpu-architecture=%s", arch);
    else
        snprintf(out, n, "--gpu-architecture=compute_%d", (int)newest);
    return newest != sm;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* nvrtcResult of compiling. */
static int32_t compile_program(struct job *job)
{
    const fli__nvrtc *const nvrtc = job->nvrtc;
    const char *all[N_OPTIONS + 2];
    char arch[48];
    int32_t n = 0;

    job->is_ptx = choose_arch(nvrtc, job->key->arch, arch, sizeof(arch));
    if (job->is_ptx)
        fli__log(job->call->ctx, FLI__LOG_JIT,
                 "jit: NVRTC %d.%d does not know %s: %s, PTX %s",
                 (int)nvrtc->major, (int)nvrtc->minor, job->key->arch,
                 job->key->name, arch);
    all[n++] = arch;
    for (size_t i = 0; i < N_OPTIONS; i++)
        all[n++] = options[i];
    /* NVRTC has a cache of its own from 12.9 on; its hits have no log */
    if (1000 * nvrtc->major + nvrtc->minor >= 12009)
        all[n++] = "--no-cache";
    const double start = now();
    const int32_t result = nvrtc->nvrtcCompileProgram(job->program, n, all);

    job->seconds = (float)(now() - start);
    return result;
}

static fli_status check_compiled(const struct job *job, int32_t result,
                                 const fli__compile_log *log)
{
    char error[256];

    if (!result)
        return FLI_OK;
    first_error(log->text, error, sizeof(error));
    return FAIL(COMPILE, "%s: kernel %s does not compile for %s (NVRTC %d): %s",
                job->call->where, job->key->name, job->key->arch, (int)result,
                error);
}

static int32_t read_payload(const struct job *job, char *payload)
{
    return job->is_ptx ? job->nvrtc->nvrtcGetPTX(job->program, payload)
                       : job->nvrtc->nvrtcGetCUBIN(job->program, payload);
}

static fli_status make_image(const struct job *job, const fli__compile_log *log,
                             fli__image *out)
{
    const fli__nvrtc *const nvrtc = job->nvrtc;
    const fli_context *const ctx = job->call->ctx;
    size_t bytes = 0;
    const int32_t result = job->is_ptx
                               ? nvrtc->nvrtcGetPTXSize(job->program, &bytes)
                               : nvrtc->nvrtcGetCUBINSize(job->program, &bytes);

    CHECK(!result && bytes, COMPILE, "%s: kernel %s: NVRTC gave no code (%d)",
          job->call->where, job->key->name, (int)result);
    CHECK(log->text, OUT_OF_MEMORY, "%s: kernel %s: no memory for the log",
          job->call->where, job->key->name);
    TRY(fli__image_alloc(ctx, sizeof(fli__image_header) + bytes, out));
    fli__image_header *const header = out->header;

    memcpy(header->magic, FLI__IMAGE_MAGIC, sizeof(header->magic));
    header->version = FLI__IMAGE_VERSION;
    header->is_ptx = job->is_ptx;
    header->key = *job->key;
    header->payload_bytes = bytes;
    header->nvrtc_version = 1000 * nvrtc->major + nvrtc->minor;
    header->seconds = job->seconds;
    if (read_payload(job, (char *)(header + 1))
        || (!read_report(log->text, job->instance->entry, header)
            && !job->is_ptx)) {
        fli__image_free(ctx, out);
        return FAIL(COMPILE, "%s: kernel %s: %s has no kernel %s",
                    job->call->where, job->key->name, job->instance->source,
                    job->instance->entry);
    }
    fli__image_seal(out);
    return FLI_OK;
}

static fli_status compile(struct job *job, fli__image *out,
                          fli__compile_log *log)
{
    char text[sizeof(job->instance->defines) + 256];
    char name[sizeof(job->key->name) + 4];

    fli__instance_text(job->instance, text, sizeof(text));
    snprintf(name, sizeof(name), "%s.cu", job->key->name);
    CHECK(!job->nvrtc->nvrtcCreateProgram(&job->program, text, name,
                                          fli__n_sources, fli__source_texts,
                                          fli__source_names),
          COMPILE, "%s: kernel %s: NVRTC takes no program", job->call->where,
          job->key->name);
    const int32_t result = compile_program(job);
    fli_status status;

    read_log(job->call->ctx, job->nvrtc, job->program, log);
    status = check_compiled(job, result, log);
    if (!status)
        status = make_image(job, log, out);
    job->nvrtc->nvrtcDestroyProgram(&job->program);
    return status;
}

fli_status fli__compile(const fli__call *call, const fli__instance *instance,
                        const fli__key *key, fli__image *out,
                        fli__compile_log *log)
{
    const char *why;
    struct job job = { .call = call, .instance = instance, .key = key };

    *log = (fli__compile_log){ 0 };
    job.nvrtc = fli__nvrtc_open(&why);
    CHECK(job.nvrtc, COMPILE, "%s: %s", call->where, why);
    TRY(compile(&job, out, log));
    fli__log(
        call->ctx, FLI__LOG_JIT,
        "jit: %s compiled for %s in %.2f s: %d registers, %d bytes spilled",
        key->name, key->arch, (double)job.seconds, (int)out->header->registers,
        (int)out->header->spill_store_bytes);
    return FLI_OK;
}
