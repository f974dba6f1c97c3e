/* SPDX-License-Identifier: Apache-2.0 */
/* One forward pass of a Llama over the rows of a step: any mix of pieces of
 * prompts and of single tokens, planned once, run layer by layer.  Calls of the
 * library return 0 on success; their sentence is in fli_last_error. */
#include <string.h>

#include "engine.h"

static fli_tensor ints(const int32_t *data, int64_t n)
{
    return fli_tensor_1d(data, NULL, FLI_I32, n);
}

static fli_tensor floats(const float *data, int64_t n)
{
    return fli_tensor_1d(data, NULL, FLI_F32, n);
}

/* Activations: width elements for each row of the step. */
static fli_tensor rows(const step *s, void *data, int64_t width)
{
    return fli_tensor_2d(data, NULL, s->m->dtype, s->n_rows, width);
}

/* The columns of qkv from `first` on, as n heads. */
static fli_tensor heads(const step *s, int64_t first, int64_t n)
{
    const model *m = s->m;
    char *data = s->qkv + (size_t)first * fli_dtype_bytes(m->dtype);
    fli_tensor t =
        fli_tensor_3d(data, NULL, m->dtype, s->n_rows, n, m->head_dim);

    t.stride[0] = m->q_width + 2 * m->kv_width;
    return t;
}

static fli_kv layer_kv(const step *s, int64_t index)
{
    const model *m = s->m;
    const int64_t n = s->options.n_pages, size = s->options.page_size;
    const size_t bytes =
        (size_t)(n * size * m->kv_width) * fli_dtype_bytes(m->dtype);
    char *data = s->kv + (size_t)(2 * index) * bytes;
    fli_tensor k = fli_tensor_4d(data, NULL, m->dtype, n, size, m->n_kv_heads,
                                 m->head_dim);
    fli_tensor v = k;

    v.data = data + bytes;
    return fli_paged_kv(k, v, ints(s->page_indptr, s->n_requests + 1),
                        ints(s->page_indices, s->page_indptr[s->n_requests]));
}

/* args.out = args.a w, + args.out if args.add. */
static void multiply(const step *s, const linear *w, fli_gemm_args args)
{
    args.size = sizeof(args);
    args.packed = w->packed;
    args.bias = w->bias;
    args.flags = s->options.invariant ? FLI_GEMM_BATCH_INVARIANT : 0;
    must(fli_gemm(s->m->ctx, &args, NULL));
}

static void normalise(const step *s, fli_tensor x, fli_tensor weight,
                      fli_tensor out)
{
    fli_rmsnorm_args args = FLI_RMSNORM_ARGS_INIT;

    args.x = x;
    args.weight = weight;
    args.out = out;
    args.eps = (float)s->m->eps;
    must(fli_rmsnorm(s->m->ctx, &args, NULL));
}

static void rotate(const step *s, fli_tensor q, fli_tensor k)
{
    const model *m = s->m;
    fli_rope_args args = FLI_ROPE_ARGS_INIT;

    args.q = args.q_out = q;
    args.k = args.k_out = k;
    args.positions = ints(s->positions, s->n_rows);
    args.theta = (float)m->theta;
    args.scale = (float)m->rope_factor;
    args.llama31 = m->llama31;
    args.low_freq_factor = (float)m->low_freq;
    args.high_freq_factor = (float)m->high_freq;
    args.old_context_len = (float)m->old_context;
    must(fli_rope(m->ctx, &args, NULL));
}

/* h = attention of the rows h over the cache, which they join. */
static void attend(const step *s, int64_t index, fli_tensor h)
{
    const model *m = s->m;
    const layer *w = &m->layers[index];
    const fli_tensor qkv = rows(s, s->qkv, m->q_width + 2 * m->kv_width);
    const fli_tensor out = rows(s, s->heads, m->q_width);
    fli_append_args append = FLI_APPEND_ARGS_INIT;
    fli_attention_args args = FLI_ATTENTION_ARGS_INIT;

    append.k = heads(s, m->q_width, m->n_kv_heads);
    append.v = heads(s, m->q_width + m->kv_width, m->n_kv_heads);
    append.batch_indices = ints(s->batch_indices, s->n_rows);
    append.positions = ints(s->positions, s->n_rows);
    append.cache = args.kv = layer_kv(s, index);
    args.q = heads(s, 0, m->n_qo_heads);
    args.out = fli_tensor_3d(s->heads, NULL, m->dtype, s->n_rows, m->n_qo_heads,
                             m->head_dim);
    args.mask = FLI_MASK_CAUSAL;
    multiply(s, &w->qkv, (fli_gemm_args){ .a = h, .out = qkv });
    rotate(s, args.q, append.k);
    must(fli_append(m->ctx, &append, NULL));
    must(fli_attention_run(s->attention, &args, NULL));
    multiply(s, &w->o, (fli_gemm_args){ .a = out, .out = h });
}

/* x += mlp(norm(x + h)), where h is what attention gave. */
static void feed_forward(const step *s, const layer *w, fli_tensor x,
                         fli_tensor h)
{
    fli_fused_add_rmsnorm_args norm = FLI_FUSED_ADD_RMSNORM_ARGS_INIT;
    fli_act_and_mul_args act = FLI_ACT_AND_MUL_ARGS_INIT;

    norm.x = h;
    norm.residual = x;
    norm.weight = w->mlp_norm;
    norm.eps = (float)s->m->eps;
    act.x = rows(s, s->gate_up, 2 * s->m->intermediate);
    act.out = rows(s, s->mlp, s->m->intermediate);
    must(fli_fused_add_rmsnorm(s->m->ctx, &norm, NULL));
    multiply(s, &w->gate_up, (fli_gemm_args){ .a = h, .out = act.x });
    must(fli_silu_and_mul(s->m->ctx, &act, NULL));
    multiply(s, &w->down, (fli_gemm_args){ .a = act.out, .out = x, .add = 1 });
}

/* to[i] = from[index[i]], for the rows of to. */
static void gather(fli_tensor to, const char *from, const int32_t *index)
{
    const size_t bytes = (size_t)to.shape[1] * fli_dtype_bytes(to.dtype);

    for (int64_t i = 0; i < to.shape[0]; i++)
        memcpy((char *)to.data + (size_t)i * bytes,
               from + (size_t)index[i] * bytes, bytes);
}

static void sample(const step *s, fli_tensor logits)
{
    const int64_t n = s->n_samples;
    fli_sample_args args = FLI_SAMPLE_ARGS_INIT;

    args.x = logits;
    args.tokens = ints(s->sampled, n);
    args.valid = fli_tensor_1d(s->valid, NULL, FLI_BOOL, n);
    args.temperatures = floats(s->temperatures, n);
    args.top_ks = ints(s->top_ks, n);
    args.top_ps = floats(s->top_ps, n);
    args.min_ps = floats(s->min_ps, n);
    args.seeds = fli_tensor_1d(s->seeds, NULL, FLI_I64, n);
    args.offsets = fli_tensor_1d(s->offsets, NULL, FLI_I64, n);
    must(fli_sample_from_logits(s->m->ctx, &args, NULL));
}

static void plan(step *s)
{
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;
    fli_attention_stats stats = FLI_ATTENTION_STATS_INIT;
    fli_batch_indices_positions_args where =
        FLI_BATCH_INDICES_POSITIONS_ARGS_INIT;

    batch.n_requests = s->n_requests;
    batch.q_indptr = s->q_indptr;
    batch.kv_len = s->kv_len;
    batch.mask = FLI_MASK_CAUSAL;
    must(fli_attention_plan(s->attention, &batch, s->workspace,
                            fli_attention_workspace(s->attention), NULL));
    must(fli_attention_get_stats(s->attention, &stats));
    s->imbalance = (double)stats.max_cost * stats.n_workers
                   / (double)(stats.total_cost ? stats.total_cost : 1);
    where.append_indptr = ints(s->q_indptr, s->n_requests + 1);
    where.seq_lens = ints(s->kv_len, s->n_requests);
    where.batch_indices = ints(s->batch_indices, s->n_rows);
    where.positions = ints(s->positions, s->n_rows);
    must(fli_get_batch_indices_positions(s->m->ctx, &where, NULL));
}

void step_run(step *s)
{
    const model *m = s->m;
    const fli_tensor x = rows(s, s->x, m->hidden), h = rows(s, s->h, m->hidden);
    const fli_tensor last = /* the rows to sample from */
        fli_tensor_2d(s->h, NULL, m->dtype, s->n_samples, m->hidden);
    const fli_tensor logits =
        fli_tensor_2d(s->logits, NULL, FLI_F32, s->n_samples, m->vocab);

    plan(s);
    gather(x, m->embedding.data, s->tokens);
    for (int64_t i = 0; i < m->n_layers; i++) {
        normalise(s, x, m->layers[i].attention_norm, h);
        attend(s, i, h);
        feed_forward(s, &m->layers[i], x, h);
    }
    gather(last, s->x, s->sample_rows);
    normalise(s, last, m->norm, last);
    multiply(s, &m->lm_head, (fli_gemm_args){ .a = last, .out = logits });
    if (!s->options.logits)
        sample(s, logits);
}

void step_create(step *s, const model *m, const options *o)
{
    const int64_t n = o->chunk + o->max_batch;
    const size_t element = fli_dtype_bytes(m->dtype);
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;
    void **memory = &s->memory;

    *s = (step){ .m = m, .options = *o };
    desc.n_qo_heads = (int32_t)m->n_qo_heads;
    desc.n_kv_heads = (int32_t)m->n_kv_heads;
    desc.head_dim_qk = desc.head_dim_vo = (int32_t)m->head_dim;
    desc.dtype_q = m->dtype;
    desc.flags = o->invariant ? FLI_ATTENTION_BATCH_INVARIANT : 0;
    desc.masks = 1u << FLI_MASK_CAUSAL;
    desc.max_requests = (int32_t)o->max_batch;
    desc.max_rows = (int32_t)n;
    must(fli_attention_create(&s->attention, m->ctx, &desc));
    s->workspace = take(memory, 1, fli_attention_workspace(s->attention));
    s->tokens = take(memory, n, sizeof(int32_t));
    s->batch_indices = take(memory, n, sizeof(int32_t));
    s->positions = take(memory, n, sizeof(int32_t));
    s->sample_rows = take(memory, n, sizeof(int32_t));
    s->page_indices = take(memory, o->max_batch * o->n_pages, sizeof(int32_t));
    s->x = take(memory, n * m->hidden, element);
    s->h = take(memory, n * m->hidden, element);
    s->qkv = take(memory, n * (m->q_width + 2 * m->kv_width), element);
    s->heads = take(memory, n * m->q_width, element);
    s->gate_up = take(memory, n * 2 * m->intermediate, element);
    s->mlp = take(memory, n * m->intermediate, element);
    s->logits =
        take(memory, (o->logits ? n : o->max_batch) * m->vocab, sizeof(float));
    s->kv = take(memory, m->n_layers * o->n_pages * o->page_size,
                 (size_t)(2 * m->kv_width) * element);
}

void step_free(step *s)
{
    fli_attention_destroy(s->attention);
    give_back(&s->memory);
    *s = (step){ 0 };
}
