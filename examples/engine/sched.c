/* SPDX-License-Identifier: Apache-2.0 */
/* Continuous batching.  A step has a row of each request that decodes and at
 * most `chunk` rows of prompts, first come first served.
 *
 * A request starts when the pages it may ever need are free or cached: they are
 * promised to it and taken as it grows, so a running request never waits.
 * Its pages join the prefix tree when the step that fills them is put together:
 * in each layer the keys of all rows are appended before any row attends, so even
 * a request of the same step may share them. */
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

#define AT(member) offsetof(params, member)

const field param_fields[] = {
    { "max_new_tokens", INTEGER, AT(max_new), 1, 1 << 24, "N" },
    { "temperature", NUMBER, AT(temperature), 0, 1e6,
      "X      0: the likeliest" },
    { "top_k", INTEGER, AT(top_k), 0, 1 << 30, "N      0: off" },
    { "top_p", NUMBER, AT(top_p), 0, 1, "X      1: off" },
    { "min_p", NUMBER, AT(min_p), 0, 1, "X      0: off" },
    { "seed", INTEGER, AT(seed), 0, 1e15, "N" },
    { "stop", IDS, AT(stop), 0, 1 << 20 },
    { "stream", FLAG, AT(stream) },
    { 0 },
};

void sched_free(scheduler *s)
{
    step_free(&s->step);
    pages_free(&s->pages);
    if (s->logits_file >= 0)
        close(s->logits_file);
}

bool sched_create(scheduler *s, const model *m, const options *o, error *e)
{
    *s = (scheduler){ .m = m, .options = *o, .logits_file = -1 };
    s->totals.begin = now();
    if (o->logits) {
        s->logits_file = open(o->logits, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (s->logits_file < 0)
            return fail(e, "%.400s: cannot be written", o->logits);
        s->options.no_sharing = true; /* logits of every token are wanted */
    }
    if (!pages_create(&s->pages, (int32_t)o->n_pages, (int32_t)o->page_size))
        fail(e, "no memory for %lld pages", (long long)o->n_pages);
    else if (step_create(&s->step, m, o, e))
        return true;
    sched_free(s);
    return false;
}

bool sched_idle(const scheduler *s)
{
    return !s->waiting && !s->n_running;
}

void request_free(request *r)
{
    cJSON_Delete(r->id);
    free(r->tokens);
    free(r->table);
    free(r);
}

/* The last token that is generated is never looked at. */
static int32_t pages_needed(const scheduler *s, const request *r)
{
    return (int32_t)((r->n_prompt + r->params.max_new - 2) / s->pages.page_size
                     + 1);
}

static bool check(const scheduler *s, request *r)
{
    const int64_t most = s->m->config.max_positions;

    if (r->n_prompt == 0)
        return fail(&r->error, "tokens is empty, expected at least one");
    if (r->n_prompt + r->params.max_new > most)
        return fail(&r->error,
                    "%d tokens and %lld new ones exceed the model's %lld "
                    "positions",
                    r->n_prompt, (long long)r->params.max_new, (long long)most);
    if (pages_needed(s, r) > s->pages.n)
        return fail(&r->error, "needs %d pages of %d tokens, there are %d",
                    pages_needed(s, r), s->pages.page_size, s->pages.n);
    int32_t *tokens = realloc(
        r->tokens, sizeof(*tokens) * (size_t)(r->n_prompt + r->params.max_new));

    r->tokens = tokens ? tokens : r->tokens;
    r->table = calloc((size_t)pages_needed(s, r), sizeof(*r->table));
    return (tokens && r->table) || fail(&r->error, "out of memory");
}

void sched_submit(scheduler *s, request *r)
{
    r->seconds = now();
    if (s->logits_file >= 0) {
        r->params.max_new = 1;
        r->logits_row = s->logits_rows;
        s->logits_rows += r->n_prompt;
    }
    r->n_tokens = r->n_prompt;
    if (!check(s, r)) {
        sched_finish(s, r, "error");
        return;
    }
    if (s->waiting)
        s->last_waiting->next = r;
    else
        s->waiting = r;
    s->last_waiting = r;
}

/* Last page first: see pages.c. */
static void release(scheduler *s, request *r)
{
    while (r->n_table > 0)
        pages_release(&s->pages, r->table[--r->n_table]);
}

void sched_finish(scheduler *s, request *r, const char *finish)
{
    r->finish = finish;
    r->seconds = r->seconds > 0 ? now() - r->seconds : 0;
    if (r->n_table > 0) {
        s->promised -= pages_needed(s, r) - r->n_table;
        s->totals.prompt += r->n_prompt;
        s->totals.cached += r->n_cached;
        s->totals.generated += r->n_tokens - r->n_prompt;
    }
    release(s, r);
    s->totals.requests++;
    s->listener.on_finish(s->listener.user, r);
}

/* Holds the cached pages that r begins with; its last token must be computed. */
static void match(scheduler *s, request *r)
{
    const int32_t size = s->pages.page_size;

    r->node = s->options.no_sharing ? NONE : s->pages.n;
    while (r->node != NONE && (r->n_table + 1) * size < r->n_prompt) {
        const int32_t id =
            pages_find(&s->pages, r->node, r->tokens + r->n_table * size);

        if (id == NONE)
            break;
        pages_hold(&s->pages, id);
        r->table[r->n_table++] = r->node = id;
    }
}

/* Starts the request that waits longest; false if it must wait on. */
static bool admit(scheduler *s)
{
    request *r = s->waiting;

    match(s, r);
    const int32_t need = pages_needed(s, r) - r->n_table;

    if (s->pages.n_unused - s->promised < need) {
        release(s, r);
        return false;
    }
    s->promised += need;
    r->n_published = r->n_table;
    r->n_cached = r->n_done = r->n_table * s->pages.page_size;
    s->waiting = r->next;
    s->running[s->n_running++] = r;
    return true;
}

/* Puts the pages that are full with n tokens into the tree.  Where an equal one
 * is there already, r goes on outside of the tree. */
static void publish(scheduler *s, request *r, int32_t n)
{
    const int32_t size = s->pages.page_size;

    for (; r->node != NONE && (r->n_published + 1) * size <= n;
         r->n_published++) {
        const int32_t id = r->table[r->n_published];
        const int32_t *tokens = r->tokens + r->n_published * size;

        if (pages_find(&s->pages, r->node, tokens) == NONE) {
            pages_publish(&s->pages, id, r->node, tokens);
            r->node = id;
        } else {
            r->node = NONE;
        }
    }
}

/* The first token of r whose logits are wanted. */
static int32_t first_sample(const scheduler *s, const request *r)
{
    return s->logits_file >= 0 ? r->n_done : r->n_tokens - 1;
}

static void add_sample(step *t, const request *r)
{
    const int32_t i = t->n_samples;

    t->temperatures[i] = (float)r->params.temperature;
    t->top_ks[i] = (int32_t)r->params.top_k;
    t->top_ps[i] = (float)r->params.top_p;
    t->min_ps[i] = (float)r->params.min_p;
    t->seeds[i] = r->params.seed;
    t->offsets[i] = r->n_tokens - r->n_prompt;
}

/* Adds the next r->n_rows tokens of r to the step. */
static void add_rows(scheduler *s, request *r)
{
    step *t = &s->step;
    const int32_t end = r->n_done + r->n_rows, i = t->n_requests++;

    for (; (int64_t)r->n_table * s->pages.page_size < end; s->promised--)
        r->table[r->n_table++] = pages_take(&s->pages);
    publish(s, r, end);
    memcpy(t->tokens + t->n_rows, r->tokens + r->n_done,
           (size_t)r->n_rows * sizeof(*r->tokens));
    memcpy(t->page_indices + t->page_indptr[i], r->table,
           (size_t)r->n_table * sizeof(*r->table));
    t->page_indptr[i + 1] = t->page_indptr[i] + r->n_table;
    t->kv_len[i] = end;
    for (int32_t j = first_sample(s, r); j < end; j++) {
        if (s->logits_file < 0)
            add_sample(t, r);
        t->sample_rows[t->n_samples++] = t->n_rows + j - r->n_done;
    }
    t->n_rows += r->n_rows;
    t->q_indptr[i + 1] = t->n_rows;
}

/* Fills the step; returns its rows of prompts. */
static int32_t schedule(scheduler *s)
{
    const int32_t chunk = (int32_t)s->options.chunk;
    int32_t budget = chunk;

    s->step.n_requests = s->step.n_rows = s->step.n_samples = 0;
    for (int32_t i = 0;; i++) {
        if (i == s->n_running
            && (!s->waiting || budget == 0 || i == s->options.max_batch
                || !admit(s)))
            return chunk - budget;
        request *r = s->running[i];
        const int32_t left = r->n_prompt - r->n_done;

        r->n_rows = left <= 0 ? 1 : left < budget ? left : budget;
        budget -= left > 0 ? r->n_rows : 0;
        if (r->n_rows > 0)
            add_rows(s, r);
    }
}

static bool is_stop(const scheduler *s, const request *r, int32_t token)
{
    for (int32_t i = 0; i < s->m->config.eos.n; i++)
        if (s->m->config.eos.at[i] == token)
            return true;
    for (int32_t i = 0; i < r->params.stop.n; i++)
        if (r->params.stop.at[i] == token)
            return true;
    return false;
}

/* Takes what sample i of the step gave for r; why it ends here, or NULL. */
static const char *accept(scheduler *s, request *r, int32_t i)
{
    const int32_t token = s->step.sampled[i];

    if (!s->step.valid[i]) {
        fail(&r->error, "the logits after token %d are not numbers",
             r->n_tokens - 1);
        return "error";
    }
    if (is_stop(s, r, token))
        return "stop";
    r->tokens[r->n_tokens++] = token;
    s->listener.on_token(s->listener.user, r);
    return r->n_tokens == r->n_prompt + r->params.max_new ? "length" : NULL;
}

static const char *write_logits(scheduler *s, request *r, int32_t i, int32_t n)
{
    const size_t row = (size_t)s->m->config.vocab * sizeof(float);
    const int64_t at = r->logits_row + r->n_done;
    const ssize_t bytes = (ssize_t)(row * (size_t)n);

    if (pwrite(s->logits_file, s->step.logits + (int64_t)i * s->m->config.vocab,
               (size_t)bytes, (off_t)((size_t)at * row))
        == bytes)
        return r->n_done + n == r->n_prompt ? "length" : NULL;
    fail(&r->error, "%.400s: cannot be written", s->options.logits);
    return "error";
}

/* Hands the step's results to its requests; those that end leave. */
static void collect(scheduler *s)
{
    int32_t sample = 0, n_left = 0;

    for (int32_t i = 0; i < s->n_running; i++) {
        request *r = s->running[i];
        const int32_t end = r->n_done + r->n_rows;
        const int32_t n = end - first_sample(s, r);
        const char *finish = NULL;

        if (n > 0 && s->logits_file >= 0)
            finish = write_logits(s, r, sample, n);
        else if (n > 0)
            finish = accept(s, r, sample);
        sample += n > 0 ? n : 0;
        r->n_done = end;
        if (finish)
            sched_finish(s, r, finish);
        else
            s->running[n_left++] = r;
    }
    s->n_running = n_left;
}

/* Ends every request, after a step that failed. */
static bool give_up(scheduler *s, const error *e)
{
    while (!sched_idle(s)) {
        request *r = s->waiting;

        if (s->n_running > 0)
            r = s->running[--s->n_running];
        else
            s->waiting = r->next;
        r->error = *e;
        sched_finish(s, r, "error");
    }
    return false;
}

bool sched_step(scheduler *s, error *e)
{
    totals *t = &s->totals;
    const int32_t n_prompt_rows = schedule(s);
    const int32_t used = s->pages.n - s->pages.n_unused;
    const double begin = now();

    if (!step_run(&s->step, e))
        return give_up(s, e);
    const double seconds = now() - begin;

    *(n_prompt_rows ? &t->prefill_rows : &t->decode_rows) += s->step.n_rows;
    *(n_prompt_rows ? &t->prefill_seconds : &t->decode_seconds) += seconds;
    t->steps++;
    t->plan_seconds += s->step.plan_seconds;
    t->imbalance += s->step.imbalance;
    if (used > t->pages_used)
        t->pages_used = used;
    if (s->pages.n_shared > t->pages_shared)
        t->pages_shared = s->pages.n_shared;
    collect(s);
    return true;
}
