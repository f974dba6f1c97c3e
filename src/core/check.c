/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of sized structs and tensors, and the text of their messages. */
#include "core/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/context.h"

#define TEXT_BYTES 160

fli_status fli__copy_struct(const char *where, const char *name, void *dst,
                            size_t dst_bytes, const void *src,
                            size_t first_bytes)
{
    size_t src_bytes;

    CHECK(src, INVALID_ARGUMENT, "%s: %s is NULL, expected a struct", where,
          name);
    memcpy(&src_bytes, src, sizeof(src_bytes));
    CHECK(src_bytes >= first_bytes, INVALID_ARGUMENT,
          "%s: %s.size is %zu, expected at least %zu (use the INIT macro)",
          where, name, src_bytes, first_bytes);
    for (size_t i = dst_bytes; i < src_bytes; i++)
        CHECK(((const char *)src)[i] == 0, UNSUPPORTED,
              "%s: %s.size is %zu and byte %zu is set, expected 0 beyond the "
              "%zu bytes that version " FLI_VERSION " knows",
              where, name, src_bytes, i, dst_bytes);
    memset(dst, 0, dst_bytes);
    memcpy(dst, src, MIN(src_bytes, dst_bytes));
    memcpy(dst, &dst_bytes, sizeof(dst_bytes));
    return FLI_OK;
}

/* A string that stays within its buffer. */
typedef struct {
    char *buf;
    size_t n, used;
} text;

static void add(text *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add(text *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    const int length =
        vsnprintf(t->buf + t->used, t->n - t->used, format, args);
    va_end(args);
    if (length > 0)
        t->used = MIN(t->used + (size_t)length, t->n - 1);
}

static void add_device(text *t, fli_device device)
{
    if (device.type == FLI_DEVICE_CPU)
        add(t, " on cpu");
    else
        add(t, " on %s:%d", device.type == FLI_DEVICE_CUDA ? "cuda" : "device",
            (int)device.index);
}

const char *fli__tensor_text(const fli_tensor *tensor, char *buf, size_t n)
{
    text t = { buf, n, 0 };

    add(&t, "%s [", fli_dtype_name(tensor->dtype));
    for (int32_t i = 0; i < MIN(tensor->ndim, FLI_MAX_NDIM); i++)
        add(&t, "%s%" PRId64, i ? ", " : "", tensor->shape[i]);
    add(&t, "]");
    add_device(&t, tensor->device);
    return buf;
}

/* "f32|bf16 [12, any, >= 3] on cpu" */
static const char *spec_text(const fli__spec *spec, fli_device device,
                             char *buf, size_t n)
{
    text t = { buf, n, 0 };
    const char *separator = "";

    for (int32_t dtype = 0; dtype < 32; dtype++)
        if (spec->dtypes & FLI__DTYPE(dtype)) {
            add(&t, "%s%s", separator, fli_dtype_name(dtype));
            separator = "|";
        }
    add(&t, " [");
    for (int32_t i = 0; i < spec->ndim; i++) {
        const int64_t extent = spec->shape[i];

        if (extent >= 0)
            add(&t, "%s%" PRId64, i ? ", " : "", extent);
        else if (extent == FLI__ANY)
            add(&t, "%sany", i ? ", " : "");
        else
            add(&t, "%s>= %" PRId64, i ? ", " : "", FLI__AT_LEAST(extent));
    }
    add(&t, "]");
    add_device(&t, device);
    return buf;
}

static int matches(const fli_tensor *tensor, const fli__spec *spec,
                   fli_device device)
{
    if (tensor->dtype < 0 || tensor->dtype >= 32
        || !(spec->dtypes & FLI__DTYPE(tensor->dtype))
        || tensor->ndim != spec->ndim || tensor->device.type != device.type
        || tensor->device.index != device.index)
        return 0;
    for (int32_t i = 0; i < spec->ndim; i++) {
        const int64_t want = spec->shape[i], have = tensor->shape[i];

        if (have < 0 || (want >= 0 && have != want)
            || (want < FLI__ANY && have < FLI__AT_LEAST(want)))
            return 0;
    }
    return 1;
}

/* First and one-past-last byte, relative to data, of a tensor with elements;
 * false when they do not fit 63 bits. */
static int byte_range(const fli_tensor *tensor, int64_t *begin, int64_t *end)
{
    int64_t low = 0, high = 0;

    for (int32_t i = 0; i < tensor->ndim; i++) {
        int64_t reach;

        if (__builtin_mul_overflow(tensor->shape[i] - 1, tensor->stride[i],
                                   &reach)
            || __builtin_add_overflow(reach < 0 ? low : high, reach,
                                      reach < 0 ? &low : &high))
            return 0;
    }
    const int64_t bytes = (int64_t)fli_dtype_bytes(tensor->dtype);

    return !__builtin_add_overflow(high, 1, &high)
           && !__builtin_mul_overflow(low, bytes, begin)
           && !__builtin_mul_overflow(high, bytes, end);
}

static int has_elements(const fli_tensor *tensor)
{
    for (int32_t i = 0; i < tensor->ndim; i++)
        if (tensor->shape[i] == 0)
            return 0;
    return 1;
}

static fli_status check_strides(const char *where, const char *name,
                                const fli_tensor *tensor, const fli__spec *spec)
{
    for (int32_t i = 0; i < tensor->ndim; i++) {
        if (tensor->shape[i] <= 1)
            continue;
        CHECK(i < tensor->ndim - 1 || tensor->stride[i] == 1, INVALID_ARGUMENT,
              "%s: %s has stride %" PRId64 " in its last dimension, expected 1",
              where, name, tensor->stride[i]);
        CHECK(tensor->stride[i] || !(spec->flags & FLI__OUTPUT),
              INVALID_ARGUMENT,
              "%s: %s has stride 0 in dimension %d, expected an output that "
              "does not overlap itself",
              where, name, (int)i);
    }
    return FLI_OK;
}

static fli_status check_memory(const char *where, const char *name,
                               const fli_tensor *tensor, const fli__spec *spec)
{
    const size_t bytes = fli_dtype_bytes(tensor->dtype);
    int64_t begin, end;

    CHECK(byte_range(tensor, &begin, &end), INVALID_ARGUMENT,
          "%s: %s has an extent of more than 2^63 bytes, expected less", where,
          name);
    if (!tensor->data && (spec->flags & FLI__SHAPE_ONLY))
        return FLI_OK;
    CHECK(tensor->data, INVALID_ARGUMENT,
          "%s: %s is absent (data NULL), expected a tensor", where, name);
    CHECK((uintptr_t)tensor->data % bytes == 0, INVALID_ARGUMENT,
          "%s: %s is at %p, expected a multiple of its element of %zu bytes",
          where, name, tensor->data, bytes);
    return FLI_OK;
}

fli_status fli__check_tensor(const fli_context *ctx, const char *where,
                             const char *name, const fli_tensor *tensor,
                             const fli__spec *spec)
{
    char given[TEXT_BYTES], expected[TEXT_BYTES];

    if (!tensor->data && (spec->flags & FLI__OPTIONAL))
        return FLI_OK;
    CHECK(tensor->data || tensor->dtype || tensor->ndim, INVALID_ARGUMENT,
          "%s: %s is absent (data NULL), expected %s", where, name,
          spec_text(spec, ctx->device, expected, sizeof(expected)));
    CHECK(matches(tensor, spec, ctx->device), INVALID_ARGUMENT,
          "%s: %s is %s, expected %s", where, name,
          fli__tensor_text(tensor, given, sizeof(given)),
          spec_text(spec, ctx->device, expected, sizeof(expected)));
    if (!has_elements(tensor))
        return FLI_OK;
    TRY(check_strides(where, name, tensor, spec));
    return check_memory(where, name, tensor, spec);
}

/* The address of the first byte and the number of bytes; n_rows of it only. */
static int address_range(const fli_tensor *tensor, int64_t n_rows,
                         uintptr_t *first, int64_t *bytes)
{
    fli_tensor part = *tensor;
    int64_t begin, end;

    if (part.ndim > 0)
        part.shape[0] = n_rows;
    if (!part.data || !has_elements(tensor) || !byte_range(&part, &begin, &end))
        return 0;
    *first = (uintptr_t)part.data + (uintptr_t)begin;
    *bytes = end - begin;
    return 1;
}

/* True if the rows of a and b lie between one another, at the same pitch. */
static int are_columns(const fli_tensor *a, const fli_tensor *b)
{
    uintptr_t a_row, b_row;
    int64_t a_bytes, b_bytes, pitch;

    if (a->ndim < 2 || b->ndim < 2 || !address_range(a, 1, &a_row, &a_bytes)
        || !address_range(b, 1, &b_row, &b_bytes))
        return 0;
    pitch = a->stride[0] * (int64_t)fli_dtype_bytes(a->dtype);
    if (pitch <= 0
        || pitch != b->stride[0] * (int64_t)fli_dtype_bytes(b->dtype))
        return 0;
    const int64_t apart = (int64_t)(b_row - a_row);
    const int64_t offset = (apart % pitch + pitch) % pitch;

    return offset >= a_bytes && offset + b_bytes <= pitch;
}

int fli__overlap(const fli_tensor *a, const fli_tensor *b)
{
    uintptr_t a_first, b_first;
    int64_t a_bytes, b_bytes;

    if (!address_range(a, a->shape[0], &a_first, &a_bytes)
        || !address_range(b, b->shape[0], &b_first, &b_bytes))
        return 0;
    return a_first < b_first + (uintptr_t)b_bytes
           && b_first < a_first + (uintptr_t)a_bytes && !are_columns(a, b);
}

int fli__same_view(const fli_tensor *a, const fli_tensor *b)
{
    if (a->data != b->data || a->dtype != b->dtype || a->ndim != b->ndim)
        return 0;
    for (int32_t i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i]
            || (a->shape[i] > 1 && a->stride[i] != b->stride[i]))
            return 0;
    return 1;
}

fli_status fli__check_in_place(const char *where, const char *out_name,
                               const fli_tensor *out, const char *in_name,
                               const fli_tensor *in)
{
    CHECK(!fli__overlap(out, in) || fli__same_view(out, in), INVALID_ARGUMENT,
          "%s: %s overlaps %s, expected the same view of it or memory of its "
          "own",
          where, out_name, in_name);
    return FLI_OK;
}

fli_status fli__check_apart(const char *where, const char *out_name,
                            const fli_tensor *out, const char *in_name,
                            const fli_tensor *in)
{
    CHECK(!fli__overlap(out, in), INVALID_ARGUMENT,
          "%s: %s overlaps %s, expected memory of its own", where, out_name,
          in_name);
    return FLI_OK;
}

fli_status fli__check_indptr(const char *where, const char *name,
                             const int32_t *indptr, int64_t n, int64_t limit)
{
    CHECK(indptr[0] == 0, INVALID_ARGUMENT, "%s: %s[0] is %d, expected 0",
          where, name, indptr[0]);
    for (int64_t i = 0; i < n; i++)
        CHECK(indptr[i + 1] >= indptr[i], INVALID_ARGUMENT,
              "%s: %s[%" PRId64 "] is %d, expected at least %s[%" PRId64
              "] = %d",
              where, name, i + 1, indptr[i + 1], name, i, indptr[i]);
    CHECK(indptr[n] <= limit, INVALID_ARGUMENT,
          "%s: %s[%" PRId64 "] is %d, expected at most %" PRId64, where, name,
          n, indptr[n], limit);
    return FLI_OK;
}
