/* SPDX-License-Identifier: Apache-2.0 */
/* A model folder in the form that step.c wants: q, k and v as one matrix, gate
 * and up as another, every matrix packed for the context's kernels; norms and
 * embedding in the dtype of the activations. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum { MAX_NAME = 128, MAX_PARTS = 3 };

typedef struct loader {
    model *m;
    weights files;
    error *e;
} loader;

/* Tensors that are stacked: their names without the kind, and their rows. */
typedef struct parts {
    const char *name[MAX_PARTS];
    int64_t n[MAX_PARTS];
} parts;

static void *allocate(size_t bytes)
{
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

/* Makes memory the model's, to be freed with it; NULL is a failure. */
static bool keep(loader *l, void *memory)
{
    model *m = l->m;
    void **owned = realloc(m->owned, (size_t)(m->n_owned + 1) * sizeof(*owned));

    m->owned = owned ? owned : m->owned;
    if (owned && memory)
        return m->owned[m->n_owned++] = memory, true;
    free(memory);
    return fail(l->e, "out of memory");
}

/* The tensors of p one below the other: [sum of n, k], or [sum of n] where k is
 * 0, in fresh memory.  data is NULL on failure. */
static fli_tensor stack(loader *l, const parts *p, const char *kind, int64_t k)
{
    stored found[MAX_PARTS] = { 0 };
    char name[MAX_NAME];
    int64_t n = 0;
    size_t bytes = 0;
    char *data = NULL;

    for (int i = 0; i < MAX_PARTS && p->name[i]; i++) {
        snprintf(name, sizeof(name), "%s.%s", p->name[i], kind);
        if (!weights_find(&l->files, name, p->n[i], k, &found[i], l->e))
            return (fli_tensor){ 0 };
        if (found[i].dtype != found[0].dtype) {
            fail(l->e, "%s is %s, expected %s as %s", name,
                 fli_dtype_name(found[i].dtype), fli_dtype_name(found[0].dtype),
                 p->name[0]);
            return (fli_tensor){ 0 };
        }
        n += p->n[i];
        bytes += found[i].bytes;
    }
    data = allocate(bytes);
    if (!data)
        fail(l->e, "out of memory: %zu bytes of weights", bytes);
    bytes = 0;
    for (int i = 0; data && i < MAX_PARTS && p->name[i]; i++) {
        memcpy(data + bytes, found[i].data, found[i].bytes);
        bytes += found[i].bytes;
    }
    l->m->n_parameters += n * (k ? k : 1);
    return k ? fli_tensor_2d(data, NULL, found[0].dtype, n, k)
             : fli_tensor_1d(data, NULL, found[0].dtype, n);
}

static bool load_linear(loader *l, linear *out, const parts *p, int64_t k,
                        bool bias)
{
    fli_gemm_pack_args args = FLI_GEMM_PACK_ARGS_INIT;

    *out = (linear){ .k = k };
    if (bias) {
        out->bias = stack(l, p, "bias", 0);
        if (!out->bias.data || !keep(l, out->bias.data))
            return false;
    }
    args.b = stack(l, p, "weight", k);
    if (!args.b.data)
        return false;
    out->n = args.b.shape[0];
    const size_t bytes =
        fli_gemm_packed_bytes(l->m->ctx, args.b.dtype, out->n, k);

    out->packed = fli_tensor_1d(bytes ? allocate(bytes) : NULL, NULL, FLI_U8,
                                (int64_t)bytes);
    args.packed = out->packed;
    const bool ok = args.packed.data && !fli_gemm_pack(l->m->ctx, &args, NULL);

    free(args.b.data);
    if (ok)
        return keep(l, out->packed.data);
    free(out->packed.data);
    return fail(l->e, "%s: %s", p->name[0],
                bytes && !args.packed.data ? "out of memory"
                                           : fli_last_error());
}

/* A tensor in the dtype of the activations.  A cast is a product with 1. */
static bool load_cast(loader *l, fli_tensor *out, const char *name, int64_t n,
                      int64_t k)
{
    static const float one = 1;
    const parts p = { { name }, { n } };
    fli_gemm_args args = FLI_GEMM_ARGS_INIT;

    *out = stack(l, &p, "weight", k);
    if (!out->data || out->dtype == (int32_t)l->m->dtype)
        return out->data && keep(l, out->data);
    n *= k ? k : 1;
    args.a = fli_tensor_2d(&one, NULL, FLI_F32, 1, 1);
    args.b = fli_tensor_2d(out->data, NULL, out->dtype, n, 1);
    args.out = fli_tensor_2d(allocate((size_t)n * fli_dtype_bytes(l->m->dtype)),
                             NULL, l->m->dtype, 1, n);
    const bool ok = args.out.data && !fli_gemm(l->m->ctx, &args, NULL);

    free(out->data);
    out->data = args.out.data;
    out->dtype = l->m->dtype;
    return keep(l, out->data)
           && (ok || fail(l->e, "%s: %s", name, fli_last_error()));
}

static bool load_layer(loader *l, layer *out, int64_t index)
{
    static const char *const names[] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
        "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
        "mlp.down_proj",    "input_layernorm",  "post_attention_layernorm",
    };
    enum { Q, K, V, O, GATE, UP, DOWN, NORM, MLP_NORM, N };
    const config *c = &l->m->config;
    const int64_t hidden = c->hidden, inner = c->intermediate;
    const int64_t q = c->n_qo_heads * c->head_dim;
    const int64_t kv = c->n_kv_heads * c->head_dim;
    char name[N][MAX_NAME];

    for (int i = 0; i < N; i++)
        snprintf(name[i], sizeof(name[i]), "model.layers.%d.%s", (int)index,
                 names[i]);
    const parts qkv = { { name[Q], name[K], name[V] }, { q, kv, kv } };
    const parts o = { { name[O] }, { hidden } };
    const parts gate_up = { { name[GATE], name[UP] }, { inner, inner } };
    const parts down = { { name[DOWN] }, { hidden } };

    return load_cast(l, &out->attention_norm, name[NORM], hidden, 0)
           && load_linear(l, &out->qkv, &qkv, hidden, c->qkv_bias)
           && load_linear(l, &out->o, &o, q, c->o_bias)
           && load_cast(l, &out->mlp_norm, name[MLP_NORM], hidden, 0)
           && load_linear(l, &out->gate_up, &gate_up, hidden, c->mlp_bias)
           && load_linear(l, &out->down, &down, inner, c->mlp_bias);
}

static bool load(loader *l)
{
    static const char embedding[] = "model.embed_tokens";
    model *m = l->m;
    const config *c = &m->config;
    const parts head = { { c->tied ? embedding : "lm_head" }, { c->vocab } };
    fli_tensor table;

    m->layers = calloc((size_t)c->n_layers, sizeof(*m->layers));
    if (!keep(l, m->layers)
        || !load_cast(l, &table, embedding, c->vocab, c->hidden)
        || !load_cast(l, &m->norm, "model.norm", c->hidden, 0)
        || !load_linear(l, &m->lm_head, &head, c->hidden, false))
        return false;
    m->embedding = table.data;
    m->n_parameters -= c->tied ? c->vocab * c->hidden : 0;
    for (int64_t i = 0; i < c->n_layers; i++)
        if (!load_layer(l, &m->layers[i], i))
            return false;
    return true;
}

bool model_load(model *m, fli_context *ctx, const char *dir, fli_dtype dtype,
                error *e)
{
    loader l = { .m = m, .e = e };
    error reason;

    *m = (model){ .ctx = ctx };
    cJSON *json = weights_json(dir, "config.json", e);

    if (!json)
        return false;
    bool ok = config_read(&m->config, json, &reason);

    cJSON_Delete(json);
    if (!ok)
        return fail(e, "%.64s/config.json: %.400s", dir, reason.text);
    m->dtype = dtype ? dtype : m->config.dtype;
    ok = weights_open(&l.files, dir, e) && load(&l);
    weights_close(&l.files);
    if (!ok)
        model_free(m);
    return ok;
}

void model_free(model *m)
{
    for (int32_t i = 0; i < m->n_owned; i++)
        free(m->owned[i]);
    free(m->owned);
    *m = (model){ 0 };
}
