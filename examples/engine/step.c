/* SPDX-License-Identifier: Apache-2.0 */
/* One forward pass of a Llama over the rows of a step: any mix of pieces of
 * prompts and of single tokens, planned once, run layer by layer.  Calls of the
 * library return 0 on success; their sentence is in fli_last_error.
 *
 * On CUDA a step of single tokens is one graph, planned on the device.  There is
 * one for each power of two of rows, up to the most: a step is filled up with rows
 * that belong to no request. */
#include <string.h>

#include "engine.h"

static fli_tensor ints(const step *s, const int32_t *data, int64_t n)
{
    return fli_tensor_1d(data, s->m->ctx, FLI_I32, n);
}

static fli_tensor floats(const step *s, const float *data)
{
    return fli_tensor_1d(data, s->m->ctx, FLI_F32, s->n_samples);
}

/* Activations: width elements for each row of the step. */
static fli_tensor rows(const step *s, void *data, int64_t width)
{
    return fli_tensor_2d(data, s->m->ctx, s->m->dtype, s->n_rows, width);
}

static size_t row_bytes(const step *s)
{
    return (size_t)s->m->hidden * fli_dtype_bytes(s->m->dtype);
}

/* Of the page indices in the block of inputs, behind its rows: as far as a row
 * may be from the next alignment of an index. */
static size_t indices_at(const step *s)
{
    return ((size_t)s->n_rows * row_bytes(s) + 15) / 16 * 16;
}

/* The columns of qkv from `first` on, as n heads. */
static fli_tensor heads(const step *s, int64_t first, int64_t n)
{
    const model *m = s->m;
    char *data = s->qkv + (size_t)first * fli_dtype_bytes(m->dtype);
    fli_tensor t =
        fli_tensor_3d(data, m->ctx, m->dtype, s->n_rows, n, m->head_dim);

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
    fli_tensor k = fli_tensor_4d(data, m->ctx, m->dtype, n, size, m->n_kv_heads,
                                 m->head_dim);
    fli_tensor v = k;
    const void *indices = s->device_in->rows + indices_at(s);

    v.data = data + bytes;
    return fli_paged_kv(k, v,
                        ints(s, s->device_in->page_indptr, s->n_requests + 1),
                        ints(s, indices, s->max_indices));
}

/* args.out = args.a w, + args.out if args.add. */
static void multiply(const step *s, const linear *w, fli_gemm_args args)
{
    args.size = sizeof(args);
    args.b = w->b;
    args.packed = w->packed;
    args.bias = w->bias;
    args.flags = s->options.invariant ? FLI_GEMM_BATCH_INVARIANT : 0;
    must(fli_gemm(s->m->ctx, &args, s->m->stream));
}

static void normalise(const step *s, fli_tensor x, fli_tensor weight,
                      fli_tensor out)
{
    fli_rmsnorm_args args = FLI_RMSNORM_ARGS_INIT;

    args.x = x;
    args.weight = weight;
    args.out = out;
    args.eps = (float)s->m->eps;
    must(fli_rmsnorm(s->m->ctx, &args, s->m->stream));
}

static void rotate(const step *s, fli_tensor q, fli_tensor k)
{
    const model *m = s->m;
    fli_rope_args args = FLI_ROPE_ARGS_INIT;

    args.q = args.q_out = q;
    args.k = args.k_out = k;
    args.positions = ints(s, s->positions, s->n_rows);
    args.theta = (float)m->theta;
    args.scale = (float)m->rope_factor;
    args.llama31 = m->llama31;
    args.low_freq_factor = (float)m->low_freq;
    args.high_freq_factor = (float)m->high_freq;
    args.old_context_len = (float)m->old_context;
    must(fli_rope(m->ctx, &args, s->m->stream));
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
    append.batch_indices = ints(s, s->batch_indices, s->n_rows);
    append.positions = ints(s, s->positions, s->n_rows);
    append.cache = args.kv = layer_kv(s, index);
    args.q = heads(s, 0, m->n_qo_heads);
    args.out = fli_tensor_3d(s->heads, m->ctx, m->dtype, s->n_rows,
                             m->n_qo_heads, m->head_dim);
    args.mask = FLI_MASK_CAUSAL;
    multiply(s, &w->qkv, (fli_gemm_args){ .a = h, .out = qkv });
    rotate(s, args.q, append.k);
    must(fli_append(m->ctx, &append, m->stream));
    must(fli_attention_run(s->attention, &args, s->m->stream));
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
    must(fli_fused_add_rmsnorm(s->m->ctx, &norm, s->m->stream));
    multiply(s, &w->gate_up, (fli_gemm_args){ .a = h, .out = act.x });
    must(fli_silu_and_mul(s->m->ctx, &act, s->m->stream));
    multiply(s, &w->down, (fli_gemm_args){ .a = act.out, .out = x, .add = 1 });
}

/* The norm of the rows to sample from. */
static fli_tensor last_rows(const step *s, fli_tensor x)
{
    const model *m = s->m;
    const size_t bytes = row_bytes(s);
    const fli_tensor h =
        fli_tensor_2d(s->h, m->ctx, m->dtype, s->n_samples, m->hidden);

    if (s->n_samples < s->n_rows) {
        const char *from = x.data;

        for (size_t i = 0; i < (size_t)s->n_samples; i++)
            device_copy(s->h + i * bytes,
                        from + (size_t)s->sample_rows[i] * bytes, bytes);
        x = h;
    }
    normalise(s, x, m->norm, h);
    return h;
}

static void sample(const step *s, fli_tensor logits)
{
    const fli_context *ctx = s->m->ctx;
    const inputs *in = s->device_in;
    const int64_t n = s->n_samples;
    fli_sample_args args = FLI_SAMPLE_ARGS_INIT;

    args.x = logits;
    args.tokens = ints(s, s->device_out->tokens, n);
    args.valid = fli_tensor_1d(s->device_out->valid, ctx, FLI_BOOL, n);
    args.temperatures = floats(s, in->temperatures);
    args.top_ks = ints(s, in->top_ks, n);
    args.top_ps = floats(s, in->top_ps);
    args.min_ps = floats(s, in->min_ps);
    args.seeds = fli_tensor_1d(in->seeds, ctx, FLI_I64, n);
    args.offsets = fli_tensor_1d(in->offsets, ctx, FLI_I64, n);
    must(fli_sample_from_logits(s->m->ctx, &args, s->m->stream));
    device_copy(s->out, s->device_out, sizeof(*s->out));
}

static void plan(step *s)
{
    const double begin = now();
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;
    fli_attention_stats stats = FLI_ATTENTION_STATS_INIT;

    batch.n_requests = s->n_requests;
    batch.q_indptr = s->in->q_indptr;
    batch.kv_len = s->in->kv_len;
    batch.mask = FLI_MASK_CAUSAL;
    must(fli_attention_plan(s->attention, &batch, s->workspace,
                            fli_attention_workspace(s->attention),
                            s->m->stream));
    s->plan_seconds += now() - begin;
    must(fli_attention_get_stats(s->attention, &stats));
    s->imbalance += (double)stats.max_cost * stats.n_workers
                    / (double)(stats.total_cost ? stats.total_cost : 1);
    s->n_plans++;
}

static void plan_on_device(const step *s)
{
    fli_attention_device_batch batch = FLI_ATTENTION_DEVICE_BATCH_INIT;

    batch.n_requests = s->n_requests;
    batch.max_rows = s->n_rows;
    batch.q_indptr = ints(s, s->device_in->q_indptr, s->n_requests + 1);
    batch.kv_len = ints(s, s->device_in->kv_len, s->n_requests);
    batch.mask = FLI_MASK_CAUSAL;
    must(fli_attention_plan_device(s->attention, &batch, s->workspace,
                                   fli_attention_workspace(s->attention),
                                   s->m->stream));
}

/* Everything between the inputs and the outputs on the device. */
static void forward(const step *s)
{
    const model *m = s->m;
    const fli_tensor x = rows(s, s->device_in->rows, m->hidden);
    const fli_tensor h = rows(s, s->h, m->hidden);
    const fli_tensor logits = fli_tensor_2d(s->device_logits, m->ctx, FLI_F32,
                                            s->n_samples, m->vocab);
    fli_batch_indices_positions_args where =
        FLI_BATCH_INDICES_POSITIONS_ARGS_INIT;

    where.append_indptr = ints(s, s->device_in->q_indptr, s->n_requests + 1);
    where.seq_lens = ints(s, s->device_in->kv_len, s->n_requests);
    where.batch_indices = ints(s, s->batch_indices, s->n_rows);
    where.positions = ints(s, s->positions, s->n_rows);
    must(fli_get_batch_indices_positions(m->ctx, &where, m->stream));
    for (int64_t i = 0; i < m->n_layers; i++) {
        normalise(s, x, m->layers[i].attention_norm, h);
        attend(s, i, h);
        feed_forward(s, &m->layers[i], x, h);
    }
    multiply(s, &m->lm_head,
             (fli_gemm_args){ .a = last_rows(s, x), .out = logits });
    if (!s->options.logits)
        sample(s, logits);
    else
        device_copy(s->logits, s->device_logits,
                    (size_t)(s->n_samples * m->vocab) * sizeof(float));
}

/* Fills the block of inputs and sends it. */
static void send(const step *s)
{
    const size_t bytes = row_bytes(s);
    const int32_t n_indices = s->in->page_indptr[s->n_requests];
    const char *embedding = s->m->embedding.data;
    char *to = s->in->rows, *end = to + indices_at(s);

    for (int32_t i = 0; i < s->n_rows; i++, to += bytes)
        memcpy(to, embedding + (size_t)s->tokens[i] * bytes, bytes);
    memcpy(end, s->page_indices, (size_t)n_indices * sizeof(int32_t));
    end += (size_t)n_indices * sizeof(int32_t);
    device_copy(s->device_in, s->in, (size_t)(end - (char *)s->in));
}

/* Rows of graph i. */
static int32_t graph_rows(const step *s, int i)
{
    const int32_t most = (int32_t)s->options.max_batch;

    return 1 << i < most ? 1 << i : most;
}

/* Fills the step up to n rows with rows of no request. */
static void pad(step *s, int32_t n)
{
    inputs *in = s->in;

    for (int32_t i = s->n_requests; i < n; i++) {
        in->q_indptr[i + 1] = in->q_indptr[i];
        in->page_indptr[i + 1] = in->page_indptr[i];
        in->kv_len[i] = s->tokens[i] = 0;
    }
    s->n_requests = s->n_rows = s->n_samples = n;
}

void step_run(step *s)
{
    const bool decode = s->n_rows == s->n_requests && !s->options.logits;
    int graph = 0;

    if (decode && s->m->stream) {
        while (graph_rows(s, graph) < s->n_requests)
            graph++;
        pad(s, graph_rows(s, graph));
        send(s);
        graph_launch(s->graphs[graph]);
    } else {
        send(s);
        plan(s);
        forward(s);
    }
    device_wait();
}

/* A step of rows of no request: what it needs is compiled, which a capture may
 * not do. */
static void rehearse(step *s, int32_t n_requests, int32_t n_rows)
{
    s->n_requests = s->n_samples = n_requests;
    s->n_rows = n_rows;
    send(s);
    plan_on_device(s);
    forward(s);
    device_wait();
}

static void make_graphs(step *s)
{
    const int32_t most = (int32_t)s->options.max_batch;

    rehearse(s, most, (int32_t)s->options.chunk + most);
    for (int32_t i = 0, n = 0; n < most && !s->options.logits; i++) {
        n = graph_rows(s, i);
        rehearse(s, n, n);
        graph_begin();
        plan_on_device(s);
        forward(s);
        s->graphs[i] = graph_end();
    }
}

static void create_attention(step *s, int64_t max_rows)
{
    const model *m = s->m;
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;

    desc.n_qo_heads = (int32_t)m->n_qo_heads;
    desc.n_kv_heads = (int32_t)m->n_kv_heads;
    desc.head_dim_qk = desc.head_dim_vo = (int32_t)m->head_dim;
    desc.dtype_q = m->dtype;
    desc.flags = (s->options.invariant ? FLI_ATTENTION_BATCH_INVARIANT : 0)
                 | (m->stream ? FLI_ATTENTION_GRAPH : 0);
    desc.masks = 1u << FLI_MASK_CAUSAL;
    desc.max_requests = (int32_t)s->options.max_batch;
    desc.max_rows = (int32_t)max_rows;
    must(fli_attention_create(&s->attention, m->ctx, &desc));
    s->workspace =
        device_take(&s->memory, 1, fli_attention_workspace(s->attention));
}

void step_create(step *s, const model *m, const options *o)
{
    const int64_t n = o->chunk + o->max_batch;
    const int64_t n_logits = o->logits ? n : o->max_batch;
    const int64_t most = (m->max_positions + o->page_size - 1) / o->page_size;
    const size_t element = fli_dtype_bytes(m->dtype);
    void **memory = &s->memory;

    *s = (step){ .m = m, .options = *o };
    s->max_indices =
        (int32_t)(o->max_batch * (most < o->n_pages ? most : o->n_pages));
    s->page_indices = take(memory, s->max_indices, sizeof(int32_t));
    s->tokens = take(memory, n, sizeof(int32_t));
    s->sample_rows = take(memory, n, sizeof(int32_t));
    const size_t in_bytes = sizeof(inputs) + (size_t)n * row_bytes(s) + 16
                            + (size_t)s->max_indices * sizeof(int32_t);

    s->in = device_take_pinned(memory, in_bytes);
    s->out = device_take_pinned(memory, sizeof(outputs));
    s->device_in = device_take(memory, 1, in_bytes);
    s->device_out = device_take(memory, 1, sizeof(outputs));
    s->device_logits = device_take(memory, n_logits * m->vocab, sizeof(float));
    if (o->logits)
        s->logits = take(memory, n_logits * m->vocab, sizeof(float));
    s->batch_indices = device_take(memory, n, sizeof(int32_t));
    s->positions = device_take(memory, n, sizeof(int32_t));
    s->h = device_take(memory, n * m->hidden, element);
    s->qkv = device_take(memory, n * (m->q_width + 2 * m->kv_width), element);
    s->heads = device_take(memory, n * m->q_width, element);
    s->gate_up = device_take(memory, n * 2 * m->intermediate, element);
    s->mlp = device_take(memory, n * m->intermediate, element);
    s->kv = device_take(memory, m->n_layers * o->n_pages * o->page_size,
                        (size_t)(2 * m->kv_width) * element);
    create_attention(s, n);
    if (m->stream)
        make_graphs(s);
}

void step_free(step *s)
{
    fli_attention_destroy(s->attention);
    give_back(&s->memory);
    *s = (step){ 0 };
}
