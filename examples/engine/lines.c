/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Lines: a request a line on stdin, answers on stdout as they come.  A line
 * that is no request is answered with an error, and the rest goes on. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

static void put_line(cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);

    puts(text ? text : "{\"error\":\"out of memory\"}");
    fflush(stdout);
    cJSON_free(text);
    cJSON_Delete(json);
}

/* The id as it was given; a number in as many digits as it needs, which cJSON
 * would cut. */
static cJSON *copy_id(const cJSON *id)
{
    char text[32];

    if (!cJSON_IsNumber(id))
        return id ? cJSON_Duplicate(id, true) : cJSON_CreateNull();
    snprintf(text, sizeof(text), "%.15g", id->valuedouble);
    if (strtod(text, NULL) != id->valuedouble)
        snprintf(text, sizeof(text), "%.17g", id->valuedouble);
    return cJSON_CreateRaw(text);
}

static cJSON *answer(const request *r)
{
    cJSON *json = cJSON_CreateObject();

    cJSON_AddItemToObject(json, "id", copy_id(r->id));
    return json;
}

static void on_token(void *user, request *r)
{
    (void)user;
    if (!r->params.stream)
        return;
    cJSON *json = answer(r);

    cJSON_AddNumberToObject(json, "token", r->tokens[r->n_tokens - 1]);
    put_line(json);
}

static void on_finish(void *user, request *r)
{
    cJSON *json = answer(r);
    cJSON *tokens = cJSON_CreateIntArray(r->tokens + r->n_prompt,
                                         r->n_tokens - r->n_prompt);

    (void)user;
    cJSON_AddItemToObject(json, "tokens",
                          tokens ? tokens : cJSON_CreateArray());
    cJSON_AddStringToObject(json, "finish", r->finish);
    for (char *c = r->error.text; *c; c++)
        *c = (unsigned char)*c > '~' ? '?' : *c; /* UTF-8 may be cut in two */
    if (r->error.text[0])
        cJSON_AddStringToObject(json, "error", r->error.text);
    cJSON_AddNumberToObject(json, "prompt_tokens", r->n_prompt);
    cJSON_AddNumberToObject(json, "cached_tokens", r->n_cached);
    cJSON_AddNumberToObject(json, "seconds", r->seconds);
    put_line(json);
    request_free(r);
}

static void put_summary(const scheduler *s)
{
    const totals *t = &s->totals;
    const struct {
        const char *name;
        double value;
    } members[] = {
        { "requests", (double)t->requests },
        { "prompt_tokens", (double)t->prompt },
        { "cached_tokens", (double)t->cached },
        { "generated_tokens", (double)t->generated },
        { "steps", (double)t->steps },
        { "prefill_rows", (double)t->prefill_rows },
        { "prefill_seconds", t->prefill_seconds },
        { "decode_rows", (double)t->decode_rows },
        { "decode_seconds", t->decode_seconds },
        { "plan_seconds", t->plan_seconds },
        { "imbalance", t->steps ? t->imbalance / (double)t->steps : 1 },
        { "pages", s->pages.n },
        { "pages_used", t->pages_used },
        { "pages_shared", t->pages_shared },
        { "seconds", now() - t->begin },
    };
    cJSON *json = cJSON_CreateObject();
    cJSON *summary = cJSON_AddObjectToObject(json, "summary");

    for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++)
        cJSON_AddNumberToObject(summary, members[i].name, members[i].value);
    put_line(json);
}

static bool parse(request *r, const cJSON *json, int64_t vocab)
{
    const cJSON *id = json_get(json, "id"), *tokens = json_get(json, "tokens");
    error *e = &r->error;

    if (!cJSON_IsObject(json))
        return fail(e, "the line is not a JSON object");
    if (!cJSON_IsString(id)
        && !(cJSON_IsNumber(id) && isfinite(id->valuedouble)))
        return fail(e, "id is not a string or a number");
    r->id = cJSON_Duplicate(id, true);
    for (const cJSON *i = json->child; i; i = i->next)
        if (i != id && i != tokens && !find_field(param_fields, i->string))
            return fail(e, "%.64s is not a member of a request", i->string);
    if (!cJSON_IsArray(tokens))
        return fail(e, "tokens is not an array of token ids");
    const int32_t n = cJSON_GetArraySize(tokens);

    r->tokens = calloc((size_t)n + 1, sizeof(*r->tokens));
    if (!r->tokens)
        return fail(e, "out of memory");
    if (!read_ids(tokens, "tokens", vocab, n, r->tokens, &r->n_prompt, e)
        || !read_fields(param_fields, &r->params, json, e))
        return false;
    for (int32_t i = 0; i < r->params.stop.n; i++)
        if (r->params.stop.at[i] >= vocab)
            return fail(e, "stop[%d] is not a token id of 0 to %lld", i,
                        (long long)vocab - 1);
    return true;
}

static bool submit(scheduler *s, const params *defaults, const char *line,
                   size_t bytes, error *e)
{
    request *r = calloc(1, sizeof(*r));

    if (!r)
        return fail(e, "out of memory");
    /* A zero byte would hide the rest of the line. */
    cJSON *json =
        strlen(line) == bytes ? cJSON_ParseWithOpts(line, NULL, true) : NULL;
    r->params = *defaults;
    const bool ok = parse(r, json, s->m->config.vocab);

    cJSON_Delete(json);
    r->n_tokens = r->n_prompt;
    if (ok)
        sched_submit(s, r);
    else
        sched_finish(s, r, "error");
    return true;
}

typedef struct input {
    char *text;
    size_t n, capacity;
    bool end;
} input;

/* Adds what stdin has to in->text; waits for it if block. */
static bool fill(input *in, bool block, error *e)
{
    struct pollfd ready = { .fd = STDIN_FILENO, .events = POLLIN };

    if (in->end || poll(&ready, 1, block ? -1 : 0) <= 0)
        return true;
    if (in->capacity - in->n < 4096) {
        in->capacity = 2 * in->capacity + 65536;
        char *text = realloc(in->text, in->capacity);

        if (!text)
            return fail(e, "out of memory: a line of %zu bytes", in->n);
        in->text = text;
    }
    const ssize_t n =
        read(STDIN_FILENO, in->text + in->n, in->capacity - in->n - 1);

    if (n < 0 && errno != EINTR && errno != EAGAIN)
        return fail(e, "stdin: %s", strerror(errno));
    in->n += n > 0 ? (size_t)n : 0;
    in->end = n == 0;
    if (in->end && in->n > 0)
        in->text[in->n++] = '\n'; /* the last line may lack it */
    return true;
}

static bool submit_lines(scheduler *s, const params *defaults, input *in,
                         error *e)
{
    char *line = in->text, *end = in->n ? memchr(line, '\n', in->n) : NULL;
    bool ok = true;

    for (; ok && end; end = memchr(line, '\n', in->n)) {
        const size_t bytes = (size_t)(end - line);

        *end = 0;
        if (strspn(line, " \t\r") < bytes)
            ok = submit(s, defaults, line, bytes, e);
        line = end + 1;
        in->n -= bytes + 1;
    }
    if (in->n > 0 && line != in->text)
        memmove(in->text, line, in->n);
    return ok;
}

bool lines_serve(scheduler *s, const params *defaults, error *e)
{
    input in = { 0 };
    bool ok = true;

    s->listener = (listener){ NULL, on_token, on_finish };
    while (ok && !(in.end && sched_idle(s))) {
        ok = fill(&in, sched_idle(s), e) && submit_lines(s, defaults, &in, e);
        if (ok && !sched_idle(s))
            ok = sched_step(s, e);
    }
    free(in.text);
    if (ok)
        put_summary(s);
    return ok;
}
