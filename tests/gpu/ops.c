/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"

#include "gpu_unit.h"

/* --- memory ----------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 16;
}

static double uniform(uint64_t *state)
{
    return (double)(next_random(state) & 0xffffff) / 16777216;
}

static double normal(uint64_t *state)
{
    double sum = -6;

    for (int i = 0; i < 12; i++)
        sum += uniform(state);
    return sum;
}

static void set_float(void *data, int32_t dtype, int64_t i, float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    if (dtype == FLI_F32)
        ((float *)data)[i] = x;
    else /* bf16, truncated */
        ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
}

static void set_int(void *data, int32_t dtype, int64_t i, int64_t x)
{
    if (dtype == FLI_I64)
        ((int64_t *)data)[i] = x;
    else if (dtype == FLI_I32)
        ((int32_t *)data)[i] = (int32_t)x;
    else
        ((uint8_t *)data)[i] = (uint8_t)x;
}

static void shuffle(int32_t *data, int64_t n, uint64_t *state)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t j = (int64_t)(next_random(state) % (uint64_t)(i + 1));

        data[i] = data[j];
        data[j] = (int32_t)i;
    }
}

static size_t bytes_of(const ops_block *b)
{
    return (size_t)b->n * fli_dtype_bytes(b->dtype);
}

static void fill_block(const ops_block *b, uint64_t *state)
{
    const size_t bytes = bytes_of(b);
    void *const host = xalloc(bytes);

    memset(host, 0xe5, bytes);
    if (b->fill == OPS_FIXED)
        memcpy(host, b->fixed, bytes);
    if (b->fill == OPS_SHUFFLED)
        shuffle(host, b->n, state);
    for (int64_t i = 0; i < b->n; i++)
        if (b->fill == OPS_NORMAL)
            set_float(host, b->dtype, i, (float)normal(state));
        else if (b->fill == OPS_UNIFORM)
            set_float(host, b->dtype, i, (float)uniform(state));
        else if (b->fill == OPS_RANGE)
            set_int(host, b->dtype, i,
                    b->low
                        + (int64_t)(next_random(state)
                                    % (uint64_t)(b->high - b->low)));
    gpu_send(b->device, host, bytes);
    free(host);
}

void ops_fill(const ops_case *c, uint64_t seed)
{
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

    for (int i = 0; i < c->n_blocks; i++)
        fill_block(&c->blocks[i], &state);
}

char *ops_read(const ops_case *c)
{
    char *const out = xalloc(c->out_bytes);
    size_t at = 0;

    for (int i = 0; i < c->n_blocks; i++)
        if (c->blocks[i].is_out) {
            gpu_receive(out + at, c->blocks[i].device, bytes_of(&c->blocks[i]));
            at += bytes_of(&c->blocks[i]);
        }
    return out;
}

static void *add(ops_case *c, ops_block block)
{
    ops_block *const b = &c->blocks[c->n_blocks++];

    assert_true(c->n_blocks <= OPS_MAX_BLOCKS);
    *b = block;
    b->is_out |= b->fill == OPS_POISON;
    b->device = gpu_alloc(bytes_of(b));
    if (b->is_out)
        c->out_bytes += bytes_of(b);
    return b->device;
}

static void *normals(ops_case *c, int32_t dtype, int64_t n)
{
    return add(c, (ops_block){ .fill = OPS_NORMAL, .dtype = dtype, .n = n });
}

static void *out(ops_case *c, int32_t dtype, int64_t n)
{
    return add(c, (ops_block){ .fill = OPS_POISON, .dtype = dtype, .n = n });
}

/* Read and written. */
static void *inout(ops_case *c, int32_t dtype, int64_t n)
{
    return add(
        c,
        (ops_block){ .fill = OPS_NORMAL, .dtype = dtype, .n = n, .is_out = 1 });
}

static fli_tensor floats(ops_case *c, ops_fill_kind fill, int64_t n)
{
    return fli_tensor_1d(
        add(c, (ops_block){ .fill = fill, .dtype = FLI_F32, .n = n }), c->ctx,
        FLI_F32, n);
}

static fli_tensor range(ops_case *c, fli_dtype dtype, int64_t n, int64_t low,
                        int64_t high)
{
    return fli_tensor_1d(add(c, (ops_block){ .fill = OPS_RANGE,
                                             .dtype = (int32_t)dtype,
                                             .n = n,
                                             .low = low,
                                             .high = high }),
                         c->ctx, dtype, n);
}

static fli_tensor fixed(ops_case *c, const int32_t *values, int64_t n)
{
    return fli_tensor_1d(add(c, (ops_block){ .fill = OPS_FIXED,
                                             .dtype = FLI_I32,
                                             .n = n,
                                             .fixed = values }),
                         c->ctx, FLI_I32, n);
}

static fli_tensor out_1d(ops_case *c, fli_dtype dtype, int64_t n)
{
    return fli_tensor_1d(out(c, (int32_t)dtype, n), c->ctx, dtype, n);
}

/* --- attention and pages ---------------------------------------------------- */

enum { HEADS = 8, KV_HEADS = 2, DIM = 128, PAGE = 16 };

/* Decode and prefill; the long ones are cut and merged. */
enum { REQUESTS = 5, ROWS = 1 + 1 + 40 + 0 + 130, PAGES = 190 + 2 + 5 + 1 + 9 };

static const int32_t q_indptr[] = { 0, 1, 2, 42, 42, 172 };
static const int32_t kv_len[] = { 3031, 17, 70, 9, 130 };
static const int32_t page_indptr[] = { 0, 190, 192, 197, 198, 207 };

static fli_kv cache_of(ops_case *c, fli_dtype dtype, int is_out)
{
    const int64_t n = (int64_t)PAGES * PAGE * KV_HEADS * DIM;
    void *const k =
        is_out ? inout(c, (int32_t)dtype, n) : normals(c, (int32_t)dtype, n);
    void *const v =
        is_out ? inout(c, (int32_t)dtype, n) : normals(c, (int32_t)dtype, n);
    void *const ids = add(
        c, (ops_block){ .fill = OPS_SHUFFLED, .dtype = FLI_I32, .n = PAGES });

    return fli_paged_kv(
        fli_tensor_4d(k, c->ctx, dtype, PAGES, PAGE, KV_HEADS, DIM),
        fli_tensor_4d(v, c->ctx, dtype, PAGES, PAGE, KV_HEADS, DIM),
        fixed(c, page_indptr, REQUESTS + 1),
        fli_tensor_1d(ids, c->ctx, FLI_I32, PAGES));
}

static fli_attention_desc attention_desc(int32_t dtype)
{
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;

    desc.n_qo_heads = HEADS;
    desc.n_kv_heads = KV_HEADS;
    desc.head_dim_qk = desc.head_dim_vo = DIM;
    desc.dtype_q = dtype;
    desc.max_requests = REQUESTS;
    desc.max_rows = ROWS;
    return desc;
}

static void make_attention_of(ops_case *c, fli_dtype dtype)
{
    const fli_attention_desc desc = attention_desc((int32_t)dtype);
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;
    fli_attention_args *const a = &c->args.attention;
    const int64_t n = (int64_t)ROWS * HEADS * DIM;

    assert_ok(fli_attention_create(&c->attention, c->ctx, &desc));
    const size_t bytes = fli_attention_workspace(c->attention);

    c->workspace = gpu_alloc(bytes);
    batch.n_requests = REQUESTS;
    batch.q_indptr = q_indptr;
    batch.kv_len = kv_len;
    batch.mask = FLI_MASK_CAUSAL;
    assert_ok(fli_attention_plan(c->attention, &batch, c->workspace, bytes,
                                 c->stream));
    *a = (fli_attention_args)FLI_ATTENTION_ARGS_INIT;
    a->q = fli_tensor_3d(normals(c, (int32_t)dtype, n), c->ctx, dtype, ROWS,
                         HEADS, DIM);
    a->kv = cache_of(c, dtype, 0);
    a->out = fli_tensor_3d(out(c, (int32_t)dtype, n), c->ctx, dtype, ROWS,
                           HEADS, DIM);
    a->lse = fli_tensor_2d(out(c, FLI_F32, (int64_t)ROWS * HEADS), c->ctx,
                           FLI_F32, ROWS, HEADS);
    a->mask = FLI_MASK_CAUSAL;
}

static void make_attention(ops_case *c)
{
    make_attention_of(c, FLI_BF16);
}

static void make_attention_f32(ops_case *c)
{
    make_attention_of(c, FLI_F32);
}

static fli_status call_attention(const ops_case *c, fli_stream stream)
{
    return fli_attention_run(c->attention, &c->args.attention, stream);
}

static fli_status prepare_attention(const ops_case *c)
{
    (void)c; /* create did */
    return FLI_OK;
}

static void make_merge(ops_case *c)
{
    enum { N = 33, STATES = 5, M_HEADS = 4, M_DIM = 64 };
    fli_merge_states_args *const a = &c->args.merge;

    *a = (fli_merge_states_args)FLI_MERGE_STATES_ARGS_INIT;
    a->v = fli_tensor_4d(
        normals(c, FLI_BF16, (int64_t)N * STATES * M_HEADS * M_DIM), c->ctx,
        FLI_BF16, N, STATES, M_HEADS, M_DIM);
    a->lse = fli_tensor_3d(normals(c, FLI_F32, (int64_t)N * STATES * M_HEADS),
                           c->ctx, FLI_F32, N, STATES, M_HEADS);
    a->v_out = fli_tensor_3d(out(c, FLI_BF16, (int64_t)N * M_HEADS * M_DIM),
                             c->ctx, FLI_BF16, N, M_HEADS, M_DIM);
    a->lse_out = fli_tensor_2d(out(c, FLI_F32, (int64_t)N * M_HEADS), c->ctx,
                               FLI_F32, N, M_HEADS);
}

static void make_append(ops_case *c)
{
    enum { N = 7 };
    static const int32_t requests[N] = { 0, 0, 2, -1, 4, 2, 1 };
    static const int32_t positions[N] = { 3000, 3001, 69, 5, 0, 13, 17 };
    fli_append_args *const a = &c->args.append;
    const int64_t n = (int64_t)N * KV_HEADS * DIM;

    *a = (fli_append_args)FLI_APPEND_ARGS_INIT;
    a->k = fli_tensor_3d(normals(c, FLI_BF16, n), c->ctx, FLI_BF16, N, KV_HEADS,
                         DIM);
    a->v = fli_tensor_3d(normals(c, FLI_BF16, n), c->ctx, FLI_BF16, N, KV_HEADS,
                         DIM);
    a->batch_indices = fixed(c, requests, N);
    a->positions = fixed(c, positions, N);
    a->cache = cache_of(c, FLI_BF16, 1);
}

static void make_page_copy(ops_case *c)
{
    static const int32_t from[] = { 3, 0, 5, 4 }, to[] = { 9, 11, 8, 6 };
    fli_page_copy_args *const a = &c->args.page_copy;
    const int64_t n = (int64_t)12 * PAGE * KV_HEADS * DIM;

    *a = (fli_page_copy_args)FLI_PAGE_COPY_ARGS_INIT;
    a->k = fli_tensor_4d(inout(c, FLI_BF16, n), c->ctx, FLI_BF16, 12, PAGE,
                         KV_HEADS, DIM);
    a->v = fli_tensor_4d(inout(c, FLI_BF16, n), c->ctx, FLI_BF16, 12, PAGE,
                         KV_HEADS, DIM);
    a->from = fixed(c, from, 4);
    a->to = fixed(c, to, 4);
}

static void make_positions(ops_case *c)
{
    enum { N = 300 };
    static const int32_t indptr[] = { 0, 9, 9, 210, 290 };
    fli_batch_indices_positions_args *const a = &c->args.positions;

    *a =
        (fli_batch_indices_positions_args)FLI_BATCH_INDICES_POSITIONS_ARGS_INIT;
    a->append_indptr = fixed(c, indptr, 5);
    a->seq_lens = range(c, FLI_I32, 4, 201, 5000);
    a->batch_indices = out_1d(c, FLI_I32, N);
    a->positions = out_1d(c, FLI_I32, N);
}

/* --- rows ------------------------------------------------------------------- */

static void make_rope(ops_case *c)
{
    enum { N = 37 };
    fli_rope_args *const a = &c->args.rope;
    const int64_t q = (int64_t)N * HEADS * DIM, k = (int64_t)N * KV_HEADS * DIM;

    *a = (fli_rope_args)FLI_ROPE_ARGS_INIT;
    a->q =
        fli_tensor_3d(normals(c, FLI_BF16, q), c->ctx, FLI_BF16, N, HEADS, DIM);
    a->k = fli_tensor_3d(normals(c, FLI_BF16, k), c->ctx, FLI_BF16, N, KV_HEADS,
                         DIM);
    a->q_out =
        fli_tensor_3d(out(c, FLI_BF16, q), c->ctx, FLI_BF16, N, HEADS, DIM);
    a->k_out =
        fli_tensor_3d(out(c, FLI_BF16, k), c->ctx, FLI_BF16, N, KV_HEADS, DIM);
    a->positions = range(c, FLI_I32, N, 0, 4096);
}

enum { N_NORM = 19, HIDDEN = 1024 };

static fli_tensor norm_rows(ops_case *c, void *data)
{
    return fli_tensor_2d(data, c->ctx, FLI_BF16, N_NORM, HIDDEN);
}

static void make_norm(ops_case *c)
{
    fli_rmsnorm_args *const a = &c->args.norm;

    *a = (fli_rmsnorm_args)FLI_RMSNORM_ARGS_INIT;
    a->x = norm_rows(c, normals(c, FLI_BF16, (int64_t)N_NORM * HIDDEN));
    a->out = norm_rows(c, out(c, FLI_BF16, (int64_t)N_NORM * HIDDEN));
    a->weight =
        fli_tensor_1d(normals(c, FLI_BF16, HIDDEN), c->ctx, FLI_BF16, HIDDEN);
}

static void make_fused(ops_case *c)
{
    fli_fused_add_rmsnorm_args *const a = &c->args.fused;

    *a = (fli_fused_add_rmsnorm_args)FLI_FUSED_ADD_RMSNORM_ARGS_INIT;
    a->x = norm_rows(c, inout(c, FLI_BF16, (int64_t)N_NORM * HIDDEN));
    a->residual = norm_rows(c, inout(c, FLI_BF16, (int64_t)N_NORM * HIDDEN));
    a->weight =
        fli_tensor_1d(normals(c, FLI_BF16, HIDDEN), c->ctx, FLI_BF16, HIDDEN);
}

static void make_act(ops_case *c)
{
    enum { H = 704 };
    fli_act_and_mul_args *const a = &c->args.act;

    *a = (fli_act_and_mul_args)FLI_ACT_AND_MUL_ARGS_INIT;
    a->x = fli_tensor_2d(normals(c, FLI_BF16, (int64_t)N_NORM * 2 * H), c->ctx,
                         FLI_BF16, N_NORM, 2 * H);
    a->out = fli_tensor_2d(out(c, FLI_BF16, (int64_t)N_NORM * H), c->ctx,
                           FLI_BF16, N_NORM, H);
}

static void make_gemm_of(ops_case *c, int64_t m, fli_dtype dtype,
                         uint32_t flags)
{
    enum { N = 384, K = 320 };
    fli_gemm_args *const a = &c->args.gemm;

    *a = (fli_gemm_args)FLI_GEMM_ARGS_INIT;
    a->a =
        fli_tensor_2d(normals(c, (int32_t)dtype, m * K), c->ctx, dtype, m, K);
    a->b =
        fli_tensor_2d(normals(c, (int32_t)dtype, N * K), c->ctx, dtype, N, K);
    a->out = fli_tensor_2d(out(c, (int32_t)dtype, m * N), c->ctx, dtype, m, N);
    a->flags = flags;
}

static void make_gemm_rows(ops_case *c)
{
    make_gemm_of(c, 9, FLI_BF16, 0);
}

static void make_gemm_tiles(ops_case *c)
{
    make_gemm_of(c, 150, FLI_BF16, FLI_GEMM_BATCH_INVARIANT);
}

/* By cuBLASLt where it is there. */
static void make_gemm_large(ops_case *c)
{
    make_gemm_of(c, 160, FLI_BF16, 0);
}

static void make_gemm_f32(ops_case *c)
{
    make_gemm_of(c, 70, FLI_F32, 0);
}

/* --- bits ------------------------------------------------------------------- */

static void make_packbits(ops_case *c)
{
    enum { N = 10007 };
    fli_packbits_args *const a = &c->args.packbits;

    *a = (fli_packbits_args)FLI_PACKBITS_ARGS_INIT;
    a->x = range(c, FLI_BOOL, N, 0, 2);
    a->out = out_1d(c, FLI_U8, (N + 7) / 8);
}

static void make_segments(ops_case *c)
{
    enum { N = 5000 };
    static const int32_t indptr[] = { 0, 1, 9, 9, 4000, 5000 };
    fli_segment_packbits_args *const a = &c->args.segments;

    *a = (fli_segment_packbits_args)FLI_SEGMENT_PACKBITS_ARGS_INIT;
    a->x = range(c, FLI_BOOL, N, 0, 2);
    a->indptr = fixed(c, indptr, 6);
    a->out = out_1d(c, FLI_U8, N / 8 + 5);
    a->out_indptr = out_1d(c, FLI_I32, 6);
}

/* --- sampling --------------------------------------------------------------- */

enum { N_SAMPLE = 11, VOCAB = 4001 };

static fli_tensor vocab_rows(ops_case *c, ops_fill_kind fill)
{
    const int64_t n = (int64_t)N_SAMPLE * VOCAB;

    return fli_tensor_2d(
        add(c, (ops_block){ .fill = fill, .dtype = FLI_F32, .n = n }), c->ctx,
        FLI_F32, N_SAMPLE, VOCAB);
}

static void make_softmax(ops_case *c)
{
    fli_softmax_args *const a = &c->args.softmax;

    *a = (fli_softmax_args)FLI_SOFTMAX_ARGS_INIT;
    a->logits = vocab_rows(c, OPS_NORMAL);
    a->probs = vocab_rows(c, OPS_POISON);
    a->temperatures = floats(c, OPS_UNIFORM, N_SAMPLE);
    a->valid = out_1d(c, FLI_BOOL, N_SAMPLE);
}

static void make_sample(ops_case *c, ops_fill_kind fill)
{
    fli_sample_args *const a = &c->args.sample;

    *a = (fli_sample_args)FLI_SAMPLE_ARGS_INIT;
    a->x = vocab_rows(c, fill);
    a->tokens = out_1d(c, FLI_I32, N_SAMPLE);
    a->valid = out_1d(c, FLI_BOOL, N_SAMPLE);
    a->top_ks = range(c, FLI_I32, N_SAMPLE, 1, 1000);
    a->top_ps = floats(c, OPS_UNIFORM, N_SAMPLE);
    a->seeds = range(c, FLI_I64, N_SAMPLE, 0, INT64_C(1) << 40);
    a->offset = 7;
}

static void make_from_logits(ops_case *c)
{
    make_sample(c, OPS_NORMAL);
    c->args.sample.temperatures = floats(c, OPS_UNIFORM, N_SAMPLE);
}

static void make_from_probs(ops_case *c)
{
    make_sample(c, OPS_UNIFORM);
    c->args.sample.min_p = 0.01f;
}

static void make_filter(ops_case *c, ops_fill_kind fill)
{
    fli_filter_args *const a = &c->args.filter;

    *a = (fli_filter_args)FLI_FILTER_ARGS_INIT;
    a->x = vocab_rows(c, fill);
    a->out = vocab_rows(c, OPS_POISON);
    a->valid = out_1d(c, FLI_BOOL, N_SAMPLE);
    a->top_ks = range(c, FLI_I32, N_SAMPLE, 1, 1000);
    a->top_ps = floats(c, OPS_UNIFORM, N_SAMPLE);
}

static void make_renorm(ops_case *c)
{
    make_filter(c, OPS_UNIFORM);
}

static void make_mask(ops_case *c)
{
    make_filter(c, OPS_NORMAL);
}

/* --- the table -------------------------------------------------------------- */

/* OP(fli_<name>, member of args) */
#define STATELESS(OP)                                                          \
    OP(merge_states, merge)                                                    \
    OP(append, append)                                                         \
    OP(page_copy, page_copy)                                                   \
    OP(get_batch_indices_positions, positions)                                 \
    OP(rope, rope)                                                             \
    OP(rmsnorm, norm)                                                          \
    OP(fused_add_rmsnorm, fused)                                               \
    OP(silu_and_mul, act)                                                      \
    OP(gelu_and_mul, act)                                                      \
    OP(gelu_tanh_and_mul, act)                                                 \
    OP(gemm, gemm)                                                             \
    OP(packbits, packbits)                                                     \
    OP(segment_packbits, segments)                                             \
    OP(softmax, softmax)                                                       \
    OP(sample_from_logits, sample)                                             \
    OP(sample_from_probs, sample)                                              \
    OP(renorm_probs, filter)                                                   \
    OP(mask_logits, filter)

#define OP(name, member)                                                       \
    static fli_status call_##name(const ops_case *c, fli_stream stream)        \
    {                                                                          \
        return fli_##name(c->ctx, &c->args.member, stream);                    \
    }                                                                          \
    static fli_status prepare_##name(const ops_case *c)                        \
    {                                                                          \
        return fli_##name##_prepare(c->ctx, &c->args.member);                  \
    }
STATELESS(OP)
#undef OP

#define KIND(name, op, make) { name, #op, make, call_##op, prepare_##op }

const ops_kind ops_kinds[] = {
    KIND("attention", attention, make_attention),
    KIND("attention, f32", attention, make_attention_f32),
    KIND("merge_states", merge_states, make_merge),
    KIND("append", append, make_append),
    KIND("page_copy", page_copy, make_page_copy),
    KIND("get_batch_indices_positions", get_batch_indices_positions,
         make_positions),
    KIND("rope", rope, make_rope),
    KIND("rmsnorm", rmsnorm, make_norm),
    KIND("fused_add_rmsnorm", fused_add_rmsnorm, make_fused),
    KIND("silu_and_mul", silu_and_mul, make_act),
    KIND("gelu_and_mul", gelu_and_mul, make_act),
    KIND("gelu_tanh_and_mul", gelu_tanh_and_mul, make_act),
    KIND("gemm, few rows", gemm, make_gemm_rows),
    KIND("gemm, tiles", gemm, make_gemm_tiles),
    KIND("gemm, many rows", gemm, make_gemm_large),
    KIND("gemm, f32", gemm, make_gemm_f32),
    KIND("packbits", packbits, make_packbits),
    KIND("segment_packbits", segment_packbits, make_segments),
    KIND("softmax", softmax, make_softmax),
    KIND("sample_from_logits", sample_from_logits, make_from_logits),
    KIND("sample_from_probs", sample_from_probs, make_from_probs),
    KIND("renorm_probs", renorm_probs, make_renorm),
    KIND("mask_logits", mask_logits, make_mask),
};
const int ops_n_kinds = COUNT(ops_kinds);

ops_case *ops_make(const ops_kind *kind, fli_context *ctx, fli_stream stream)
{
    ops_case *const c = xalloc(sizeof(*c));

    c->kind = kind;
    c->ctx = ctx;
    c->stream = stream;
    kind->make(c);
    ops_fill(c, 1);
    return c;
}

void ops_free(ops_case *c)
{
    fli_attention_destroy(c->attention);
    gpu_free(c->workspace);
    for (int i = 0; i < c->n_blocks; i++)
        gpu_free(c->blocks[i].device);
    free(c);
}
