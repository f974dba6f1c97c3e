/* SPDX-License-Identifier: Apache-2.0 */
/* A Hugging Face folder in the form that step.c wants.  config.json is read in
 * the dialects of transformers 4 and 5: rope_theta and rope_scaling, or
 * rope_parameters; torch_dtype, or dtype.  All weights are cast to the dtype of
 * the activations; q, k and v become one matrix, gate and up another.  On CUDA the
 * weights go to the device, on the CPU every matrix is packed for its kernels. */
#include <string.h>

#include "engine.h"

/* They keep every product of two sizes far inside int64_t. */
static const range size = { 1, 1 << 24 }, count = { 1, 1 << 12 };
static const range positive = { 1e-30, 1e12 }, one = { 1, 1 };

static void read_sizes(model *m, const cJSON *json)
{
    m->hidden = get_integer(json, "hidden_size", size, 0);
    m->intermediate = get_integer(json, "intermediate_size", size, 0);
    m->vocab = get_integer(json, "vocab_size", size, 0);
    m->max_positions = get_integer(json, "max_position_embeddings", size, 0);
    m->n_layers = get_integer(json, "num_hidden_layers", count, 0);
    m->n_qo_heads = get_integer(json, "num_attention_heads", count, 0);
    m->n_kv_heads =
        get_integer(json, "num_key_value_heads", count, m->n_qo_heads);
    m->head_dim =
        get_integer(json, "head_dim", count, m->hidden / m->n_qo_heads);
    m->q_width = m->n_qo_heads * m->head_dim;
    m->kv_width = m->n_kv_heads * m->head_dim;
    if (m->n_qo_heads % m->n_kv_heads)
        note("num_attention_heads is %lld, expected a multiple of "
             "num_key_value_heads (%lld)",
             (long long)m->n_qo_heads, (long long)m->n_kv_heads);
    m->bos = get_integer(json, "bos_token_id",
                         (range){ 0, (double)m->vocab - 1 }, 0);
    m->eos = get_ids(json, "eos_token_id", m->vocab);
    m->eps = get_number(json, "rms_norm_eps", positive, 1e-6);
    m->tied = get_flag(json, "tie_word_embeddings", false);
    m->mlp_bias = get_flag(json, "mlp_bias", false);
    m->o_bias = get_flag(json, "attention_bias", false);
    m->qkv_bias |= m->o_bias;
}

static void read_rope(model *m, const cJSON *json)
{
    const cJSON *rope = json_get(json, "rope_parameters");

    rope = rope ? rope : json_get(json, "rope_scaling");
    const char *type =
        get_text(rope, "rope_type", get_text(rope, "type", "default"));

    m->theta = get_number(json, "rope_theta", positive, 1e4);
    m->theta = get_number(rope, "rope_theta", positive, m->theta);
    get_number(json, "partial_rotary_factor", one, 1);
    get_number(rope, "partial_rotary_factor", one, 1);
    m->llama31 = !strcmp(type, "llama3");
    if (!m->llama31 && strcmp(type, "default"))
        note("rope_type is %.64s, expected default or llama3", type);
    if (!m->llama31)
        return;
    m->rope_factor = get_number(rope, "factor", positive, 0);
    m->low_freq = get_number(rope, "low_freq_factor", positive, 0);
    m->high_freq = get_number(rope, "high_freq_factor", positive, 0);
    m->old_context =
        get_number(rope, "original_max_position_embeddings", positive, 0);
    if (m->low_freq >= m->high_freq)
        note("low_freq_factor is %g, expected less than high_freq_factor (%g)",
             m->low_freq, m->high_freq);
}

/* Refuses what step.c would not compute. */
static void read_config(model *m, const cJSON *json)
{
    const cJSON *list = json_get(json, "architectures");
    const cJSON *item = cJSON_IsArray(list) ? list->child : NULL;
    const char *name = cJSON_IsString(item) ? item->valuestring : "missing";
    const char *activation = get_text(json, "hidden_act", "silu");
    const char *dtype =
        get_text(json, "dtype", get_text(json, "torch_dtype", "float32"));

    m->qkv_bias = !strcmp(name, "Qwen2ForCausalLM");
    if (!m->qkv_bias && strcmp(name, "LlamaForCausalLM"))
        note("architectures is %.64s, expected LlamaForCausalLM or "
             "Qwen2ForCausalLM",
             name);
    if (strcmp(activation, "silu"))
        note("hidden_act is %.64s, expected silu", activation);
    if (get_flag(json, "use_sliding_window", false))
        note("use_sliding_window is true, expected false");
    if (json_get(json, "quantization_config"))
        note("quantization_config is given, expected none");
    if (!dtype_named(dtype))
        note("dtype is %.64s, expected bfloat16, float16 or float32", dtype);
    m->dtype = m->dtype ? m->dtype : dtype_named(dtype);
    read_sizes(m, json);
    read_rope(m, json);
}

enum { MAX_PARTS = 3 };

typedef void *taker(void **memory, int64_t n, size_t size);

/* Matrices of k columns, or vectors where k is 0, that are stacked. */
typedef struct parts {
    int64_t k;
    const char *name[MAX_PARTS];
    int64_t n[MAX_PARTS];
    const char *kind; /* NULL: weight */
} parts;

/* out[] = t[], in the dtype of the model: the product with 1. */
static void cast(model *m, fli_tensor t, void *out)
{
    static const float identity = 1;
    const int64_t n = t.shape[0] * t.shape[1];
    const size_t bytes = (size_t)n * fli_dtype_bytes(t.dtype);
    const size_t element = fli_dtype_bytes(m->dtype);
    void *scratch = NULL;
    fli_gemm_args args = FLI_GEMM_ARGS_INIT;

    if (t.dtype != (int32_t)m->dtype) {
        args.a = fli_tensor_2d(&identity, NULL, FLI_F32, 1, 1);
        args.b = fli_tensor_2d(take(&scratch, 1, bytes), NULL,
                               (fli_dtype)t.dtype, n, 1);
        args.out =
            fli_tensor_2d(take(&scratch, n, element), NULL, m->dtype, 1, n);
        memcpy(args.b.data, t.data, bytes); /* which is aligned to nothing */
        must(fli_gemm(m->host, &args, NULL));
        t.data = args.out.data;
    }
    device_copy(out, t.data, (size_t)n * element);
    device_wait();
    give_back(&scratch);
}

/* The tensors of p one below the other: [sum of n, k], or [sum of n], in memory
 * of m that `give` gives. */
static fli_tensor stack(model *m, const parts *p, void **memory, taker *give)
{
    const fli_context *where = give == take ? NULL : m->ctx;
    const int64_t k = p->k ? p->k : 1;
    const size_t row = (size_t)k * fli_dtype_bytes(m->dtype);
    fli_tensor found[MAX_PARTS];
    char name[160];
    int64_t n = 0;

    for (int i = 0; i < MAX_PARTS && p->n[i]; n += p->n[i++]) {
        found[i] = fli_tensor_2d(NULL, NULL, FLI_F32, p->n[i], k);
        found[i].ndim = p->k ? 2 : 1;
        snprintf(name, sizeof(name), "%s%s.%s", m->prefix, p->name[i],
                 p->kind ? p->kind : "weight");
        weights_find(&m->files, name, &found[i]);
    }
    char *data = give(memory, n, row), *to = data;

    for (int i = 0; i < MAX_PARTS && p->n[i]; to += (size_t)p->n[i++] * row)
        cast(m, found[i], to);
    m->n_parameters += n * k;
    return p->k ? fli_tensor_2d(data, where, m->dtype, n, k)
                : fli_tensor_1d(data, where, m->dtype, n);
}

static fli_tensor pack(model *m, fli_tensor b)
{
    const size_t bytes =
        fli_gemm_packed_bytes(m->ctx, b.dtype, b.shape[0], b.shape[1]);
    fli_gemm_pack_args args = FLI_GEMM_PACK_ARGS_INIT;

    args.b = b;
    args.packed =
        fli_tensor_1d(take(&m->memory, 1, bytes), NULL, FLI_U8, (int64_t)bytes);
    must(fli_gemm_pack(m->ctx, &args, NULL));
    return args.packed;
}

static linear load_linear(model *m, const parts *p, bool bias)
{
    void *scratch = NULL;
    linear out = { 0 };
    parts vectors = *p;

    vectors.k = 0;
    vectors.kind = "bias";
    if (bias)
        out.bias = stack(m, &vectors, &m->memory, device_take);
    out.b = stack(m, p, &scratch, device_take);
    if (m->stream)
        return out;
    out.packed = pack(m, out.b);
    out.b = (fli_tensor){ 0 };
    give_back(&scratch);
    return out;
}

static void load_layer(model *m, layer *out)
{
    const int64_t hidden = m->hidden, inner = m->intermediate;
    const int64_t q = m->q_width, kv = m->kv_width;
    const parts norm = { 0, { "input_layernorm" }, { hidden } };
    const parts qkv = { hidden,
                        { "self_attn.q_proj", "self_attn.k_proj",
                          "self_attn.v_proj" },
                        { q, kv, kv } };
    const parts o = { q, { "self_attn.o_proj" }, { hidden } };
    const parts mlp_norm = { 0, { "post_attention_layernorm" }, { hidden } };
    const parts gate_up = { hidden,
                            { "mlp.gate_proj", "mlp.up_proj" },
                            { inner, inner } };
    const parts down = { inner, { "mlp.down_proj" }, { hidden } };

    out->attention_norm = stack(m, &norm, &m->memory, device_take);
    out->qkv = load_linear(m, &qkv, m->qkv_bias);
    out->o = load_linear(m, &o, m->o_bias);
    out->mlp_norm = stack(m, &mlp_norm, &m->memory, device_take);
    out->gate_up = load_linear(m, &gate_up, m->mlp_bias);
    out->down = load_linear(m, &down, m->mlp_bias);
}

void model_load(model *m, fli_context *ctx, const char *dir, fli_dtype dtype)
{
    *m = (model){ .ctx = ctx, .dtype = dtype };
    m->json = weights_json(dir, "config.json");
    read_config(m, m->json);
    if (*failure)
        die("%.64s/config.json: %s", dir, failure);
    const int64_t hidden = m->hidden, vocab = m->vocab;
    const parts embedding = { hidden, { "model.embed_tokens" }, { vocab } };
    const parts norm = { 0, { "model.norm" }, { hidden } };
    const parts head = { hidden, { "lm_head" }, { vocab } };

    m->stream = device_open(ctx);
    m->host = ctx;
    if (m->stream)
        must(fli_context_create(&m->host, fli_cpu(), NULL));
    weights_open(&m->files, dir);
    m->embedding = stack(m, &embedding, &m->memory, take);
    m->norm = stack(m, &norm, &m->memory, device_take);
    m->lm_head = load_linear(m, m->tied ? &embedding : &head, false);
    m->n_parameters -= m->tied ? vocab * hidden : 0;
    m->layers = take(&m->memory, m->n_layers, sizeof(*m->layers));
    for (int i = 0; i < m->n_layers; i++) {
        snprintf(m->prefix, sizeof(m->prefix), "model.layers.%d.", i);
        load_layer(m, &m->layers[i]);
    }
    weights_close(&m->files);
    if (m->stream)
        fli_context_destroy(m->host);
}

void model_free(model *m)
{
    weights_close(&m->files);
    cJSON_Delete(m->json);
    give_back(&m->memory);
}
