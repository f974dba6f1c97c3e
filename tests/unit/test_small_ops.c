/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals of the ops of one tensor pass: norm, activation, rope, page, quant.
 * Each starts from arguments that are right, spoils one and wants the sentence;
 * no refusal may write. */
#include "unit.h"

#include <math.h>

static fli_context *ctx;

/* What the ops of all tests write to; refusals must leave it alone. */
static _Alignas(64) float area[4096];

static int create(void **state)
{
    (void)state;
    return fli_context_create(&ctx, fli_cpu(), NULL);
}

static int destroy(void **state)
{
    (void)state;
    fli_context_destroy(ctx);
    return 0;
}

static void fill_area(void)
{
    for (int i = 0; i < 4096; i++)
        area[i] = (float)i;
}

static void assert_area_untouched(void)
{
    for (int i = 0; i < 4096; i++)
        assert_true(area[i] == (float)i);
}

/* Spoils a copy of valid and wants the call to refuse it with text, in prepare
 * too unless that has no data to see it in. */
#define REFUSES_RUN(call, valid, spoil, text)                                  \
    do {                                                                       \
        args = (valid);                                                        \
        spoil;                                                                 \
        fill_area();                                                           \
        assert_fails(call(ctx, &args, NULL), INVALID_ARGUMENT, text);          \
        assert_area_untouched();                                               \
    } while (0)

#define REFUSES(call, valid, spoil, op, text)                                  \
    do {                                                                       \
        REFUSES_RUN(call, valid, spoil, op " run: " text);                     \
        assert_fails(call##_prepare(ctx, &args), INVALID_ARGUMENT,             \
                     op " prepare: " text);                                    \
    } while (0)

static fli_tensor f32_2d(float *data, int64_t n0, int64_t n1)
{
    return fli_tensor_2d(data, NULL, FLI_F32, n0, n1);
}

static fli_tensor f32_3d(float *data, int64_t n0, int64_t n1, int64_t n2)
{
    return fli_tensor_3d(data, NULL, FLI_F32, n0, n1, n2);
}

static fli_tensor i32_1d(const int32_t *data, int64_t n)
{
    return fli_tensor_1d(data, NULL, FLI_I32, n);
}

/* --- any op -------------------------------------------------------------- */

static void calls_without_a_context_or_args(void **state)
{
    fli_rmsnorm_args args = FLI_RMSNORM_ARGS_INIT;

    (void)state;
    assert_fails(fli_rmsnorm(NULL, &args, NULL), INVALID_ARGUMENT,
                 "rmsnorm run: ctx is NULL, expected a context");
    assert_fails(fli_rmsnorm_prepare(NULL, &args), INVALID_ARGUMENT,
                 "rmsnorm prepare: ctx is NULL, expected a context");
    assert_fails(fli_rmsnorm(ctx, NULL, NULL), INVALID_ARGUMENT,
                 "rmsnorm run: args is NULL, expected a struct");
    assert_int_equal(fli_rmsnorm(ctx, &args, &args), FLI_INVALID_ARGUMENT);
    args.size = 8;
    assert_int_equal(fli_rmsnorm(ctx, &args, NULL), FLI_INVALID_ARGUMENT);
    assert_non_null(strstr(fli_last_error(), "rmsnorm run: args.size is 8"));
}

/* --- norm ---------------------------------------------------------------- */

static fli_rmsnorm_args rmsnorm_args(void)
{
    return (fli_rmsnorm_args){
        .size = sizeof(fli_rmsnorm_args),
        .x = f32_2d(area, 2, 8),
        .weight = fli_tensor_1d(area + 16, NULL, FLI_F32, 8),
        .out = f32_2d(area + 32, 2, 8),
    };
}

static void rmsnorm_refusals(void **state)
{
    fli_rmsnorm_args args;

    (void)state;
#define BAD(spoil, text)                                                       \
    REFUSES(fli_rmsnorm, rmsnorm_args(), spoil, "rmsnorm", text)
    BAD(args.x = (fli_tensor){ 0 },
        "x is absent (data NULL), expected f32|f16|bf16 [any, any] on cpu");
    BAD(args.x.dtype = FLI_I32,
        "x is i32 [2, 8] on cpu, expected f32|f16|bf16 [any, any] on cpu");
    BAD(args.x.device = fli_cuda(0),
        "x is f32 [2, 8] on cuda:0, expected f32|f16|bf16 [any, any] on cpu");
    BAD(args.x.stride[1] = 2,
        "x has stride 2 in its last dimension, expected 1");
    BAD(args.out.shape[0] = 3,
        "out is f32 [3, 8] on cpu, expected f32 [2, 8] on cpu");
    BAD(args.out.stride[0] = 0,
        "out has stride 0 in dimension 0, expected an output that does not "
        "overlap itself");
    BAD(args.weight.shape[0] = 7,
        "weight is f32 [7] on cpu, expected f32 [8] on cpu");
    BAD(args.out.data = area + 8,
        "out overlaps x, expected the same view of it or memory of its own");
    BAD(args.eps = -1, "eps is -1, expected a finite number >= 0");
    BAD(args.eps = INFINITY, "eps is inf, expected a finite number >= 0");
#undef BAD
}

static fli_fused_add_rmsnorm_args fused_args(void)
{
    return (fli_fused_add_rmsnorm_args){
        .size = sizeof(fli_fused_add_rmsnorm_args),
        .x = f32_2d(area, 2, 8),
        .residual = f32_2d(area + 32, 2, 8),
        .weight = fli_tensor_1d(area + 64, NULL, FLI_F32, 8),
    };
}

static void fused_add_rmsnorm_refusals(void **state)
{
    fli_fused_add_rmsnorm_args args;

    (void)state;
#define BAD(spoil, text)                                                       \
    REFUSES(fli_fused_add_rmsnorm, fused_args(), spoil, "fused_add_rmsnorm",   \
            text)
    BAD(args.x.ndim = 3,
        "x is f32 [2, 8, 0] on cpu, expected f32|f16|bf16 [any, any] on cpu");
    BAD(args.residual.dtype = FLI_BF16,
        "residual is bf16 [2, 8] on cpu, expected f32 [2, 8] on cpu");
    BAD(args.residual.data = area + 15,
        "residual overlaps x, expected memory of its own");
    BAD(args.residual.data = area,
        "residual overlaps x, expected memory of its own");
    BAD(args.weight.shape[0] = 16,
        "weight is f32 [16] on cpu, expected f32 [8] on cpu");
    BAD(args.eps = NAN, "eps is nan, expected a finite number >= 0");
#undef BAD
}

/* --- activation ---------------------------------------------------------- */

static fli_act_and_mul_args act_args(void)
{
    return (fli_act_and_mul_args){
        .size = sizeof(fli_act_and_mul_args),
        .x = f32_2d(area, 2, 16),
        .out = f32_2d(area + 64, 2, 8),
    };
}

static void activation_refusals(void **state)
{
    fli_act_and_mul_args args;

    (void)state;
#define BAD(spoil, text)                                                       \
    do {                                                                       \
        REFUSES(fli_silu_and_mul, act_args(), spoil, "silu_and_mul", text);    \
        REFUSES(fli_gelu_and_mul, act_args(), spoil, "gelu_and_mul", text);    \
        REFUSES(fli_gelu_tanh_and_mul, act_args(), spoil, "gelu_tanh_and_mul", \
                text);                                                         \
    } while (0)
    BAD(args.x = f32_2d(area, 2, 15),
        "x has 15 columns, expected an even number (2 h)");
    BAD(args.out.shape[1] = 16,
        "out is f32 [2, 16] on cpu, expected f32 [2, 8] on cpu");
    BAD(args.out.data = area + 8;
        args.out.stride[0] = 16,
        "out overlaps x, expected x[:, :h] or memory of its own");
    BAD(args.out.data = area,
        "out overlaps x, expected x[:, :h] or memory of its own");
#undef BAD
    args = act_args();
    args.out.data = area;
    args.out.stride[0] = 16;
    assert_ok(fli_silu_and_mul(ctx, &args, NULL));
}

/* --- rope ---------------------------------------------------------------- */

static const int32_t rope_positions[] = { 3, 7 };

static fli_rope_args rope_args(void)
{
    return (fli_rope_args){
        .size = sizeof(fli_rope_args),
        .q = f32_3d(area, 2, 3, 8),
        .k = f32_3d(area + 64, 2, 1, 8),
        .q_out = f32_3d(area + 128, 2, 3, 8),
        .k_out = f32_3d(area + 192, 2, 1, 8),
        .positions = i32_1d(rope_positions, 2),
    };
}

static fli_rope_args rope_cache_args(void)
{
    fli_rope_args args = rope_args();

    args.cos_sin_cache = f32_2d(area + 256, 8, 8);
    return args;
}

static void rope_refusals(void **state)
{
    fli_rope_args args;

    (void)state;
#define BAD(spoil, text) REFUSES(fli_rope, rope_args(), spoil, "rope", text)
    BAD(args.q.dtype = FLI_U8, "q is u8 [2, 3, 8] on cpu, expected "
                               "f32|f16|bf16 [any, any, any] on cpu");
    BAD(args.q_out.shape[1] = 2,
        "q_out is f32 [2, 2, 8] on cpu, expected f32 [2, 3, 8] on cpu");
    BAD(args.k.shape[2] = 4,
        "k is f32 [2, 1, 4] on cpu, expected f32 [2, any, 8] on cpu");
    BAD(args.k_out.shape[1] = 2,
        "k_out is f32 [2, 2, 8] on cpu, expected f32 [2, 1, 8] on cpu");
    BAD(args.k_out = (fli_tensor){ 0 },
        "k_out is absent, expected it given, as k is");
    BAD(args.k = (fli_tensor){ 0 },
        "k_out is given, expected it absent, as k is");
    BAD(args.positions.dtype = FLI_U8,
        "positions is u8 [2] on cpu, expected i32|i64 [2] on cpu");
    BAD(args.positions.shape[0] = 3,
        "positions is i32 [3] on cpu, expected i32|i64 [2] on cpu");
    BAD(args.rotary_dim = 3, "rotary_dim is 3, expected an even number of at "
                             "most head_dim 8");
    BAD(args.rotary_dim = 10, "rotary_dim is 10, expected an even number of at "
                              "most head_dim 8");
    BAD(args.rotary_dim = -2, "rotary_dim is -2, expected an even number of at "
                              "most head_dim 8");
    BAD(args.interleaved = 2, "interleaved is 2, expected 0 or 1");
    BAD(args.llama31 = -1, "llama31 is -1, expected 0 or 1");
    BAD(args.theta = -1, "theta is -1, expected a finite number >= 0");
    BAD(args.scale = NAN, "scale is nan, expected a finite number >= 0");
    BAD(args.low_freq_factor = 1,
        "low_freq_factor is 1, expected 0 without llama31");
    BAD(args.high_freq_factor = 4,
        "high_freq_factor is 4, expected 0 without llama31");
    BAD(args.old_context_len = 8192,
        "old_context_len is 8192, expected 0 without llama31");
    BAD(args.llama31 = 1; args.low_freq_factor = 4,
                          "low_freq_factor is 4, expected less than "
                          "high_freq_factor 4");
#undef BAD
}

static void rope_cache_refusals(void **state)
{
    static const int32_t beyond[] = { 7, 8 }, below[] = { -1, 0 };
    static const int64_t far_beyond[] = { 0, INT64_C(1) << 40 };
    fli_rope_args args;

    (void)state;
#define BAD(spoil, text)                                                       \
    REFUSES(fli_rope, rope_cache_args(), spoil, "rope", text)
    BAD(args.cos_sin_cache.dtype = FLI_BF16,
        "cos_sin_cache is bf16 [8, 8] on cpu, expected f32 [any, 8] on cpu");
    BAD(args.rotary_dim = 4,
        "cos_sin_cache is f32 [8, 8] on cpu, expected f32 [any, 4] on cpu");
    BAD(args.theta = 1e4f,
        "theta is 10000, expected 0 where cos_sin_cache is given");
    BAD(args.scale = 2, "scale is 2, expected 0 where cos_sin_cache is given");
    BAD(args.llama31 = 1,
        "llama31 is 1, expected 0 where cos_sin_cache is given");
#undef BAD
#define BAD(spoil, text)                                                       \
    REFUSES_RUN(fli_rope, rope_cache_args(), spoil, "rope run: " text)
    BAD(args.positions.data = (void *)(uintptr_t)beyond,
        "positions[1] is 8, expected 0 to 7 (cos_sin_cache's last row)");
    BAD(args.positions.data = (void *)(uintptr_t)below,
        "positions[0] is -1, expected 0 to 7 (cos_sin_cache's last row)");
    BAD(args.positions = fli_tensor_1d(far_beyond, NULL, FLI_I64, 2),
        "positions[1] is 1099511627776, expected 0 to 7 (cos_sin_cache's last "
        "row)");
#undef BAD
}

static void rope_aliases(void **state)
{
    fli_rope_args args;

    (void)state;
#define BAD(spoil, text)                                                       \
    REFUSES(fli_rope, rope_cache_args(), spoil, "rope", text)
    BAD(args.q_out.data = area + 8,
        "q_out overlaps q, expected the same view of it or memory of its own");
    BAD(args.k_out.data = area + 65,
        "k_out overlaps k, expected the same view of it or memory of its own");
    BAD(args.q_out.data = area + 64,
        "q_out overlaps k, expected memory of its own");
    BAD(args.k_out.data = area, "k_out overlaps q, expected memory of its own");
    BAD(args.k_out.data = area + 128,
        "k_out overlaps q_out, expected memory of its own");
    BAD(args.q_out.data = area + 300,
        "q_out overlaps cos_sin_cache, expected memory of its own");
    BAD(args.k_out.data = area + 300,
        "k_out overlaps cos_sin_cache, expected memory of its own");
#undef BAD
    /* q and k of a fused projection [2, (3 + 1 + 1) * 8] turn in place */
    args = rope_args();
    args.q.stride[0] = args.k.stride[0] = 40;
    args.k.data = area + 24;
    args.q_out = args.q;
    args.k_out = args.k;
    assert_ok(fli_rope(ctx, &args, NULL));
    args.k.data = args.k_out.data = area + 23; /* a head too early */
    assert_fails(fli_rope(ctx, &args, NULL), INVALID_ARGUMENT,
                 "rope run: q_out overlaps k, expected memory of its own");
    args.k.data = args.k_out.data = area + 33; /* ends in the next row's q */
    assert_fails(fli_rope(ctx, &args, NULL), INVALID_ARGUMENT,
                 "rope run: q_out overlaps k, expected memory of its own");
}

/* --- append -------------------------------------------------------------- */

static const int32_t append_requests[] = { 0, 1, 1 };
static const int32_t append_positions[] = { 4, 0, 1 };
static const int32_t append_page_indptr[] = { 0, 2, 3 };
static const int32_t append_page_indices[] = { 2, 0, 1 };

/* Two requests; pages of 4 tokens; one head of 8. */
static fli_append_args append_args(void)
{
    return (fli_append_args){
        .size = sizeof(fli_append_args),
        .k = f32_3d(area, 3, 1, 8),
        .v = f32_3d(area + 64, 3, 1, 8),
        .batch_indices = i32_1d(append_requests, 3),
        .positions = i32_1d(append_positions, 3),
        .cache = {
            .k = fli_tensor_4d(area + 128, NULL, FLI_F32, 3, 4, 1, 8),
            .v = fli_tensor_4d(area + 512, NULL, FLI_F32, 3, 4, 1, 8),
            .page_indptr = i32_1d(append_page_indptr, 3),
            .page_indices = i32_1d(append_page_indices, 3),
        },
    };
}

static void append_refusals(void **state)
{
    fli_append_args args;

    (void)state;
#define BAD(spoil, text)                                                       \
    REFUSES(fli_append, append_args(), spoil, "append", text)
    BAD(args.v.dtype = FLI_F16,
        "v is f16 [3, 1, 8] on cpu, expected f32 [3, 1, any] on cpu");
    BAD(args.batch_indices.dtype = FLI_I64,
        "batch_indices is i64 [3] on cpu, expected i32 [3] on cpu");
    BAD(args.positions.shape[0] = 2,
        "positions is i32 [2] on cpu, expected i32 [3] on cpu");
    BAD(args.cache.layout = 2,
        "cache.layout is 2, expected 0 (FLI_NHD) or 1 (FLI_HND)");
    BAD(args.cache.reserved[3] = 5, "cache.reserved[3] is 5, expected 0");
    BAD(args.cache.kv_indptr = args.cache.page_indptr,
        "cache.kv_indptr is given, expected a paged cache");
    BAD(args.cache.k.shape[1] = 0,
        "cache.k is f32 [3, 0, 1, 8] on cpu, expected f32|f16|bf16 "
        "[any, >= 1, 1, 8] on cpu");
    BAD(args.cache.layout = FLI_HND,
        "cache.k is f32 [3, 4, 1, 8] on cpu, expected f32|f16|bf16 "
        "[any, 1, >= 1, 8] on cpu");
    BAD(args.cache.v.shape[0] = 2,
        "cache.v is f32 [2, 4, 1, 8] on cpu, expected f32 [3, 4, 1, 8] on cpu");
    BAD(args.cache.page_indptr.shape[0] = 0,
        "cache.page_indptr is i32 [0] on cpu, expected i32 [>= 1] on cpu");
    BAD(args.cache.page_indices = (fli_tensor){ 0 },
        "cache.page_indices is absent (data NULL), expected i32 [any] on cpu");
    BAD(args.cache.k.data = area + 16,
        "cache.k overlaps k, expected memory of its own");
    BAD(args.cache.v.data = area + 70,
        "cache.v overlaps v, expected memory of its own");
#undef BAD
}

static void append_refuses_ids(void **state)
{
    static const int32_t requests[] = { 0, 2, 1 }, positions[] = { 8, 0, 1 };
    static const int32_t from_one[] = { 1, 2, 3 }, falling[] = { 0, 3, 2 };
    static const int32_t pages[] = { 2, 3, 1 }, negative[] = { 2, 0, -1 };
    static const int32_t skipped[] = { -1, -1, -1 };
    fli_append_args args;

    (void)state;
#define BAD(spoil, text)                                                       \
    REFUSES_RUN(fli_append, append_args(), spoil, "append run: " text)
    BAD(args.batch_indices = i32_1d(requests, 3),
        "batch_indices[1] is 2, expected less than the 2 requests of "
        "cache.page_indptr");
    BAD(args.positions = i32_1d(positions, 3),
        "positions[0] is 8, expected less than the 8 tokens of request 0's 2 "
        "pages of 4");
    BAD(args.cache.page_indptr = i32_1d(from_one, 3),
        "cache.page_indptr[0] is 1, expected 0");
    BAD(args.cache.page_indptr = i32_1d(falling, 3),
        "cache.page_indptr[2] is 2, expected at least cache.page_indptr[1] = "
        "3");
    BAD(args.cache.page_indices.shape[0] = 2,
        "cache.page_indptr[2] is 3, expected at most 2");
    BAD(args.cache.page_indices = i32_1d(pages, 3),
        "cache.page_indices[1] is 3, expected 0 to 2");
    BAD(args.cache.page_indices = i32_1d(negative, 3),
        "cache.page_indices[2] is -1, expected 0 to 2");
#undef BAD
    /* ids that no row uses are not looked at, nor is a skipped row */
    args = append_args();
    args.batch_indices = i32_1d(skipped, 3);
    args.positions = i32_1d(positions, 3);
    args.cache.page_indices = i32_1d(negative, 3);
    fill_area();
    assert_ok(fli_append(ctx, &args, NULL));
    assert_area_untouched();
}

/* --- page_copy ----------------------------------------------------------- */

static const int32_t copy_from[] = { 0, 0 }, copy_to[] = { 1, 3 };

static fli_page_copy_args copy_args(void)
{
    return (fli_page_copy_args){
        .size = sizeof(fli_page_copy_args),
        .k = fli_tensor_4d(area, NULL, FLI_F32, 4, 2, 1, 8),
        .v = fli_tensor_4d(area + 64, NULL, FLI_F32, 4, 2, 1, 16),
        .from = i32_1d(copy_from, 2),
        .to = i32_1d(copy_to, 2),
    };
}

static void page_copy_refusals(void **state)
{
    static const int32_t beyond[] = { 1, 4 }, negative[] = { -1, 0 };
    static const int32_t twice[] = { 1, 1 }, both[] = { 2, 0 };
    fli_page_copy_args args;

    (void)state;
#define BAD(spoil, text)                                                       \
    REFUSES(fli_page_copy, copy_args(), spoil, "page_copy", text)
    BAD(args.k.ndim = 3, "k is f32 [4, 2, 1] on cpu, expected f32|f16|bf16 "
                         "[any, any, any, any] on cpu");
    BAD(args.v.shape[0] = 3, "v is f32 [3, 2, 1, 16] on cpu, expected f32 "
                             "[4, 2, 1, any] on cpu");
    BAD(args.to.shape[0] = 1, "to is i32 [1] on cpu, expected i32 [2] on cpu");
#undef BAD
#define BAD(spoil, text)                                                       \
    REFUSES_RUN(fli_page_copy, copy_args(), spoil, "page_copy run: " text)
    BAD(args.to = i32_1d(beyond, 2), "to[1] is 4, expected 0 to 3");
    BAD(args.from = i32_1d(negative, 2), "from[0] is -1, expected 0 to 3");
    BAD(args.to = i32_1d(twice, 2),
        "to[1] is 1 as an earlier one is, expected each page once");
    BAD(args.to = i32_1d(both, 2),
        "from[0] is 0, which is in to as well, expected each page in one list");
#undef BAD
}

/* The lists are compared window by window of page ids. */
static void page_copy_refuses_far_apart(void **state)
{
    static const int32_t from[] = { 5, 300000, 140000 };
    static const int32_t to[] = { 0, 131072, 299999 };
    static const int32_t twice[] = { 299999, 0, 299999 };
    static const int32_t both[] = { 0, 140000, 299999 };
    static uint16_t k[300001], v[300001];
    fli_page_copy_args args = {
        .size = sizeof(args),
        .k = fli_tensor_4d(k, NULL, FLI_F16, 300001, 1, 1, 1),
        .v = fli_tensor_4d(v, NULL, FLI_F16, 300001, 1, 1, 1),
        .from = i32_1d(from, 3),
        .to = i32_1d(to, 3),
    };

    (void)state;
    k[5] = 50, k[300000] = 51, v[140000] = 52;
    assert_ok(fli_page_copy(ctx, &args, NULL));
    assert_int_equal(k[0], 50);
    assert_int_equal(k[131072], 51);
    assert_int_equal(v[299999], 52);
    args.to = i32_1d(twice, 3);
    assert_fails(fli_page_copy(ctx, &args, NULL), INVALID_ARGUMENT,
                 "page_copy run: to[2] is 299999 as an earlier one is, "
                 "expected each page once");
    args.to = i32_1d(both, 3);
    assert_fails(fli_page_copy(ctx, &args, NULL), INVALID_ARGUMENT,
                 "page_copy run: from[2] is 140000, which is in to as well, "
                 "expected each page in one list");
}

/* --- get_batch_indices_positions ----------------------------------------- */

static int32_t ids[16];
static const int32_t appended[] = { 0, 2, 5 }, seq_lens[] = { 2, 10 };

static fli_batch_indices_positions_args positions_args(void)
{
    return (fli_batch_indices_positions_args){
        .size = sizeof(fli_batch_indices_positions_args),
        .append_indptr = i32_1d(appended, 3),
        .seq_lens = i32_1d(seq_lens, 2),
        .batch_indices = i32_1d(ids, 6),
        .positions = i32_1d(ids + 6, 6),
    };
}

static void positions_of_an_example(void **state)
{
    static const int32_t expected[] = { 0, 0, 1, 1, 1, -1, 0, 1, 7, 8, 9, -1 };
    const fli_batch_indices_positions_args args = positions_args();

    (void)state;
    assert_ok(fli_get_batch_indices_positions(ctx, &args, NULL));
    assert_memory_equal(ids, expected, sizeof(expected));
}

static void positions_refusals(void **state)
{
    static const int32_t short_lens[] = { 2, 2 }, falling[] = { 0, 2, 1 };
    fli_batch_indices_positions_args args;

    (void)state;
    memset(ids, 0x55, sizeof(ids));
#define BAD(spoil, text)                                                       \
    REFUSES(fli_get_batch_indices_positions, positions_args(), spoil,          \
            "get_batch_indices_positions", text)
    BAD(args.append_indptr.shape[0] = 0,
        "append_indptr is i32 [0] on cpu, expected i32 [>= 1] on cpu");
    BAD(args.seq_lens.shape[0] = 3,
        "seq_lens is i32 [3] on cpu, expected i32 [2] on cpu");
    BAD(args.batch_indices.dtype = FLI_I64,
        "batch_indices is i64 [6] on cpu, expected i32 [any] on cpu");
    BAD(args.positions.shape[0] = 5,
        "positions is i32 [5] on cpu, expected i32 [6] on cpu");
    BAD(args.positions.data = ids + 5,
        "positions overlaps batch_indices, expected memory of its own");
    BAD(args.seq_lens.data = ids + 11,
        "positions overlaps seq_lens, expected memory of its own");
    BAD(args.append_indptr.data = ids + 1,
        "batch_indices overlaps append_indptr, expected memory of its own");
#undef BAD
#define BAD(spoil, text)                                                       \
    REFUSES_RUN(fli_get_batch_indices_positions, positions_args(), spoil,      \
                "get_batch_indices_positions run: " text)
    BAD(args.append_indptr = i32_1d(falling, 3),
        "append_indptr[2] is 1, expected at least append_indptr[1] = 2");
    BAD(args.batch_indices.shape[0] = args.positions.shape[0] = 4,
        "append_indptr[2] is 5, expected at most 4");
    BAD(args.seq_lens = i32_1d(short_lens, 2),
        "seq_lens[1] is 2, expected at least the 3 tokens appended");
#undef BAD
    for (int i = 0; i < 16; i++)
        assert_int_equal(ids[i], 0x55555555);
}

/* --- packbits ------------------------------------------------------------ */

static const uint8_t booleans[] = { 1, 0, 2, 0, 0, 0, 0, 255, 0, 1, 0 };
static const int32_t segments[] = { 0, 3, 3, 11 };
static uint8_t packed[4];
static int32_t packed_indptr[4];

static fli_packbits_args packbits_args(void)
{
    return (fli_packbits_args){
        .size = sizeof(fli_packbits_args),
        .x = fli_tensor_1d(booleans, NULL, FLI_U8, 11),
        .out = fli_tensor_1d(packed, NULL, FLI_U8, 2),
    };
}

static fli_segment_packbits_args segment_args(void)
{
    return (fli_segment_packbits_args){
        .size = sizeof(fli_segment_packbits_args),
        .x = fli_tensor_1d(booleans, NULL, FLI_BOOL, 11),
        .indptr = i32_1d(segments, 4),
        .out = fli_tensor_1d(packed, NULL, FLI_U8, 4),
        .out_indptr = i32_1d(packed_indptr, 4),
        .bit_order = FLI_BIT_ORDER_LITTLE,
    };
}

static void packbits_of_an_example(void **state)
{
    static const int32_t indptr[] = { 0, 1, 1, 2 };
    fli_packbits_args args = packbits_args();
    const fli_segment_packbits_args segment = segment_args();

    (void)state;
    assert_ok(fli_packbits(ctx, &args, NULL));
    assert_memory_equal(packed, "\xa1\x40", 2);
    args.bit_order = FLI_BIT_ORDER_LITTLE;
    assert_ok(fli_packbits(ctx, &args, NULL));
    assert_memory_equal(packed, "\x85\x02", 2);
    assert_ok(fli_segment_packbits(ctx, &segment, NULL));
    assert_memory_equal(packed, "\x05\x50", 2);
    assert_memory_equal(packed_indptr, indptr, sizeof(indptr));
}

static void packbits_refusals(void **state)
{
    fli_packbits_args args;

    (void)state;
    memset(packed, 0x55, sizeof(packed));
#define BAD(spoil, text)                                                       \
    REFUSES(fli_packbits, packbits_args(), spoil, "packbits", text)
    BAD(args.x.dtype = FLI_I32,
        "x is i32 [11] on cpu, expected u8|bool [any] on cpu");
    BAD(args.out.shape[0] = 1, "out is u8 [1] on cpu, expected u8 [2] on cpu");
    BAD(args.bit_order = 2, "bit_order is 2, expected 0 (big) or 1 (little)");
    BAD(args.out.data = args.x.data,
        "out overlaps x, expected memory of its own");
#undef BAD
    assert_memory_equal(packed, "\x55\x55\x55\x55", 4);
}

static void segment_packbits_refusals(void **state)
{
    static const int32_t beyond[] = { 0, 3, 3, 12 },
                         falling[] = { 0, 3, 2, 11 };
    fli_segment_packbits_args args;

    (void)state;
    memset(packed, 0x55, sizeof(packed));
    memset(packed_indptr, 0x55, sizeof(packed_indptr));
#define BAD(spoil, text)                                                       \
    REFUSES(fli_segment_packbits, segment_args(), spoil, "segment_packbits",   \
            text)
    BAD(args.out_indptr.shape[0] = 3,
        "out_indptr is i32 [3] on cpu, expected i32 [4] on cpu");
    BAD(args.indptr.shape[0] = 0,
        "indptr is i32 [0] on cpu, expected i32 [>= 1] on cpu");
    BAD(args.bit_order = -1, "bit_order is -1, expected 0 (big) or 1 (little)");
    BAD(args.out.data = args.x.data,
        "out overlaps x, expected memory of its own");
    BAD(args.out_indptr.data = args.indptr.data,
        "out_indptr overlaps indptr, expected memory of its own");
#undef BAD
#define BAD(spoil, text)                                                       \
    REFUSES_RUN(fli_segment_packbits, segment_args(), spoil,                   \
                "segment_packbits run: " text)
    BAD(args.indptr = i32_1d(beyond, 4),
        "indptr[3] is 12, expected at most 11");
    BAD(args.indptr = i32_1d(falling, 4),
        "indptr[2] is 2, expected at least indptr[1] = 3");
    BAD(args.out.shape[0] = 1,
        "out has 1 bytes, expected at least the 2 of the 3 segments");
#undef BAD
    assert_memory_equal(packed, "\x55\x55\x55\x55", 4);
    assert_int_equal(packed_indptr[0], 0x55555555);
}

/* --- what prepare takes without data ------------------------------------- */

static void prepare_needs_no_data(void **state)
{
    fli_rmsnorm_args norm = rmsnorm_args();
    fli_append_args append = append_args();
    fli_rope_args rope = rope_args();

    (void)state;
    norm.x.data = norm.out.data = norm.weight.data = NULL;
    assert_ok(fli_rmsnorm_prepare(ctx, &norm));
    assert_int_equal(fli_rmsnorm(ctx, &norm, NULL), FLI_INVALID_ARGUMENT);
    append.k.data = append.v.data = append.cache.k.data = NULL;
    append.cache.v.data = append.cache.page_indptr.data = NULL;
    append.cache.page_indices.data = append.positions.data = NULL;
    append.batch_indices.data = NULL;
    assert_ok(fli_append_prepare(ctx, &append));
    assert_int_equal(fli_append(ctx, &append, NULL), FLI_INVALID_ARGUMENT);
    rope.q.data = rope.q_out.data = rope.k.data = rope.k_out.data = NULL;
    rope.positions.data = NULL;
    assert_ok(fli_rope_prepare(ctx, &rope));
    assert_int_equal(fli_rope(ctx, &rope, NULL), FLI_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_without_a_context_or_args),
        cmocka_unit_test(rmsnorm_refusals),
        cmocka_unit_test(fused_add_rmsnorm_refusals),
        cmocka_unit_test(activation_refusals),
        cmocka_unit_test(rope_refusals),
        cmocka_unit_test(rope_cache_refusals),
        cmocka_unit_test(rope_aliases),
        cmocka_unit_test(append_refusals),
        cmocka_unit_test(append_refuses_ids),
        cmocka_unit_test(page_copy_refusals),
        cmocka_unit_test(page_copy_refuses_far_apart),
        cmocka_unit_test(positions_of_an_example),
        cmocka_unit_test(positions_refusals),
        cmocka_unit_test(packbits_of_an_example),
        cmocka_unit_test(packbits_refusals),
        cmocka_unit_test(segment_packbits_refusals),
        cmocka_unit_test(prepare_needs_no_data),
    };

    return cmocka_run_group_tests(tests, create, destroy);
}
