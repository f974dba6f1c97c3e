/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer: a model folder of three files, config.json, model.safetensors and
 * the index of shards, loaded as the engine loads it.  The first byte says which
 * of them the rest is; the others are a good small model's (the last seed of
 * each).  A refusal must have a sentence; a model that loads must run a step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { CONFIG, TENSORS, INDEX, N_FILES };

static const char *const names[] = { "config.json", "model.safetensors",
                                     "model.safetensors.index.json" };
static char dir[] = "/tmp/fuzz_model.XXXXXX";
static struct {
    char *data;
    size_t n;
} good[N_FILES];

static void must_be(bool cond, const char *what)
{
    if (cond)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static jmp_buf refused;

/* What the engine says when it ends: here it ends the input. */
_Noreturn void die(const char *format, ...)
{
    char text[1024] = "";
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    must_be(*text, "a refusal without a sentence");
    longjmp(refused, 1);
}

static char *path_of(const char *name, char path[200])
{
    snprintf(path, 200, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const void *data, size_t n)
{
    char path[200];
    FILE *file = fopen(path_of(name, path), "wb");

    must_be(file && fwrite(data, 1, n, file) == n && !fclose(file),
            "the folder cannot be written");
}

static void remove_folder(void)
{
    char path[200];

    for (int i = 0; i < N_FILES; i++)
        unlink(path_of(names[i], path));
    unlink(path_of("model-00001-of-00001.safetensors", path));
    rmdir(dir);
}

/* FLI_FUZZ_MODEL is the folder of the good model. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *from = getenv("FLI_FUZZ_MODEL");

    (void)argc;
    (void)argv;
    must_be(from && mkdtemp(dir), "FLI_FUZZ_MODEL must name a model folder");
    for (int i = 0; i < N_FILES; i++) {
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s", from, names[i]);
        FILE *file = fopen(path, "rb");

        must_be(file, "FLI_FUZZ_MODEL lacks a file");
        good[i].data = malloc(1 << 20);
        good[i].n = fread(good[i].data, 1, 1 << 20, file);
        fclose(file);
    }
    /* the shard that the good index names */
    write_file("model-00001-of-00001.safetensors", good[TENSORS].data,
               good[TENSORS].n);
    atexit(remove_folder);
    return 0;
}

/* Two tokens of a prompt and the greedy one behind them. */
static void run(step *s, const model *m)
{
    const options o = {
        .chunk = 4, .page_size = 2, .n_pages = 8, .max_batch = 1
    };

    step_create(s, m, &o);
    s->n_requests = s->n_samples = 1;
    s->n_rows = s->in->q_indptr[1] = s->in->kv_len[0] = 2;
    s->in->page_indptr[1] = 1;
    s->page_indices[0] = 3;
    s->tokens[0] = s->tokens[1] = 0;
    s->sample_rows[0] = 1;
    s->in->temperatures[0] = 0;
    s->in->top_ps[0] = 1;
    step_run(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static fli_context *ctx;
    char path[200];
    static model m;
    static step s;

    if (!n)
        return -1;
    if (!ctx) {
        fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;

        options.n_threads = 1;
        must_be(!fli_context_create(&ctx, fli_cpu(), &options), "no context");
    }
    const int which = data[0] % N_FILES;

    for (int i = 0; i < N_FILES; i++) {
        if (i == which)
            write_file(names[i], data + 1, n - 1);
        else if (i == TENSORS && which == INDEX)
            unlink(path_of(names[i], path)); /* else the index is not read */
        else
            write_file(names[i], good[i].data, good[i].n);
    }
    *failure = 0;
    if (!setjmp(refused)) {
        model_load(&m, ctx, dir, FLI_F32);
        run(&s, &m);
    }
    step_free(&s);
    model_free(&m);
    return 0;
}
