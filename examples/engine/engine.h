/* SPDX-License-Identifier: Apache-2.0 */
/* A small LLM engine on the public API of FlashInfer-C: this header is its map.
 *
 *   main.c      the command line
 *   lines.c     the JSON Lines protocol
 *   view.c      prompts of a file, and what a person sees of them
 *   sched.c     continuous batching, chunked prefill, admission
 *   pages.c     pages of the KV cache and the tree of shared prefixes
 *   step.c      one forward pass over the rows of a step: all calls of fli_*
 *   model.c     config.json, and weights in the form that step.c wants
 *   cuda.c      memory, copies and graphs of the device
 *   weights.c   safetensors files
 *   base.c      failing, memory, members of JSON
 *
 * What the engine cannot work with ends it: die.  What is wrong with a request or
 * another JSON object is noted, and looked at when all of it has been read.  The
 * engine has one thread; the library has its own. */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdbool.h>
#include <stdio.h>

#include <cJSON.h>
#include <flashinfer/flashinfer.h>

/* --- base.c ---------------------------------------------------------------- */

/* Prints the sentence and ends; main.c has it. */
_Noreturn __attribute__((format(printf, 1, 2))) void die(const char *format,
                                                         ...);
/* The first sentence that was noted since it was emptied. */
extern char failure[512];
__attribute__((format(printf, 1, 2))) void note(const char *format, ...);
void must(fli_status status); /* die, if the library failed */
double now(void);             /* seconds since it was first asked */

/* n * size bytes of zeros that belong to *memory, which begins as NULL, until
 * give_back. */
void *take(void **memory, int64_t n, size_t size);
void give_back(void **memory);

typedef struct range {
    double low, high;
} range;

/* Members of a JSON object, noting what is wrong with them.  One that is absent
 * or null is `absent`, unless that is a number below the range. */
const cJSON *json_get(const cJSON *object, const char *name);
double get_number(const cJSON *object, const char *name, range r,
                  double absent);
int64_t get_integer(const cJSON *object, const char *name, range r,
                    int64_t absent);
bool get_flag(const cJSON *object, const char *name, bool absent);
const char *get_text(const cJSON *object, const char *name, const char *absent);
/* Token ids below vocab: none, a number or an array. */
const cJSON *get_ids(const cJSON *object, const char *name, int64_t vocab);
bool has_id(const cJSON *ids, int32_t id);
/* As the library, safetensors or config.json call it. */
fli_dtype dtype_named(const char *name);

/* --- weights.c ------------------------------------------------------------- */

typedef struct weights {
    const char *dir;
    cJSON *index; /* NULL: one file */
    struct shard *shards;
    void *memory;
} weights;

/* A JSON file of a model folder; the caller deletes it. */
cJSON *weights_json(const char *dir, const char *file);
void weights_open(weights *w, const char *dir);
void weights_close(weights *w);
/* Finds the tensor called name, of the ndim and shape of *t, and sets t->dtype
 * and t->data, which is in the mapped file and aligned to nothing. */
void weights_find(weights *w, const char *name, fli_tensor *t);

/* --- cuda.c ----------------------------------------------------------------- */

/* The stream of all work, NULL on the CPU; to be called before the others, which
 * work on host memory there. */
fli_stream device_open(const fli_context *ctx);
/* As take, but on a GPU not zeroed, and never given back. */
void *device_take(void **memory, int64_t n, size_t size);
/* Zeros in host memory that the device copies from and to without help. */
void *device_take_pinned(void **memory, size_t bytes);
/* Between any two of host and device, in the order of the stream; host memory
 * may be used when the stream has been waited for. */
void device_copy(void *to, const void *from, size_t bytes);
void device_wait(void);
/* What is enqueued between the two does not run, but each time that the graph is
 * launched.  CUDA only. */
void graph_begin(void);
void *graph_end(void);
void graph_launch(void *graph);

/* --- model.c --------------------------------------------------------------- */

typedef struct linear {
    fli_tensor b, packed, bias; /* b on CUDA, packed on the CPU */
} linear;

typedef struct layer {
    fli_tensor attention_norm, mlp_norm; /* [hidden] */
    linear qkv, o, gate_up, down;
} layer;

typedef struct model {
    /* of config.json */
    cJSON *json;
    const cJSON *eos; /* ids */
    int64_t hidden, intermediate, vocab, n_layers, max_positions, bos;
    int64_t n_qo_heads, n_kv_heads, head_dim;
    int64_t q_width,
        kv_width; /* n_qo_heads * head_dim, n_kv_heads * head_dim */
    double eps, theta, rope_factor, low_freq, high_freq, old_context;
    bool llama31, tied, qkv_bias, o_bias, mlp_bias;

    fli_context *ctx;
    fli_stream stream;
    fli_dtype dtype;            /* of weights, activations and KV cache */
    fli_tensor embedding, norm; /* [vocab, hidden] on the host, [hidden] */
    linear lm_head;
    layer *layers;
    int64_t n_parameters;
    /* while it is loaded */
    weights files;
    fli_context *host; /* casts */
    char prefix[32];   /* of the names of tensors */
    void *memory;
} model;

/* Loads a Hugging Face folder for ctx; dtype 0 is the checkpoint's. */
void model_load(model *m, fli_context *ctx, const char *dir, fli_dtype dtype);
void model_free(model *m);

/* --- pages.c --------------------------------------------------------------- */

enum { NONE = -1 };

typedef struct page {
    int32_t n_holders, before, after; /* in the list of pages nobody holds */
    int32_t parent, child, sibling;   /* in the prefix tree */
} page;

typedef struct pages {
    page *at;        /* [n + 1]; at[n] heads the list and is the tree's root */
    int32_t *tokens; /* [n, page_size] what the pages of the tree hold */
    int32_t n, page_size, n_unused, n_shared; /* nobody, several hold it */
    void *memory;
} pages;

void pages_create(pages *p, int32_t n, int32_t page_size);
int32_t pages_take(pages *p); /* an empty page, held once; n_unused is not 0 */
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

/* What a step reads: a block that goes to the device in one copy. */
typedef struct inputs {
    int64_t seeds[MAX_BATCH], offsets[MAX_BATCH];
    float temperatures[MAX_BATCH], top_ps[MAX_BATCH], min_ps[MAX_BATCH];
    int32_t top_ks[MAX_BATCH];
    int32_t q_indptr[MAX_BATCH + 1], kv_len[MAX_BATCH];
    int32_t page_indptr[MAX_BATCH + 1];
    _Alignas(256) char rows[]; /* of x; behind them the page indices */
} inputs;

typedef struct outputs {
    int32_t tokens[MAX_BATCH];
    bool valid[MAX_BATCH];
} outputs;

typedef struct step {
    const model *m;
    options options;
    /* what the scheduler fills in, with *in but its rows */
    int32_t n_requests, n_rows, n_samples;
    int32_t *page_indices, max_indices;
    int32_t *tokens;      /* [n_rows] */
    int32_t *sample_rows; /* [n_samples] the rows whose logits are wanted */
    /* host memory, and the same on the device */
    inputs *in, *device_in;
    outputs *out, *device_out;
    float *logits, *device_logits; /* [n_samples, vocab]; for options.logits */
    /* of the steps that the host planned: sums */
    double n_plans, plan_seconds, imbalance;
    /* scratch on the device */
    int32_t *batch_indices, *positions;    /* [n_rows] */
    char *h, *qkv, *heads, *gate_up, *mlp; /* [n_rows, ..] */
    char *kv; /* [layers][k, v][pages][tokens][heads][d] */
    fli_attention *attention;
    void *workspace, *memory;
    void *graphs[9]; /* of 1, 2, 4 .. MAX_BATCH rows; CUDA only */
} step;

void step_create(step *s, const model *m, const options *o);
void step_free(step *s);
void step_run(step *s);

/* --- sched.c --------------------------------------------------------------- */

/* What a request may ask for; the command line gives the defaults. */
typedef struct params {
    int64_t max_new, top_k, seed;
    double temperature, top_p, min_p;
    bool stream;
} params;

typedef struct request {
    cJSON *json; /* its line, or NULL */
    params params;
    int32_t *tokens; /* the prompt, then room for params.max_new */
    int32_t n_prompt, n_tokens, n_cached; /* cached: of the prompt */
    const char *finish; /* "stop", "length", "error"; NULL: not yet */
    char error[sizeof(failure)];
    double seconds; /* its start; when it is finished, what it took */
    void *memory;
    /* the scheduler's */
    struct request *next;
    int32_t n_done, n_rows, sample; /* tokens in the KV cache; of the step */
    int32_t *table, n_table,
        n_pages;               /* the pages it holds; how many it needs */
    int32_t n_published, node; /* pages in the prefix tree, the last of them */
    int64_t logits_row;        /* its first in the file of logits */
} request;

typedef struct totals {
    double requests, steps, prompt_tokens, cached_tokens, generated_tokens;
    double prefill_rows, prefill_seconds; /* of steps with pieces of prompts */
    double decode_rows, decode_seconds;   /* of others */
    double begin, first_token;            /* when */
    int32_t pages_used, pages_shared;     /* at most, at once */
} totals;

typedef struct scheduler {
    const model *m;
    options options;
    pages pages;
    step step;
    request *waiting, **last_waiting, *running[MAX_BATCH];
    int32_t n_running;
    FILE *logits;
    int64_t logits_rows;
    totals totals;
    /* Hears of each new token, and of each end: then r->finish is set, and r is
     * the listener's again. */
    void (*tell)(void *listener, request *r);
    void *listener;
} scheduler;

void sched_create(scheduler *s, const model *m, const options *o);
/* Takes r, which finishes at once if anything is noted. */
void sched_submit(scheduler *s, request *r);
bool sched_idle(const scheduler *s);
void sched_step(scheduler *s);
void request_clear(request *r);

/* --- lines.c, view.c ------------------------------------------------------- */

params params_read(const cJSON *json, const params *absent);
/* Serves the requests of stdin until it ends, and writes the summary. */
void lines_serve(scheduler *s, const params *defaults);
/* Serves the lines of a file as prompts of bytes, shows them and the summary. */
void view_serve(scheduler *s, const params *defaults, const char *file);

#endif
