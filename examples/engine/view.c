/* SPDX-License-Identifier: Apache-2.0 */
/* What a person sees: on a terminal every request a line that grows, with its
 * progress; elsewhere a line when a request is finished. */
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine.h"

enum { BAR = 10, MARGIN = 17, FRAMES = 20 /* a second */ };

typedef struct view {
    request **requests;
    int32_t n;
    bool terminal, drawn;
    double drawn_at;
} view;

/* Columns of the terminal, 0 where there is none that holds n lines. */
static int32_t width_for(int32_t n)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_row < n + 4
                   || size.ws_col < 2 * MARGIN
               ? 0
               : size.ws_col;
}

/* The tokens from `first` on as text of one line: what cannot be seen is a
 * blank; on a terminal the prompt is dim. */
static void put_text(const request *r, int32_t first, bool terminal)
{
    if (terminal && first < r->n_prompt)
        printf("\033[2m");
    for (int32_t i = first; i < r->n_tokens; i++) {
        const int32_t c = r->tokens[i];

        if (terminal && i == r->n_prompt)
            printf("\033[0m");
        putchar(c > ' ' && c < 127 ? c : ' ');
    }
}

static void put_line(const request *r, int32_t number, int32_t width)
{
    const int64_t done = r->finish ? BAR : r->n_tokens - r->n_prompt;
    const int bar = (int)(done * BAR / (r->finish ? BAR : r->params.max_new));
    const int32_t hidden = width ? r->n_tokens - (width - MARGIN) : 0;

    printf("%2d  %.*s%.*s  ", number, bar, "##########", BAR - bar,
           "----------");
    if (r->error.text[0])
        printf("%s", r->error.text);
    else
        put_text(r, hidden > 1 ? hidden : 1, width > 0); /* without the bos */
    printf(width ? "\033[0m\033[K\n" : "\n");
}

static void draw(view *v)
{
    const int32_t width = width_for(v->n);

    if (v->drawn)
        printf("\033[%dA", v->n);
    for (int32_t i = 0; i < v->n; i++)
        put_line(v->requests[i], i + 1, width ? width : 2 * MARGIN);
    fflush(stdout);
    v->drawn = true;
    v->drawn_at = now();
}

static void on_token(void *user, request *r)
{
    view *v = user;

    (void)r;
    if (v->terminal && now() - v->drawn_at > 1.0 / FRAMES)
        draw(v);
}

static void on_finish(void *user, request *r)
{
    view *v = user;

    for (int32_t i = 0; !v->terminal && i < v->n; i++)
        if (v->requests[i] == r)
            put_line(r, i + 1, 0);
    if (v->terminal)
        draw(v);
    fflush(stdout);
}

static void put_summary(const scheduler *s)
{
    const totals *t = &s->totals;
    const double steps = t->steps ? (double)t->steps : 1;

    printf("prefill %.0f tok/s   decode %.0f tok/s   plan %.0f us a step, "
           "imbalance %.2f   done in %.1f s\n",
           (double)t->prefill_rows / (t->prefill_seconds + 1e-9),
           (double)t->decode_rows / (t->decode_seconds + 1e-9),
           1e6 * t->plan_seconds / steps, t->imbalance / steps,
           now() - t->begin);
    printf("at most %d of %d pages held, %d of them shared   %lld of %lld "
           "prompt tokens cached   %lld tokens in %lld steps\n",
           t->pages_used, s->pages.n, t->pages_shared, (long long)t->cached,
           (long long)t->prompt, (long long)t->generated, (long long)t->steps);
}

bool view_serve(scheduler *s, request **requests, int32_t n, error *e)
{
    view v = { .requests = requests, .n = n, .terminal = width_for(n) > 0 };
    bool ok = true;

    printf("%d requests, %d pages of %d tokens\n\n", n, s->pages.n,
           s->pages.page_size);
    s->listener = (listener){ &v, on_token, on_finish };
    for (int32_t i = 0; i < n; i++)
        sched_submit(s, requests[i]);
    while (ok && !sched_idle(s))
        ok = sched_step(s, e);
    if (ok)
        put_summary(s);
    return ok;
}
