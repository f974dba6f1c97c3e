/* SPDX-License-Identifier: Apache-2.0 */
/* No op asks for memory or threads while it runs, not even the first time.
 * Counted by count_calls.so, which must be loaded with LD_PRELOAD.  Every op is
 * big enough to be split over the pool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <flashinfer/flashinfer.h>

extern long count_calls(void) __attribute__((weak));

/* call is made once; it succeeds and nothing is counted meanwhile. */
#define assert_allocates_nothing(call)                                         \
    do {                                                                       \
        const long before = count_calls();                                     \
        const fli_status got = (call);                                         \
        const long counted = count_calls() - before;                           \
        if (got)                                                               \
            fail_msg("%s: %s", #call, fli_last_error());                       \
        assert_int_equal(counted, 0);                                          \
    } while (0)

enum { ROWS = 64, WIDE = 1024, N_FLOATS = ROWS * WIDE };

static fli_context *ctx;
static float in[N_FLOATS], in2[N_FLOATS], out[N_FLOATS], out2[N_FLOATS];
static int32_t numbers[ROWS + 1], numbers2[ROWS + 1];
static uint8_t bytes[N_FLOATS], bytes_out[N_FLOATS];

static fli_tensor f32_2d(const float *data, int64_t n0, int64_t n1)
{
    return fli_tensor_2d(data, ctx, FLI_F32, n0, n1);
}

static fli_tensor i32_1d(const int32_t *data, int64_t n)
{
    return fli_tensor_1d(data, ctx, FLI_I32, n);
}

static int setup(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;

    (void)state;
    options.n_threads = 3;
    for (int i = 0; i < N_FLOATS; i++) {
        in[i] = (float)((i * 37) % 101) / 101;
        in2[i] = (float)((i * 53) % 97) / 97;
        bytes[i] = i % 3 == 0;
    }
    return fli_context_create(&ctx, fli_cpu(), &options);
}

static int teardown(void **state)
{
    (void)state;
    fli_context_destroy(ctx);
    return 0;
}

static void *volatile kept;

static void counter_counts(void **state)
{
    fli_context *other;

    (void)state;
    if (!count_calls)
        fail_msg("count_calls.so is not loaded, expected LD_PRELOAD");
    const long before = count_calls();

    kept = malloc(10);
    assert_int_equal(count_calls() - before, 1);
    free(kept);
    assert_int_equal(count_calls() - before, 2);
    kept = aligned_alloc(64, 64);
    free(kept);
    assert_int_equal(count_calls() - before, 4);
    assert_int_equal(fli_context_create(&other, fli_cpu(), NULL), FLI_OK);
    assert_true(count_calls() - before > 4); /* the library's are seen too */
    fli_context_destroy(other);
}

/* --- attention and pages --------------------------------------------------- */

enum { HEADS = 4, DIM = 32, PAGE = 8, PAGES = 32, REQUESTS = 4 };

static fli_kv paged_cache(void)
{
    const int32_t indptr[REQUESTS + 1] = { 0, 8, 16, 24, 32 };

    memcpy(numbers, indptr, sizeof(indptr));
    for (int i = 0; i < PAGES; i++)
        numbers2[i] = (i * 13) % PAGES;
    return fli_paged_kv(
        fli_tensor_4d(in, ctx, FLI_F32, PAGES, PAGE, HEADS, DIM),
        fli_tensor_4d(in2, ctx, FLI_F32, PAGES, PAGE, HEADS, DIM),
        i32_1d(numbers, REQUESTS + 1), i32_1d(numbers2, PAGES));
}

/* Plans and runs it; prefill and decode rows mixed. */
static void attention(uint32_t flags, fli_kv kv)
{
    const int32_t q_indptr[] = { 0, 1, 9, 10, 42 };
    const int32_t kv_len[] = { 64, 64, 1, 50 };
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;
    fli_attention_args args = FLI_ATTENTION_ARGS_INIT;
    fli_attention *op;

    desc.n_qo_heads = 2 * HEADS;
    desc.n_kv_heads = HEADS;
    desc.head_dim_qk = desc.head_dim_vo = DIM;
    desc.dtype_q = FLI_F32;
    desc.flags = flags;
    desc.max_requests = REQUESTS;
    desc.max_rows = 64;
    assert_int_equal(fli_attention_create(&op, ctx, &desc), FLI_OK);
    const size_t n = fli_attention_workspace(op);
    void *workspace = aligned_alloc(256, (n + 255) / 256 * 256);

    batch.n_requests = REQUESTS;
    batch.q_indptr = q_indptr;
    batch.kv_len = kv_len;
    batch.mask = FLI_MASK_CAUSAL;
    args.q = fli_tensor_3d(in, ctx, FLI_F32, 42, 2 * HEADS, DIM);
    args.out = fli_tensor_3d(out, ctx, FLI_F32, 42, 2 * HEADS, DIM);
    args.lse = f32_2d(out2, 42, 2 * HEADS);
    args.kv = kv;
    args.mask = FLI_MASK_CAUSAL;
    assert_allocates_nothing(
        fli_attention_plan(op, &batch, workspace, n, NULL));
    assert_allocates_nothing(fli_attention_run(op, &args, NULL));
    args.mask = FLI_MASK_NONE;
    args.window = 7;
    args.soft_cap = 5;
    assert_allocates_nothing(fli_attention_run(op, &args, NULL));
    fli_attention_destroy(op);
    free(workspace);
}

static void attention_paged(void **state)
{
    (void)state;
    attention(0, paged_cache());
}

static void attention_graph_invariant(void **state)
{
    (void)state;
    attention(FLI_ATTENTION_GRAPH | FLI_ATTENTION_BATCH_INVARIANT,
              paged_cache());
}

static void attention_ragged(void **state)
{
    const int32_t indptr[REQUESTS + 1] = { 0, 64, 128, 129, 179 };

    (void)state;
    memcpy(numbers, indptr, sizeof(indptr));
    attention(0,
              fli_ragged_kv(fli_tensor_3d(in, ctx, FLI_F32, 256, HEADS, DIM),
                            fli_tensor_3d(in2, ctx, FLI_F32, 256, HEADS, DIM),
                            i32_1d(numbers, REQUESTS + 1)));
}

static void merge_states(void **state)
{
    fli_merge_states_args args = FLI_MERGE_STATES_ARGS_INIT;

    (void)state;
    args.v = fli_tensor_4d(in, ctx, FLI_F32, 32, 3, 4, 64);
    args.lse = fli_tensor_3d(in2, ctx, FLI_F32, 32, 3, 4);
    args.v_out = fli_tensor_3d(out, ctx, FLI_F32, 32, 4, 64);
    args.lse_out = f32_2d(out2, 32, 4);
    assert_allocates_nothing(fli_merge_states(ctx, &args, NULL));
}

static void append(void **state)
{
    static int32_t requests[ROWS], positions[ROWS];
    fli_append_args args = FLI_APPEND_ARGS_INIT;

    (void)state;
    for (int i = 0; i < ROWS; i++) {
        requests[i] = i % 7 ? i % REQUESTS : -1;
        positions[i] = i;
    }
    args.k = fli_tensor_3d(in, ctx, FLI_F32, ROWS, HEADS, DIM);
    args.v = fli_tensor_3d(in2, ctx, FLI_F32, ROWS, HEADS, DIM);
    args.batch_indices = i32_1d(requests, ROWS);
    args.positions = i32_1d(positions, ROWS);
    args.cache = paged_cache();
    args.cache.k.data = out;
    args.cache.v.data = out2;
    assert_allocates_nothing(fli_append(ctx, &args, NULL));
}

static void page_copy(void **state)
{
    static const int32_t from[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    static const int32_t to[] = { 31, 30, 29, 28, 27, 26, 25, 24 };
    fli_page_copy_args args = FLI_PAGE_COPY_ARGS_INIT;

    (void)state;
    args.k = fli_tensor_4d(out, ctx, FLI_F32, PAGES, PAGE, HEADS, DIM);
    args.v = fli_tensor_4d(out2, ctx, FLI_F32, PAGES, PAGE, HEADS, DIM);
    args.from = i32_1d(from, 8);
    args.to = i32_1d(to, 8);
    assert_allocates_nothing(fli_page_copy(ctx, &args, NULL));
}

static void batch_indices_positions(void **state)
{
    static const int32_t indptr[] = { 0, 9, 9, 3000 };
    static const int32_t lens[] = { 9, 5, 5000 };
    fli_batch_indices_positions_args args =
        FLI_BATCH_INDICES_POSITIONS_ARGS_INIT;

    (void)state;
    args.append_indptr = i32_1d(indptr, 4);
    args.seq_lens = i32_1d(lens, 3);
    args.batch_indices = i32_1d((int32_t *)(void *)out, N_FLOATS);
    args.positions = i32_1d((int32_t *)(void *)out2, N_FLOATS);
    assert_allocates_nothing(fli_get_batch_indices_positions(ctx, &args, NULL));
}

/* --- rows ------------------------------------------------------------------ */

static void rope(void **state)
{
    fli_rope_args args = FLI_ROPE_ARGS_INIT;

    (void)state;
    for (int i = 0; i < ROWS; i++)
        numbers[i] = i;
    args.q = fli_tensor_3d(in, ctx, FLI_F32, ROWS, 8, 128);
    args.k = fli_tensor_3d(in2, ctx, FLI_F32, ROWS, 8, 128);
    args.q_out = fli_tensor_3d(out, ctx, FLI_F32, ROWS, 8, 128);
    args.k_out = fli_tensor_3d(out2, ctx, FLI_F32, ROWS, 8, 128);
    args.positions = i32_1d(numbers, ROWS);
    args.llama31 = 1;
    args.scale = 8;
    assert_allocates_nothing(fli_rope(ctx, &args, NULL));
    args.llama31 = 0;
    args.scale = 0;
    args.interleaved = 1;
    args.cos_sin_cache = f32_2d(in, ROWS, 128);
    assert_allocates_nothing(fli_rope(ctx, &args, NULL));
}

static void rmsnorm(void **state)
{
    fli_rmsnorm_args args = FLI_RMSNORM_ARGS_INIT;

    (void)state;
    args.x = f32_2d(in, ROWS, WIDE);
    args.weight = fli_tensor_1d(in2, ctx, FLI_F32, WIDE);
    args.out = f32_2d(out, ROWS, WIDE);
    assert_allocates_nothing(fli_rmsnorm(ctx, &args, NULL));
}

static void fused_add_rmsnorm(void **state)
{
    fli_fused_add_rmsnorm_args args = FLI_FUSED_ADD_RMSNORM_ARGS_INIT;

    (void)state;
    args.x = f32_2d(out, ROWS, WIDE);
    args.residual = f32_2d(out2, ROWS, WIDE);
    args.weight = fli_tensor_1d(in2, ctx, FLI_F32, WIDE);
    assert_allocates_nothing(fli_fused_add_rmsnorm(ctx, &args, NULL));
}

static void activations(void **state)
{
    fli_act_and_mul_args args = FLI_ACT_AND_MUL_ARGS_INIT;

    (void)state;
    args.x = f32_2d(in, ROWS, WIDE);
    args.out = f32_2d(out, ROWS, WIDE / 2);
    assert_allocates_nothing(fli_silu_and_mul(ctx, &args, NULL));
    assert_allocates_nothing(fli_gelu_and_mul(ctx, &args, NULL));
    assert_allocates_nothing(fli_gelu_tanh_and_mul(ctx, &args, NULL));
}

static void gemm(void **state)
{
    fli_gemm_args args = FLI_GEMM_ARGS_INIT;
    fli_gemm_pack_args pack = FLI_GEMM_PACK_ARGS_INIT;
    const size_t n = fli_gemm_packed_bytes(ctx, FLI_F32, 256, 256);
    void *blob = aligned_alloc(64, (n + 63) / 64 * 64);

    (void)state;
    args.b = f32_2d(in2, 256, 256);
    args.a = f32_2d(in, 256, 256);
    args.out = f32_2d(out, 256, 256);
    assert_allocates_nothing(fli_gemm(ctx, &args, NULL));
    args.a.shape[0] = args.out.shape[0] = 2; /* the few-row path */
    assert_allocates_nothing(fli_gemm(ctx, &args, NULL));
    args.flags = FLI_GEMM_BATCH_INVARIANT;
    assert_allocates_nothing(fli_gemm(ctx, &args, NULL));
    pack.b = args.b;
    pack.packed = fli_tensor_1d(blob, ctx, FLI_U8, (int64_t)n);
    assert_allocates_nothing(fli_gemm_pack(ctx, &pack, NULL));
    args.packed = pack.packed;
    args.b = (fli_tensor){ 0 };
    args.a.shape[0] = args.out.shape[0] = 200;
    assert_allocates_nothing(fli_gemm(ctx, &args, NULL));
    free(blob);
}

static void packbits(void **state)
{
    static const int32_t indptr[] = { 0, 1, 1000, N_FLOATS };
    fli_packbits_args args = FLI_PACKBITS_ARGS_INIT;
    fli_segment_packbits_args segments = FLI_SEGMENT_PACKBITS_ARGS_INIT;

    (void)state;
    args.x = fli_tensor_1d(bytes, ctx, FLI_BOOL, N_FLOATS);
    args.out = fli_tensor_1d(bytes_out, ctx, FLI_U8, N_FLOATS / 8);
    assert_allocates_nothing(fli_packbits(ctx, &args, NULL));
    segments.x = args.x;
    segments.indptr = i32_1d(indptr, 4);
    segments.out = fli_tensor_1d(bytes_out, ctx, FLI_U8, N_FLOATS / 8 + 3);
    segments.out_indptr = i32_1d(numbers, 4);
    assert_allocates_nothing(fli_segment_packbits(ctx, &segments, NULL));
}

/* --- sampling -------------------------------------------------------------- */

static void softmax(void **state)
{
    fli_softmax_args args = FLI_SOFTMAX_ARGS_INIT;

    (void)state;
    args.logits = f32_2d(in, ROWS, WIDE);
    args.probs = f32_2d(out, ROWS, WIDE);
    args.temperature = 0.7f;
    args.has_temperature = 1;
    assert_allocates_nothing(fli_softmax(ctx, &args, NULL));
}

static void sample(void **state)
{
    fli_sample_args args = FLI_SAMPLE_ARGS_INIT;

    (void)state;
    args.x = f32_2d(in, ROWS, WIDE);
    args.tokens = i32_1d(numbers, ROWS);
    args.valid = fli_tensor_1d(bytes_out, ctx, FLI_BOOL, ROWS);
    args.seed = 1;
    args.top_k = 50;
    args.top_p = 0.9f;
    args.min_p = 0.01f;
    assert_allocates_nothing(fli_sample_from_probs(ctx, &args, NULL));
    args.flags = FLI_SAMPLE_JOINT;
    args.temperature = 0.8f;
    args.has_temperature = 1;
    assert_allocates_nothing(fli_sample_from_logits(ctx, &args, NULL));
    args.temperature = 0;
    assert_allocates_nothing(fli_sample_from_logits(ctx, &args, NULL));
}

static void filters(void **state)
{
    fli_filter_args args = FLI_FILTER_ARGS_INIT;

    (void)state;
    args.x = f32_2d(in, ROWS, WIDE);
    args.out = f32_2d(out, ROWS, WIDE);
    args.top_k = 50;
    assert_allocates_nothing(fli_mask_logits(ctx, &args, NULL));
    args.top_p = 0.9f;
    args.min_p = 0.01f;
    assert_allocates_nothing(fli_renorm_probs(ctx, &args, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counter_counts),
        cmocka_unit_test(attention_paged),
        cmocka_unit_test(attention_graph_invariant),
        cmocka_unit_test(attention_ragged),
        cmocka_unit_test(merge_states),
        cmocka_unit_test(append),
        cmocka_unit_test(page_copy),
        cmocka_unit_test(batch_indices_positions),
        cmocka_unit_test(rope),
        cmocka_unit_test(rmsnorm),
        cmocka_unit_test(fused_add_rmsnorm),
        cmocka_unit_test(activations),
        cmocka_unit_test(gemm),
        cmocka_unit_test(packbits),
        cmocka_unit_test(softmax),
        cmocka_unit_test(sample),
        cmocka_unit_test(filters),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
