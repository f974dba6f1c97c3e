/* SPDX-License-Identifier: Apache-2.0 */
/* append: rows are copied, or converted, head by head; heads that lie end to
 * end on both sides go as one. */
#include "abi/append.h"
#include "abi/kernels.h"
#include "cpu/lib/vec.h"

INLINE void convert(const char *in, int32_t dtype_in, char *out,
                    int32_t dtype_out, int64_t n)
{
    int64_t i = 0;

    if (dtype_in == dtype_out) {
        memcpy(out, in, (size_t)n * v_dtype_bytes(dtype_in));
        return;
    }
    for (; i + VL <= n; i += VL)
        v_store(out, dtype_out, i, v_load(in, dtype_in, i));
    if (i < n)
        v_store_part(out, dtype_out, i, n - i,
                     v_load_part(in, dtype_in, i, n - i));
}

INLINE void append_row(const fli_append_params *p, const fli_append_tensor *t,
                       int32_t dtype, int32_t dtype_cache, int64_t row)
{
    const int64_t bytes_in = (int64_t)v_dtype_bytes(dtype);
    const int64_t bytes_out = (int64_t)v_dtype_bytes(dtype_cache);
    const int64_t position = p->positions[row];
    const int64_t page = p->page_indices[p->page_indptr[p->batch_indices[row]]
                                         + position / p->page_size];
    const char *in = (const char *)t->in + row * t->in_stride[0] * bytes_in;
    char *out =
        (char *)t->cache
        + (page * t->page_stride + position % p->page_size * t->token_stride)
              * bytes_out;

    if (t->in_stride[1] == t->head_dim && t->head_stride == t->head_dim) {
        convert(in, dtype, out, dtype_cache, p->n_kv_heads * t->head_dim);
        return;
    }
    for (int64_t head = 0; head < p->n_kv_heads; head++)
        convert(in + head * t->in_stride[1] * bytes_in, dtype,
                out + head * t->head_stride * bytes_out, dtype_cache,
                t->head_dim);
}

INLINE void append_rows(const fli_append_params *p, int32_t dtype,
                        int32_t dtype_cache, int32_t ith, int32_t nth)
{
    const int64_t begin = p->n_rows * ith / nth;
    const int64_t end = p->n_rows * (ith + 1) / nth;

    for (int64_t row = begin; row < end; row++)
        if (p->batch_indices[row] >= 0 && p->positions[row] >= 0) {
            append_row(p, &p->tensor[0], dtype, dtype_cache, row);
            append_row(p, &p->tensor[1], dtype, dtype_cache, row);
        }
}

void KERNEL(append)(void *params, int32_t ith, int32_t nth)
{
    const fli_append_params *p = params;

#define FROM_F32(DTYPE)  append_rows(p, FLI_ABI_F32, DTYPE, ith, nth)
#define FROM_F16(DTYPE)  append_rows(p, FLI_ABI_F16, DTYPE, ith, nth)
#define FROM_BF16(DTYPE) append_rows(p, FLI_ABI_BF16, DTYPE, ith, nth)
    if (p->dtype == FLI_ABI_F32)
        FOR_DTYPE(p->dtype_cache, FROM_F32);
    else if (p->dtype == FLI_ABI_F16)
        FOR_DTYPE(p->dtype_cache, FROM_F16);
    else
        FOR_DTYPE(p->dtype_cache, FROM_BF16);
#undef FROM_F32
#undef FROM_F16
#undef FROM_BF16
}
