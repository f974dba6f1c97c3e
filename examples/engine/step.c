/* SPDX-License-Identifier: Apache-2.0 */
/* One forward pass of a Llama over the rows of a step: any mix of pieces of
 * prompts and of single tokens, planned once, run layer by layer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"

/* Calls of the library: 0 is success, the sentence is in fli_last_error. */
#define RUN(call)                                                              \
    do {                                                                       \
        if (call)                                                              \
            return false;                                                      \
    } while (0)

double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static fli_tensor ints(const int32_t *data, int64_t n)
{
    return fli_tensor_1d(data, NULL, FLI_I32, n);
}

/* Activations: n rows of width elements. */
static fli_tensor rows(const step *s, void *data, int64_t n, int64_t width)
{
    return fli_tensor_2d(data, NULL, s->m->dtype, n, width);
}

/* The columns of qkv from `first` on, as n heads. */
static fli_tensor heads(const step *s, int64_t first, int64_t n)
{
    const config *c = &s->m->config;
    char *data = s->qkv + (size_t)first * fli_dtype_bytes(s->m->dtype);
    fli_tensor t =
        fli_tensor_3d(data, NULL, s->m->dtype, s->n_rows, n, c->head_dim);

    t.stride[0] = (c->n_qo_heads + 2 * c->n_kv_heads) * c->head_dim;
    return t;
}

static fli_kv layer_kv(const step *s, int64_t index)
{
    const config *c = &s->m->config;
    const int64_t n = s->options.n_pages, size = s->options.page_size;
    const size_t bytes = (size_t)(n * size * c->n_kv_heads * c->head_dim)
                         * fli_dtype_bytes(s->m->dtype);
    fli_tensor k =
        fli_tensor_4d(s->kv + (size_t)(2 * index) * bytes, NULL, s->m->dtype, n,
                      size, c->n_kv_heads, c->head_dim);
    fli_tensor v = k;

    v.data = (char *)k.data + bytes;
    return fli_paged_kv(k, v, ints(s->page_indptr, s->n_requests + 1),
                        ints(s->page_indices, s->page_indptr[s->n_requests]));
}

static fli_status linear_run(const step *s, const linear *w, fli_tensor a,
                             fli_tensor out, bool add)
{
    fli_gemm_args args = FLI_GEMM_ARGS_INIT;

    args.a = a;
    args.packed = w->packed;
    args.bias = w->bias;
    args.out = out;
    args.add = add;
    args.flags = s->options.invariant ? FLI_GEMM_BATCH_INVARIANT : 0;
    return fli_gemm(s->m->ctx, &args, NULL);
}

static fli_status norm_run(const step *s, fli_tensor x, fli_tensor weight,
                           fli_tensor out)
{
    fli_rmsnorm_args args = FLI_RMSNORM_ARGS_INIT;

    args.x = x;
    args.weight = weight;
    args.out = out;
    args.eps = (float)s->m->config.eps;
    return fli_rmsnorm(s->m->ctx, &args, NULL);
}

static fli_status rope_run(const step *s, fli_tensor q, fli_tensor k)
{
    const config *c = &s->m->config;
    fli_rope_args args = FLI_ROPE_ARGS_INIT;

    args.q = args.q_out = q;
    args.k = args.k_out = k;
    args.positions = ints(s->positions, s->n_rows);
    args.theta = (float)c->theta;
    args.scale = (float)c->rope_scale;
    args.llama31 = c->llama31;
    args.low_freq_factor = (float)c->low_freq;
    args.high_freq_factor = (float)c->high_freq;
    args.old_context_len = (float)c->old_context;
    return fli_rope(s->m->ctx, &args, NULL);
}

/* h = attention of the rows h over the cache, which they join. */
static bool attend(step *s, const layer *w, int64_t index, fli_tensor h)
{
    const config *c = &s->m->config;
    const int64_t n = s->n_rows, k = c->n_qo_heads * c->head_dim;
    fli_append_args append = FLI_APPEND_ARGS_INIT;
    fli_attention_args args = FLI_ATTENTION_ARGS_INIT;

    RUN(linear_run(s, &w->qkv, h, rows(s, s->qkv, n, w->qkv.n), false));
    args.q = heads(s, 0, c->n_qo_heads);
    append.k = heads(s, k, c->n_kv_heads);
    append.v = heads(s, k + c->n_kv_heads * c->head_dim, c->n_kv_heads);
    RUN(rope_run(s, args.q, append.k));
    append.batch_indices = ints(s->batch_indices, n);
    append.positions = ints(s->positions, n);
    append.cache = args.kv = layer_kv(s, index);
    RUN(fli_append(s->m->ctx, &append, NULL));
    args.out = fli_tensor_3d(s->heads, NULL, s->m->dtype, n, c->n_qo_heads,
                             c->head_dim);
    args.mask = FLI_MASK_CAUSAL;
    args.window = (int32_t)c->window;
    RUN(fli_attention_run(s->attention, &args, NULL));
    RUN(linear_run(s, &w->o, rows(s, s->heads, n, k), h, false));
    return true;
}

/* x += mlp(norm(x + h)), where h is what attention gave. */
static bool feed_forward(step *s, const layer *w, fli_tensor x, fli_tensor h)
{
    fli_fused_add_rmsnorm_args norm = FLI_FUSED_ADD_RMSNORM_ARGS_INIT;
    fli_act_and_mul_args gate = FLI_ACT_AND_MUL_ARGS_INIT;

    norm.x = h;
    norm.residual = x;
    norm.weight = w->mlp_norm;
    norm.eps = (float)s->m->config.eps;
    RUN(fli_fused_add_rmsnorm(s->m->ctx, &norm, NULL));
    gate.x = rows(s, s->gate_up, s->n_rows, w->gate_up.n);
    gate.out = rows(s, s->mlp, s->n_rows, w->down.k);
    RUN(linear_run(s, &w->gate_up, h, gate.x, false));
    RUN(fli_silu_and_mul(s->m->ctx, &gate, NULL));
    RUN(linear_run(s, &w->down, gate.out, x, true));
    return true;
}

/* Copies rows of hidden elements: to[i] = from[index[i]]. */
static void gather(const step *s, char *to, const char *from,
                   const int32_t *index, int32_t n)
{
    const size_t bytes =
        (size_t)s->m->config.hidden * fli_dtype_bytes(s->m->dtype);

    for (int32_t i = 0; i < n; i++)
        memcpy(to + (size_t)i * bytes, from + (size_t)index[i] * bytes, bytes);
}

static fli_status sample(step *s, fli_tensor logits)
{
    const int64_t n = s->n_samples;
    fli_sample_args args = FLI_SAMPLE_ARGS_INIT;

    args.x = logits;
    args.tokens = ints(s->sampled, n);
    args.valid = fli_tensor_1d(s->valid, NULL, FLI_BOOL, n);
    args.temperatures = fli_tensor_1d(s->temperatures, NULL, FLI_F32, n);
    args.top_ks = ints(s->top_ks, n);
    args.top_ps = fli_tensor_1d(s->top_ps, NULL, FLI_F32, n);
    args.min_ps = fli_tensor_1d(s->min_ps, NULL, FLI_F32, n);
    args.seeds = fli_tensor_1d(s->seeds, NULL, FLI_I64, n);
    args.offsets = fli_tensor_1d(s->offsets, NULL, FLI_I64, n);
    return fli_sample_from_logits(s->m->ctx, &args, NULL);
}

static bool plan(step *s)
{
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;
    fli_attention_stats stats = FLI_ATTENTION_STATS_INIT;
    fli_batch_indices_positions_args where =
        FLI_BATCH_INDICES_POSITIONS_ARGS_INIT;
    const double begin = now();

    batch.n_requests = s->n_requests;
    batch.q_indptr = s->q_indptr;
    batch.kv_len = s->kv_len;
    batch.mask = FLI_MASK_CAUSAL;
    batch.window = (int32_t)s->m->config.window;
    RUN(fli_attention_plan(s->attention, &batch, s->workspace,
                           fli_attention_workspace(s->attention), NULL));
    s->plan_seconds = now() - begin;
    RUN(fli_attention_get_stats(s->attention, &stats));
    s->imbalance = (double)stats.max_cost * stats.n_workers
                   / (double)(stats.total_cost ? stats.total_cost : 1);
    where.append_indptr = ints(s->q_indptr, s->n_requests + 1);
    where.seq_lens = ints(s->kv_len, s->n_requests);
    where.batch_indices = ints(s->batch_indices, s->n_rows);
    where.positions = ints(s->positions, s->n_rows);
    RUN(fli_get_batch_indices_positions(s->m->ctx, &where, NULL));
    return true;
}

static bool forward(step *s)
{
    const model *m = s->m;
    const int64_t hidden = m->config.hidden;
    const fli_tensor x = rows(s, s->x, s->n_rows, hidden);
    const fli_tensor h = rows(s, s->h, s->n_rows, hidden);
    const fli_tensor last = rows(s, s->h, s->n_samples, hidden);
    const fli_tensor logits =
        fli_tensor_2d(s->logits, NULL, FLI_F32, s->n_samples, m->config.vocab);

    if (!plan(s))
        return false;
    gather(s, s->x, m->embedding, s->tokens, s->n_rows);
    for (int64_t i = 0; i < m->config.n_layers; i++) {
        const layer *w = &m->layers[i];

        RUN(norm_run(s, x, w->attention_norm, h));
        if (!attend(s, w, i, h) || !feed_forward(s, w, x, h))
            return false;
    }
    gather(s, s->h, s->x, s->sample_rows, s->n_samples);
    RUN(norm_run(s, last, m->norm, last));
    RUN(linear_run(s, &m->lm_head, last, logits, false));
    if (!s->options.logits)
        RUN(sample(s, logits));
    return true;
}

bool step_run(step *s, error *e)
{
    return forward(s) || fail(e, "%s", fli_last_error());
}

/* The next n elements of s->memory, which is measured while it is NULL. */
static void *carve(step *s, double n, size_t size)
{
    void *at = s->memory ? s->memory + (size_t)s->bytes : NULL;

    s->bytes += ceil(n * (double)size / 256) * 256;
    return at;
}

static void lay_out(step *s)
{
    const config *c = &s->m->config;
    const options *o = &s->options;
    const size_t element = fli_dtype_bytes(s->m->dtype);
    const double n = (double)(o->chunk + o->max_batch);
    const double samples = o->logits ? n : (double)o->max_batch;
    const double q = (double)(c->n_qo_heads * c->head_dim);
    const double kv = (double)(2 * c->n_kv_heads * c->head_dim);

    s->bytes = 0;
    s->tokens = carve(s, n, sizeof(int32_t));
    s->batch_indices = carve(s, n, sizeof(int32_t));
    s->positions = carve(s, n, sizeof(int32_t));
    s->sample_rows = carve(s, n, sizeof(int32_t));
    s->page_indices =
        carve(s, (double)(o->max_batch * o->n_pages), sizeof(int32_t));
    s->x = carve(s, n * (double)c->hidden, element);
    s->h = carve(s, n * (double)c->hidden, element);
    s->qkv = carve(s, n * (q + kv), element);
    s->heads = carve(s, n * q, element);
    s->gate_up = carve(s, n * 2 * (double)c->intermediate, element);
    s->mlp = carve(s, n * (double)c->intermediate, element);
    s->logits = carve(s, samples * (double)c->vocab, sizeof(float));
    s->workspace = carve(s, (double)fli_attention_workspace(s->attention), 1);
    s->kv = carve(s, kv * (double)(c->n_layers * o->n_pages * o->page_size),
                  element);
}

bool step_create(step *s, const model *m, const options *o, error *e)
{
    const config *c = &m->config;
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;

    *s = (step){ .m = m, .options = *o };
    desc.n_qo_heads = (int32_t)c->n_qo_heads;
    desc.n_kv_heads = (int32_t)c->n_kv_heads;
    desc.head_dim_qk = desc.head_dim_vo = (int32_t)c->head_dim;
    desc.dtype_q = m->dtype;
    desc.flags = o->invariant ? FLI_ATTENTION_BATCH_INVARIANT : 0;
    desc.masks = 1u << FLI_MASK_CAUSAL;
    desc.max_requests = (int32_t)o->max_batch;
    desc.max_rows = (int32_t)(o->chunk + o->max_batch);
    if (fli_attention_create(&s->attention, m->ctx, &desc))
        return fail(e, "%s", fli_last_error());
    lay_out(s);
    s->memory = s->bytes < 1e15 ? aligned_alloc(256, (size_t)s->bytes) : NULL;
    if (!s->memory) {
        fail(e, "no memory (%.0f MB) for %lld pages of %lld tokens",
             s->bytes / 1e6, (long long)o->n_pages, (long long)o->page_size);
        step_free(s);
        return false;
    }
    lay_out(s);
    return true;
}

void step_free(step *s)
{
    fli_attention_destroy(s->attention);
    free(s->memory);
    *s = (step){ 0 };
}
