/* SPDX-License-Identifier: Apache-2.0 */
/* What a person sees of the prompts of a file: on a terminal every request a line
 * that grows, with its progress; elsewhere a line when a request is finished. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine.h"

enum { BAR = 10, MARGIN = 17, FOOT = 2, FRAMES = 20 /* a second */ };

typedef struct view {
    request *requests;
    int32_t n, width; /* of the terminal; 0: there is none that holds n lines */
    double drawn;     /* when */
} view;

/* As much of the end of the text as the width holds, without the bos; what cannot
 * be seen is a blank. */
static void put_line(const view *v, const request *r)
{
    const int64_t most = r->params.max_new;
    const int64_t done = r->finish ? most : r->n_tokens - r->n_prompt;
    const int bar = (int)(done * BAR / most);
    int32_t i = v->width ? r->n_tokens - (v->width - MARGIN) : 1;

    printf("%2d  %.*s%.*s  %s", (int)(r - v->requests) + 1, bar, "##########",
           BAR - bar, "----------", r->error);
    for (i = i > 1 ? i : 1; i < r->n_tokens && !*r->error; i++)
        putchar(r->tokens[i] > ' ' && r->tokens[i] < 127 ? r->tokens[i] : ' ');
    putchar('\n');
    fflush(stdout);
}

static void tell(void *listener, request *r)
{
    const view *v = listener;

    if (r->finish && !v->width)
        put_line(v, r);
}

/* Its lines, of at most `width` columns. */
static void put_summary(const scheduler *s, int width)
{
    const totals *t = &s->totals;
    const double n_plans = fmax(s->step.n_plans, 1);
    char lines[FOOT][240];

    snprintf(lines[0], sizeof(lines[0]),
             "prefill %.0f tok/s   decode%s %.0f tok/s   plan %.0f us a step, "
             "imbalance %.2f   %.0f tokens in %.1f s",
             t->prefill_rows / (t->prefill_seconds + 1e-9),
             s->m->stream ? " graph" : "",
             t->decode_rows / (t->decode_seconds + 1e-9),
             1e6 * s->step.plan_seconds / n_plans, s->step.imbalance / n_plans,
             t->generated_tokens, now() - t->begin);
    snprintf(lines[1], sizeof(lines[1]),
             "first token after %.1f s   at most %d of %d pages held, %d of "
             "them shared   %.0f of %.0f prompt tokens cached",
             t->first_token, t->pages_used, s->pages.n, t->pages_shared,
             t->cached_tokens, t->prompt_tokens);
    for (int i = 0; i < FOOT; i++)
        printf("%.*s\n", width, lines[i]);
}

/* Over what was drawn before. */
static void draw(view *v, const scheduler *s)
{
    if (v->drawn > 0)
        printf("\033[%dA\033[J", v->n + FOOT);
    for (int32_t i = 0; i < v->n; i++)
        put_line(v, &v->requests[i]);
    put_summary(s, sched_idle(s) ? INT32_MAX : v->width - 1);
    v->drawn = now();
}

static void read_prompts(view *v, const params *defaults, const char *path,
                         int32_t bos)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t capacity = 0;

    if (!file)
        die("%.400s: %s", path, strerror(errno));
    while (getline(&line, &capacity, file) >= 0) {
        const int32_t n = 1 + (int32_t)strcspn(line, "\r\n");
        request *r = realloc(v->requests, (size_t)(v->n + 1) * sizeof(*r));

        v->requests = r;
        r += v->n;
        *r = (request){ .params = *defaults, .n_prompt = n };
        r->params.seed += v->n++;
        r->tokens = take(&r->memory, n + r->params.max_new, sizeof(*r->tokens));
        r->tokens[0] = bos;
        for (int32_t i = 1; i < n; i++)
            r->tokens[i] = (unsigned char)line[i - 1];
    }
    fclose(file);
    free(line);
}

void view_serve(scheduler *s, const params *defaults, const char *file)
{
    view v = { 0 };
    struct winsize size;

    read_prompts(&v, defaults, file, (int32_t)s->m->bos);
    if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col > 2 * MARGIN
        && size.ws_row > v.n + FOOT)
        v.width = size.ws_col;
    s->tell = tell;
    s->listener = &v;
    for (int32_t i = 0; i < v.n; i++)
        sched_submit(s, &v.requests[i]);
    while (!sched_idle(s)) {
        sched_step(s);
        if (v.width && now() - v.drawn > 1.0 / FRAMES)
            draw(&v, s);
    }
    if (v.width)
        draw(&v, s);
    else
        put_summary(s, INT32_MAX);
    for (int32_t i = 0; i < v.n; i++)
        request_clear(&v.requests[i]);
    free(v.requests);
}
