/* SPDX-License-Identifier: Apache-2.0 */
/* Continuous batching.  A step has a row of each request that decodes and at
 * most `chunk` rows of prompts, first come first served.
 *
 * A request starts when there are pages for all the tokens it may ever have, and
 * takes them: a running request never waits.  Its pages join the prefix tree when
 * the step that fills them is put together: in each layer the keys of all rows
 * are appended before any row attends, so even a request of the same step may
 * share them. */
#include <string.h>

#include "engine.h"

void sched_create(scheduler *s, const model *m, const options *o)
{
    *s = (scheduler){ .m = m, .options = *o };
    s->last_waiting = &s->waiting;
    if (o->logits) {
        s->logits = fopen(o->logits, "wb");
        if (!s->logits)
            die("%.400s: cannot be written", o->logits);
        s->options.no_sharing = true; /* logits of every token are wanted */
    }
    pages_create(&s->pages, (int32_t)o->n_pages, (int32_t)o->page_size);
    step_create(&s->step, m, o);
    s->totals.begin = now();
}

bool sched_idle(const scheduler *s)
{
    return !s->waiting && !s->n_running;
}

void request_clear(request *r)
{
    cJSON_Delete(r->json);
    give_back(&r->memory);
}

static int32_t pages_for(const scheduler *s, int64_t n_tokens)
{
    return (int32_t)((n_tokens + s->pages.page_size - 1) / s->pages.page_size);
}

/* Last page first: see pages.c. */
static void release(scheduler *s, request *r)
{
    while (r->n_table > 0)
        pages_release(&s->pages, r->table[--r->n_table]);
}

static void finish(scheduler *s, request *r, const char *why)
{
    r->finish = why;
    r->seconds = now() - r->seconds;
    memcpy(r->error, failure, sizeof(r->error));
    *failure = 0;
    s->totals.requests++;
    s->totals.prompt_tokens += r->n_table ? r->n_prompt : 0;
    s->totals.cached_tokens += r->n_cached;
    s->totals.generated_tokens += r->n_tokens - r->n_prompt;
    release(s, r);
    s->tell(s->listener, r);
}

void sched_submit(scheduler *s, request *r)
{
    const int64_t most = s->m->max_positions;

    r->seconds = now();
    r->n_tokens = r->n_prompt;
    if (s->logits) {
        r->params.max_new = 1;
        r->logits_row = s->logits_rows;
        s->logits_rows += r->n_prompt;
    }
    /* The last token that is generated is never looked at. */
    r->n_pages = pages_for(s, r->n_prompt + r->params.max_new - 1);
    if (r->n_prompt == 0)
        note("tokens is empty, expected at least one");
    if (r->n_prompt + r->params.max_new > most)
        note("%d tokens and %lld new ones exceed the model's %lld positions",
             r->n_prompt, (long long)r->params.max_new, (long long)most);
    if (r->n_pages > s->pages.n)
        note("needs %d pages of %d tokens, there are %d", r->n_pages,
             s->pages.page_size, s->pages.n);
    if (*failure) {
        finish(s, r, "error");
        return;
    }
    r->table = take(&r->memory, r->n_pages, sizeof(*r->table));
    *s->last_waiting = r;
    s->last_waiting = &r->next;
}

/* Starts the request that waits longest; false if there is none or it must wait
 * on.  It holds the cached pages that it begins with, but not the one of its last
 * token, which must be computed. */
static bool admit(scheduler *s)
{
    pages *p = &s->pages;
    request *r = s->waiting;

    if (!r || s->n_running == s->options.max_batch)
        return false;
    r->node = s->options.no_sharing ? NONE : p->n;
    while (r->node != NONE && (r->n_table + 1) * p->page_size < r->n_prompt) {
        const int32_t id =
            pages_find(p, r->node, r->tokens + r->n_table * p->page_size);

        if (id == NONE)
            break;
        pages_hold(p, id);
        r->table[r->n_table++] = r->node = id;
    }
    if (p->n_unused < r->n_pages - r->n_table) {
        release(s, r);
        return false;
    }
    r->n_published = r->n_table;
    r->n_cached = r->n_done = r->n_table * p->page_size;
    while (r->n_table < r->n_pages)
        r->table[r->n_table++] = pages_take(p);
    s->waiting = r->next;
    if (!s->waiting)
        s->last_waiting = &s->waiting;
    s->running[s->n_running++] = r;
    return true;
}

/* Puts the pages that are full with n tokens into the tree.  Where an equal one
 * is there already, r goes on outside of the tree. */
static void publish(scheduler *s, request *r, int32_t n)
{
    const int32_t size = s->pages.page_size;

    while (r->node != NONE && (r->n_published + 1) * size <= n) {
        const int32_t *tokens = r->tokens + r->n_published * size;
        const int32_t id = r->table[r->n_published++];
        const bool is_new = pages_find(&s->pages, r->node, tokens) == NONE;

        if (is_new)
            pages_publish(&s->pages, id, r->node, tokens);
        r->node = is_new ? id : NONE;
    }
}

/* Adds the next r->n_rows tokens of r to the step. */
static void add_rows(scheduler *s, request *r)
{
    step *t = &s->step;
    inputs *in = t->in;
    const int32_t end = r->n_done + r->n_rows, i = t->n_requests++;
    const int32_t n_pages = pages_for(s, end);
    /* What is drawn in the midst of a prompt is thrown away. */
    const int32_t first = s->logits ? r->n_done : end - 1;

    publish(s, r, end);
    memcpy(t->tokens + t->n_rows, r->tokens + r->n_done,
           (size_t)r->n_rows * sizeof(*r->tokens));
    memcpy(t->page_indices + in->page_indptr[i], r->table,
           (size_t)n_pages * sizeof(*r->table));
    in->page_indptr[i + 1] = in->page_indptr[i] + n_pages;
    in->kv_len[i] = end;
    r->sample = t->n_samples;
    in->temperatures[i] = (float)r->params.temperature;
    in->top_ks[i] = (int32_t)r->params.top_k;
    in->top_ps[i] = (float)r->params.top_p;
    in->min_ps[i] = (float)r->params.min_p;
    in->seeds[i] = r->params.seed;
    in->offsets[i] = r->n_tokens - r->n_prompt;
    for (int32_t j = first; j < end; j++)
        t->sample_rows[t->n_samples++] = t->n_rows + j - r->n_done;
    t->n_rows += r->n_rows;
    in->q_indptr[i + 1] = t->n_rows;
}

/* Fills the step; returns its rows of prompts. */
static int32_t schedule(scheduler *s)
{
    const int32_t chunk = (int32_t)s->options.chunk;
    int32_t budget = chunk;

    s->step.n_requests = s->step.n_rows = s->step.n_samples = 0;
    for (int32_t i = 0; i < s->n_running || (budget > 0 && admit(s)); i++) {
        request *r = s->running[i];
        const int32_t left = r->n_prompt - r->n_done;

        r->n_rows = left <= 0 ? 1 : left < budget ? left : budget;
        budget -= left > 0 ? r->n_rows : 0;
        if (r->n_rows > 0)
            add_rows(s, r);
    }
    return chunk - budget;
}

/* Takes what the step gave for r; why it ends here, or NULL. */
static const char *accept(scheduler *s, request *r)
{
    const outputs *out = s->step.out;
    const int32_t token = out->tokens[r->sample];

    if (!out->valid[r->sample]) {
        note("the logits after token %d are not numbers", r->n_tokens - 1);
        return "error";
    }
    if (has_id(s->m->eos, token) || has_id(json_get(r->json, "stop"), token))
        return "stop";
    r->tokens[r->n_tokens++] = token;
    if (!(s->totals.first_token > 0))
        s->totals.first_token = now();
    s->tell(s->listener, r);
    return r->n_tokens == r->n_prompt + r->params.max_new ? "length" : NULL;
}

static const char *write_logits(scheduler *s, const request *r)
{
    const size_t vocab = (size_t)s->m->vocab;
    const size_t row = (size_t)(r->logits_row + r->n_done - r->n_rows);

    fseek(s->logits, (long)(row * vocab * sizeof(float)), SEEK_SET);
    fwrite(s->step.logits + (size_t)r->sample * vocab, vocab * sizeof(float),
           (size_t)r->n_rows, s->logits);
    return r->n_done == r->n_prompt ? "length" : NULL;
}

/* Hands the step's results to its requests; those that end leave. */
static void collect(scheduler *s)
{
    int32_t n_left = 0;

    for (int32_t i = 0; i < s->n_running; i++) {
        request *r = s->running[i];
        const char *why = NULL;

        r->n_done += r->n_rows;
        if (s->logits)
            why = write_logits(s, r);
        else if (r->n_done == r->n_tokens)
            why = accept(s, r);
        if (why)
            finish(s, r, why);
        else
            s->running[n_left++] = r;
    }
    s->n_running = n_left;
}

void sched_step(scheduler *s)
{
    totals *t = &s->totals;
    const double begin = now();
    const bool prefill = schedule(s) > 0;
    const int32_t used = s->pages.n - s->pages.n_unused;
    const int32_t shared = s->pages.n_shared;

    *(prefill ? &t->prefill_rows : &t->decode_rows) += s->step.n_rows;
    step_run(&s->step);
    *(prefill ? &t->prefill_seconds : &t->decode_seconds) += now() - begin;
    t->steps++;
    t->pages_used = used > t->pages_used ? used : t->pages_used;
    t->pages_shared = shared > t->pages_shared ? shared : t->pages_shared;
    collect(s);
}
