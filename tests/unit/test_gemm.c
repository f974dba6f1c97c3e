/* SPDX-License-Identifier: Apache-2.0 */
/* gemm and gemm_pack: what they refuse and in which words, and the
 * batch-invariant flag.  What they compute is the checker's affair. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "abi/gemm.h"

enum { M = 5, N = 24, K = 40, BLOB = 8192 };

static float a_data[M * K], b_data[N * K], bias_data[N], out_data[M * N];
static _Alignas(64) char blob_data[BLOB];

static fli_context *make_context(const char *isa, const char *impl,
                                 int32_t n_threads)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *ctx;

    options.cpu_isa = isa;
    options.impl = impl;
    options.n_threads = n_threads;
    assert_ok(fli_context_create(&ctx, fli_cpu(), &options));
    return ctx;
}

static int has_avx2(void)
{
    fli_context *ctx = make_context(NULL, NULL, 1);
    const int has = !strcmp(fli_context_cpu_isa(ctx), "avx2");

    fli_context_destroy(ctx);
    return has;
}

static fli_gemm_args good_args(void)
{
    fli_gemm_args args = FLI_GEMM_ARGS_INIT;

    args.a = fli_tensor_2d(a_data, NULL, FLI_F32, M, K);
    args.b = fli_tensor_2d(b_data, NULL, FLI_F32, N, K);
    args.bias = fli_tensor_1d(bias_data, NULL, FLI_F32, N);
    args.out = fli_tensor_2d(out_data, NULL, FLI_F32, M, N);
    return args;
}

static fli_gemm_pack_args good_pack(void)
{
    fli_gemm_pack_args args = FLI_GEMM_PACK_ARGS_INIT;

    args.b = fli_tensor_2d(b_data, NULL, FLI_F32, N, K);
    args.packed = fli_tensor_1d(blob_data, NULL, FLI_U8, BLOB);
    return args;
}

/* Arguments whose weights are the blob of ctx. */
static fli_gemm_args packed_args(fli_context *ctx)
{
    const fli_gemm_pack_args pack = good_pack();
    fli_gemm_args args = good_args();

    assert_ok(fli_gemm_pack(ctx, &pack, NULL));
    args.b = (fli_tensor){ 0 };
    args.packed = pack.packed;
    return args;
}

/* Refused in run and prepare with "gemm <verb>: <text>"; nothing is written. */
static void refuse(fli_context *ctx, const fli_gemm_args *args,
                   const char *text)
{
    static const char *const verbs[] = { "run", "prepare" };
    float before[M * N];
    char expected[512];

    memset(out_data, 0x5a, sizeof(out_data));
    memcpy(before, out_data, sizeof(out_data));
    for (int i = 0; i < 2; i++) {
        snprintf(expected, sizeof(expected), "gemm %s: %s", verbs[i], text);
        assert_fails(i ? fli_gemm_prepare(ctx, args)
                       : fli_gemm(ctx, args, NULL),
                     INVALID_ARGUMENT, expected);
    }
    assert_memory_equal(before, out_data, sizeof(out_data));
}

static void test_call(void **state)
{
    fli_context *ctx = make_context(NULL, NULL, 1);
    fli_gemm_args args = good_args();
    int queue;

    (void)state;
    assert_ok(fli_gemm(ctx, &args, NULL));
    assert_ok(fli_gemm_prepare(ctx, &args));
    assert_fails(fli_gemm(NULL, &args, NULL), INVALID_ARGUMENT,
                 "gemm run: ctx is NULL, expected a context");
    assert_int_equal(fli_gemm(ctx, &args, &queue), FLI_INVALID_ARGUMENT);
    refuse(ctx, NULL, "args is NULL, expected a struct");
    args.size = 8;
    assert_int_equal(fli_gemm(ctx, &args, NULL), FLI_INVALID_ARGUMENT);
    args = good_args();
    args.flags = 6;
    refuse(ctx, &args,
           "flags is 0x6, expected FLI_GEMM_BATCH_INVARIANT (0x1) or 0");
    args = good_args();
    args.add = 2;
    refuse(ctx, &args, "add is 2, expected 0 or 1");
    fli_context_destroy(ctx);
}

static void test_tensors(void **state)
{
    fli_context *ctx = make_context(NULL, NULL, 1);
    fli_gemm_args args = good_args();

    (void)state;
    args.a = (fli_tensor){ 0 };
    refuse(ctx, &args,
           "a is absent (data NULL), expected f32|f16|bf16 [any, any] on cpu");
    args = good_args();
    args.a.dtype = FLI_I32;
    refuse(ctx, &args,
           "a is i32 [5, 40] on cpu, expected f32|f16|bf16 [any, any] on cpu");
    args = good_args();
    args.a.stride[1] = 2;
    refuse(ctx, &args, "a has stride 2 in its last dimension, expected 1");
    args = good_args();
    args.out.shape[0] = 4;
    refuse(ctx, &args,
           "out is f32 [4, 24] on cpu, expected f32|f16|bf16 [5, any] on cpu");
    args = good_args();
    args.out.stride[0] = 0;
    refuse(ctx, &args,
           "out has stride 0 in dimension 0, expected an output that does not "
           "overlap itself");
    args = good_args();
    args.out.device = fli_cuda(0);
    refuse(ctx, &args,
           "out is f32 [5, 24] on cuda:0, expected f32|f16|bf16 [5, any] on "
           "cpu");
    args = good_args();
    args.b.shape[1] = 39;
    refuse(ctx, &args,
           "b is f32 [24, 39] on cpu, expected f32|f16|bf16 [24, 40] on cpu");
    args = good_args();
    args.b.ndim = 1;
    refuse(ctx, &args,
           "b is f32 [24] on cpu, expected f32|f16|bf16 [24, 40] on cpu");
    args = good_args();
    args.bias.shape[0] = 23;
    refuse(ctx, &args,
           "bias is f32 [23] on cpu, expected f32|f16|bf16 [24] on cpu");
    args = good_args();
    args.out.data = a_data;
    refuse(ctx, &args, "out overlaps a, expected memory of its own");
    args.out.data = b_data;
    refuse(ctx, &args, "out overlaps b, expected memory of its own");
    fli_context_destroy(ctx);
}

static void test_weights(void **state)
{
    fli_context *ctx = make_context(NULL, NULL, 1);
    fli_gemm_args args = packed_args(ctx);

    (void)state;
    assert_ok(fli_gemm(ctx, &args, NULL));
    assert_ok(fli_gemm_prepare(ctx, &args));
    args.b = good_args().b;
    refuse(ctx, &args, "b and packed are both given, expected one of them");
    args.packed = (fli_tensor){ 0 };
    args.b = args.packed;
    refuse(ctx, &args, "b and packed are absent, expected one of them");
    args = packed_args(ctx);
    args.packed.shape[0] = 63;
    refuse(ctx, &args, "packed is u8 [63] on cpu, expected u8 [>= 64] on cpu");
    args = packed_args(ctx);
    args.packed.dtype = FLI_BOOL;
    refuse(ctx, &args,
           "packed is bool [8192] on cpu, expected u8 [>= 64] on cpu");
    args = packed_args(ctx);
    args.out.data = blob_data + 64;
    assert_fails(fli_gemm(ctx, &args, NULL), INVALID_ARGUMENT,
                 "gemm run: out overlaps packed, expected memory of its own");
    args = packed_args(ctx);
    args.packed.data = blob_data + 4;
    args.packed.shape[0] -= 4;
    assert_int_equal(fli_gemm(ctx, &args, NULL), FLI_INVALID_ARGUMENT);
    assert_non_null(
        strstr(fli_last_error(), "expected a multiple of 64 bytes"));

    /* a prepare does without any data */
    args = packed_args(ctx);
    args.a.data = args.packed.data = args.out.data = NULL;
    assert_ok(fli_gemm_prepare(ctx, &args));
    args = good_args();
    args.a.data = args.b.data = args.bias.data = args.out.data = NULL;
    assert_ok(fli_gemm_prepare(ctx, &args));
    fli_context_destroy(ctx);
}

/* The header of a blob against the launch; run only: prepare reads no data. */
static void refuse_blob(fli_context *ctx, const fli_gemm_args *args,
                        const char *text)
{
    memset(out_data, 0x5a, sizeof(out_data));
    assert_fails(fli_gemm(ctx, args, NULL), INVALID_ARGUMENT, text);
    for (size_t i = 0; i < sizeof(out_data); i++)
        assert_int_equal(((char *)out_data)[i], 0x5a);
}

static void test_blob(void **state)
{
    fli_context *ctx = make_context("baseline", NULL, 1);
    fli_pack_header *header = (fli_pack_header *)(void *)blob_data;
    fli_gemm_args args = packed_args(ctx);

    (void)state;
    header->magic = 0x1234;
    refuse_blob(ctx, &args,
                "gemm run: packed begins with 0x00001234, expected a blob of "
                "fli_gemm_pack");
    args = packed_args(ctx);
    header->isa = 99;
    refuse_blob(ctx, &args,
                "gemm run: packed is for unknown ISA, expected baseline");
    args = packed_args(ctx);
    header->version = 7;
    refuse_blob(ctx, &args, "gemm run: packed is of version 7, expected 1");
    args = packed_args(ctx);
    header->dtype = FLI_I64;
    refuse_blob(ctx, &args,
                "gemm run: packed is of dtype 17, expected f32|f16|bf16");
    args = packed_args(ctx);
    args.out.shape[1] = args.bias.shape[0] = 23;
    refuse_blob(ctx, &args, "gemm run: packed is [24, 40], expected [23, 40]");
    args = packed_args(ctx);
    args.a.shape[1] = 39;
    refuse_blob(ctx, &args, "gemm run: packed is [24, 40], expected [24, 39]");
    args = packed_args(ctx);
    args.packed.shape[0] = 64 + N * K * 4 - 1;
    refuse_blob(ctx, &args,
                "gemm run: packed has 3903 bytes, expected at least 3904");
    fli_context_destroy(ctx);
}

/* A blob is right for the order that it was packed in, and for no other. */
static void test_orders(void **state)
{
    static const struct {
        const char *isa, *impl, *name;
    } orders[] = {
        { "avx2", NULL, "avx2" }, { "baseline", NULL, "baseline" },
        { NULL, "ref", "ref" },   { NULL, "gemm:ref", "ref" },
        { NULL, "plain", "ref" },
    };

    (void)state;
    for (int i = has_avx2() ? 0 : 1; i < 5; i++)
        for (int j = has_avx2() ? 0 : 1; j < 5; j++) {
            fli_context *from = make_context(orders[i].isa, orders[i].impl, 1);
            fli_context *to = make_context(orders[j].isa, orders[j].impl, 1);
            fli_gemm_args args = packed_args(from);
            char text[128];

            snprintf(text, sizeof(text),
                     "gemm run: packed is for %s, expected %s", orders[i].name,
                     orders[j].name);
            if (strcmp(orders[i].name, orders[j].name))
                refuse_blob(to, &args, text);
            else
                assert_ok(fli_gemm(to, &args, NULL));
            fli_context_destroy(from);
            fli_context_destroy(to);
        }
}

static void test_pack(void **state)
{
    fli_context *ctx = make_context("baseline", NULL, 1);
    fli_gemm_pack_args args = good_pack();
    char before[BLOB];

    (void)state;
    memset(blob_data, 0x5a, BLOB);
    memcpy(before, blob_data, BLOB);
    assert_ok(fli_gemm_pack_prepare(ctx, &args));
    assert_fails(fli_gemm_pack(NULL, &args, NULL), INVALID_ARGUMENT,
                 "gemm_pack run: ctx is NULL, expected a context");
    assert_fails(fli_gemm_pack(ctx, NULL, NULL), INVALID_ARGUMENT,
                 "gemm_pack run: args is NULL, expected a struct");
    args.b.dtype = FLI_U8;
    assert_fails(fli_gemm_pack(ctx, &args, NULL), INVALID_ARGUMENT,
                 "gemm_pack run: b is u8 [24, 40] on cpu, expected "
                 "f32|f16|bf16 [any, any] on cpu");
    args = good_pack();
    args.packed.shape[0] = 3903;
    assert_fails(fli_gemm_pack(ctx, &args, NULL), INVALID_ARGUMENT,
                 "gemm_pack run: packed is u8 [3903] on cpu, expected u8 "
                 "[>= 3904] on cpu");
    assert_fails(fli_gemm_pack_prepare(ctx, &args), INVALID_ARGUMENT,
                 "gemm_pack prepare: packed is u8 [3903] on cpu, expected u8 "
                 "[>= 3904] on cpu");
    args = good_pack();
    args.packed.data = blob_data + 32;
    args.packed.shape[0] -= 32;
    assert_int_equal(fli_gemm_pack(ctx, &args, NULL), FLI_INVALID_ARGUMENT);
    assert_non_null(
        strstr(fli_last_error(), "expected a multiple of 64 bytes"));
    args = good_pack();
    args.b.data = blob_data + 4096;
    assert_fails(fli_gemm_pack(ctx, &args, NULL), INVALID_ARGUMENT,
                 "gemm_pack run: packed overlaps b, expected memory of its "
                 "own");
    assert_memory_equal(before, blob_data, BLOB);
    fli_context_destroy(ctx);
}

static void test_packed_bytes(void **state)
{
    fli_context *ctx = make_context("baseline", NULL, 1);

    (void)state;
    assert_int_equal(fli_gemm_packed_bytes(ctx, FLI_F32, N, K), 64 + N * K * 4);
    assert_int_equal(fli_gemm_packed_bytes(ctx, FLI_BF16, 1, 3),
                     64 + 8 * 3 * 2);
    assert_int_equal(fli_gemm_packed_bytes(ctx, FLI_F16, 0, 3), 64);
    assert_int_equal(fli_gemm_packed_bytes(NULL, FLI_F32, 1, 1), 0);
    assert_string_equal(fli_last_error(),
                        "gemm packed_bytes: ctx is NULL, expected a context");
    assert_int_equal(fli_gemm_packed_bytes(ctx, FLI_I32, 1, 1), 0);
    assert_string_equal(fli_last_error(),
                        "gemm packed_bytes: dtype is i32 (16), expected "
                        "f32|f16|bf16");
    assert_int_equal(fli_gemm_packed_bytes(ctx, 77, 1, 1), 0);
    assert_int_equal(fli_gemm_packed_bytes(ctx, -1, 1, 1), 0);
    assert_int_equal(fli_gemm_packed_bytes(ctx, FLI_F32, -1, 1), 0);
    assert_string_equal(fli_last_error(),
                        "gemm packed_bytes: n is -1, expected 0 or more");
    assert_int_equal(fli_gemm_packed_bytes(ctx, FLI_F32, 1, -2), 0);
    assert_string_equal(fli_last_error(),
                        "gemm packed_bytes: k is -2, expected 0 or more");
    assert_int_equal(
        fli_gemm_packed_bytes(ctx, FLI_F32, INT64_MAX / 2, INT64_MAX / 2), 0);
    assert_int_equal(fli_gemm_packed_bytes(ctx, FLI_F16, INT64_MAX, 1), 0);
    fli_context_destroy(ctx);
}

/* --- batch invariance ---------------------------------------------------- */

enum { MOST = 64, COLS = 77, DEPTH = 1030 };

static char x[MOST * DEPTH * 4], w[COLS * DEPTH * 4];
static char batch[MOST * COLS * 4], alone[MOST * COLS * 4];
static _Alignas(64) char packed_w[64 + 80 * DEPTH * 4];

/* Random bits that are finite in every dtype, of magnitude 2^-3 to 2. */
static void fill(char *data, size_t elements, int32_t dtype)
{
    for (size_t i = 0; i < elements; i++) {
        const uint32_t r = (uint32_t)rand();

        if (dtype == FLI_F32)
            ((uint32_t *)(void *)data)[i] =
                (r & 0x80ffffffu) | (124 + (r >> 24) % 4) << 23;
        else if (dtype == FLI_BF16)
            ((uint16_t *)(void *)data)[i] =
                (uint16_t)((r & 0x807f) | (124 + (r >> 16) % 4) << 7);
        else
            ((uint16_t *)(void *)data)[i] =
                (uint16_t)((r & 0x83ff) | (12 + (r >> 16) % 4) << 10);
    }
}

/* Rows [first, first + m) of x by all weights. */
static void run_rows(fli_context *ctx, const int32_t *dtypes, int packed,
                     int64_t first, int64_t m, char *out)
{
    const int64_t row = DEPTH * (int64_t)fli_dtype_bytes(dtypes[0]);
    fli_gemm_args args = FLI_GEMM_ARGS_INIT;

    args.flags = FLI_GEMM_BATCH_INVARIANT;
    args.a = fli_tensor_2d(x + first * row, NULL, dtypes[0], m, DEPTH);
    args.out = fli_tensor_2d(out, NULL, dtypes[2], m, COLS);
    if (packed)
        args.packed = fli_tensor_1d(packed_w, NULL, FLI_U8, sizeof(packed_w));
    else
        args.b = fli_tensor_2d(w, NULL, dtypes[1], COLS, DEPTH);
    assert_ok(fli_gemm(ctx, &args, NULL));
}

/* Each row, in batches of 1, 2, 7 and 64, has the bits of the full batch. */
static void check_invariance(fli_context *ctx, fli_context *other,
                             const int32_t *dtypes, int packed)
{
    static const int64_t sizes[] = { 1, 2, 7, MOST };
    const size_t row = COLS * fli_dtype_bytes(dtypes[2]);

    run_rows(ctx, dtypes, packed, 0, MOST, batch);
    for (int i = 0; i < 4; i++)
        for (int64_t first = 0; first + sizes[i] <= MOST; first += sizes[i]) {
            run_rows(first % 2 ? ctx : other, dtypes, packed, first, sizes[i],
                     alone);
            assert_memory_equal(alone, batch + (size_t)first * row,
                                (size_t)sizes[i] * row);
        }
}

static void invariance(const char *isa)
{
    static const int32_t all[] = { FLI_F32, FLI_F16, FLI_BF16 };
    fli_context *ctx = make_context(isa, NULL, 1);
    fli_context *other = make_context(isa, NULL, 3);

    srand(1);
    for (int i = 0; i < 9; i++) {
        const int32_t dtypes[] = { all[i % 3], all[i / 3],
                                   all[(i + i / 3) % 3] };
        fli_gemm_pack_args pack = FLI_GEMM_PACK_ARGS_INIT;

        fill(x, MOST * DEPTH, dtypes[0]);
        fill(w, COLS * DEPTH, dtypes[1]);
        pack.b = fli_tensor_2d(w, NULL, dtypes[1], COLS, DEPTH);
        pack.packed = fli_tensor_1d(packed_w, NULL, FLI_U8, sizeof(packed_w));
        assert_ok(fli_gemm_pack(other, &pack, NULL));
        check_invariance(ctx, other, dtypes, 0);
        check_invariance(ctx, other, dtypes, 1);
    }
    fli_context_destroy(ctx);
    fli_context_destroy(other);
}

static void test_invariance_baseline(void **state)
{
    (void)state;
    invariance("baseline");
}

static void test_invariance_avx2(void **state)
{
    (void)state;
    if (!has_avx2())
        skip();
    invariance("avx2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_call),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_blob),
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_packed_bytes),
        cmocka_unit_test(test_invariance_baseline),
        cmocka_unit_test(test_invariance_avx2),
    };

    return RUN(tests);
}
