/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Lines: a request a line on stdin, answers on stdout as they come.  A line
 * that is no request is answered with an error, and the rest goes on. */
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

params params_read(const cJSON *json, const params *absent)
{
    static const range count = { 0, 1 << 30 }, new = { 1, 1 << 24 };
    static const range share = { 0, 1 }, heat = { 0, 1e6 }, seed = { 0, 1e15 };

    return (params){
        .max_new = get_integer(json, "max_new_tokens", new, absent->max_new),
        .temperature =
            get_number(json, "temperature", heat, absent->temperature),
        .top_k = get_integer(json, "top_k", count, absent->top_k),
        .top_p = get_number(json, "top_p", share, absent->top_p),
        .min_p = get_number(json, "min_p", share, absent->min_p),
        .seed = get_integer(json, "seed", seed, absent->seed),
        .stream = get_flag(json, "stream", absent->stream),
    };
}

/* A number in as many digits as it needs, which cJSON would cut. */
static void put_id(const request *r)
{
    const cJSON *id = json_get(r->json, "id");
    char *text = cJSON_IsString(id) ? cJSON_PrintUnformatted(id) : NULL;

    if (cJSON_IsNumber(id) && isfinite(id->valuedouble))
        printf("{\"id\":%.17g", id->valuedouble);
    else
        printf("{\"id\":%s", text ? text : "null");
    cJSON_free(text);
}

static void tell(void *listener, request *r)
{
    (void)listener;
    if (!r->finish && !r->params.stream)
        return;
    put_id(r);
    if (!r->finish) {
        printf(",\"token\":%d}\n", r->tokens[r->n_tokens - 1]);
        fflush(stdout);
        return;
    }
    printf(",\"tokens\":[");
    for (int32_t i = r->n_prompt; i < r->n_tokens; i++)
        printf("%s%d", i > r->n_prompt ? "," : "", r->tokens[i]);
    printf("],\"finish\":\"%s\"", r->finish);
    if (r->error[0])
        printf(",\"error\":\"%s\"", r->error);
    printf(",\"prompt_tokens\":%d,\"cached_tokens\":%d,\"seconds\":%.6f}\n",
           r->n_prompt, r->n_cached, r->seconds);
    fflush(stdout);
    request_clear(r);
    free(r);
}

static void put_summary(const scheduler *s)
{
    const totals *t = &s->totals;
    const double n_plans = fmax(s->step.n_plans, 1);

    printf("{\"summary\":{\"requests\":%.0f,\"prompt_tokens\":%.0f,"
           "\"cached_tokens\":%.0f,\"generated_tokens\":%.0f,\"steps\":%.0f,"
           "\"prefill_rows\":%.0f,\"prefill_seconds\":%.6f,"
           "\"decode_rows\":%.0f,\"decode_seconds\":%.6f,"
           "\"plan_seconds\":%.6f,\"imbalance\":%.3f,\"pages\":%d,"
           "\"pages_used\":%d,\"pages_shared\":%d,"
           "\"first_token\":%.6f,\"seconds\":%.6f}}\n",
           t->requests, t->prompt_tokens, t->cached_tokens, t->generated_tokens,
           t->steps, t->prefill_rows, t->prefill_seconds, t->decode_rows,
           t->decode_seconds, s->step.plan_seconds, s->step.imbalance / n_plans,
           s->pages.n, t->pages_used, t->pages_shared, t->first_token,
           now() - t->begin);
}

static void submit(scheduler *s, const params *defaults, const char *line)
{
    request *r = calloc(1, sizeof(*r));

    if (!r)
        die("out of memory");
    r->json = cJSON_ParseWithOpts(line, NULL, true);
    const cJSON *id = json_get(r->json, "id");
    const cJSON *tokens = get_ids(r->json, "tokens", s->m->vocab);

    get_ids(r->json, "stop", s->m->vocab);
    if (!cJSON_IsObject(r->json))
        note("the line is not a JSON object");
    if (!cJSON_IsString(id)
        && !(cJSON_IsNumber(id) && isfinite(id->valuedouble)))
        note("id is not a string or a number");
    if (!cJSON_IsArray(tokens))
        note("tokens is not an array of token ids");
    r->params = params_read(r->json, defaults);
    r->tokens = take(&r->memory, cJSON_GetArraySize(tokens) + r->params.max_new,
                     sizeof(*r->tokens));
    for (const cJSON *i = *failure ? NULL : tokens->child; i; i = i->next)
        r->tokens[r->n_prompt++] = (int32_t)i->valuedouble;
    sched_submit(s, r);
}

typedef struct input {
    char *text;
    size_t begin, n; /* of what was not asked for yet; of all */
    bool end;
} input;

/* The next line of stdin, or NULL if it has none yet and may not wait, or ends. */
static const char *next_line(input *in, bool wait)
{
    enum { PIECE = 65536 };
    struct pollfd ready = { .fd = STDIN_FILENO, .events = POLLIN };

    for (;;) {
        const size_t left = in->n - in->begin;
        char *line = left ? in->text + in->begin : NULL;
        char *end = left ? memchr(line, '\n', left) : NULL;

        if (end) {
            in->begin += (size_t)(end - line) + 1;
            *end = 0;
            /* A zero byte would hide the rest of the line. */
            return strlen(line) == (size_t)(end - line) ? line : "\\0";
        }
        if (in->end || poll(&ready, 1, wait ? -1 : 0) <= 0)
            return NULL;
        if (left)
            memmove(in->text, line, left);
        in->begin = 0;
        in->text = realloc(in->text, left + PIECE + 1);
        if (!in->text)
            die("out of memory: a line of %zu bytes", left);
        const ssize_t n = read(STDIN_FILENO, in->text + left, PIECE);

        in->n = left + (n > 0 ? (size_t)n : 0);
        in->end = n <= 0;
        if (in->end && left)
            in->text[in->n++] = '\n'; /* the last line may lack it */
    }
}

void lines_serve(scheduler *s, const params *defaults)
{
    input in = { 0 };

    s->tell = tell;
    do {
        const char *line = next_line(&in, sched_idle(s));

        if (line && line[strspn(line, " \t\r")])
            submit(s, defaults, line);
        else if (!line && !sched_idle(s))
            sched_step(s);
    } while (!in.end || in.begin < in.n || !sched_idle(s));
    free(in.text);
    put_summary(s);
}
