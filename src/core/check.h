/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of what callers pass: sized structs and tensors.  Every message is
 * "<where>: <name> is <given>, expected <what>", where = "<op> <verb>". */
#ifndef FLI_CORE_CHECK_H
#define FLI_CORE_CHECK_H

#include <flashinfer/tensor.h>

#include "core/status.h"

struct fli_context;

/* Copies the caller's struct src, which begins with its size, to dst of
 * dst_bytes: missing members become zero.  INVALID_ARGUMENT for NULL or shorter
 * than first_bytes (its size in the first release); UNSUPPORTED for members
 * that are not zero and not known here. */
fli_status fli__copy_struct(const char *where, const char *name, void *dst,
                            size_t dst_bytes, const void *src,
                            size_t first_bytes);

/* Sets of dtypes. */
#define FLI__DTYPE(dtype) (1u << (dtype))
#define FLI__FLOATS                                                            \
    (FLI__DTYPE(FLI_F32) | FLI__DTYPE(FLI_F16) | FLI__DTYPE(FLI_BF16))

enum {
    FLI__OPTIONAL = 1,  /* may be absent (data NULL) */
    FLI__OUTPUT = 2,    /* must not overlap itself: no stride 0 */
    FLI__SHAPE_ONLY = 4 /* data may be NULL (prepare), all else is checked */
};

/* What a tensor must be.  A negative extent is any; AT_LEAST(n) is n or more.
 */
typedef struct {
    uint32_t dtypes; /* set of FLI__DTYPE */
    uint32_t flags;
    int32_t ndim;
    int64_t shape[FLI_MAX_NDIM];
} fli__spec;

#define FLI__ANY         INT64_C(-1)
#define FLI__AT_LEAST(n) (-2 - (int64_t)(n))

/* INVALID_ARGUMENT unless tensor is as spec says, on the device of ctx, with a
 * unit last stride, aligned to its element, and its extent in bytes fits 63
 * bits.  A tensor without elements may have data NULL. */
fli_status fli__check_tensor(const struct fli_context *ctx, const char *where,
                             const char *name, const fli_tensor *tensor,
                             const fli__spec *spec);

/* "bf16 [12, 32, 128] on cpu" into buf; returns buf. */
const char *fli__tensor_text(const fli_tensor *tensor, char *buf, size_t n);

/* True if any byte of a may be a byte of b.  Columns of one buffer, like q and k
 * in the output of a fused projection, do not overlap. */
int fli__overlap(const fli_tensor *a, const fli_tensor *b);

/* True if a and b have the same data, shape and strides. */
int fli__same_view(const fli_tensor *a, const fli_tensor *b);

/* INVALID_ARGUMENT if out overlaps in, unless it is the same view of it. */
fli_status fli__check_in_place(const char *where, const char *out_name,
                               const fli_tensor *out, const char *in_name,
                               const fli_tensor *in);

/* INVALID_ARGUMENT if out overlaps in. */
fli_status fli__check_apart(const char *where, const char *out_name,
                            const fli_tensor *out, const char *in_name,
                            const fli_tensor *in);

/* INVALID_ARGUMENT unless the host-readable i32 [n + 1] prefix sums start at 0,
 * never decrease and end at most at limit. */
fli_status fli__check_indptr(const char *where, const char *name,
                             const int32_t *indptr, int64_t n, int64_t limit);

#endif
