/* SPDX-License-Identifier: Apache-2.0 */
/* core: status text, sized structs, checks of tensors and their messages,
 * DLPack, environment. */
#include "unit.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/context.h"
#include "core/dlpack.h"
#include "core/env.h"

/* --- status ---------------------------------------------------------------- */

static void status_names(void **state)
{
    (void)state;
    assert_string_equal(fli_status_name(FLI_OK), "OK");
    assert_string_equal(fli_status_name(FLI_WORKSPACE), "WORKSPACE");
    assert_string_equal(fli_status_name(FLI_INTERNAL), "INTERNAL");
    assert_string_equal(fli_status_name((fli_status)11), "unknown status");
    assert_string_equal(fli_status_name((fli_status)-1), "unknown status");
}

static void message_is_kept_until_the_next_failure(void **state)
{
    (void)state;
    assert_int_equal(FAIL(IO, "op verb: x is %d, expected %d", 1, 2), FLI_IO);
    assert_string_equal(fli_last_error(), "op verb: x is 1, expected 2");
    assert_int_equal(fli_dtype_bytes(FLI_F32), 4);
    assert_string_equal(fli_last_error(), "op verb: x is 1, expected 2");
}

static void message_is_cut_at_511_bytes(void **state)
{
    char text[1000];

    (void)state;
    memset(text, 'x', sizeof(text));
    text[999] = 0;
    FAIL(IO, "%s", text);
    assert_int_equal(strlen(fli_last_error()), 511);
}

static void *message_of_a_new_thread(void *arg)
{
    strcpy(arg, fli_last_error());
    FAIL(IO, "other thread");
    return NULL;
}

static void message_is_of_the_thread(void **state)
{
    char text[16] = "unset";
    pthread_t thread;

    (void)state;
    FAIL(IO, "this thread");
    assert_int_equal(
        pthread_create(&thread, NULL, message_of_a_new_thread, text), 0);
    pthread_join(thread, NULL);
    assert_string_equal(text, "");
    assert_string_equal(fli_last_error(), "this thread");
}

static fli_status checks(int value, int *reached)
{
    CHECK(value != 1, INVALID_STATE, "t: one");
    TRY(value == 2 ? FAIL(TIMEOUT, "t: two") : FLI_OK);
    *reached = 1;
    return FLI_OK;
}

static void check_and_try_return(void **state)
{
    int reached = 0;

    (void)state;
    assert_fails(checks(1, &reached), INVALID_STATE, "t: one");
    assert_fails(checks(2, &reached), TIMEOUT, "t: two");
    assert_int_equal(reached, 0);
    assert_ok(checks(3, &reached));
    assert_int_equal(reached, 1);
}

/* --- sized structs --------------------------------------------------------- */

typedef struct {
    size_t size;
    int64_t first;
    int64_t second; /* added in a later release */
} sized;

#define FIRST_BYTES offsetof(sized, second)

static fli_status copy(sized *to, const void *from)
{
    return fli__copy_struct("op run", "args", to, sizeof(*to), from,
                            FIRST_BYTES);
}

static void struct_as_long_as_ours(void **state)
{
    const sized from = { sizeof(from), 3, 4 };
    sized to;

    (void)state;
    assert_ok(copy(&to, &from));
    assert_memory_equal(&to, &from, sizeof(to));
}

static void shorter_struct_has_zeros(void **state)
{
    const sized from = { FIRST_BYTES, 3, 99 };
    sized to = { 0, 7, 7 };

    (void)state;
    assert_ok(copy(&to, &from));
    assert_int_equal(to.size, sizeof(to));
    assert_int_equal(to.first, 3);
    assert_int_equal(to.second, 0);
}

static void longer_struct_must_end_in_zeros(void **state)
{
    struct {
        sized known;
        char more[8];
    } from = { .known = { sizeof(from), 3, 4 } };
    sized to;

    (void)state;
    assert_ok(copy(&to, &from));
    assert_int_equal(to.second, 4);
    assert_int_equal(to.size, sizeof(to));
    from.more[7] = 1;
    assert_fails(
        copy(&to, &from), UNSUPPORTED,
        "op run: args.size is 32 and byte 31 is set, expected 0 beyond "
        "the 24 bytes that version 0.1.0 knows");
}

static void too_short_struct_is_refused(void **state)
{
    const sized from = { FIRST_BYTES - 1, 3, 4 };
    sized to;

    (void)state;
    assert_fails(copy(&to, &from), INVALID_ARGUMENT,
                 "op run: args.size is 15, expected at least 16 (use the INIT "
                 "macro)");
    assert_fails(copy(&to, NULL), INVALID_ARGUMENT,
                 "op run: args is NULL, expected a struct");
    assert_fails(copy(&to, &(sized){ 0 }), INVALID_ARGUMENT,
                 "op run: args.size is 0, expected at least 16 (use the INIT "
                 "macro)");
}

/* --- tensors --------------------------------------------------------------- */

static const fli_context cpu = { .device = { FLI_DEVICE_CPU, 0 } };

static fli_status check_x(const fli_tensor *x, uint32_t flags, int64_t n0,
                          int64_t n1)
{
    const fli__spec spec = {
        .dtypes = FLI__DTYPE(FLI_F32) | FLI__DTYPE(FLI_BF16),
        .flags = flags,
        .ndim = 2,
        .shape = { n0, n1 },
    };

    return fli__check_tensor(&cpu, "op run", "x", x, &spec);
}

static float memory[64];

static fli_tensor x_2d(int64_t n0, int64_t n1)
{
    return fli_tensor_2d(memory, &cpu, FLI_F32, n0, n1);
}

static void constructors_are_compact(void **state)
{
    const fli_tensor t = fli_tensor_4d(memory, NULL, FLI_F16, 2, 3, 4, 5);

    (void)state;
    assert_int_equal(t.ndim, 4);
    assert_int_equal(t.dtype, FLI_F16);
    assert_int_equal(t.device.type, FLI_DEVICE_CPU);
    assert_int_equal(t.stride[0], 60);
    assert_int_equal(t.stride[1], 20);
    assert_int_equal(t.stride[2], 5);
    assert_int_equal(t.stride[3], 1);
    assert_ptr_equal(t.data, memory);
    assert_int_equal(fli_tensor_1d(memory, NULL, FLI_U8, 9).shape[0], 9);
    assert_int_equal(fli_tensor_3d(memory, NULL, FLI_U8, 0, 7, 5).stride[0],
                     35);
    assert_int_equal(fli_tensor_3d(memory, NULL, FLI_U8, 4, 0, 5).stride[0], 5);
}

static void tensor_is_as_the_spec_says(void **state)
{
    const fli_tensor x = x_2d(4, 8);

    (void)state;
    assert_ok(check_x(&x, 0, 4, 8));
    assert_ok(check_x(&x, 0, FLI__ANY, 8));
    assert_ok(check_x(&x, 0, FLI__AT_LEAST(4), FLI__ANY));
    assert_ok(check_x(&x, FLI__OUTPUT, 4, 8));
}

static void wrong_shape_dtype_rank_device(void **state)
{
    fli_tensor x = x_2d(4, 8);

    (void)state;
    assert_fails(check_x(&x, 0, 5, 8), INVALID_ARGUMENT,
                 "op run: x is f32 [4, 8] on cpu, expected f32|bf16 [5, 8] on "
                 "cpu");
    assert_fails(
        check_x(&x, 0, FLI__AT_LEAST(5), FLI__ANY), INVALID_ARGUMENT,
        "op run: x is f32 [4, 8] on cpu, expected f32|bf16 [>= 5, any] "
        "on cpu");
    x.dtype = FLI_F16;
    assert_int_equal(check_x(&x, 0, 4, 8), FLI_INVALID_ARGUMENT);
    x.dtype = 33;
    assert_fails(check_x(&x, 0, 4, 8), INVALID_ARGUMENT,
                 "op run: x is unknown dtype [4, 8] on cpu, expected f32|bf16 "
                 "[4, 8] on cpu");
    x.dtype = -1;
    assert_int_equal(check_x(&x, 0, 4, 8), FLI_INVALID_ARGUMENT);
    x = x_2d(4, 8);
    x.ndim = 3;
    assert_int_equal(check_x(&x, 0, 4, 8), FLI_INVALID_ARGUMENT);
    x.ndim = 1000; /* must not be believed when it is printed */
    assert_int_equal(check_x(&x, 0, 4, 8), FLI_INVALID_ARGUMENT);
    x.ndim = -1;
    assert_int_equal(check_x(&x, 0, 4, 8), FLI_INVALID_ARGUMENT);
    x = x_2d(-4, 8);
    assert_int_equal(check_x(&x, 0, FLI__ANY, 8), FLI_INVALID_ARGUMENT);
    x = x_2d(4, 8);
    x.device = fli_cuda(1);
    assert_fails(check_x(&x, 0, 4, 8), INVALID_ARGUMENT,
                 "op run: x is f32 [4, 8] on cuda:1, expected f32|bf16 [4, 8] "
                 "on cpu");
    x.device = fli_cuda(0);
    assert_int_equal(check_x(&x, 0, 4, 8), FLI_INVALID_ARGUMENT);
    x.device = (fli_device){ FLI_DEVICE_CPU, 1 };
    assert_int_equal(check_x(&x, 0, 4, 8), FLI_INVALID_ARGUMENT);
}

static void strides(void **state)
{
    fli_tensor x = x_2d(4, 8);

    (void)state;
    x.stride[0] = 11;
    assert_ok(check_x(&x, FLI__OUTPUT, 4, 8));
    x.stride[0] = -8;
    assert_ok(check_x(&x, 0, 4, 8));
    x.stride[0] = 0; /* a broadcast input */
    assert_ok(check_x(&x, 0, 4, 8));
    assert_fails(check_x(&x, FLI__OUTPUT, 4, 8), INVALID_ARGUMENT,
                 "op run: x has stride 0 in dimension 0, expected an output "
                 "that does not overlap itself");
    x.stride[0] = 16;
    x.stride[1] = 2;
    assert_fails(check_x(&x, 0, 4, 8), INVALID_ARGUMENT,
                 "op run: x has stride 2 in its last dimension, expected 1");
    x = x_2d(4, 1); /* one element: any stride */
    x.stride[1] = 7;
    assert_ok(check_x(&x, 0, 4, 1));
}

static void absent_and_empty(void **state)
{
    fli_tensor x = { 0 };

    (void)state;
    assert_ok(check_x(&x, FLI__OPTIONAL, 4, 8));
    assert_fails(check_x(&x, 0, 4, FLI__ANY), INVALID_ARGUMENT,
                 "op run: x is absent (data NULL), expected f32|bf16 [4, any] "
                 "on cpu");
    x = fli_tensor_2d(NULL, &cpu, FLI_F32, 4, 8);
    assert_fails(check_x(&x, 0, 4, 8), INVALID_ARGUMENT,
                 "op run: x is absent (data NULL), expected a tensor");
    assert_ok(check_x(&x, FLI__SHAPE_ONLY, 4, 8));
    x = fli_tensor_2d(NULL, &cpu, FLI_F32, 0, 8);
    assert_ok(check_x(&x, 0, 0, 8)); /* no elements, no memory */
}

static void alignment(void **state)
{
    fli_tensor x = x_2d(4, 8);

    (void)state;
    x.data = (char *)memory + 2;
    assert_int_equal(check_x(&x, 0, 4, 8), FLI_INVALID_ARGUMENT);
    assert_non_null(strstr(fli_last_error(),
                           "expected a multiple of its element of 4 bytes"));
    x.dtype = FLI_BF16;
    assert_ok(check_x(&x, 0, 4, 8));
}

static void extents_fit_63_bits(void **state)
{
    static const char text[] = "op run: x has an extent of more than 2^63 "
                               "bytes, expected less";
    fli_tensor x = x_2d(4, 8);

    (void)state;
    x.stride[0] = INT64_MAX / 4;
    assert_fails(check_x(&x, 0, 4, 8), INVALID_ARGUMENT, text);
    x.stride[0] = INT64_MIN;
    assert_fails(check_x(&x, 0, 4, 8), INVALID_ARGUMENT, text);
    x = x_2d(INT64_MAX, INT64_MAX);
    assert_fails(check_x(&x, 0, FLI__ANY, FLI__ANY), INVALID_ARGUMENT, text);
    x = x_2d(INT64_C(1) << 31, INT64_C(1) << 29); /* 2^62 bytes */
    assert_ok(check_x(&x, 0, FLI__ANY, FLI__ANY));
}

static void long_text_stays_in_its_buffer(void **state)
{
    fli_tensor x = { .data = memory, .dtype = FLI_BF16, .ndim = 6 };
    char buf[24];

    (void)state;
    for (int i = 0; i < 6; i++)
        x.shape[i] = INT64_MAX;
    memset(buf, 'x', sizeof(buf));
    fli__tensor_text(&x, buf, 20);
    assert_string_equal(buf, "bf16 [9223372036854");
    assert_memory_equal(buf + 20, "xxxx", 4);
}

static void overlap_is_by_bytes(void **state)
{
    const fli_tensor a = fli_tensor_1d(memory, &cpu, FLI_F32, 8);
    fli_tensor b = fli_tensor_1d(memory + 8, &cpu, FLI_F32, 8);

    (void)state;
    assert_false(fli__overlap(&a, &b));
    assert_false(fli__overlap(&b, &a));
    b.data = memory + 7;
    assert_true(fli__overlap(&a, &b));
    assert_true(fli__overlap(&b, &a));
    b.data = NULL;
    assert_false(fli__overlap(&a, &b));
    b = fli_tensor_2d(memory + 16, &cpu, FLI_F32, 3, 1);
    b.stride[0] = -8; /* reaches back to element 0 */
    assert_true(fli__overlap(&a, &b));
    b.shape[0] = 2; /* to element 8 */
    assert_false(fli__overlap(&a, &b));
    b.shape[0] = 0;
    assert_false(fli__overlap(&a, &b));
    b = fli_tensor_3d(memory + 16, &cpu, FLI_F32, 2, 3, 1);
    b.stride[0] = 1; /* elements 0, 1, 8, 9, 16, 17 */
    b.stride[1] = -8;
    const fli_tensor first = fli_tensor_1d(memory, &cpu, FLI_F32, 1);

    assert_true(fli__overlap(&first, &b));
}

/* q, k and v as columns of one projection. */
static void columns_of_one_buffer_are_apart(void **state)
{
    const fli_tensor a = fli_tensor_2d(memory, &cpu, FLI_F32, 6, 8);
    fli_tensor left = a, right = a;

    (void)state;
    left.shape[1] = 5;
    right.data = memory + 5;
    right.shape[1] = 3;
    assert_false(fli__overlap(&left, &right));
    assert_false(fli__overlap(&right, &left));
    right.data = memory + 4; /* one column of both */
    assert_true(fli__overlap(&left, &right));
    assert_true(fli__overlap(&right, &left));
    right.data = memory + 6; /* into the next row */
    assert_true(fli__overlap(&left, &right));
    right.data = memory + 2 * 8 + 5; /* from another row on */
    right.shape[0] = 4;
    assert_false(fli__overlap(&left, &right));
    right.stride[0] = 16; /* another pitch */
    assert_true(fli__overlap(&left, &right));
    right = left;
    assert_true(fli__overlap(&left, &right));
}

static void in_place_is_the_same_view(void **state)
{
    const fli_tensor x = x_2d(2, 4);
    fli_tensor out = x;

    (void)state;
    assert_ok(fli__check_in_place("op run", "out", &out, "x", &x));
    out.data = memory + 32;
    assert_ok(fli__check_in_place("op run", "out", &out, "x", &x));
    out = x;
    out.stride[0] = 8;
    assert_fails(fli__check_in_place("op run", "out", &out, "x", &x),
                 INVALID_ARGUMENT,
                 "op run: out overlaps x, expected the same view of it or "
                 "memory of its own");
    out = x;
    out.data = memory + 1;
    assert_int_equal(fli__check_in_place("op run", "out", &out, "x", &x),
                     FLI_INVALID_ARGUMENT);
}

static void indptr(void **state)
{
    static const int32_t good[] = { 0, 0, 3, 7 }, late[] = { 1, 2 },
                         down[] = { 0, 5, 4 };

    (void)state;
    assert_ok(fli__check_indptr("op plan", "q_indptr", good, 3, 7));
    assert_ok(fli__check_indptr("op plan", "q_indptr", good, 0, 0));
    assert_fails(fli__check_indptr("op plan", "q_indptr", good, 3, 6),
                 INVALID_ARGUMENT,
                 "op plan: q_indptr[3] is 7, expected at most 6");
    assert_fails(fli__check_indptr("op plan", "q_indptr", late, 1, 9),
                 INVALID_ARGUMENT, "op plan: q_indptr[0] is 1, expected 0");
    assert_fails(fli__check_indptr("op plan", "q_indptr", down, 2, 9),
                 INVALID_ARGUMENT,
                 "op plan: q_indptr[2] is 4, expected at least q_indptr[1] = "
                 "5");
}

/* --- DLPack ---------------------------------------------------------------- */

static void dlpack_there_and_back(void **state)
{
    fli_tensor x = fli_tensor_3d(memory, NULL, FLI_BF16, 2, 3, 4), y;
    fli__dl_tensor dl;

    (void)state;
    x.stride[0] = 20;
    memset(&dl, 0xff, sizeof(dl));
    fli_tensor_to_dlpack(&x, &dl);
    assert_ptr_equal(dl.data, memory);
    assert_ptr_equal(dl.shape, x.shape);
    assert_ptr_equal(dl.strides, x.stride);
    assert_int_equal(dl.ndim, 3);
    assert_int_equal(dl.device.type, 1);
    assert_int_equal(dl.dtype.code, 4);
    assert_int_equal(dl.dtype.bits, 16);
    assert_int_equal(dl.dtype.lanes, 1);
    assert_int_equal(dl.byte_offset, 0);
    assert_ok(fli_tensor_from_dlpack(&y, &dl));
    assert_memory_equal(&x, &y, sizeof(x));
}

static void dlpack_of_every_dtype(void **state)
{
    static const int32_t dtypes[] = { FLI_F32, FLI_F16, FLI_BF16, FLI_I32,
                                      FLI_I64, FLI_U8,  FLI_BOOL };

    (void)state;
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(*dtypes); i++) {
        const fli_tensor x =
            fli_tensor_1d(memory, NULL, (fli_dtype)dtypes[i], 2);
        fli__dl_tensor dl;
        fli_tensor y;

        fli_tensor_to_dlpack(&x, &dl);
        assert_int_equal(dl.dtype.bits, 8 * fli_dtype_bytes(dtypes[i]));
        assert_ok(fli_tensor_from_dlpack(&y, &dl));
        assert_int_equal(y.dtype, dtypes[i]);
    }
}

static void dlpack_null_strides_and_offset(void **state)
{
    int64_t shape[] = { 2, 3, 4 };
    const fli__dl_tensor dl = {
        .data = memory,
        .device = { 1, 0 },
        .ndim = 3,
        .dtype = { FLI__DL_FLOAT, 32, 1 },
        .shape = shape,
        .byte_offset = 8,
    };
    fli_tensor x;

    (void)state;
    assert_ok(fli_tensor_from_dlpack(&x, &dl));
    assert_ptr_equal(x.data, memory + 2);
    assert_int_equal(x.stride[0], 12);
    assert_int_equal(x.stride[1], 4);
    assert_int_equal(x.stride[2], 1);
}

static void dlpack_refusals(void **state)
{
    int64_t shape[7] = { 2, 2, 2, 2, 2, 2, 2 };
    const fli__dl_tensor good = {
        .data = memory,
        .device = { 1, 0 },
        .ndim = 1,
        .dtype = { FLI__DL_FLOAT, 32, 1 },
        .shape = shape,
    };
    fli__dl_tensor dl = good;
    fli_tensor x;

    (void)state;
    assert_ok(fli_tensor_from_dlpack(&x, &dl));
    assert_fails(fli_tensor_from_dlpack(NULL, &dl), INVALID_ARGUMENT,
                 "tensor from_dlpack: out is NULL, expected a tensor");
    assert_fails(fli_tensor_from_dlpack(&x, NULL), INVALID_ARGUMENT,
                 "tensor from_dlpack: dl_tensor is NULL, expected a DLTensor");
    dl.ndim = 7;
    assert_fails(fli_tensor_from_dlpack(&x, &dl), INVALID_ARGUMENT,
                 "tensor from_dlpack: ndim is 7, expected 0 to 6");
    dl = good;
    dl.shape = NULL;
    assert_fails(fli_tensor_from_dlpack(&x, &dl), INVALID_ARGUMENT,
                 "tensor from_dlpack: shape is NULL, expected 1 extents");
    dl = good;
    shape[0] = -2;
    assert_fails(fli_tensor_from_dlpack(&x, &dl), INVALID_ARGUMENT,
                 "tensor from_dlpack: shape[0] is -2, expected >= 0");
    shape[0] = 2;
    dl.dtype.bits = 64; /* f64 */
    assert_int_equal(fli_tensor_from_dlpack(&x, &dl), FLI_UNSUPPORTED);
    dl = good;
    dl.dtype.lanes = 4;
    assert_fails(fli_tensor_from_dlpack(&x, &dl), UNSUPPORTED,
                 "tensor from_dlpack: dtype is code 2, 32 bits, 4 lanes, "
                 "expected one of f32 f16 bf16 i32 i64 u8 bool");
    dl = good;
    dl.device.type = 10;
    assert_fails(fli_tensor_from_dlpack(&x, &dl), UNSUPPORTED,
                 "tensor from_dlpack: device type is 10, expected 1 (cpu) or 2 "
                 "(cuda)");
}

static void dlpack_absent_data(void **state)
{
    const fli__dl_tensor dl = {
        .device = { 1, 0 },
        .dtype = { FLI__DL_FLOAT, 32, 1 },
        .byte_offset = 16,
    };
    fli_tensor x;

    (void)state;
    assert_ok(fli_tensor_from_dlpack(&x, &dl));
    assert_null(x.data); /* not offset 16 */
    assert_int_equal(x.ndim, 0);
}

/* --- environment ----------------------------------------------------------- */

static void environment(void **state)
{
    (void)state;
    unsetenv("FLI_THREADS");
    assert_null(fli__env_get(FLI__ENV_FLI_THREADS));
    setenv("FLI_THREADS", "", 1);
    assert_null(fli__env_get(FLI__ENV_FLI_THREADS));
    setenv("FLI_THREADS", "3", 1);
    assert_string_equal(fli__env_get(FLI__ENV_FLI_THREADS), "3");
    unsetenv("FLI_THREADS");
}

static void version_is_the_header_s(void **state)
{
    char text[32];

    (void)state;
    snprintf(text, sizeof(text), "%d.%d.%d", FLI_VERSION_MAJOR,
             FLI_VERSION_MINOR, FLI_VERSION_PATCH);
    assert_string_equal(fli_version(), text);
    assert_string_equal(FLI_VERSION, text);
}

static void dtypes_have_names_and_sizes(void **state)
{
    (void)state;
    assert_string_equal(fli_dtype_name(FLI_BF16), "bf16");
    assert_int_equal(fli_dtype_bytes(FLI_I64), 8);
    assert_int_equal(fli_dtype_bytes(FLI_BOOL), 1);
    for (int32_t i = -3; i < 64; i++)
        if (fli_dtype_bytes(i) == 0)
            assert_string_equal(fli_dtype_name(i), "unknown dtype");
    assert_int_equal(fli_dtype_bytes(FLI_NO_DTYPE), 0);
    assert_int_equal(fli_dtype_bytes(INT32_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_names),
        cmocka_unit_test(message_is_kept_until_the_next_failure),
        cmocka_unit_test(message_is_cut_at_511_bytes),
        cmocka_unit_test(message_is_of_the_thread),
        cmocka_unit_test(check_and_try_return),
        cmocka_unit_test(struct_as_long_as_ours),
        cmocka_unit_test(shorter_struct_has_zeros),
        cmocka_unit_test(longer_struct_must_end_in_zeros),
        cmocka_unit_test(too_short_struct_is_refused),
        cmocka_unit_test(constructors_are_compact),
        cmocka_unit_test(tensor_is_as_the_spec_says),
        cmocka_unit_test(wrong_shape_dtype_rank_device),
        cmocka_unit_test(strides),
        cmocka_unit_test(absent_and_empty),
        cmocka_unit_test(alignment),
        cmocka_unit_test(extents_fit_63_bits),
        cmocka_unit_test(long_text_stays_in_its_buffer),
        cmocka_unit_test(overlap_is_by_bytes),
        cmocka_unit_test(columns_of_one_buffer_are_apart),
        cmocka_unit_test(in_place_is_the_same_view),
        cmocka_unit_test(indptr),
        cmocka_unit_test(dlpack_there_and_back),
        cmocka_unit_test(dlpack_of_every_dtype),
        cmocka_unit_test(dlpack_null_strides_and_offset),
        cmocka_unit_test(dlpack_refusals),
        cmocka_unit_test(dlpack_absent_data),
        cmocka_unit_test(environment),
        cmocka_unit_test(version_is_the_header_s),
        cmocka_unit_test(dtypes_have_names_and_sizes),
    };

    return RUN(tests);
}
