/* SPDX-License-Identifier: Apache-2.0 */
/* attention: every refusal and its sentence, states of an op, parts, invariance,
 * texts.  That results are right is for the checker. */
#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { HEADS = 4, KV_HEADS = 2, DIM = 16, PAGE = 4, N_PAGES = 40, ROWS = 12 };

/* A step of three requests over shuffled pages, f32. */
typedef struct {
    fli_context *ctx;
    fli_attention_desc desc;
    fli_attention_batch batch;
    fli_attention_args args;
    fli_attention *op;
    void *workspace;
    size_t bytes;
    int32_t q_indptr[4], kv_len[3], page_indptr[4], page_indices[N_PAGES];
    float gap[ROWS * HEADS]; /* lse laid over the table stays off q */
    float q[ROWS * HEADS * DIM], out[ROWS * HEADS * DIM], lse[ROWS * HEADS];
    float k[N_PAGES * PAGE * KV_HEADS * DIM],
        v[N_PAGES * PAGE * KV_HEADS * DIM];
} step;

static void make_tensors(step *s)
{
    s->args = (fli_attention_args)FLI_ATTENTION_ARGS_INIT;
    s->args.q = fli_tensor_3d(s->q, s->ctx, FLI_F32, ROWS, HEADS, DIM);
    s->args.out = fli_tensor_3d(s->out, s->ctx, FLI_F32, ROWS, HEADS, DIM);
    s->args.lse = fli_tensor_2d(s->lse, s->ctx, FLI_F32, ROWS, HEADS);
    s->args.kv = fli_paged_kv(
        fli_tensor_4d(s->k, s->ctx, FLI_F32, N_PAGES, PAGE, KV_HEADS, DIM),
        fli_tensor_4d(s->v, s->ctx, FLI_F32, N_PAGES, PAGE, KV_HEADS, DIM),
        fli_tensor_1d(s->page_indptr, s->ctx, FLI_I32, 4),
        fli_tensor_1d(s->page_indices, s->ctx, FLI_I32, N_PAGES));
    s->args.mask = FLI_MASK_CAUSAL;
}

static void fill(float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] = (float)sin((double)i * 1.7 + (double)n);
}

/* With n threads. */
static step *make_step(int32_t n_threads)
{
    static const int32_t q_indptr[] = { 0, 1, 8, 12 };
    static const int32_t kv_len[] = { 61, 9, 40 };
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    step *s = calloc(1, sizeof(*s));

    options.n_threads = n_threads;
    assert_ok(fli_context_create(&s->ctx, fli_cpu(), &options));
    s->desc = (fli_attention_desc)FLI_ATTENTION_DESC_INIT;
    s->desc.n_qo_heads = HEADS;
    s->desc.n_kv_heads = KV_HEADS;
    s->desc.head_dim_qk = s->desc.head_dim_vo = DIM;
    s->desc.dtype_q = FLI_F32;
    s->desc.max_requests = 3;
    s->desc.max_rows = ROWS;
    memcpy(s->q_indptr, q_indptr, sizeof(q_indptr));
    memcpy(s->kv_len, kv_len, sizeof(kv_len));
    for (int i = 0; i < 3; i++)
        s->page_indptr[i + 1] =
            s->page_indptr[i] + (kv_len[i] + PAGE - 1) / PAGE;
    for (int i = 0; i < N_PAGES; i++)
        s->page_indices[i] = i * 7 % N_PAGES;
    s->batch = (fli_attention_batch)FLI_ATTENTION_BATCH_INIT;
    s->batch.n_requests = 3;
    s->batch.q_indptr = s->q_indptr;
    s->batch.kv_len = s->kv_len;
    s->batch.mask = FLI_MASK_CAUSAL;
    fill(s->q, sizeof(s->q) / 4);
    fill(s->k, sizeof(s->k) / 4);
    fill(s->v, sizeof(s->v) / 4);
    make_tensors(s);
    return s;
}

static void create_op(step *s)
{
    assert_ok(fli_attention_create(&s->op, s->ctx, &s->desc));
    s->bytes = fli_attention_workspace(s->op);
    assert_true(s->bytes > 0);
    s->workspace = aligned_alloc(256, (s->bytes + 511) / 256 * 256);
    memset(s->workspace, 0xa5, s->bytes);
}

static fli_status plan(step *s)
{
    return fli_attention_plan(s->op, &s->batch, s->workspace, s->bytes, NULL);
}

/* Made and planned. */
static step *planned(int32_t n_threads)
{
    step *s = make_step(n_threads);

    create_op(s);
    assert_ok(plan(s));
    return s;
}

static fli_status run(step *s)
{
    return fli_attention_run(s->op, &s->args, NULL);
}

static void drop(step *s)
{
    fli_attention_destroy(s->op);
    fli_context_destroy(s->ctx);
    free(s->workspace);
    free(s);
}

/* --- create ----------------------------------------------------------------- */

/* With desc.field = value, create fails with this text. */
#define CREATE_FAILS(field, value, text)                                       \
    do {                                                                       \
        const fli_attention_desc desc = s->desc;                               \
        s->desc.field = value;                                                 \
        assert_fails(fli_attention_create(&s->op, s->ctx, &s->desc),           \
                     INVALID_ARGUMENT, "attention create: " text);             \
        s->desc = desc;                                                        \
    } while (0)

static void create_says_what_is_wrong(void **state)
{
    step *s = make_step(1);
    fli_attention *op;

    (void)state;
    assert_fails(fli_attention_create(NULL, s->ctx, &s->desc), INVALID_ARGUMENT,
                 "attention create: out is NULL, expected a place for the op");
    assert_fails(fli_attention_create(&op, NULL, &s->desc), INVALID_ARGUMENT,
                 "attention create: ctx is NULL, expected a context");
    assert_fails(fli_attention_create(&op, s->ctx, NULL), INVALID_ARGUMENT,
                 "attention create: desc is NULL, expected a struct");
    CREATE_FAILS(size, 8,
                 "desc.size is 8, expected at least 56 (use the INIT macro)");
    s->desc.n_kv_heads = 2;
    CREATE_FAILS(n_qo_heads, 7,
                 "n_qo_heads 7 is not a multiple of n_kv_heads 2");
    CREATE_FAILS(n_qo_heads, 0, "n_qo_heads is 0, expected at least 1");
    CREATE_FAILS(n_kv_heads, -2, "n_kv_heads is -2, expected at least 1");
    CREATE_FAILS(head_dim_qk, 12,
                 "head_dim_qk is 12, expected a multiple of 8 from 8 to 576");
    CREATE_FAILS(head_dim_qk, 584,
                 "head_dim_qk is 584, expected a multiple of 8 from 8 to 576");
    CREATE_FAILS(head_dim_vo, 0,
                 "head_dim_vo is 0, expected a multiple of 8 from 8 to 576");
    CREATE_FAILS(dtype_q, FLI_I32,
                 "dtype_q is i32 (16), expected f32|f16|bf16");
    CREATE_FAILS(dtype_kv, FLI_U8,
                 "dtype_kv is u8 (18), expected f32|f16|bf16");
    CREATE_FAILS(dtype_out, 99,
                 "dtype_out is unknown dtype (99), expected f32|f16|bf16");
    CREATE_FAILS(flags, 4, "flags is 0x4, expected bits of 0x3");
    CREATE_FAILS(masks, 8, "masks is 0x8, expected bits of 0x3");
    CREATE_FAILS(max_requests, 0, "max_requests is 0, expected at least 1");
    CREATE_FAILS(max_rows, -1, "max_rows is -1, expected at least 1");
    CREATE_FAILS(reserved, 1, "reserved is 1, expected 0");
    drop(s);
}

static void create_refuses_what_31_bits_cannot_count(void **state)
{
    step *s = make_step(1);

    (void)state;
    s->desc.max_rows = INT32_MAX;
    assert_int_equal(fli_attention_create(&s->op, s->ctx, &s->desc),
                     FLI_UNSUPPORTED);
    drop(s);
}

static fli_status create_in(const char *impl, const step *s)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx;
    fli_attention *op;

    options.impl = impl;
    assert_ok(fli_context_create(&ctx, fli_cpu(), &options));
    const fli_status status = fli_attention_create(&op, ctx, &s->desc);

    if (!status)
        fli_attention_destroy(op);
    fli_context_destroy(ctx);
    return status;
}

static void any_implementation_can_be_forced(void **state)
{
    step *s = make_step(1);

    (void)state;
    assert_ok(create_in("ref", s));
    assert_ok(create_in("attention:plain", s));
    assert_ok(create_in("attention:cpu", s));
    drop(s);
}

static void *no_memory(void *ctx, size_t bytes)
{
    const int *allow = ctx;

    return *allow ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
}

static void free_memory(void *ctx, void *memory, size_t bytes)
{
    (void)ctx;
    (void)bytes;
    free(memory);
}

static void out_of_memory_is_a_status(void **state)
{
    int allow = 1;
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    step *s = make_step(1);
    fli_context *ctx;
    fli_attention *op = NULL;

    (void)state;
    options.allocator = (fli_allocator){ &allow, no_memory, free_memory };
    assert_ok(fli_context_create(&ctx, fli_cpu(), &options));
    allow = 0;
    assert_int_equal(fli_attention_create(&op, ctx, &s->desc),
                     FLI_OUT_OF_MEMORY);
    assert_null(op);
    allow = 1;
    fli_context_destroy(ctx);
    drop(s);
}

static void null_is_fine_where_it_says_so(void **state)
{
    (void)state;
    fli_attention_destroy(NULL);
    fli_attention_destroy(NULL);
    assert_int_equal(fli_attention_workspace(NULL), 0);
}

static void workspace_does_not_depend_on_lengths(void **state)
{
    step *s = planned(2);
    const size_t before = fli_attention_workspace(s->op);

    (void)state;
    s->kv_len[0] = INT32_MAX;
    assert_ok(plan(s));
    assert_int_equal(fli_attention_workspace(s->op), before);
    drop(s);
}

/* --- plan ------------------------------------------------------------------- */

#define PLAN_FAILS(place, value, text)                                         \
    do {                                                                       \
        const step kept = *s;                                                  \
        s->place = value;                                                      \
        assert_fails(plan(s), INVALID_ARGUMENT, "attention plan: " text);      \
        *s = kept;                                                             \
    } while (0)

static void plan_says_what_is_wrong(void **state)
{
    step *s = planned(2);
    char text[200];

    (void)state;
    assert_fails(
        fli_attention_plan(NULL, &s->batch, s->workspace, s->bytes, NULL),
        INVALID_ARGUMENT, "attention plan: op is NULL, expected an op");
    assert_fails(fli_attention_plan(s->op, NULL, s->workspace, s->bytes, NULL),
                 INVALID_ARGUMENT,
                 "attention plan: batch is NULL, expected a struct");
    assert_int_equal(
        fli_attention_plan(s->op, &s->batch, s->workspace, s->bytes, s),
        FLI_INVALID_ARGUMENT);
    PLAN_FAILS(batch.n_requests, 4,
               "n_requests is 4, expected 0 to max_requests 3");
    PLAN_FAILS(batch.n_requests, -1,
               "n_requests is -1, expected 0 to max_requests 3");
    PLAN_FAILS(batch.q_indptr, NULL,
               "q_indptr is NULL, expected 4 prefix sums");
    PLAN_FAILS(batch.kv_len, NULL, "kv_len is NULL, expected 3 lengths");
    PLAN_FAILS(batch.mask, 2, "mask is 2, expected a fli_mask");
    PLAN_FAILS(batch.window, -1, "window is -1, expected at least 0");
    PLAN_FAILS(batch.reserved, 1, "reserved is 1, expected 0");
    PLAN_FAILS(q_indptr[0], 1, "q_indptr[0] is 1, expected 0");
    PLAN_FAILS(q_indptr[2], 0,
               "q_indptr[2] is 0, expected at least q_indptr[1] = 1");
    PLAN_FAILS(q_indptr[3], 13, "q_indptr[3] is 13, expected at most 12");
    PLAN_FAILS(kv_len[1], -5, "kv_len[1] is -5, expected at least 0");
    snprintf(text, sizeof(text),
             "attention plan: workspace is NULL, expected %zu bytes", s->bytes);
    assert_fails(fli_attention_plan(s->op, &s->batch, NULL, s->bytes, NULL),
                 INVALID_ARGUMENT, text);
    snprintf(text, sizeof(text),
             "attention plan: workspace is at %p, expected a multiple of 256 "
             "bytes",
             (void *)((char *)s->workspace + 64));
    assert_fails(fli_attention_plan(s->op, &s->batch, (char *)s->workspace + 64,
                                    s->bytes, NULL),
                 INVALID_ARGUMENT, text);
    snprintf(text, sizeof(text),
             "attention plan: workspace_bytes is %zu, expected at least %zu",
             s->bytes - 1, s->bytes);
    assert_fails(
        fli_attention_plan(s->op, &s->batch, s->workspace, s->bytes - 1, NULL),
        WORKSPACE, text);
    drop(s);
}

static void a_failed_plan_keeps_the_last_one(void **state)
{
    step *s = planned(2);
    char *before = malloc(s->bytes);
    float out[ROWS * HEADS * DIM];

    (void)state;
    assert_ok(run(s));
    memcpy(out, s->out, sizeof(out));
    memcpy(before, s->workspace, s->bytes);
    s->kv_len[2] = -1;
    assert_int_equal(plan(s), FLI_INVALID_ARGUMENT);
    assert_memory_equal(before, s->workspace, s->bytes);
    assert_ok(run(s));
    assert_memory_equal(out, s->out, sizeof(out));
    free(before);
    drop(s);
}

static void graph_keeps_its_workspace(void **state)
{
    step *s = make_step(2);
    char text[200];
    void *other;

    (void)state;
    s->desc.flags = FLI_ATTENTION_GRAPH;
    create_op(s);
    assert_ok(plan(s));
    s->kv_len[0] = 3;
    assert_ok(plan(s));
    other = aligned_alloc(256, (s->bytes + 255) / 256 * 256);
    snprintf(
        text, sizeof(text),
        "attention plan: workspace is %p, expected %p as in the first plan "
        "(GRAPH)",
        other, s->workspace);
    assert_fails(fli_attention_plan(s->op, &s->batch, other, s->bytes, NULL),
                 INVALID_STATE, text);
    assert_ok(run(s));
    free(other);
    drop(s);
}

static void without_graph_the_workspace_may_move(void **state)
{
    step *s = planned(2);
    float out[ROWS * HEADS * DIM];
    void *other = aligned_alloc(256, (s->bytes + 255) / 256 * 256);

    (void)state;
    assert_ok(run(s));
    memcpy(out, s->out, sizeof(out));
    assert_ok(fli_attention_plan(s->op, &s->batch, other, s->bytes, NULL));
    free(s->workspace);
    s->workspace = other;
    assert_ok(run(s));
    assert_memory_equal(out, s->out, sizeof(out));
    drop(s);
}

/* --- run -------------------------------------------------------------------- */

/* With place = value, run fails with this text and writes nothing. */
#define RUN_FAILS(place, value, text)                                          \
    do {                                                                       \
        const step kept = *s;                                                  \
        s->place = value;                                                      \
        assert_fails(run(s), INVALID_ARGUMENT, "attention run: " text);        \
        assert_memory_equal(kept.out, s->out, sizeof(s->out));                 \
        assert_memory_equal(kept.lse, s->lse, sizeof(s->lse));                 \
        *s = kept;                                                             \
    } while (0)

static void run_needs_a_plan(void **state)
{
    step *s = make_step(1);

    (void)state;
    create_op(s);
    assert_fails(run(s), INVALID_STATE,
                 "attention run: op has no plan, expected fli_attention_plan "
                 "before");
    assert_fails(fli_attention_run_part(s->op, &s->args, 0, 1), INVALID_STATE,
                 "attention run_part: op has no plan, expected "
                 "fli_attention_plan before");
    drop(s);
}

static void run_checks_its_scalars(void **state)
{
    step *s = planned(1);

    (void)state;
    assert_fails(fli_attention_run(NULL, &s->args, NULL), INVALID_ARGUMENT,
                 "attention run: op is NULL, expected an op");
    assert_fails(fli_attention_run(s->op, NULL, NULL), INVALID_ARGUMENT,
                 "attention run: args is NULL, expected a struct");
    assert_int_equal(fli_attention_run(s->op, &s->args, s),
                     FLI_INVALID_ARGUMENT);
    RUN_FAILS(args.mask, 2, "mask is 2, expected a fli_mask");
    RUN_FAILS(args.mask, -1, "mask is -1, expected a fli_mask");
    RUN_FAILS(args.window, -3, "window is -3, expected at least 0");
    RUN_FAILS(args.soft_cap, -1.0f,
              "soft_cap is -1, expected a finite number >= 0");
    RUN_FAILS(args.soft_cap, (float)INFINITY,
              "soft_cap is inf, expected a finite number >= 0");
    RUN_FAILS(args.sm_scale, (float)INFINITY,
              "sm_scale is inf, expected a finite number");
    RUN_FAILS(args.k_scale, (float)-INFINITY,
              "k_scale is -inf, expected a finite number");
    RUN_FAILS(args.v_scale, (float)INFINITY,
              "v_scale is inf, expected a finite number");
    drop(s);
}

static void run_checks_its_tensors(void **state)
{
    step *s = planned(1);

    (void)state;
    RUN_FAILS(
        args.q.dtype, FLI_BF16,
        "q is bf16 [12, 4, 16] on cpu, expected f32 [>= 12, 4, 16] on cpu");
    RUN_FAILS(
        args.q.shape[0], 11,
        "q is f32 [11, 4, 16] on cpu, expected f32 [>= 12, 4, 16] on cpu");
    RUN_FAILS(args.q.device, fli_cuda(0),
              "q is f32 [12, 4, 16] on cuda:0, expected f32 [>= 12, 4, 16] on "
              "cpu");
    RUN_FAILS(args.q.stride[2], 2,
              "q has stride 2 in its last dimension, expected 1");
    RUN_FAILS(args.q, (fli_tensor){ 0 },
              "q is absent (data NULL), expected f32 [>= 12, 4, 16] on cpu");
    RUN_FAILS(
        args.out.shape[2], 8,
        "out is f32 [12, 4, 8] on cpu, expected f32 [>= 12, 4, 16] on cpu");
    RUN_FAILS(
        args.out.stride[1], 0,
        "out has stride 0 in dimension 1, expected an output that does not "
        "overlap itself");
    RUN_FAILS(args.lse.dtype, FLI_F16,
              "lse is f16 [12, 4] on cpu, expected f32 [>= 12, 4] on cpu");
    RUN_FAILS(args.kv.k.ndim, 2,
              "k has 2 dimensions, expected 4 (paged) or 3 (ragged)");
    RUN_FAILS(
        args.kv.k.shape[3], 8,
        "k is f32 [40, 4, 2, 8] on cpu, expected f32 [any, >= 1, 2, 16] on "
        "cpu");
    RUN_FAILS(args.kv.v.shape[0], 39,
              "v is f32 [39, 4, 2, 16] on cpu, expected f32 [40, 4, 2, 16] on "
              "cpu");
    RUN_FAILS(args.kv.layout, 2,
              "layout is 2, expected FLI_NHD (0) or FLI_HND (1)");
    RUN_FAILS(args.kv.layout, FLI_HND,
              "k is f32 [40, 4, 2, 16] on cpu, expected f32 [any, 2, >= 1, 16] "
              "on cpu");
    RUN_FAILS(args.kv.reserved[6], 1, "kv.reserved[6] is 1, expected 0");
    drop(s);
}

static void outputs_have_memory_of_their_own(void **state)
{
    step *s = planned(1);

    (void)state;
    RUN_FAILS(args.out.data, s->q,
              "out overlaps q, expected memory of its own");
    RUN_FAILS(args.out.data, s->k + 5 * DIM,
              "out overlaps k, expected memory of its own");
    RUN_FAILS(args.out.data, s->v,
              "out overlaps v, expected memory of its own");
    RUN_FAILS(args.lse.data, s->page_indices,
              "lse overlaps page_indices, expected memory of its own");
    RUN_FAILS(args.lse.data, s->page_indptr,
              "lse overlaps page_indptr, expected memory of its own");
    RUN_FAILS(args.lse.data, s->out,
              "lse overlaps out, expected memory of its own");
    drop(s);
}

static void run_checks_the_page_table(void **state)
{
    step *s = planned(1);

    (void)state;
    RUN_FAILS(args.kv.page_indptr, (fli_tensor){ 0 },
              "page_indptr is absent (data NULL), expected i32 [>= 4] on cpu");
    RUN_FAILS(args.kv.page_indptr.shape[0], 3,
              "page_indptr is i32 [3] on cpu, expected i32 [>= 4] on cpu");
    RUN_FAILS(args.kv.page_indices.dtype, FLI_I64,
              "page_indices is i64 [40] on cpu, expected i32 [any] on cpu");
    RUN_FAILS(args.kv.kv_indptr, s->args.kv.page_indptr,
              "kv_indptr is given with a paged k, expected it absent");
    RUN_FAILS(page_indptr[0], 1, "page_indptr[0] is 1, expected 0");
    RUN_FAILS(page_indptr[1], 20,
              "page_indptr[2] is 19, expected at least page_indptr[1] = 20");
    RUN_FAILS(page_indptr[3], 41, "page_indptr[3] is 41, expected at most 40");
    RUN_FAILS(page_indptr[3], 28,
              "kv_len[2] = 40 needs 10 pages of 4 tokens, page_indptr[3] - "
              "page_indptr[2] is 9");
    RUN_FAILS(page_indices[17], N_PAGES,
              "page_indices[17] is 40, expected 0 to 39 (a page of k)");
    RUN_FAILS(page_indices[0], -1,
              "page_indices[0] is -1, expected 0 to 39 (a page of k)");
    /* behind what the last request uses anything may stand */
    s->page_indices[29] = -77;
    assert_ok(run(s));
    drop(s);
}

static void run_checks_ragged_lengths(void **state)
{
    step *s = planned(1);
    const int64_t tokens = N_PAGES * PAGE;

    (void)state;
    s->args.kv = fli_ragged_kv(
        fli_tensor_3d(s->k, s->ctx, FLI_F32, tokens, KV_HEADS, DIM),
        fli_tensor_3d(s->v, s->ctx, FLI_F32, tokens, KV_HEADS, DIM),
        fli_tensor_1d(s->page_indptr, s->ctx, FLI_I32, 4));
    s->page_indptr[1] = 61;
    s->page_indptr[2] = 70;
    s->page_indptr[3] = 110;
    assert_ok(run(s));
    RUN_FAILS(page_indptr[1], 60,
              "kv_len[0] = 61, kv_indptr[1] - kv_indptr[0] is 60");
    RUN_FAILS(page_indptr[3], 161, "kv_indptr[3] is 161, expected at most 160");
    RUN_FAILS(page_indptr[2], 50,
              "kv_indptr[2] is 50, expected at least kv_indptr[1] = 61");
    RUN_FAILS(args.kv.page_indices, s->args.kv.kv_indptr,
              "page_indptr is given with a ragged k, expected it absent");
    RUN_FAILS(args.kv.kv_indptr.shape[0], 3,
              "kv_indptr is i32 [3] on cpu, expected i32 [>= 4] on cpu");
    drop(s);
}

static void a_mask_not_prepared_is_refused(void **state)
{
    step *s = make_step(1);

    (void)state;
    s->desc.masks = 1u << FLI_MASK_NONE;
    create_op(s);
    assert_ok(plan(s));
    RUN_FAILS(args.mask, FLI_MASK_CAUSAL,
              "mask is causal, expected one that desc.masks 0x1 prepared");
    s->args.mask = FLI_MASK_NONE;
    assert_ok(run(s));
    drop(s);
}

static void an_empty_batch_does_nothing(void **state)
{
    step *s = make_step(2);
    const fli_attention_args nothing = FLI_ATTENTION_ARGS_INIT;

    (void)state;
    create_op(s);
    s->batch.n_requests = 0;
    s->batch.q_indptr = s->batch.kv_len = NULL;
    assert_ok(plan(s));
    s->out[3] = 7;
    assert_ok(run(s));
    assert_ok(fli_attention_run(s->op, &nothing, NULL));
    assert_ok(fli_attention_run_part(s->op, &nothing, 0, 1));
    assert_true(s->out[3] == 7);
    drop(s);
}

static void the_defaults_are_as_documented(void **state)
{
    step *s = planned(1);
    float out[ROWS * HEADS * DIM];

    (void)state;
    assert_ok(run(s));
    memcpy(out, s->out, sizeof(out));
    s->args.sm_scale = 0.25f; /* 1 / sqrt(16) */
    s->args.k_scale = s->args.v_scale = 1;
    assert_ok(run(s));
    assert_memory_equal(out, s->out, sizeof(out));
    s->args.v_scale = 2;
    assert_ok(run(s));
    for (size_t i = 0; i < sizeof(out) / 4; i++)
        assert_true(fabsf(s->out[i] - 2 * out[i]) <= 1e-6f);
    drop(s);
}

/* --- parts ------------------------------------------------------------------ */

static void parts_in_any_order_and_number(void **state)
{
    static const int32_t counts[] = { 1, 2, 3, 7 };
    float out[ROWS * HEADS * DIM], lse[ROWS * HEADS];
    step *s = make_step(3);

    (void)state;
    create_op(s);
    s->batch.n_requests = 1; /* cut, so that parts merge */
    s->kv_len[0] = 61;
    assert_ok(plan(s));
    assert_ok(run(s));
    memcpy(out, s->out, sizeof(out));
    memcpy(lse, s->lse, sizeof(lse));
    for (int c = 0; c < 4; c++)
        for (int order = 0; order < 2; order++) {
            memset(s->out, 0, sizeof(s->out));
            memset(s->lse, 0, sizeof(s->lse));
            for (int32_t i = 0; i < counts[c]; i++)
                assert_ok(fli_attention_run_part(
                    s->op, &s->args, order ? i : counts[c] - 1 - i, counts[c]));
            assert_memory_equal(out, s->out, HEADS * DIM * 4);
            assert_memory_equal(lse, s->lse, HEADS * 4);
        }
    assert_fails(fli_attention_run_part(s->op, &s->args, 0, 0),
                 INVALID_ARGUMENT,
                 "attention run_part: nth is 0, expected at least 1");
    assert_fails(fli_attention_run_part(s->op, &s->args, 2, 2),
                 INVALID_ARGUMENT,
                 "attention run_part: ith is 2, expected 0 to 1");
    assert_fails(fli_attention_run_part(s->op, &s->args, -1, 2),
                 INVALID_ARGUMENT,
                 "attention run_part: ith is -1, expected 0 to 1");
    drop(s);
}

/* --- bits ------------------------------------------------------------------- */

enum { LONG = 5000, LONG_PAGES = LONG / PAGE + 1 };

/* Rows [first, first + n) of one request of LONG tokens, n_others like it behind
 * it, by n_threads; HEADS * DIM floats a row into out. */
static void run_long(int32_t n_threads, int32_t first, int32_t n,
                     int32_t n_others, const float *kv, float *out)
{
    step *s = make_step(n_threads);
    int32_t *table = calloc(LONG_PAGES * 3, sizeof(*table));

    for (int32_t i = 0; i < LONG_PAGES * 3; i++)
        table[i] = i % LONG_PAGES;
    s->desc.flags = FLI_ATTENTION_BATCH_INVARIANT;
    create_op(s);
    s->batch.n_requests = 1 + n_others;
    for (int32_t i = 0; i <= n_others; i++) {
        s->q_indptr[i + 1] = s->q_indptr[i] + (i ? 2 : n);
        s->kv_len[i] = i ? LONG - 3 * i : LONG - 8 + first + n;
        s->page_indptr[i + 1] = s->page_indptr[i] + LONG_PAGES;
    }
    for (int32_t i = 0; i < n; i++)
        memcpy(s->q + i * HEADS * DIM, kv + (first + i) * HEADS * DIM,
               HEADS * DIM * 4);
    assert_ok(plan(s));
    s->args.kv = fli_paged_kv(
        fli_tensor_4d(kv, s->ctx, FLI_F32, LONG_PAGES, PAGE, KV_HEADS, DIM),
        fli_tensor_4d(kv + DIM, s->ctx, FLI_F32, LONG_PAGES, PAGE, KV_HEADS,
                      DIM),
        fli_tensor_1d(s->page_indptr, s->ctx, FLI_I32, 2 + n_others),
        fli_tensor_1d(table, s->ctx, FLI_I32, LONG_PAGES * 3));
    assert_ok(run(s));
    memset(s->out, 0xff, sizeof(s->out)); /* the next layer, by the same plan */
    assert_ok(run(s));
    memcpy(out, s->out, (size_t)n * HEADS * DIM * 4);
    free(table);
    drop(s);
}

/* The last 8 rows of a request give the same bits whoever is with it in the batch,
 * however the prompt is cut and however many threads share the work. */
static void invariant_rows_have_bits_of_their_own(void **state)
{
    const size_t n = (LONG_PAGES * PAGE * KV_HEADS + 1) * DIM;
    float *kv = malloc(n * sizeof(*kv));
    float want[8 * HEADS * DIM], got[8 * HEADS * DIM];

    (void)state;
    fill(kv, n);
    run_long(1, 0, 8, 0, kv, want);
    for (int32_t n_threads = 1; n_threads <= 5; n_threads += 2)
        for (int32_t others = 0; others <= 2; others++)
            for (int32_t chunk = 1; chunk <= 8; chunk *= 2)
                for (int32_t first = 0; first < 8; first += chunk) {
                    run_long(n_threads, first, chunk, others, kv, got);
                    assert_memory_equal(got, want + first * HEADS * DIM,
                                        (size_t)chunk * HEADS * DIM * 4);
                }
    free(kv);
}

static void the_same_run_gives_the_same_bits(void **state)
{
    step *s = planned(3);
    float out[ROWS * HEADS * DIM];

    (void)state;
    assert_ok(run(s));
    memcpy(out, s->out, sizeof(out));
    for (int i = 0; i < 50; i++) {
        memset(s->out, 0, sizeof(s->out));
        assert_ok(run(s));
        assert_memory_equal(out, s->out, sizeof(out));
    }
    drop(s);
}

/* --- texts and figures ------------------------------------------------------- */

/* Text of s->desc in a context of these options. */
static char *explain(const fli_context_options *options, const step *s)
{
    static char buf[1000];
    fli_context *ctx;

    assert_ok(fli_context_create(&ctx, fli_cpu(), options));
    const size_t n = fli_attention_explain(ctx, &s->desc, NULL, 0);

    assert_true(n < sizeof(buf));
    assert_int_equal(fli_attention_explain(ctx, &s->desc, buf, sizeof(buf)), n);
    assert_int_equal(strlen(buf), n);
    fli_context_destroy(ctx);
    return buf;
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no \"%s\" in\n%s", part, text);
}

static void explain_names_each_implementation(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    step *s = make_step(1);
    const char *text;

    (void)state;
    s->desc.head_dim_qk = s->desc.head_dim_vo = 96;
    s->desc.dtype_q = FLI_BF16;
    s->desc.n_qo_heads = 14;
    s->desc.max_requests = s->desc.max_rows = 0; /* capacity does not matter */
    options.cpu_isa = "baseline";
    text = explain(&options, s);
    assert_has(text, "attention  q bf16  kv bf16  d 96  group 7  cpu\n");
    assert_has(text, "\n  cpu avx2      no   ");
    assert_has(text, "\n  cpu baseline  yes  tile classes: ");
    assert_has(text, "\n  ref           -\n");
    assert_null(strstr(text, "plain"));
    options.impl = "ref";
    s->desc.dtype_out = FLI_F32;
    s->desc.head_dim_vo = 64;
    s->desc.flags = FLI_ATTENTION_GRAPH | FLI_ATTENTION_BATCH_INVARIANT;
    text = explain(&options, s);
    assert_has(text, "attention  q bf16  kv bf16  out f32  d 96/64  group 7  "
                     "graph  batch-invariant  cpu\n");
    assert_has(text,
               "\n  cpu baseline  no   another implementation is forced\n");
    assert_has(text, "\n  ref           yes  tile classes: 16x64\n");
    options.impl = "attention:plain";
    assert_has(explain(&options, s), "\n  plain         yes  ");
    assert_int_equal(fli_attention_explain(NULL, &s->desc, NULL, 0), 0);
    assert_string_equal(fli_last_error(),
                        "attention explain: ctx is NULL, expected a context");
    s->desc.head_dim_qk = 3;
    assert_int_equal(fli_attention_explain(s->ctx, &s->desc, NULL, 0), 0);
    assert_string_equal(fli_last_error(),
                        "attention explain: head_dim_qk is 3, expected a "
                        "multiple of 8 from 8 to 576");
    drop(s);
}

static void print_shows_op_and_plan(void **state)
{
    step *s = make_step(2);
    char buf[4000], small[10];

    (void)state;
    create_op(s);
    const size_t before = fli_attention_print(s->op, buf, sizeof(buf));

    assert_int_equal(before, strlen(buf));
    assert_has(buf, "attention  q f32  kv f32  d 16  group 2  cpu\n");
    assert_has(buf, "\nno plan\n");
    assert_ok(plan(s));
    const size_t n = fli_attention_print(s->op, buf, sizeof(buf));

    assert_int_equal(n, strlen(buf));
    assert_has(buf, "\nplan  2 workers  ");
    assert_has(buf, "  request 1  ");
    assert_int_equal(fli_attention_print(s->op, small, sizeof(small)), n);
    assert_memory_equal(small, buf, 9);
    assert_int_equal(small[9], 0);
    assert_int_equal(fli_attention_print(NULL, buf, sizeof(buf)), 0);
    assert_string_equal(fli_last_error(),
                        "attention print: op is NULL, expected an op");
    drop(s);
}

static void stats_are_those_of_the_plan(void **state)
{
    step *s = make_step(2);
    fli_attention_stats stats = FLI_ATTENTION_STATS_INIT;

    (void)state;
    create_op(s);
    stats.n_items = 77;
    assert_ok(fli_attention_get_stats(s->op, &stats));
    assert_int_equal(stats.n_items, 0);
    assert_int_equal(stats.n_workers, 0);
    assert_ok(plan(s));
    assert_ok(fli_attention_get_stats(s->op, &stats));
    assert_int_equal(stats.n_workers, 2);
    assert_true(stats.n_items >= 3);
    assert_true(stats.max_cost > 0 && stats.max_cost <= stats.total_cost);
    assert_true(stats.max_cost * 2 >= stats.total_cost);
    assert_fails(fli_attention_get_stats(NULL, &stats), INVALID_ARGUMENT,
                 "attention get_stats: op is NULL, expected an op");
    assert_fails(fli_attention_get_stats(s->op, NULL), INVALID_ARGUMENT,
                 "attention get_stats: stats is NULL, expected a struct");
    stats.size = 8;
    assert_int_equal(fli_attention_get_stats(s->op, &stats),
                     FLI_INVALID_ARGUMENT);
    drop(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_says_what_is_wrong),
        cmocka_unit_test(create_refuses_what_31_bits_cannot_count),
        cmocka_unit_test(any_implementation_can_be_forced),
        cmocka_unit_test(out_of_memory_is_a_status),
        cmocka_unit_test(null_is_fine_where_it_says_so),
        cmocka_unit_test(workspace_does_not_depend_on_lengths),
        cmocka_unit_test(plan_says_what_is_wrong),
        cmocka_unit_test(a_failed_plan_keeps_the_last_one),
        cmocka_unit_test(graph_keeps_its_workspace),
        cmocka_unit_test(without_graph_the_workspace_may_move),
        cmocka_unit_test(run_needs_a_plan),
        cmocka_unit_test(run_checks_its_scalars),
        cmocka_unit_test(run_checks_its_tensors),
        cmocka_unit_test(outputs_have_memory_of_their_own),
        cmocka_unit_test(run_checks_the_page_table),
        cmocka_unit_test(run_checks_ragged_lengths),
        cmocka_unit_test(a_mask_not_prepared_is_refused),
        cmocka_unit_test(an_empty_batch_does_nothing),
        cmocka_unit_test(the_defaults_are_as_documented),
        cmocka_unit_test(parts_in_any_order_and_number),
        cmocka_unit_test(invariant_rows_have_bits_of_their_own),
        cmocka_unit_test(the_same_run_gives_the_same_bits),
        cmocka_unit_test(explain_names_each_implementation),
        cmocka_unit_test(print_shows_op_and_plan),
        cmocka_unit_test(stats_are_those_of_the_plan),
    };

    return RUN(tests);
}
