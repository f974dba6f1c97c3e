/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's command line: loads a model, serves prompts or JSON Lines. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

static const char help[] =
    "usage: engine [options]\n\n"
    "  --model DIR            a Hugging Face folder\n"
    "  --prompts FILE         a prompt a line, with --bytes\n"
    "  --bytes                the token ids are bytes\n"
    "  --json                 JSON Lines, see below\n"
    "  --chunk N              rows of prompts in a step, at most\n"
    "  --page-size N          tokens of a page\n"
    "  --pages N              pages of the KV cache\n"
    "  --max-batch N          requests that run at a time\n"
    "  --no-prefix-sharing    every request computes its whole prompt\n"
    "  --invariant            bits do not depend on the rest of the batch\n"
    "  --dtype D              f32, f16, bf16: activations and KV cache\n"
    "  --threads N            0: every CPU\n"
    "  --device D             cpu or cuda\n"
    "  --logits FILE          f32 logits of every prompt token, no text\n"
    "  --max-new-tokens N\n"
    "  --temperature X        0: the likeliest\n"
    "  --top-k N              0: off\n"
    "  --top-p X              1: off\n"
    "  --min-p X              0: off\n"
    "  --seed N\n"
    "  --help                 this text\n";

_Noreturn void die(const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (char *c = text; *c; c++)
        *c = (unsigned char)*c < ' ' ? '?' : *c; /* names from files */
    fprintf(stderr, "engine: %s\n", text);
    exit(1);
}

/* The options as a JSON object, to be read as the members of a request are. */
static cJSON *read_options(char **argv)
{
    cJSON *json = cJSON_CreateObject();

    for (argv++; *argv; argv++) {
        char name[40], *end = NULL;

        snprintf(name, sizeof(name), "  %s ", *argv);
        if (strncmp(*argv, "--", 2) || !strstr(help, name))
            die("%.64s is not an option, see --help", *argv);
        char *key = name + strlen("  --");

        for (char *c = key; *c; c++)
            *c = *c == '-' ? '_' : *c == ' ' ? 0 : *c;
        cJSON_DeleteItemFromObject(json, key); /* the last one counts */
        if (!argv[1] || !strncmp(argv[1], "--", 2)) {
            cJSON_AddTrueToObject(json, key);
            continue;
        }
        const double number = strtod(*++argv, &end);

        if (end > *argv && !*end)
            cJSON_AddNumberToObject(json, key, number);
        else
            cJSON_AddStringToObject(json, key, *argv);
    }
    return json;
}

static fli_context *create_context(const cJSON *json)
{
    const char *name = get_text(json, "device", "cpu");
    const bool cuda = !strcmp(name, "cuda");
    fli_context_options with = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx;

    with.n_threads =
        (int32_t)get_integer(json, "threads", (range){ 0, 1024 }, 0);
    if (!cuda && strcmp(name, "cpu"))
        note("device is %.64s, expected cpu or cuda", name);
    if (*failure)
        die("%s", failure);
    must(fli_context_create(&ctx, cuda ? fli_cuda(0) : fli_cpu(), &with));
    return ctx;
}

/* What is still held at the end goes with the process. */
int main(int argc, char **argv)
{
    static const params usual = { .max_new = 200,
                                  .temperature = 0.8,
                                  .top_p = 0.9 };
    static const range size = { 1, 1 << 20 }, batch = { 1, MAX_BATCH };
    static model m;
    static scheduler s;
    const cJSON *json = read_options(argv);
    const char *dir = get_text(json, "model", "models/tiny_llama");
    const char *prompts =
        get_text(json, "prompts", "models/tiny_llama/prompts.txt");
    const char *dtype = get_text(json, "dtype", "");
    const bool lines = get_flag(json, "json", false);
    const bool bytes = get_flag(json, "bytes", false);
    const params defaults = params_read(json, &usual);
    const options o = {
        .chunk = get_integer(json, "chunk", size, 256),
        .page_size = get_integer(json, "page_size", size, 16),
        .n_pages = get_integer(json, "pages", size, 1024),
        .max_batch = get_integer(json, "max_batch", batch, 16),
        .no_sharing = get_flag(json, "no_prefix_sharing", false),
        .invariant = get_flag(json, "invariant", false),
        .logits = get_text(json, "logits", NULL),
    };

    (void)argc;
    now();
    if (get_flag(json, "help", false)) {
        printf("%s", help);
        return 0;
    }
    if (*dtype && !dtype_named(dtype))
        note("dtype is %.64s, expected f32, f16 or bf16", dtype);
    model_load(&m, create_context(json), dir, dtype_named(dtype));
    if (!lines && (!bytes || m.vocab < 256))
        die("--prompts needs --bytes and a model of bytes: give token ids with "
            "--json");
    sched_create(&s, &m, &o);
    fprintf(lines ? stderr : stdout, "%s  %.1f M parameters  %s  %s\n\n", dir,
            (double)m.n_parameters / 1e6, fli_dtype_name(m.dtype),
            fli_context_describe(m.ctx));
    if (lines)
        lines_serve(&s, &defaults);
    else
        view_serve(&s, &defaults, prompts);
    must(fli_context_check(m.ctx));
    return 0;
}
