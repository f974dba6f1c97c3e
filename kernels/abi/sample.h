/* SPDX-License-Identifier: Apache-2.0 */
/* softmax, sample, filter: docs/sampling.md is the definition.  Parameters of a
 * row are a tensor of one value for each output row, or NULL and a scalar. */
#ifndef FLI_ABI_SAMPLE_H
#define FLI_ABI_SAMPLE_H

#include "abi/types.h"

typedef struct {
    const void *logits;        /* [n_rows, vocab] of dtype */
    float *probs;              /* [n_rows, vocab]; may be logits */
    uint8_t *valid;            /* [n_rows], or NULL */
    const float *temperatures; /* [n_rows], or NULL */
    int64_t n_rows, vocab;
    int64_t logits_stride, probs_stride;
    float temperature;
    int32_t dtype;
} fli_softmax_params;

/* Off: top_k <= 0 or >= vocab, top_p >= 1, min_p <= 0. */
typedef struct {
    const int32_t *top_ks;
    const float *top_ps, *min_ps;
    int32_t top_k;
    float top_p, min_p;
    int32_t joint; /* top_p is of the row's mass, not of the top-k set's */
} fli_filters;

typedef struct {
    const void *x;          /* [n_rows, vocab] of dtype */
    const int32_t *indices; /* [n_out]: the row of x, or NULL: i */
    int32_t *tokens;        /* [n_out] */
    uint8_t *valid;         /* [n_out], or NULL */
    const float *temperatures;
    const uint64_t *seeds, *offsets;
    fli_filters filters;
    uint64_t seed, offset;
    int64_t n_out, vocab, x_stride;
    int32_t row_seeds, row_offsets; /* tensors of n_out, not of one value */
    float temperature;
    int32_t is_probs; /* x is probabilities, else logits */
    int32_t dtype;
    int64_t n_rows; /* of x: CUDA holds indices against it */
    uint32_t *sticky;
} fli_sample_params;

typedef struct {
    const void *x;  /* [n_rows, vocab] of dtype */
    void *out;      /* as x; may be x */
    uint8_t *valid; /* [n_rows], or NULL */
    fli_filters filters;
    int64_t n_rows, vocab;
    int64_t x_stride, out_stride;
    int32_t is_probs; /* renormalise probabilities, else mask logits */
    int32_t dtype;
} fli_filter_params;

/* CUDA: how a row is split.  Its vectors of 16 bytes, counted from the address
 * rounded down, go to the blocks of a cluster, so many to each. */
typedef struct {
    int32_t vectors;   /* of a block */
    int32_t is_cached; /* they fit its dynamic shared memory */
} fli_row_split;

enum {
    FLI_SAMPLE_THREADS = 512,
    FLI_SAMPLE_BLOCKS = 8,     /* of a cluster, at most */
    FLI_SAMPLE_STATIC = 33280, /* static shared memory of a block, at most */
    FLI_SAMPLE_FEW = 128       /* top_k up to it: the row is read once */
};

typedef struct {
    fli_softmax_params p;
    fli_row_split split;
} fli_softmax_launch;

typedef struct {
    fli_sample_params p;
    fli_row_split split;
} fli_sample_launch;

typedef struct {
    fli_filter_params p;
    fli_row_split split;
} fli_filter_launch;

/* For tests: the weights of n logits below a greatest one, at T. */
typedef struct {
    const float *logits;
    uint64_t *weights;
    int64_t n;
    float max, temperature;
} fli_weights_params;

#if !defined(__CUDACC_RTC__)
void fli__weights_baseline(void *, int32_t, int32_t);
void fli__weights_avx2(void *, int32_t, int32_t);
#endif

#endif
