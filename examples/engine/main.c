/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's command line: loads a model, serves prompts or JSON Lines. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

typedef struct command {
    const char *model, *prompts, *dtype, *device;
    params params;
    int64_t threads;
    bool bytes, json, help;
    options options;
} command;

#define AT(member) offsetof(command, member)

static const field command_fields[] = {
    { "model", TEXT, AT(model), 0, 0, "DIR   a Hugging Face folder" },
    { "prompts", TEXT, AT(prompts), 0, 0, "FILE  a prompt a line" },
    { "bytes", FLAG, AT(bytes), 0, 0, "      the token ids are bytes" },
    { "json", FLAG, AT(json), 0, 0, "      JSON Lines, see below" },
    { "chunk", INTEGER, AT(options.chunk), 1, 1 << 20,
      "N     rows of prompts in a step, at most" },
    { "page_size", INTEGER, AT(options.page_size), 1, 1 << 16,
      "N     tokens of a page" },
    { "pages", INTEGER, AT(options.n_pages), 1, 1 << 24,
      "N     pages of the KV cache" },
    { "max_batch", INTEGER, AT(options.max_batch), 1, MAX_BATCH,
      "N     requests that run at a time" },
    { "no_prefix_sharing", FLAG, AT(options.no_sharing), 0, 0, "" },
    { "invariant", FLAG, AT(options.invariant), 0, 0,
      "      bits do not depend on the rest of the batch" },
    { "dtype", TEXT, AT(dtype), 0, 0,
      "D     f32, f16, bf16: activations and KV cache" },
    { "threads", INTEGER, AT(threads), 0, 1024, "N     0: every CPU" },
    { "device", TEXT, AT(device), 0, 0, "D     cpu or cuda" },
    { "logits", TEXT, AT(options.logits), 0, 0,
      "FILE  f32 logits of every prompt token, no text" },
    { "help", FLAG, AT(help), 0, 0, "" },
    { 0 },
};

static const char protocol[] =
    "\n--json reads a request a line and answers with lines:\n"
    "  {\"id\", \"tokens\": [ids], \"stop\": [ids], \"stream\": bool, "
    "\"top_k\", "
    "..}\n  {\"id\", \"token\"} for each token if stream\n"
    "  {\"id\", \"tokens\", \"finish\": \"stop\"|\"length\"|\"error\", "
    "\"error\",\n"
    "   \"prompt_tokens\", \"cached_tokens\", \"seconds\"} for each request\n"
    "  {\"summary\": {..}} at the end of input\n"
    "What a request leaves out is as the options say.  The token that stops a\n"
    "request is not among its tokens.\n";

static void print_help(void)
{
    const field *const tables[] = { command_fields, param_fields };

    printf("usage: engine [options]\n\n");
    for (int i = 0; i < 2; i++)
        for (const field *f = tables[i]; f->name; f++) {
            if (!f->help)
                continue;
            printf("  --");
            for (const char *c = f->name; *c; c++)
                putchar(*c == '_' ? '-' : *c);
            printf("%*s%s\n", (int)(20 - strlen(f->name)), "", f->help);
        }
    printf("%s", protocol);
}

static bool read_command(command *c, char **argv, error *e)
{
    for (argv++; *argv; argv++) {
        const char *name = strncmp(*argv, "--", 2) ? "" : *argv + 2;
        const field *f = find_field(command_fields, name);
        void *out = f ? (void *)c : &c->params;

        f = f ? f : find_field(param_fields, name);
        if (!f || !f->help)
            return fail(e, "%.64s is not an option, see --help", *argv);
        if (!set_field(f, out, argv[1], e))
            return false;
        argv += f->kind != FLAG;
    }
    return true;
}

typedef struct prompts {
    request **at;
    int32_t n;
} prompts;

static bool add_prompt(prompts *p, const params *defaults, const char *line,
                       int64_t bos)
{
    const size_t n = strcspn(line, "\r\n");
    request **at = realloc(p->at, ((size_t)p->n + 1) * sizeof(*at));
    request *r = at ? calloc(1, sizeof(*r)) : NULL;

    p->at = at ? at : p->at;
    if (!r)
        return false;
    r->params = *defaults;
    r->params.seed += p->n;
    p->at[p->n++] = r;
    r->tokens = calloc(n + 1, sizeof(*r->tokens));
    if (!r->tokens)
        return false;
    r->tokens[0] = (int32_t)bos;
    for (size_t i = 0; i < n; i++)
        r->tokens[i + 1] = (unsigned char)line[i];
    r->n_prompt = r->n_tokens = (int32_t)n + 1;
    return true;
}

static bool read_prompts(prompts *p, const command *c, const model *m, error *e)
{
    char *line = NULL;
    size_t capacity = 0;
    bool ok = true;

    if (!c->bytes || m->config.vocab < 256)
        return fail(e, "--prompts needs --bytes and a model of bytes: give "
                       "token ids with --json");
    FILE *file = fopen(c->prompts, "r");

    if (!file)
        return fail(e, "%.400s: %s", c->prompts, strerror(errno));
    while (ok && getline(&line, &capacity, file) >= 0)
        ok = add_prompt(p, &c->params, line, m->config.bos);
    fclose(file);
    free(line);
    return ok || fail(e, "out of memory");
}

/* The last part of the folder's path, and what the model is. */
static void describe(FILE *out, const char *dir, const model *m)
{
    int end = (int)strlen(dir);

    while (end > 1 && dir[end - 1] == '/')
        end--;
    int begin = end;

    while (begin > 0 && dir[begin - 1] != '/')
        begin--;
    fprintf(out, "%.*s  %.1f M parameters  %s  %s\n", end - begin, dir + begin,
            (double)m->n_parameters / 1e6, fli_dtype_name(m->dtype),
            fli_context_describe(m->ctx));
}

static bool serve(const command *c, const model *m, error *e)
{
    scheduler *s = calloc(1, sizeof(*s));
    prompts p = { 0 };
    bool ok =
        s ? c->json || read_prompts(&p, c, m, e) : fail(e, "out of memory");

    ok = ok && sched_create(s, m, &c->options, e);
    if (ok) {
        describe(c->json ? stderr : stdout, c->model, m);
        ok = c->json ? lines_serve(s, &c->params, e)
                     : view_serve(s, p.at, p.n, e);
        sched_free(s);
    }
    for (int32_t i = 0; i < p.n; i++)
        request_free(p.at[i]);
    free(p.at);
    free(s);
    return ok;
}

static bool run(const command *c, error *e)
{
    fli_context_options with = FLI_CONTEXT_OPTIONS_INIT;
    const bool cuda = !strcmp(c->device, "cuda");
    fli_dtype dtype = FLI_NO_DTYPE;
    fli_context *ctx;
    model m;

    if (!cuda && strcmp(c->device, "cpu"))
        return fail(e, "device is %.64s, expected cpu or cuda", c->device);
    for (int i = FLI_F32; i <= FLI_BF16; i++)
        dtype = strcmp(c->dtype, fli_dtype_name(i)) ? dtype : (fli_dtype)i;
    if (*c->dtype && !dtype)
        return fail(e, "dtype is %.64s, expected f32, f16 or bf16", c->dtype);
    with.n_threads = (int32_t)c->threads;
    if (fli_context_create(&ctx, cuda ? fli_cuda(0) : fli_cpu(), &with))
        return fail(e, "%s", fli_last_error());
    bool ok = model_load(&m, ctx, c->model, dtype, e);

    if (ok) {
        ok = serve(c, &m, e);
        model_free(&m);
    }
    fli_context_destroy(ctx);
    return ok;
}

int main(int argc, char **argv)
{
    command c = {
        .model = "models/tiny_llama",
        .prompts = "models/tiny_llama/prompts.txt",
        .dtype = "",
        .device = "cpu",
        .params = { .max_new = 200, .temperature = 0.8, .top_p = 0.9 },
        .options = { .chunk = 256,
                     .page_size = 16,
                     .n_pages = 1024,
                     .max_batch = 16 },
    };
    error e;

    (void)argc;
    if (!read_command(&c, argv, &e) || (!c.help && !run(&c, &e))) {
        fprintf(stderr, "engine: %s\n", e.text);
        return 1;
    }
    if (c.help)
        print_help();
    return 0;
}
