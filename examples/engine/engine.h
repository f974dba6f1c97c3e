/* SPDX-License-Identifier: Apache-2.0 */
/* A small LLM engine on the public API of FlashInfer-C: this header is its map.
 *
 *   main.c      the command line; prompts of a file
 *   lines.c     the JSON Lines protocol
 *   view.c      what a person sees: a line a request
 *   sched.c     continuous batching, chunked prefill, admission
 *   pages.c     pages of the KV cache and the tree of shared prefixes
 *   step.c      one forward pass over the rows of a step: all calls of fli_*
 *   model.c     weights in the form that step.c wants
 *   weights.c   safetensors files
 *   config.c    config.json
 *   fields.c    tables of members: of config.json, requests, the command line
 *
 * A function that can fail returns false and leaves one sentence in *e. */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdbool.h>

#include <cJSON.h>
#include <flashinfer/flashinfer.h>

/* --- fields.c -------------------------------------------------------------- */

typedef struct error {
    char text[600];
} error;

__attribute__((format(printf, 2, 3))) bool fail(error *e, const char *format,
                                                ...);

enum { MAX_IDS = 16 };

typedef struct ids {
    int32_t n, at[MAX_IDS];
} ids;

/* What a member is: int64_t, double, bool, const char *, ids. */
enum { INTEGER, NUMBER, FLAG, TEXT, IDS };

typedef struct field {
    const char *name;
    int kind;
    size_t offset;    /* of the member */
    double low, high; /* of what it may be */
    const char *help;
} field;

/* object[name], NULL where it is absent or null. */
const cJSON *json_get(const cJSON *object, const char *name);
/* Token ids below vocab, a number or an array of at most max. */
bool read_ids(const cJSON *item, const char *name, int64_t vocab, int32_t max,
              int32_t *out, int32_t *n, error *e);
/* Reads the members of *out that the table lists, up to a name of NULL.  One that
 * json lacks stays, as the default; it must be >= low, or json must have it. */
bool read_fields(const field *table, void *out, const cJSON *json, error *e);
/* The row for a name in which - stands for _. */
const field *find_field(const field *table, const char *name);
bool set_field(const field *f, void *out, const char *text, error *e);

/* --- config.c -------------------------------------------------------------- */

typedef struct config {
    int64_t hidden, intermediate, vocab, n_layers;
    int64_t n_qo_heads, n_kv_heads, head_dim;
    int64_t max_positions, window, bos;
    ids eos;
    double eps, theta, rope_scale, low_freq, high_freq, old_context;
    bool llama31, tied, qkv_bias, o_bias, mlp_bias;
    fli_dtype dtype; /* of the checkpoint */
    /* while it is read: */
    const char *activation, *dtype_name, *rope_type;
    double partial;
    bool use_window;
} config;

/* Both dialects of config.json; refuses what step.c would not compute. */
bool config_read(config *c, const cJSON *json, error *e);

/* --- weights.c ------------------------------------------------------------- */

typedef struct weights {
    const char *dir;
    cJSON *index; /* NULL: one file */
    struct shard *shards;
    int32_t n_shards;
} weights;

typedef struct stored {
    const char *data; /* in the mapped file; aligned to nothing */
    size_t bytes;
    fli_dtype dtype;
} stored;

/* A JSON file of a model folder; the caller deletes it. */
cJSON *weights_json(const char *dir, const char *file, error *e);
bool weights_open(weights *w, const char *dir, error *e);
void weights_close(weights *w);
/* The tensor called name, which must be [n0, n1] ([n0] where n1 is 0). */
bool weights_find(weights *w, const char *name, int64_t n0, int64_t n1,
                  stored *out, error *e);

/* --- model.c --------------------------------------------------------------- */

typedef struct linear {
    fli_tensor packed, bias;
    int64_t n, k;
} linear;

typedef struct layer {
    fli_tensor attention_norm, mlp_norm; /* [hidden] */
    linear qkv, o, gate_up, down;
} layer;

typedef struct model {
    config config;
    fli_context *ctx;
    fli_dtype dtype; /* of activations, KV cache, norms and embedding */
    char *embedding; /* [vocab, hidden] */
    fli_tensor norm; /* [hidden] */
    linear lm_head;
    layer *layers;
    int64_t n_parameters;
    void **owned; /* all memory of the above */
    int32_t n_owned;
} model;

/* Loads a Hugging Face folder for ctx; dtype 0 is the checkpoint's.  On failure
 * nothing is left to free.  ctx must outlive m. */
bool model_load(model *m, fli_context *ctx, const char *dir, fli_dtype dtype,
                error *e);
void model_free(model *m);

/* --- pages.c --------------------------------------------------------------- */

enum { NONE = -1 };

typedef struct page {
    int32_t refs;                   /* requests that hold it */
    int32_t before, after;          /* in the list of pages nobody holds */
    int32_t parent, child, sibling; /* in the prefix tree */
} page;

typedef struct pages {
    page *at;        /* [n + 1]; at[n] heads the list and is the tree's root */
    int32_t *tokens; /* [n, page_size] what the pages of the tree hold */
    int32_t n, page_size;
    int32_t n_unused; /* pages nobody holds */
    int32_t n_shared; /* pages that several hold */
} pages;

bool pages_create(pages *p, int32_t n, int32_t page_size);
void pages_free(pages *p);
int32_t pages_take(pages *p); /* an empty page, held once; NONE: all are held */
void pages_hold(pages *p, int32_t id);
void pages_release(pages *p, int32_t id);
/* The page below parent that holds page_size tokens, or NONE. */
int32_t pages_find(const pages *p, int32_t parent, const int32_t *tokens);
/* Makes page id findable below parent. */
void pages_publish(pages *p, int32_t id, int32_t parent, const int32_t *tokens);

/* --- step.c ---------------------------------------------------------------- */

enum { MAX_BATCH = 256 };

typedef struct options {
    int64_t chunk, page_size, n_pages, max_batch;
    bool no_sharing, invariant;
    const char *logits; /* file for the logits of every prompt token, or NULL */
} options;

/* The rows of a step.  The scheduler fills the first part. */
typedef struct step {
    const model *m;
    options options;
    int32_t n_requests, n_rows, n_samples;
    int32_t q_indptr[MAX_BATCH + 1], kv_len[MAX_BATCH];
    int32_t page_indptr[MAX_BATCH + 1], *page_indices;
    int32_t *tokens;      /* [n_rows] */
    int32_t *sample_rows; /* [n_samples] the rows whose logits are wanted */
    float temperatures[MAX_BATCH], top_ps[MAX_BATCH], min_ps[MAX_BATCH];
    int32_t top_ks[MAX_BATCH];
    int64_t seeds[MAX_BATCH], offsets[MAX_BATCH];

    int32_t sampled[MAX_BATCH]; /* results, as logits [n_samples, vocab] */
    bool valid[MAX_BATCH];
    float *logits;
    double plan_seconds, imbalance;

    int32_t *batch_indices, *positions;        /* [n_rows] */
    char *x, *h, *qkv, *heads, *gate_up, *mlp; /* [n_rows, ..] */
    char *kv; /* [layers][k, v][pages][tokens][heads][d] */
    fli_attention *attention;
    void *workspace;
    char *memory; /* of all arrays */
    double bytes;
} step;

bool step_create(step *s, const model *m, const options *o, error *e);
void step_free(step *s);
bool step_run(step *s, error *e);
double now(void); /* seconds */

/* --- sched.c --------------------------------------------------------------- */

/* What a request may ask for; the command line gives the defaults. */
typedef struct params {
    int64_t max_new, top_k, seed;
    double temperature, top_p, min_p;
    ids stop;
    bool stream;
} params;

extern const field param_fields[];

typedef struct request {
    cJSON *id;
    params params;
    int32_t *tokens; /* the prompt, then what was generated */
    int32_t n_prompt, n_tokens;
    const char *finish; /* "stop", "length", "error"; NULL: not yet */
    error error;
    double seconds;   /* its start; when it is finished, what it took */
    int32_t n_cached; /* tokens of the prompt found in the cache */

    struct request *next;   /* the scheduler's */
    int32_t n_done, n_rows; /* tokens in the KV cache; rows of the step */
    int32_t *table, n_table, n_published, node; /* pages; the last published */
    int64_t logits_row; /* its first row in the file of logits */
} request;

/* Who hears of tokens and of ends; the end hands the request back. */
typedef struct listener {
    void *user;
    void (*on_token)(void *user, request *r);
    void (*on_finish)(void *user, request *r);
} listener;

typedef struct totals {
    int64_t requests, steps, prompt, cached, generated;
    int64_t prefill_rows, decode_rows; /* of steps with prompts, of others */
    double prefill_seconds, decode_seconds, plan_seconds, imbalance;
    int32_t pages_used, pages_shared; /* at most, at once */
    double begin;
} totals;

typedef struct scheduler {
    const model *m;
    options options;
    listener listener;
    pages pages;
    step step;
    request *waiting, *last_waiting, *running[MAX_BATCH];
    int32_t n_running;
    int32_t promised; /* pages that running requests will still take */
    int logits_file;
    int64_t logits_rows;
    totals totals;
} scheduler;

bool sched_create(scheduler *s, const model *m, const options *o, error *e);
void sched_free(scheduler *s);
/* Takes r, which may finish (with an error) at once. */
void sched_submit(scheduler *s, request *r);
void sched_finish(scheduler *s, request *r, const char *finish);
bool sched_idle(const scheduler *s);
bool sched_step(scheduler *s, error *e);
void request_free(request *r);

/* --- lines.c --------------------------------------------------------------- */

/* Serves the requests of stdin until it ends, and writes the summary. */
bool lines_serve(scheduler *s, const params *defaults, error *e);

/* --- view.c ---------------------------------------------------------------- */

/* Serves n requests, shows them and the summary. */
bool view_serve(scheduler *s, request **requests, int32_t n, error *e);

#endif
