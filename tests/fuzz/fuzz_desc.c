/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer: any desc, batch and args into every op.  Bytes choose plausible
 * values most of the time and raw ones at times; tensors get exactly the memory
 * that they describe, so that the address sanitizer sees a step outside.  A
 * refusal must have a sentence and must have written nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flashinfer/flashinfer.h>

enum { MAX_BYTES = 1 << 18, MAX_ELEMENTS = 1 << 15, MAX_TENSORS = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* --- the input ------------------------------------------------------------- */

typedef struct {
    const uint8_t *data;
    size_t n;
} input;

static uint8_t byte(input *in)
{
    if (!in->n)
        return 0;
    in->n--;
    return *in->data++;
}

static int64_t raw(input *in, int bytes)
{
    uint64_t x = 0;

    for (int i = 0; i < bytes; i++)
        x = x << 8 | byte(in);
    return (int64_t)x;
}

/* Below n, or any int32 once in 32 times. */
static int32_t number(input *in, int n)
{
    const uint8_t b = byte(in);

    return b >= 248 ? (int32_t)raw(in, 4) : b % n;
}

static float real(input *in)
{
    static const float values[] = { 0,     0,     0,  1,        0.5f, 2,
                                    1e-3f, 1e30f, -1, INFINITY, NAN,  30 };

    return values[byte(in) % (sizeof(values) / sizeof(*values))];
}

static int32_t dtype(input *in)
{
    static const int32_t dtypes[] = { FLI_F32, FLI_F16, FLI_BF16, FLI_F32,
                                      FLI_I32, FLI_I64, FLI_U8,   FLI_BOOL };
    const uint8_t b = byte(in);

    return b >= 250 ? (int32_t)raw(in, 4) : dtypes[b % 8];
}

/* --- tensors of exactly the memory they describe --------------------------- */

typedef struct {
    void *memory[MAX_TENSORS];
    void *copy[MAX_TENSORS];
    size_t bytes[MAX_TENSORS];
    int n;
} arena;

static void arena_free(arena *a)
{
    for (int i = 0; i < a->n; i++) {
        free(a->memory[i]);
        free(a->copy[i]);
    }
    a->n = 0;
}

/* Bytes from the lowest to the highest element; -1 when that is too many. */
static int64_t extent(const fli_tensor *t, int64_t *low)
{
    int64_t high = 0, n = 1;

    *low = 0;
    for (int i = 0; i < t->ndim; i++) {
        const int64_t size = t->shape[i], stride = t->stride[i];

        if (size < 0 || size > MAX_ELEMENTS || llabs(stride) > MAX_ELEMENTS)
            return -1;
        n *= size;
        if (n > MAX_ELEMENTS)
            return -1;
        if (size)
            *(stride < 0 ? low : &high) += (size - 1) * stride;
    }
    const int64_t bytes = (int64_t)fli_dtype_bytes(t->dtype);

    *low *= bytes;
    return n ? (high + 1) * bytes - *low : 0;
}

/* Memory for t, filled from a small pattern; too big or unknown: data NULL. */
static void back(arena *a, fli_tensor *t, int32_t below)
{
    int64_t low;
    const int64_t bytes =
        t->ndim >= 0 && t->ndim <= FLI_MAX_NDIM ? extent(t, &low) : -1;

    t->data = NULL;
    if (bytes < 0 || bytes > MAX_BYTES || a->n == MAX_TENSORS)
        return;
    char *memory = malloc((size_t)bytes);
    char *copy = malloc((size_t)bytes);

    if (t->dtype == FLI_I32)
        for (int64_t i = 0; i < bytes / 4; i++)
            ((int32_t *)(void *)memory)[i] =
                (int32_t)(i * 7 % (below + 1)) - (i % 13 == 5);
    else if (t->dtype == FLI_F32)
        for (int64_t i = 0; i < bytes / 4; i++)
            ((float *)(void *)memory)[i] = (float)(i % 17) / 17;
    else
        memset(memory, 0x3c, (size_t)bytes);
    if (bytes)
        memcpy(copy, memory, (size_t)bytes);
    a->memory[a->n] = memory;
    a->copy[a->n] = copy;
    a->bytes[a->n++] = (size_t)bytes;
    t->data = memory - low;
}

/* 2^31 rows of nothing are legal, and take their time. */
static void shorten_empty(fli_tensor *t)
{
    int empty = 0;

    for (int i = 0; i < FLI_MAX_NDIM; i++)
        empty |= i < t->ndim && t->shape[i] == 0;
    for (int i = 0; empty && i < FLI_MAX_NDIM; i++)
        if (t->shape[i] > MAX_ELEMENTS)
            t->shape[i] = MAX_ELEMENTS;
}

/* A tensor of about this shape. */
static fli_tensor tensor(input *in, arena *a, int32_t wanted_dtype, int ndim,
                         const int64_t *shape)
{
    fli_tensor t = { .dtype = wanted_dtype, .device = fli_cpu(), .ndim = ndim };
    const uint8_t how = byte(in);
    int64_t stride = 1;

    for (int i = ndim - 1; i >= 0; i--) {
        t.shape[i] = shape[i];
        t.stride[i] = stride;
        stride *= shape[i] > 0 && shape[i] < 4096 ? shape[i] : 1;
        stride += how % 4 == 1 && i ? 3 : 0; /* padded rows */
    }
    if (how >= 224) { /* one thing wrong */
        const int i = byte(in) % FLI_MAX_NDIM;

        switch (byte(in) % 8) {
        case 0:
            t.shape[i] = raw(in, 1) - 2;
            break;
        case 1:
            t.shape[i] = raw(in, 8);
            break;
        case 2:
            t.stride[i] = raw(in, 1) - 128;
            break;
        case 3:
            t.stride[i] = raw(in, 8);
            break;
        case 4:
            t.dtype = dtype(in);
            break;
        case 5:
            t.ndim = number(in, 7);
            break;
        case 6:
            t.device.type = number(in, 3);
            break;
        default:
            return (fli_tensor){ 0 };
        }
    }
    shorten_empty(&t);
    back(a, &t, byte(in) % 9);
    return t;
}

#define TENSOR(dtype, ...)                                                     \
    tensor(in, a, dtype,                                                       \
           (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)),        \
           (int64_t[]){ __VA_ARGS__ })

/* Now and then a thing is left out. */
#define MAYBE(...) (byte(in) & 1 ? (__VA_ARGS__) : (fli_tensor){ 0 })

static void must_be(int cond, const char *what)
{
    if (cond)
        return;
    fprintf(stderr, "%s: %s\n", what, fli_last_error());
    abort();
}

static void check_refusal(fli_status status, const arena *a)
{
    if (!status)
        return;
    must_be(status > 0 && status <= FLI_INTERNAL, "unknown status");
    must_be(status != FLI_INTERNAL, "internal error");
    must_be(strchr(fli_last_error(), ':') != NULL, "no sentence");
    for (int i = 0; i < a->n; i++)
        must_be(!a->bytes[i] || !memcmp(a->memory[i], a->copy[i], a->bytes[i]),
                "written by a call that failed");
}

/* --- attention ------------------------------------------------------------- */

static fli_attention_desc any_desc(input *in)
{
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;

    desc.n_kv_heads = (int32_t)(1u + (uint32_t)number(in, 3));
    desc.n_qo_heads =
        byte(in) < 240
            ? (int32_t)((uint32_t)desc.n_kv_heads * (1u + byte(in) % 4))
            : number(in, 9);
    desc.head_dim_qk =
        byte(in) < 240 ? 8 * (1 + byte(in) % 6) : number(in, 700);
    desc.head_dim_vo =
        byte(in) < 240 ? 8 * (1 + byte(in) % 6) : number(in, 700);
    desc.dtype_q = dtype(in);
    desc.dtype_kv = byte(in) & 1 ? 0 : dtype(in);
    desc.dtype_out = byte(in) & 1 ? 0 : dtype(in);
    desc.flags = (uint32_t)number(in, 4);
    desc.masks = (uint32_t)number(in, 4);
    desc.max_requests = number(in, 6);
    desc.max_rows = number(in, 64);
    desc.reserved = byte(in) == 255;
    if (byte(in) == 255)
        desc.size = byte(in) % sizeof(desc);
    return desc;
}

enum { MAX_REQUESTS = 8 };

static fli_kv any_kv(input *in, arena *a, const fli_attention_desc *desc,
                     int64_t n_requests)
{
    const int32_t type = desc->dtype_kv ? desc->dtype_kv : desc->dtype_q;
    const int32_t h = desc->n_kv_heads;
    const int64_t pages = number(in, 9), page = number(in, 6);
    fli_kv kv;

    if (byte(in) & 1) {
        kv = fli_ragged_kv(TENSOR(type, pages * page, h, desc->head_dim_qk),
                           TENSOR(type, pages * page, h, desc->head_dim_vo),
                           TENSOR(FLI_I32, n_requests + 1));
        kv.layout = number(in, 2);
    } else {
        const int hnd = byte(in) & 1;

        kv = hnd ? fli_paged_kv(TENSOR(type, pages, h, page, desc->head_dim_qk),
                                TENSOR(type, pages, h, page, desc->head_dim_vo),
                                TENSOR(FLI_I32, n_requests + 1),
                                TENSOR(FLI_I32, number(in, 20)))
                 : fli_paged_kv(TENSOR(type, pages, page, h, desc->head_dim_qk),
                                TENSOR(type, pages, page, h, desc->head_dim_vo),
                                TENSOR(FLI_I32, n_requests + 1),
                                TENSOR(FLI_I32, number(in, 20)));
        kv.layout = byte(in) < 250 ? hnd : number(in, 3);
    }
    /* page_indptr or kv_indptr that ascends, most of the time */
    fli_tensor *indptr = kv.kv_indptr.data ? &kv.kv_indptr : &kv.page_indptr;
    if (indptr->data && indptr->dtype == FLI_I32 && indptr->ndim == 1
        && indptr->stride[0] == 1 && byte(in) < 240)
        for (int64_t i = 0, sum = 0; i < indptr->shape[0]; i++) {
            ((int32_t *)indptr->data)[i] = (int32_t)sum;
            sum += number(in, 5);
        }
    if (a->n && indptr->data)
        for (int i = 0; i < a->n; i++) /* the copy is of what the call sees */
            if (a->bytes[i])
                memcpy(a->copy[i], a->memory[i], a->bytes[i]);
    return kv;
}

static void run_attention(input *in, arena *a, const fli_attention *op,
                          const fli_attention_desc *desc, int n_requests)
{
    fli_attention_args args = FLI_ATTENTION_ARGS_INIT;
    const int32_t rows = number(in, 64);

    args.q = TENSOR(desc->dtype_q, rows, desc->n_qo_heads, desc->head_dim_qk);
    args.out = TENSOR(desc->dtype_out ? desc->dtype_out : desc->dtype_q, rows,
                      desc->n_qo_heads, desc->head_dim_vo);
    args.lse = MAYBE(TENSOR(FLI_F32, rows, desc->n_qo_heads));
    args.kv = any_kv(in, a, desc, n_requests);
    args.mask = number(in, 2);
    args.window = number(in, 9);
    args.soft_cap = real(in);
    args.sm_scale = real(in);
    args.k_scale = real(in);
    args.v_scale = real(in);
    if (byte(in) == 255)
        args.size = byte(in) % sizeof(args);
    if (byte(in) & 1) {
        check_refusal(fli_attention_run(op, &args, NULL), a);
        return;
    }
    const int32_t nth = number(in, 4);
    fli_status first = FLI_OK;

    for (int32_t i = 0; i < (nth > 4 ? 4 : nth); i++) {
        const fli_status status = fli_attention_run_part(op, &args, i, nth);

        if (!i)
            first = status;
        must_be(status == first, "parts disagree");
    }
    check_refusal(first, a);
}

static void attention(input *in, arena *a, fli_context *ctx)
{
    const fli_attention_desc desc = any_desc(in);
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;
    int32_t q_indptr[MAX_REQUESTS + 1] = { 0 }, kv_len[MAX_REQUESTS];
    fli_attention *op = NULL;
    char text[200];

    fli_attention_explain(ctx, &desc, text, byte(in) % sizeof(text));
    const fli_status status = fli_attention_create(&op, ctx, &desc);

    check_refusal(status, a);
    must_be(!status == !!op, "op and status disagree");
    if (status)
        return;
    const size_t bytes = fli_attention_workspace(op);
    size_t given = bytes;
    char *workspace = NULL;
    int64_t cost = 0;

    must_be(bytes > 0, "no workspace");
    if (bytes > 64 << 20)
        goto done;
    if (byte(in) >= 250) /* too small */
        given = (size_t)raw(in, 2) % bytes;
    workspace = aligned_alloc(256, (given + 255) / 256 * 256);
    batch.n_requests =
        byte(in) < 250 ? byte(in) % (MAX_REQUESTS + 1) : INT32_MIN + byte(in);
    for (int i = 0; i < MAX_REQUESTS; i++) {
        const int32_t q_len = number(in, 8);

        kv_len[i] = byte(in) & 1 ? number(in, 40) : q_len;
        q_indptr[i + 1] = (int32_t)((uint32_t)q_indptr[i] + (uint32_t)q_len);
        cost += llabs((int64_t)q_len) * llabs((int64_t)kv_len[i]);
    }
    batch.q_indptr = byte(in) == 255 ? NULL : q_indptr;
    batch.kv_len = byte(in) == 255 ? NULL : kv_len;
    batch.mask = number(in, 2);
    batch.window = number(in, 9);
    const fli_status planned =
        fli_attention_plan(op, &batch, workspace, given, NULL);

    check_refusal(planned, a);
    must_be(given >= bytes || planned, "plan took too small a workspace");
    fli_attention_print(op, text, byte(in) % sizeof(text));
    if (planned || cost < 100000)
        run_attention(in, a, op, &desc, planned ? 1 : batch.n_requests);
done:
    fli_attention_destroy(op);
    free(workspace);
}

/* --- the other ops --------------------------------------------------------- */

#define CALL(name) check_refusal(fli_##name(ctx, &args, NULL), a)
#define PREPARE(name)                                                          \
    do {                                                                       \
        check_refusal(fli_##name##_prepare(ctx, &args), a);                    \
        CALL(name);                                                            \
    } while (0)

static void merge_states(input *in, arena *a, fli_context *ctx)
{
    fli_merge_states_args args = FLI_MERGE_STATES_ARGS_INIT;
    const int32_t type = dtype(in);
    const int64_t n = number(in, 6), s = number(in, 4), h = number(in, 4),
                  d = number(in, 40);

    args.v = TENSOR(type, n, s, h, d);
    args.lse = TENSOR(FLI_F32, n, s, h);
    args.v_out = TENSOR(type, n, h, d);
    args.lse_out = MAYBE(TENSOR(FLI_F32, n, h));
    PREPARE(merge_states);
}

static void pages(input *in, arena *a, fli_context *ctx)
{
    const fli_attention_desc desc = any_desc(in);
    const int64_t n = number(in, 8);

    if (byte(in) & 1) {
        fli_append_args args = FLI_APPEND_ARGS_INIT;

        args.k = TENSOR(desc.dtype_q, n, desc.n_kv_heads, desc.head_dim_qk);
        args.v = TENSOR(desc.dtype_q, n, desc.n_kv_heads, desc.head_dim_vo);
        args.batch_indices = TENSOR(FLI_I32, n);
        args.positions = TENSOR(FLI_I32, n);
        args.cache = any_kv(in, a, &desc, number(in, 4));
        PREPARE(append);
    } else if (byte(in) & 1) {
        fli_page_copy_args args = FLI_PAGE_COPY_ARGS_INIT;
        const int64_t count = number(in, 4);

        args.k = TENSOR(desc.dtype_q, n, 3, 2, desc.head_dim_qk);
        args.v = TENSOR(desc.dtype_q, n, 3, 2, desc.head_dim_vo);
        args.from = TENSOR(FLI_I32, count);
        args.to = TENSOR(FLI_I32, count);
        PREPARE(page_copy);
    } else {
        fli_batch_indices_positions_args args =
            FLI_BATCH_INDICES_POSITIONS_ARGS_INIT;
        const int64_t rows = number(in, 40);

        args.append_indptr = TENSOR(FLI_I32, n + 1);
        args.seq_lens = TENSOR(FLI_I32, n);
        args.batch_indices = TENSOR(FLI_I32, rows);
        args.positions = TENSOR(FLI_I32, rows);
        PREPARE(get_batch_indices_positions);
    }
}

static void rope(input *in, arena *a, fli_context *ctx)
{
    fli_rope_args args = FLI_ROPE_ARGS_INIT;
    const int32_t type = dtype(in);
    const int64_t n = number(in, 6), h = number(in, 4),
                  d = 2 * (int64_t)number(in, 40);

    args.q = TENSOR(type, n, h, d);
    args.q_out = byte(in) & 1 ? args.q : TENSOR(type, n, h, d);
    args.k = MAYBE(TENSOR(type, n, 2, d));
    args.k_out = args.k.data ? TENSOR(type, n, 2, d) : (fli_tensor){ 0 };
    args.positions = TENSOR(byte(in) & 1 ? FLI_I32 : FLI_I64, n);
    args.rotary_dim = number(in, 40);
    args.cos_sin_cache =
        MAYBE(TENSOR(FLI_F32, number(in, 300), args.rotary_dim));
    args.interleaved = number(in, 2);
    args.llama31 = number(in, 2);
    args.theta = real(in);
    args.scale = real(in);
    args.low_freq_factor = real(in);
    args.high_freq_factor = real(in);
    args.old_context_len = real(in);
    PREPARE(rope);
}

static void norms(input *in, arena *a, fli_context *ctx)
{
    const int32_t type = dtype(in);
    const int64_t n = number(in, 6), hidden = number(in, 90);

    if (byte(in) & 1) {
        fli_rmsnorm_args args = FLI_RMSNORM_ARGS_INIT;

        args.x =
            byte(in) & 1 ? TENSOR(type, n, hidden) : TENSOR(type, n, 3, hidden);
        args.weight = TENSOR(type, hidden);
        args.out = byte(in) & 1 ? args.x : TENSOR(type, n, hidden);
        args.eps = real(in);
        PREPARE(rmsnorm);
    } else {
        fli_fused_add_rmsnorm_args args = FLI_FUSED_ADD_RMSNORM_ARGS_INIT;

        args.x = TENSOR(type, n, hidden);
        args.residual = TENSOR(type, n, hidden);
        args.weight = TENSOR(type, hidden);
        args.eps = real(in);
        PREPARE(fused_add_rmsnorm);
    }
}

static void activations(input *in, arena *a, fli_context *ctx)
{
    fli_act_and_mul_args args = FLI_ACT_AND_MUL_ARGS_INIT;
    const int32_t type = dtype(in);
    const int64_t n = number(in, 6), h = number(in, 90);

    args.x = TENSOR(type, n, 2 * h);
    args.out = TENSOR(type, n, h);
    switch (byte(in) % 3) {
    case 0:
        PREPARE(silu_and_mul);
        break;
    case 1:
        PREPARE(gelu_and_mul);
        break;
    default:
        PREPARE(gelu_tanh_and_mul);
        break;
    }
}

static void gemm(input *in, arena *a, fli_context *ctx)
{
    const int32_t type = dtype(in);
    const int64_t m = number(in, 20), n = number(in, 40), k = number(in, 40);

    if (byte(in) & 1) {
        fli_gemm_args args = FLI_GEMM_ARGS_INIT;

        args.a = TENSOR(dtype(in), m, k);
        args.b = MAYBE(TENSOR(type, n, k));
        args.packed = MAYBE(TENSOR(FLI_U8, number(in, 200)));
        args.bias = MAYBE(TENSOR(dtype(in), n));
        args.out = TENSOR(dtype(in), m, n);
        args.flags = (uint32_t)number(in, 2);
        args.add = number(in, 2);
        PREPARE(gemm);
    } else {
        fli_gemm_pack_args args = FLI_GEMM_PACK_ARGS_INIT;
        const size_t bytes = fli_gemm_packed_bytes(ctx, type, n, k);

        args.b = TENSOR(type, n, k);
        args.packed = TENSOR(FLI_U8, bytes < MAX_ELEMENTS ? (int64_t)bytes : 1);
        PREPARE(gemm_pack);
    }
}

static void bits(input *in, arena *a, fli_context *ctx)
{
    const int64_t n = number(in, 90), segments = number(in, 6);

    if (byte(in) & 1) {
        fli_packbits_args args = FLI_PACKBITS_ARGS_INIT;

        args.x = TENSOR(byte(in) & 1 ? FLI_U8 : FLI_BOOL, n);
        args.out = TENSOR(FLI_U8, (n + 7) / 8);
        args.bit_order = number(in, 2);
        PREPARE(packbits);
    } else {
        fli_segment_packbits_args args = FLI_SEGMENT_PACKBITS_ARGS_INIT;

        args.x = TENSOR(FLI_BOOL, n);
        args.indptr = TENSOR(FLI_I32, segments + 1);
        args.out = TENSOR(FLI_U8, (n + 7) / 8 + segments);
        args.out_indptr = TENSOR(FLI_I32, segments + 1);
        args.bit_order = number(in, 2);
        PREPARE(segment_packbits);
    }
}

static void softmax(input *in, arena *a, fli_context *ctx)
{
    fli_softmax_args args = FLI_SOFTMAX_ARGS_INIT;
    const int64_t n = number(in, 4), vocab = number(in, 200);

    args.logits = TENSOR(dtype(in), n, vocab);
    args.probs = byte(in) & 1 ? args.logits : TENSOR(FLI_F32, n, vocab);
    args.temperatures = MAYBE(TENSOR(FLI_F32, n));
    args.valid = MAYBE(TENSOR(FLI_BOOL, n));
    args.temperature = real(in);
    args.has_temperature = number(in, 2);
    PREPARE(softmax);
}

static void sample(input *in, arena *a, fli_context *ctx)
{
    fli_sample_args args = FLI_SAMPLE_ARGS_INIT;
    const int64_t n = number(in, 4), vocab = number(in, 200);
    const int64_t n_out = byte(in) & 1 ? n : number(in, 6);

    args.x = TENSOR(dtype(in), n, vocab);
    args.indices = n_out != n ? TENSOR(FLI_I32, n_out) : (fli_tensor){ 0 };
    args.tokens = TENSOR(FLI_I32, n_out);
    args.valid = MAYBE(TENSOR(FLI_BOOL, n_out));
    args.temperatures = MAYBE(TENSOR(FLI_F32, n_out));
    args.top_ks = MAYBE(TENSOR(FLI_I32, n_out));
    args.top_ps = MAYBE(TENSOR(FLI_F32, n_out));
    args.min_ps = MAYBE(TENSOR(FLI_F32, n_out));
    args.seeds = MAYBE(TENSOR(FLI_I64, byte(in) & 1 ? 1 : n_out));
    args.offsets = MAYBE(TENSOR(FLI_I64, n_out));
    args.seed = (uint64_t)raw(in, 1);
    args.temperature = real(in);
    args.has_temperature = number(in, 2);
    args.top_k = number(in, 20);
    args.top_p = real(in);
    args.min_p = real(in);
    args.flags = (uint32_t)number(in, 2);
    if (byte(in) & 1)
        PREPARE(sample_from_logits);
    else
        PREPARE(sample_from_probs);
}

static void filters(input *in, arena *a, fli_context *ctx)
{
    fli_filter_args args = FLI_FILTER_ARGS_INIT;
    const int64_t n = number(in, 4), vocab = number(in, 200);
    const int32_t type = dtype(in);

    args.x = TENSOR(type, n, vocab);
    args.out = byte(in) & 1 ? args.x : TENSOR(type, n, vocab);
    args.valid = MAYBE(TENSOR(FLI_BOOL, n));
    args.top_ks = MAYBE(TENSOR(FLI_I32, n));
    args.top_ps = MAYBE(TENSOR(FLI_F32, n));
    args.min_ps = MAYBE(TENSOR(FLI_F32, n));
    args.top_k = number(in, 20);
    args.top_p = real(in);
    args.min_p = real(in);
    args.flags = (uint32_t)number(in, 2);
    if (byte(in) & 1)
        PREPARE(renorm_probs);
    else
        PREPARE(mask_logits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static void (*const ops[])(input *, arena *, fli_context *) = {
        attention,   attention, attention, merge_states, pages,  rope,    norms,
        activations, gemm,      bits,      softmax,      sample, filters,
    };
    static fli_context *contexts[2]; /* the best ISA, and baseline */
    input in = { data, n };
    arena a = { .n = 0 };

    if (!contexts[0]) {
        fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;

        options.n_threads = 1;
        must_be(!fli_context_create(&contexts[0], fli_cpu(), &options), "");
        options.cpu_isa = "baseline";
        must_be(!fli_context_create(&contexts[1], fli_cpu(), &options), "");
    }
    fli_context *ctx = contexts[byte(&in) & 1];

    ops[byte(&in) % (sizeof(ops) / sizeof(*ops))](&in, &a, ctx);
    arena_free(&a);
    return 0;
}
