/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points of libcublasLt that are used, declared here so that building
 * needs no CUDA toolkit.  Handles and descriptors are void *, enums int32_t. */
#ifndef FLI_GEMM_CUBLASLT_H
#define FLI_GEMM_CUBLASLT_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t data[8];
} fli__lt_algo;

/* cublasLtMatmulHeuristicResult_t. */
typedef struct {
    fli__lt_algo algo;
    size_t workspace_bytes;
    int32_t state;
    float waves;
    int32_t reserved[4];
} fli__lt_heuristic;

/* FLI_LT(name, arguments) */
#define FLI__CUBLASLT(FLI_LT)                                                  \
    FLI_LT(cublasLtCreate, (void **handle))                                    \
    FLI_LT(cublasLtDestroy, (void *handle))                                    \
    FLI_LT(cublasLtMatmulDescCreate,                                           \
           (void **desc, int32_t compute, int32_t scale_dtype))                \
    FLI_LT(cublasLtMatmulDescDestroy, (void *desc))                            \
    FLI_LT(cublasLtMatmulDescSetAttribute,                                     \
           (void *desc, int32_t attribute, const void *value, size_t bytes))   \
    FLI_LT(cublasLtMatrixLayoutCreate,                                         \
           (void **layout, int32_t dtype, uint64_t rows, uint64_t cols,        \
            int64_t stride))                                                   \
    FLI_LT(cublasLtMatrixLayoutDestroy, (void *layout))                        \
    FLI_LT(cublasLtMatmulPreferenceCreate, (void **preference))                \
    FLI_LT(cublasLtMatmulPreferenceDestroy, (void *preference))                \
    FLI_LT(cublasLtMatmulPreferenceSetAttribute,                               \
           (void *preference, int32_t attribute, const void *value,            \
            size_t bytes))                                                     \
    FLI_LT(cublasLtMatmulAlgoGetHeuristic,                                     \
           (void *handle, void *desc, void *a, void *b, void *c, void *d,      \
            void *preference, int32_t n, fli__lt_heuristic *results,           \
            int32_t *n_found))                                                 \
    FLI_LT(cublasLtMatmul,                                                     \
           (void *handle, void *desc, const void *alpha, const void *a,        \
            void *a_layout, const void *b, void *b_layout, const void *beta,   \
            const void *c, void *c_layout, void *d, void *d_layout,            \
            const fli__lt_algo *algo, void *workspace, size_t workspace_bytes, \
            void *stream))

typedef struct {
#define FLI_LT(name, arguments) int32_t(*name) arguments;
    FLI__CUBLASLT(FLI_LT)
#undef FLI_LT
} fli__cublaslt;

/* The values used of its enums. */
enum {
    FLI__LT_COMPUTE_F32 = 68,
    FLI__LT_F32 = 0,
    FLI__LT_F16 = 2,
    FLI__LT_BF16 = 14,
    FLI__LT_TRANSPOSED = 1,
    FLI__LT_DESC_TRANSPOSE_A = 3,
    FLI__LT_PREFER_REDUCTIONS = 3,
    FLI__LT_PREFER_ALIGN_A = 5, /* B, C, D follow */
    FLI__LT_PREFER_ALIGN_D = 8
};

/* libcublasLt, opened once a process and never closed.  NULL where it is not
 * found, with the reason in *why (static storage). */
const fli__cublaslt *fli__cublaslt_open(const char **why);

#endif
