/* SPDX-License-Identifier: Apache-2.0 */
/* kernels/cpu/lib over arrays: vec_isa.c is compiled for each ISA as a
 * kernel is, and defines these with that ISA's name behind them. */
#ifndef TESTS_UNIT_VEC_ISA_H
#define TESTS_UNIT_VEC_ISA_H

#include <stdint.h>

enum {
    VEC_EXP2,
    VEC_EXP,
    VEC_TANH,
    VEC_ERFC,
    VEC_RINT,
    VEC_MAX,    /* of in and in + n */
    VEC_MIN,    /* of in and in + n */
    VEC_SELECT, /* in < 0 ? in : in + n */
    VEC_FMA,    /* in * in[+n] + in[+2n] */
    VEC_SUM,    /* of each width elements, to all of them */
    VEC_MAX_LANE
};

typedef struct {
    const char *name;
    int width;
    /* n elements of dtype to f32 and back, the last vector in part */
    void (*load)(const void *data, int32_t dtype, int64_t n, float *out);
    void (*store)(void *data, int32_t dtype, int64_t n, const float *in);
    /* the same, one at a time */
    void (*load_each)(const void *data, int32_t dtype, int64_t n, float *out);
    void (*store_each)(void *data, int32_t dtype, int64_t n, const float *in);
    /* n is a multiple of width */
    void (*apply)(int function, const float *in, float *out, int64_t n);
    void (*sincos)(const double *in, double *sine, double *cosine, int64_t n);
} vec_isa;

extern const vec_isa fli__vec_isa_baseline, fli__vec_isa_avx2;

#endif
