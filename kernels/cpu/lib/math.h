/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of vectors that vec.h does not have: exp and erf's complement in
 * f32, sine and cosine in f64.  The polynomials are minimax fits, made by
 * Lawson iteration on Chebyshev nodes; tests/unit/test_vec.c measures their
 * errors. */
#ifndef FLI_CPU_MATH_H
#define FLI_CPU_MATH_H

#include "cpu/lib/vec.h"

/* e^x within 1.25 ulp, inf from 88.72284 on; what it is at -87.33 (near
 * 2^-126) below that; NaN stays NaN.  x = n ln 2 + f; n's bits, read behind
 * the rounding constant, go to the exponent of e^f. */
INLINE vf v_exp(vf x)
{
    const vf magic = v_set(0x1.8p23f);
    const vf y = v_max(v_set(-87.33f), x);
    const vf shifted = v_fma(y, v_set(0x1.715476p+0f), magic);
    const vf n = shifted - magic;
    vf f = v_fma(n, v_set(-0x1.62e4p-1f), y); /* 16 bits: n times it is exact */
    vf p = v_set(0x1.6dbc64p-10f);

    f = v_fma(n, v_set(-0x1.7f7d1cp-20f), f);
    p = v_fma(p, f, v_set(0x1.124148p-7f));
    p = v_fma(p, f, v_set(0x1.555454p-5f));
    p = v_fma(p, f, v_set(0x1.555486p-3f));
    p = v_fma(p, f, v_set(0.5f));
    p = v_fma(p, f * f, f) + 1.0f;
    const vf e = (vf)((vu)p + ((vu)shifted << 23)); /* wraps where unused */

    return v_select(x <= 0x1.62e42ep+6f, e, x + INFINITY);
}

/* 1 - erf(x): within 1.25 ulp below 0, within 2^-23 and 64 ulp above it; 0
 * from 4 on and 2 up to -4, where erf is 1 in f32; NaN stays NaN.  For x >=
 * 0 it is 2^(x P(x)). */
INLINE vf v_erfc(vf x)
{
    const vf a = v_max(x, -x);
    vf p = v_set(0x1.ec2a90p-24f);

    p = v_fma(p, a, v_set(-0x1.944e8ep-19f));
    p = v_fma(p, a, v_set(0x1.27592p-15f));
    p = v_fma(p, a, v_set(-0x1.f50ce8p-13f));
    p = v_fma(p, a, v_set(0x1.08bc32p-10f));
    p = v_fma(p, a, v_set(-0x1.3d0facp-9f));
    p = v_fma(p, a, v_set(0x1.a2ce9ap-14f));
    p = v_fma(p, a, v_set(0x1.c78128p-6f));
    p = v_fma(p, a, v_set(-0x1.2fdb12p-3f));
    p = v_fma(p, a, v_set(-0x1.d63c0ep-1f));
    p = v_fma(p, a, v_set(-0x1.a0be9ep+0f));
    const vf e = v_select(a >= 4.0f, v_set(0), v_exp2(p * a));

    return v_select(x < 0.0f, 2.0f - e, e);
}

/* --- f64: half as many lanes -------------------------------------------- */

typedef double vd __attribute__((vector_size(4 * VL)));
typedef int64_t vl __attribute__((vector_size(4 * VL)));
typedef float vd_f32 __attribute__((vector_size(2 * VL)));

#define VDL (VL / 2)

/* Largest |x| of vd_sincos: n stays below 2^26. */
#define SINCOS_MAX 1e8

/* Sine and cosine within 1e-11 of |x| <= SINCOS_MAX.  x = n pi/2 + r, where
 * pi/2 is three terms, the first two of 27 bits, so that n times them is
 * exact; n's last two bits, read behind the rounding constant, name the
 * quadrant. */
INLINE void vd_sincos(vd x, vd *sine, vd *cosine)
{
    const vd magic = (vd){ 0 } + 0x1.8p52;
    const vd shifted = x * 0x1.45f306dc9c883p-1 + magic;
    const vl quadrant = (vl)shifted;
    const vd n = shifted - magic;
    const vd r = ((x - n * 0x1.921fb54p0) - n * 0x1.10b461p-30)
                 - n * 0x1.a62633145c06ep-58;
    const vd z = r * r;
    vd s = z * 0x1.6124613a86d09p-33 - 0x1.ae64567f544e4p-26;
    vd c = z * 0x1.1eed8eff8d898p-29 - 0x1.27e4fb7789f5cp-22;

    s = s * z + 0x1.71de3a556c734p-19;
    s = s * z - 0x1.a01a01a01a01ap-13;
    s = s * z + 0x1.1111111111111p-7;
    s = s * z - 0x1.5555555555555p-3;
    s = s * z * r + r;
    c = c * z + 0x1.a01a01a01a01ap-16;
    c = c * z - 0x1.6c16c16c16c17p-10;
    c = c * z + 0x1.5555555555555p-5;
    c = c * z - 0.5;
    c = c * z + 1;
    const vl swap = -(quadrant & 1);
    const vl sine_sign = (quadrant & 2) << 62;
    const vl cosine_sign = ((quadrant + 1) & 2) << 62;

    *sine = (vd)(((swap & (vl)c) | (~swap & (vl)s)) ^ sine_sign);
    *cosine = (vd)(((swap & (vl)s) | (~swap & (vl)c)) ^ cosine_sign);
}

#endif
