/* SPDX-License-Identifier: Apache-2.0 */
/* sampling: messages, weights of all fractions, the random numbers, and that a
 * row's token depends on the row alone. */
#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "abi/philox.h"
#include "abi/sample.h"
#include "device/device.h"

static fli_context *ctx;

static int open_ctx(void **state)
{
    (void)state;
    return fli_context_create(&ctx, fli_cpu(), NULL);
}

static int close_ctx(void **state)
{
    (void)state;
    fli_context_destroy(ctx);
    return 0;
}

static fli_context *context_of(const char *impl, const char *isa, int n_threads)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *out;

    options.impl = impl;
    options.cpu_isa = isa;
    options.n_threads = n_threads;
    assert_ok(fli_context_create(&out, fli_cpu(), &options));
    return out;
}

/* --- messages ------------------------------------------------------------- */

static float row[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };
static float out[8];
static int32_t tokens[4];
static float bad_t[1] = { 1 };

static fli_softmax_args softmax_args(void)
{
    fli_softmax_args a = FLI_SOFTMAX_ARGS_INIT;

    a.logits = fli_tensor_2d(row, ctx, FLI_F32, 2, 4);
    a.probs = fli_tensor_2d(out, ctx, FLI_F32, 2, 4);
    return a;
}

static fli_sample_args sample_args(void)
{
    fli_sample_args a = FLI_SAMPLE_ARGS_INIT;

    a.x = fli_tensor_2d(row, ctx, FLI_F32, 2, 4);
    a.tokens = fli_tensor_1d(tokens, ctx, FLI_I32, 2);
    return a;
}

static fli_filter_args filter_args(void)
{
    fli_filter_args a = FLI_FILTER_ARGS_INIT;

    a.x = fli_tensor_2d(row, ctx, FLI_F32, 2, 4);
    a.out = fli_tensor_2d(out, ctx, FLI_F32, 2, 4);
    return a;
}

static void softmax_messages(void **state)
{
    fli_softmax_args a = softmax_args();

    (void)state;
    assert_fails(fli_softmax(NULL, &a, NULL), INVALID_ARGUMENT,
                 "softmax run: ctx is NULL, expected a context");
    assert_fails(fli_softmax(ctx, NULL, NULL), INVALID_ARGUMENT,
                 "softmax run: args is NULL, expected a struct");
    a.logits.dtype = FLI_I32;
    assert_fails(fli_softmax(ctx, &a, NULL), INVALID_ARGUMENT,
                 "softmax run: logits is i32 [2, 4] on cpu, expected "
                 "f32|f16|bf16 [any, any] on cpu");
    a = softmax_args();
    a.probs = fli_tensor_2d(out, ctx, FLI_F32, 2, 3);
    assert_fails(fli_softmax(ctx, &a, NULL), INVALID_ARGUMENT,
                 "softmax run: probs is f32 [2, 3] on cpu, expected f32 [2, 4] "
                 "on cpu");
    a = softmax_args();
    a.probs = fli_tensor_2d(row + 1, ctx, FLI_F32, 2, 4);
    assert_fails(fli_softmax(ctx, &a, NULL), INVALID_ARGUMENT,
                 "softmax run: probs overlaps logits, expected the same view "
                 "of it or memory of its own");
    a = softmax_args();
    a.temperatures = fli_tensor_1d(bad_t, ctx, FLI_F32, 1);
    assert_fails(fli_softmax(ctx, &a, NULL), INVALID_ARGUMENT,
                 "softmax run: temperatures is f32 [1] on cpu, expected f32 "
                 "[2] on cpu");
    a = softmax_args();
    a.has_temperature = 1;
    a.temperature = -1;
    assert_fails(fli_softmax(ctx, &a, NULL), INVALID_ARGUMENT,
                 "softmax run: temperature is -1, expected a finite number >= "
                 "0");
    a.temperature = NAN;
    assert_int_equal(fli_softmax_prepare(ctx, &a), FLI_INVALID_ARGUMENT);
    a.has_temperature = 0;
    assert_ok(fli_softmax_prepare(ctx, &a));
    a.logits.data = a.probs.data = NULL;
    assert_ok(fli_softmax_prepare(ctx, &a));
}

static void vocab_has_a_limit(void **state)
{
    const int64_t n = (1 << 20) + 1;
    fli_softmax_args a = FLI_SOFTMAX_ARGS_INIT;
    fli_sample_args s = sample_args();

    (void)state;
    a.logits = fli_tensor_2d(NULL, ctx, FLI_F32, 2, n);
    a.probs = fli_tensor_2d(NULL, ctx, FLI_F32, 2, n);
    assert_fails(fli_softmax_prepare(ctx, &a), UNSUPPORTED,
                 "softmax prepare: vocab is 1048577, expected at most 1048576");
    s.x = a.logits;
    assert_fails(fli_sample_from_logits_prepare(ctx, &s), UNSUPPORTED,
                 "sample_from_logits prepare: vocab is 1048577, expected at "
                 "most 1048576");
}

static void sample_messages(void **state)
{
    static int32_t indices[3] = { 0, 1, 2 };
    static int64_t seeds[3];
    fli_sample_args a = sample_args();

    (void)state;
    tokens[0] = 77;
    a.indices = fli_tensor_1d(indices, ctx, FLI_I32, 3);
    a.tokens = fli_tensor_1d(tokens, ctx, FLI_I32, 3);
    assert_fails(fli_sample_from_logits(ctx, &a, NULL), INVALID_ARGUMENT,
                 "sample_from_logits run: indices[2] is 2, expected a row of "
                 "x, 0 to 1");
    assert_ok(fli_sample_from_logits_prepare(ctx, &a));
    a = sample_args();
    a.tokens = fli_tensor_1d(tokens, ctx, FLI_I32, 3);
    assert_fails(fli_sample_from_probs(ctx, &a, NULL), INVALID_ARGUMENT,
                 "sample_from_probs run: tokens is i32 [3] on cpu, expected "
                 "i32 [2] on cpu");
    a = sample_args();
    a.seeds = fli_tensor_1d(seeds, ctx, FLI_I64, 3);
    assert_fails(fli_sample_from_probs(ctx, &a, NULL), INVALID_ARGUMENT,
                 "sample_from_probs run: seeds is i64 [3] on cpu, expected "
                 "i64 [2] on cpu");
    a = sample_args();
    a.has_temperature = 1;
    a.temperature = 1;
    assert_fails(fli_sample_from_probs(ctx, &a, NULL), INVALID_ARGUMENT,
                 "sample_from_probs run: temperature is given, expected none "
                 "for probabilities");
    a.temperature = INFINITY;
    assert_fails(fli_sample_from_logits(ctx, &a, NULL), INVALID_ARGUMENT,
                 "sample_from_logits run: temperature is inf, expected a "
                 "finite number >= 0");
    a = sample_args();
    a.x.dtype = FLI_BF16;
    assert_fails(fli_sample_from_probs_prepare(ctx, &a), INVALID_ARGUMENT,
                 "sample_from_probs prepare: x is bf16 [2, 4] on cpu, "
                 "expected f32 [any, any] on cpu");
    assert_int_equal(tokens[0], 77);
}

static void filter_messages(void **state)
{
    fli_filter_args a = filter_args();

    (void)state;
    out[0] = 77;
    a.top_p = NAN;
    assert_fails(fli_renorm_probs(ctx, &a, NULL), INVALID_ARGUMENT,
                 "renorm_probs run: top_p is nan, expected a number >= 0");
    a = filter_args();
    a.min_p = -0.5f;
    assert_fails(fli_mask_logits(ctx, &a, NULL), INVALID_ARGUMENT,
                 "mask_logits run: min_p is -0.5, expected a number >= 0");
    a = filter_args();
    a.flags = 6;
    assert_fails(fli_mask_logits_prepare(ctx, &a), INVALID_ARGUMENT,
                 "mask_logits prepare: flags is 0x6, expected 0 or "
                 "FLI_SAMPLE_JOINT (0x1)");
    a = filter_args();
    a.out.dtype = FLI_F16;
    assert_fails(fli_mask_logits(ctx, &a, NULL), INVALID_ARGUMENT,
                 "mask_logits run: out is f16 [2, 4] on cpu, expected f32 [2, "
                 "4] on cpu");
    a = filter_args();
    a.top_ks = fli_tensor_1d(tokens, ctx, FLI_I64, 2);
    assert_fails(fli_mask_logits(ctx, &a, NULL), INVALID_ARGUMENT,
                 "mask_logits run: top_ks is i64 [2] on cpu, expected i32 [2] "
                 "on cpu");
    assert_float_equal(out[0], 77, 0);
}

static void empty_batches(void **state)
{
    fli_sample_args a = FLI_SAMPLE_ARGS_INIT;
    fli_filter_args f = FLI_FILTER_ARGS_INIT;
    uint8_t valid[2] = { 9, 9 };

    (void)state;
    a.x = fli_tensor_2d(NULL, ctx, FLI_F32, 0, 4);
    a.tokens = fli_tensor_1d(NULL, ctx, FLI_I32, 0);
    assert_ok(fli_sample_from_logits(ctx, &a, NULL));
    f.x = f.out = a.x;
    assert_ok(fli_mask_logits(ctx, &f, NULL));
    a.x = fli_tensor_2d(row, ctx, FLI_F32, 2, 4);
    a.indices = fli_tensor_1d(NULL, ctx, FLI_I32, 0);
    assert_ok(fli_sample_from_logits(ctx, &a, NULL));
    a = sample_args();
    a.x = fli_tensor_2d(NULL, ctx, FLI_F32, 2, 0);
    a.valid = fli_tensor_1d(valid, ctx, FLI_BOOL, 2);
    tokens[0] = tokens[1] = 77;
    assert_ok(fli_sample_from_logits(ctx, &a, NULL));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tokens[i], 0);
        assert_int_equal(valid[i], 0);
    }
}

/* --- weights -------------------------------------------------------------- */

/* Rule 4 of docs/sampling.md from t on. */
static uint64_t weight_of_t(int32_t t)
{
    const int32_t n = (t + (1 << 22)) >> 23;
    const float f = (float)(t - n * (1 << 23)) * 0x1p-23f;
    float p = 1.5403530e-4f;
    uint32_t bits;

    p = fmaf(p, f, 1.3333558e-3f);
    p = fmaf(p, f, 9.6181291e-3f);
    p = fmaf(p, f, 5.5504109e-2f);
    p = fmaf(p, f, 2.4022651e-1f);
    p = fmaf(p, f, 6.9314718e-1f);
    p = fmaf(p, f, 1.0f);
    memcpy(&bits, &p, sizeof(bits));
    const int shift = 127 - (int)(bits >> 23) - n;

    return shift < 64 ? (uint64_t)((bits & 0x7fffff) | 0x800000) << 18 >> shift
                      : 0;
}

/* Every t of two octaves, as far as floats are exact: with s = 1 and m = 0 the
 * logit is t, and between its halves it goes through every fraction f. */
static void walk(fli_task *weights)
{
    enum { N = 1 << 16, LAST = 1 << 24 };
    static float logits[N];
    static uint64_t w[N];
    fli_weights_params p = { logits, w, N, 0, 0x1.715476p+23f };
    uint64_t before = UINT64_C(1) << 41;

    for (int32_t j = 0; j < LAST; j += N) {
        for (int32_t i = 0; i < N; i++)
            logits[i] = -(float)(j + i);
        weights(&p, 0, 1);
        for (int32_t i = 0; i < N; i++) {
            if (w[i] != weight_of_t(-j - i) || w[i] > before)
                fail_msg("t = %d: weight %llu after %llu, expected %llu",
                         -j - i, (unsigned long long)w[i],
                         (unsigned long long)before,
                         (unsigned long long)weight_of_t(-j - i));
            before = w[i];
        }
    }
    assert_true(before == weight_of_t(1 - LAST));
}

static void weights_are_monotone_baseline(void **state)
{
    (void)state;
    walk(fli__weights_baseline);
}

#if defined(FLI__BUILD_AVX2)
static void weights_are_monotone_avx2(void **state)
{
    (void)state;
    if (fli__cpu_isa() < FLI__ISA_AVX2)
        skip();
    walk(fli__weights_avx2);
}
#endif

/* --- random numbers ------------------------------------------------------- */

/* The known answers of Random123. */
static void philox_known_answers(void **state)
{
    static const struct {
        fli_philox counter;
        uint64_t seed;
        fli_philox want;
    } known[] = {
        { { { 0, 0, 0, 0 } },
          0,
          { { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } } },
        { { { UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX } },
          UINT64_MAX,
          { { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } } },
        { { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 } },
          UINT64_C(0x299f31d0a4093822),
          { { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } } },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        const fli_philox block =
            fli_philox_block(known[i].counter, known[i].seed);

        assert_memory_equal(&block, &known[i].want, sizeof(block));
    }
    assert_true(
        fli_philox_draw(UINT64_C(0x0123456789abcdef),
                        UINT64_C(0xfedcba9876543210), 5, 6)
        == (fli_philox_block((fli_philox){ { 0x76543210, 0xfedcba98, 5, 6 } },
                             UINT64_C(0x0123456789abcdef))
                .word[0]
            | (uint64_t)fli_philox_block(
                  (fli_philox){ { 0x76543210, 0xfedcba98, 5, 6 } },
                  UINT64_C(0x0123456789abcdef))
                      .word[1]
                  << 32));
}

static const struct {
    const char *impl, *isa;
} impls[] = {
    { "ref", NULL }, { "plain", NULL }, { "cpu", "baseline" }, { "cpu", "avx2" }
};

enum { N_IMPLS = sizeof(impls) / sizeof(impls[0]) };

static int is_here(int i)
{
    return !impls[i].isa || fli__isa_from_name(impls[i].isa) <= fli__cpu_isa();
}

/* Equal weights: the token is the top bits of the draw. */
static void draw_is_philox(void **state)
{
    enum { V = 1 << 20, ROWS = 3 };
    uint16_t *logits = calloc(V, sizeof(*logits));
    int32_t result[ROWS];

    (void)state;
    for (int i = 0; i < N_IMPLS; i++) {
        if (!is_here(i))
            continue;
        fli_context *c = context_of(impls[i].impl, impls[i].isa, 1);
        fli_sample_args a = FLI_SAMPLE_ARGS_INIT;

        a.x = fli_tensor_2d(logits, c, FLI_F16, ROWS, V);
        a.x.stride[0] = 0; /* inputs may */
        a.tokens = fli_tensor_1d(result, c, FLI_I32, ROWS);
        assert_ok(fli_sample_from_logits(c, &a, NULL));
        assert_int_equal(result[0], 0xe169c58d >> 12);
        for (uint32_t r = 0; r < ROWS; r++)
            assert_int_equal(result[r], fli_philox_draw(0, 0, r, 0) >> 44);
        a.seed = 3;
        a.offset = UINT64_C(1) << 40;
        assert_ok(fli_sample_from_logits(c, &a, NULL));
        for (uint32_t r = 0; r < ROWS; r++)
            assert_int_equal(result[r],
                             fli_philox_draw(3, a.offset, r, 0) >> 44);
        fli_context_destroy(c);
    }
    free(logits);
}

/* --- rows ----------------------------------------------------------------- */

enum { ROWS = 23, VOCAB = 3001, PITCH = VOCAB + 7 };

static float batch[ROWS * PITCH];

static void fill_batch(void)
{
    uint64_t x = 1;

    for (int i = 0; i < ROWS * PITCH; i++) {
        x = x * UINT64_C(6364136223846793005) + 1;
        batch[i] = (float)(x >> 40) * 0x1p-21f;
    }
}

/* Draws n rows from first on with seeds and offsets of their own. */
static void sample_rows(fli_context *c, int first, int n, int probs,
                        int32_t *result)
{
    static uint64_t seeds[ROWS], offsets[ROWS];
    static float top_ps[ROWS];
    static int32_t top_ks[ROWS];
    fli_sample_args a = FLI_SAMPLE_ARGS_INIT;

    for (int i = 0; i < n; i++) {
        seeds[i] = (uint64_t)(first + i) * 99;
        offsets[i] = (uint64_t)(first + i) * 7;
        top_ps[i] = 0.5f + 0.02f * (float)(first + i);
        top_ks[i] = first + i < 9 ? 0 : (first + i) * 100;
    }
    a.x = fli_tensor_2d(batch + first * PITCH, c, FLI_F32, n, VOCAB);
    a.x.stride[0] = PITCH;
    a.tokens = fli_tensor_1d(result, c, FLI_I32, n);
    a.seeds = fli_tensor_1d(seeds, c, FLI_I64, n);
    a.offsets = fli_tensor_1d(offsets, c, FLI_I64, n);
    a.top_ps = fli_tensor_1d(top_ps, c, FLI_F32, n);
    a.top_ks = fli_tensor_1d(top_ks, c, FLI_I32, n);
    assert_ok(probs ? fli_sample_from_probs(c, &a, NULL)
                    : fli_sample_from_logits(c, &a, NULL));
}

/* A row alone, in a batch, in a part of it, by another number of threads. */
static void rows_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    fill_batch();
    for (int i = 0; i < N_IMPLS; i++)
        for (int probs = 0; probs < 2 && is_here(i); probs++) {
            fli_context *one = context_of(impls[i].impl, impls[i].isa, 1);
            fli_context *many = context_of(impls[i].impl, impls[i].isa, 5);
            int32_t all[ROWS], again[ROWS], alone;

            sample_rows(one, 0, ROWS, probs, all);
            sample_rows(many, 0, ROWS, probs, again);
            assert_memory_equal(all, again, sizeof(all));
            sample_rows(many, 5, ROWS - 5, probs, again);
            assert_memory_equal(all + 5, again, sizeof(all) - 5 * sizeof(*all));
            for (int r = 1; r < ROWS; r++) {
                /* one row of one: seeds [1] count as a scalar, with row 0 */
                sample_rows(one, r, 1, probs, &alone);
                assert_int_equal(alone, all[r]);
            }
            fli_context_destroy(one);
            fli_context_destroy(many);
        }
}

/* Rows of one seed are told apart by their index; a tensor of one is the same
 * as the scalar; indices pick rows of x and leave streams alone. */
static void scalar_seeds(void **state)
{
    int32_t a_tokens[ROWS], b_tokens[ROWS], indices[ROWS];
    uint64_t seed = 5, offset = 6;
    fli_sample_args a = FLI_SAMPLE_ARGS_INIT;
    int n_equal = 0;

    (void)state;
    fill_batch();
    a.x = fli_tensor_2d(batch, ctx, FLI_F32, 1, VOCAB);
    a.tokens = fli_tensor_1d(a_tokens, ctx, FLI_I32, ROWS);
    memset(indices, 0, sizeof(indices));
    a.indices = fli_tensor_1d(indices, ctx, FLI_I32, ROWS);
    a.seed = seed;
    a.offset = offset;
    assert_ok(fli_sample_from_logits(ctx, &a, NULL));
    for (int i = 1; i < ROWS; i++)
        n_equal += a_tokens[i] == a_tokens[0];
    assert_true(n_equal < 3);
    a.tokens = fli_tensor_1d(b_tokens, ctx, FLI_I32, ROWS);
    a.seeds = fli_tensor_1d(&seed, ctx, FLI_I64, 1);
    a.offsets = fli_tensor_1d(&offset, ctx, FLI_I64, 1);
    a.seed = a.offset = 0;
    assert_ok(fli_sample_from_logits(ctx, &a, NULL));
    assert_memory_equal(a_tokens, b_tokens, sizeof(a_tokens));
    offset++;
    assert_ok(fli_sample_from_logits(ctx, &a, NULL));
    assert_memory_not_equal(a_tokens, b_tokens, sizeof(a_tokens));
}

/* --- values --------------------------------------------------------------- */

/* Small rows by hand, on every implementation. */
static void kept_sets_by_hand(void **state)
{
    /* mass above .125: .875 is less than .9, so the first of the ties is not
     * enough and all of them stay */
    float probs[6] = { 0.0625f, 0.5f, 0.125f, 0.0625f, 0.25f, 0 };
    static const float top_p[6] = {
        1 / 16.f, 0.5f, 0.125f, 1 / 16.f, 0.25f, 0
    };
    static const float half[6] = { 0, 1, 0, 0, 0, 0 };
    static const float two[6] = { 0, 2 / 3.f, 0, 0, 1 / 3.f, 0 };
    static const struct {
        float top_p, min_p;
        int32_t top_k;
        uint32_t flags;
        const float *want;
    } known[] = {
        { 0.9f, 0, 0, 0, top_p },  { 0.5f, 0, 0, 0, half },
        { 0.51f, 0, 0, 0, two },   { 0, 0.5f, 0, 0, two },
        { 0, 0.51f, 0, 0, half },  { 0, 0, 2, 0, two },
        { 0.66f, 0, 2, 0, half },  { 0.66f, 0, 2, FLI_SAMPLE_JOINT, two },
        { 1e-30f, 0, 5, 0, half }, { 0, 0, 4, 0, top_p },
        { 0, 0, 6, 0, top_p },     { 0.76f, 0.3f, 3, 0, two },
    };

    (void)state;
    for (int i = 0; i < N_IMPLS; i++) {
        if (!is_here(i))
            continue;
        fli_context *c = context_of(impls[i].impl, impls[i].isa, 1);

        for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
            float result[6];
            fli_filter_args a = FLI_FILTER_ARGS_INIT;

            a.x = fli_tensor_2d(probs, c, FLI_F32, 1, 6);
            a.out = fli_tensor_2d(result, c, FLI_F32, 1, 6);
            a.top_p = known[k].top_p;
            a.min_p = known[k].min_p;
            a.top_k = known[k].top_k;
            a.flags = known[k].flags;
            assert_ok(fli_renorm_probs(c, &a, NULL));
            for (int j = 0; j < 6; j++)
                if (result[j] != known[k].want[j])
                    fail_msg("%s %s, line %zu: [%d] is %a, expected %a",
                             impls[i].impl, fli_context_cpu_isa(c), k, j,
                             (double)result[j], (double)known[k].want[j]);
        }
        fli_context_destroy(c);
    }
}

static void softmax_is_close_to_exp(void **state)
{
    enum { V = 1000 };
    static float logits[V], probs[V];
    double sum = 0;
    fli_softmax_args a = FLI_SOFTMAX_ARGS_INIT;

    (void)state;
    for (int i = 0; i < V; i++)
        logits[i] = (float)(i * 7919 % V) * -0.02f;
    for (int i = 0; i < V; i++)
        sum += exp((double)logits[i] / 0.7);
    a.logits = fli_tensor_2d(logits, ctx, FLI_F32, 1, V);
    a.probs = fli_tensor_2d(probs, ctx, FLI_F32, 1, V);
    a.has_temperature = 1;
    a.temperature = 0.7f;
    assert_ok(fli_softmax(ctx, &a, NULL));
    for (int i = 0; i < V; i++) {
        const double want = exp((double)logits[i] / (double)0.7f) / sum;

        if (fabs((double)probs[i] - want) > 1e-5 * want)
            fail_msg("[%d] is %g, expected %g", i, (double)probs[i], want);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_messages),
        cmocka_unit_test(vocab_has_a_limit),
        cmocka_unit_test(sample_messages),
        cmocka_unit_test(filter_messages),
        cmocka_unit_test(empty_batches),
        cmocka_unit_test(weights_are_monotone_baseline),
#if defined(FLI__BUILD_AVX2)
        cmocka_unit_test(weights_are_monotone_avx2),
#endif
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(draw_is_philox),
        cmocka_unit_test(rows_do_not_depend_on_the_batch),
        cmocka_unit_test(scalar_seeds),
        cmocka_unit_test(kept_sets_by_hand),
        cmocka_unit_test(softmax_is_close_to_exp),
    };

    return cmocka_run_group_tests(tests, open_ctx, close_ctx);
}
