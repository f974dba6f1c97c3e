/* SPDX-License-Identifier: Apache-2.0 */
/* Packing of booleans into bits.
 *
 * Errors: INVALID_ARGUMENT.  Threads: any number at once on outputs of their
 * own.  Every <op>_prepare checks everything but data. */
#ifndef FLASHINFER_QUANT_H
#define FLASHINFER_QUANT_H

#include "context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fli_bit_order {
    FLI_BIT_ORDER_BIG = 0,   /* the first element is bit 7 */
    FLI_BIT_ORDER_LITTLE = 1 /* the first element is bit 0 */
} fli_bit_order;

/* Byte i of out holds elements 8 i .. 8 i + 7 of x (nonzero = 1), the last one
 * filled with zero bits.  Source: FlashInfer's packbits, numpy.packbits. */
typedef struct fli_packbits_args {
    size_t size;
    fli_tensor x;      /* bool or u8 [n] */
    fli_tensor out;    /* u8 [ceil(n / 8)] */
    int32_t bit_order; /* fli_bit_order */
    int32_t reserved;
} fli_packbits_args;

#define FLI_PACKBITS_ARGS_INIT { sizeof(fli_packbits_args) }

FLI_API fli_status fli_packbits(fli_context *ctx, const fli_packbits_args *args,
                                fli_stream stream);
FLI_API fli_status fli_packbits_prepare(fli_context *ctx,
                                        const fli_packbits_args *args);

/* packbits of each segment x[indptr[i] .. indptr[i + 1]), each filled to whole
 * bytes: segment i goes to out[out_indptr[i] ..), out_indptr being the prefix
 * sum of ceil(length / 8).  out_indptr is written; out must hold its last entry
 * (refused on the CPU otherwise, before anything is written), at most
 * ceil(n / 8) + n_segments.  Source: FlashInfer's segment_packbits. */
typedef struct fli_segment_packbits_args {
    size_t size;
    fli_tensor x;          /* bool or u8 [>= indptr[n_segments]] */
    fli_tensor indptr;     /* i32 [n_segments + 1], elements */
    fli_tensor out;        /* u8 [>= out_indptr[n_segments]] */
    fli_tensor out_indptr; /* i32 [n_segments + 1], bytes */
    int32_t bit_order;     /* fli_bit_order */
    int32_t reserved;
} fli_segment_packbits_args;

#define FLI_SEGMENT_PACKBITS_ARGS_INIT { sizeof(fli_segment_packbits_args) }

FLI_API fli_status fli_segment_packbits(fli_context *ctx,
                                        const fli_segment_packbits_args *args,
                                        fli_stream stream);
FLI_API fli_status fli_segment_packbits_prepare(
    fli_context *ctx, const fli_segment_packbits_args *args);

#ifdef __cplusplus
}
#endif
#endif
