/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of a Llama-family model, in the dialects of transformers 4 and 5:
 * rope_theta and rope_scaling, or rope_parameters; torch_dtype, or dtype. */
#include <stddef.h>
#include <string.h>

#include "engine.h"

#define AT(member) offsetof(config, member)

/* The bounds keep every product of two sizes far inside int64_t. */
static const field config_fields[] = {
    { "hidden_size", INTEGER, AT(hidden), 1, 1 << 24 },
    { "intermediate_size", INTEGER, AT(intermediate), 1, 1 << 24 },
    { "num_hidden_layers", INTEGER, AT(n_layers), 1, 1 << 12 },
    { "num_attention_heads", INTEGER, AT(n_qo_heads), 1, 1 << 12 },
    { "num_key_value_heads", INTEGER, AT(n_kv_heads), 0, 1 << 12 },
    { "head_dim", INTEGER, AT(head_dim), 0, 1 << 12 },
    { "vocab_size", INTEGER, AT(vocab), 1, 1 << 20 },
    { "max_position_embeddings", INTEGER, AT(max_positions), 1, 1 << 24 },
    { "sliding_window", INTEGER, AT(window), 0, 1 << 30 },
    { "use_sliding_window", FLAG, AT(use_window) },
    { "rms_norm_eps", NUMBER, AT(eps), 1e-30, 1 },
    { "hidden_act", TEXT, AT(activation) },
    { "torch_dtype", TEXT, AT(dtype_name) },
    { "dtype", TEXT, AT(dtype_name) },
    { "tie_word_embeddings", FLAG, AT(tied) },
    { "attention_bias", FLAG, AT(o_bias) },
    { "mlp_bias", FLAG, AT(mlp_bias) },
    { "bos_token_id", INTEGER, AT(bos), 0, 1 << 20 },
    { "eos_token_id", IDS, AT(eos), 0, 1 << 20 },
    { 0 },
};

/* These stand beside the sizes, or in rope_parameters. */
static const field rope_fields[] = {
    { "rope_theta", NUMBER, AT(theta), 1e-6, 1e12 },
    { "partial_rotary_factor", NUMBER, AT(partial), 1, 1 },
    { "type", TEXT, AT(rope_type) },
    { "rope_type", TEXT, AT(rope_type) },
    { 0 },
};

/* Linear scaling has the first one, Llama 3's has all. */
static const field scaling_fields[] = {
    { "low_freq_factor", NUMBER, AT(low_freq), 1e-6, 1e12 },
    { "high_freq_factor", NUMBER, AT(high_freq), 1e-6, 1e12 },
    { "original_max_position_embeddings", NUMBER, AT(old_context), 1, 1e12 },
    { "factor", NUMBER, AT(rope_scale), 1e-6, 1e12 },
    { 0 },
};

static bool read_rope(config *c, const cJSON *json, error *e)
{
    const cJSON *rope = json_get(json, "rope_parameters");

    c->rope_type = "default";
    rope = rope ? rope : json_get(json, "rope_scaling");
    if (!read_fields(rope_fields, c, json, e)
        || !read_fields(rope_fields, c, rope, e))
        return false;
    c->llama31 = !strcmp(c->rope_type, "llama3");
    if (!strcmp(c->rope_type, "default"))
        return true;
    if (!c->llama31 && strcmp(c->rope_type, "linear"))
        return fail(e, "rope_type is %.64s, expected default, linear or llama3",
                    c->rope_type);
    c->rope_scale = 0;
    if (!read_fields(scaling_fields + (c->llama31 ? 0 : 3), c, rope, e))
        return false;
    return !c->llama31 || c->low_freq < c->high_freq
           || fail(e, "low_freq_factor is %g, expected less than %g",
                   c->low_freq, c->high_freq);
}

static bool read_architecture(config *c, const cJSON *json, error *e)
{
    const cJSON *list = json_get(json, "architectures");
    const cJSON *item = cJSON_IsArray(list) ? list->child : NULL;
    const char *name = cJSON_IsString(item) ? item->valuestring : "missing";

    c->qkv_bias = !strcmp(name, "Qwen2ForCausalLM");
    c->use_window = !c->qkv_bias; /* the default, where it is not said */
    return c->qkv_bias || !strcmp(name, "LlamaForCausalLM")
           || !strcmp(name, "MistralForCausalLM")
           || fail(e,
                   "architectures is %.64s, expected LlamaForCausalLM, "
                   "MistralForCausalLM or Qwen2ForCausalLM",
                   name);
}

static bool check(config *c, const cJSON *json, error *e)
{
    static const char *const dtypes[] = {
        [FLI_F32] = "float32", [FLI_F16] = "float16", [FLI_BF16] = "bfloat16"
    };

    c->n_kv_heads = c->n_kv_heads ? c->n_kv_heads : c->n_qo_heads;
    c->head_dim = c->head_dim ? c->head_dim : c->hidden / c->n_qo_heads;
    c->window = c->use_window ? c->window : 0;
    c->qkv_bias |= c->o_bias;
    for (int32_t i = FLI_F32; i <= FLI_BF16; i++)
        c->dtype = strcmp(c->dtype_name, dtypes[i]) ? c->dtype : (fli_dtype)i;
    if (!c->dtype)
        return fail(e, "dtype is %.64s, expected bfloat16, float16 or float32",
                    c->dtype_name);
    if (c->n_qo_heads % c->n_kv_heads)
        return fail(e,
                    "num_attention_heads is %lld, expected a multiple of "
                    "num_key_value_heads (%lld)",
                    (long long)c->n_qo_heads, (long long)c->n_kv_heads);
    for (int32_t i = 0; i < c->eos.n; i++)
        if (c->eos.at[i] >= c->vocab)
            return fail(e, "eos_token_id is %d, expected less than vocab_size",
                        c->eos.at[i]);
    if (c->bos >= c->vocab)
        return fail(e, "bos_token_id is %lld, expected less than vocab_size",
                    (long long)c->bos);
    if (strcmp(c->activation, "silu"))
        return fail(e, "hidden_act is %.64s, expected silu", c->activation);
    if (c->window && json_get(json, "max_window_layers"))
        return fail(e, "max_window_layers is given with a sliding window, "
                       "expected one window for all layers");
    return !json_get(json, "quantization_config")
           || fail(e, "quantization_config is given, expected none");
}

bool config_read(config *c, const cJSON *json, error *e)
{
    *c = (config){
        .eps = 1e-6,
        .theta = 1e4,
        .rope_scale = 1,
        .partial = 1,
        .activation = "silu",
        .dtype_name = "float32",
    };
    const bool ok = read_architecture(c, json, e)
                    && read_fields(config_fields, c, json, e)
                    && check(c, json, e) && read_rope(c, json, e);

    c->activation = c->dtype_name = c->rope_type = NULL; /* they are json's */
    return ok;
}
