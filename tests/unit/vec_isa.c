/* SPDX-License-Identifier: Apache-2.0 */
/* The building blocks of the CPU kernels, over arrays, for one ISA. */
#include "vec_isa.h"

#include "cpu/lib/math.h"
#include "cpu/lib/vec.h"

static void load(const void *data, int32_t dtype, int64_t n, float *out)
{
#define LOAD(DTYPE)                                                            \
    for (int64_t i = 0; i < n; i += VL)                                        \
    v_store_upto(out, FLI_ABI_F32, i, n - i, v_load_upto(data, DTYPE, i, n - i))
    FOR_DTYPE(dtype, LOAD);
#undef LOAD
}

static void store(void *data, int32_t dtype, int64_t n, const float *in)
{
#define STORE(DTYPE)                                                           \
    for (int64_t i = 0; i < n; i += VL)                                        \
    v_store_upto(data, DTYPE, i, n - i, v_load_upto(in, FLI_ABI_F32, i, n - i))
    FOR_DTYPE(dtype, STORE);
#undef STORE
}

static void load_each(const void *data, int32_t dtype, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = s_load(data, dtype, i);
}

static void store_each(void *data, int32_t dtype, int64_t n, const float *in)
{
    for (int64_t i = 0; i < n; i++)
        s_store(data, dtype, i, in[i]);
}

static vf apply_one(int function, const float *in, int64_t n)
{
    const vf a = v_load(in, FLI_ABI_F32, 0);

    switch (function) {
    case VEC_EXP2:
        return v_exp2(a);
    case VEC_EXP:
        return v_exp(a);
    case VEC_TANH:
        return v_tanh(a);
    case VEC_ERFC:
        return v_erfc(a);
    case VEC_RINT:
        return v_rint(a);
    case VEC_MAX:
        return v_max(a, v_load(in, FLI_ABI_F32, n));
    case VEC_MIN:
        return v_min(a, v_load(in, FLI_ABI_F32, n));
    case VEC_SELECT:
        return v_select(a < 0.0f, a, v_load(in, FLI_ABI_F32, n));
    case VEC_FMA:
        return v_fma(a, v_load(in, FLI_ABI_F32, n),
                     v_load(in, FLI_ABI_F32, 2 * n));
    case VEC_SUM:
        return v_set(v_sum(a));
    default:
        return v_set(v_max_lane(a));
    }
}

static void apply(int function, const float *in, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i += VL)
        v_store(out, FLI_ABI_F32, i, apply_one(function, in + i, n));
}

static void sincos_each(const double *in, double *sine, double *cosine,
                        int64_t n)
{
    for (int64_t i = 0; i < n; i += VDL) {
        vd x, s, c;

        memcpy(&x, in + i, sizeof(x));
        vd_sincos(x, &s, &c);
        memcpy(sine + i, &s, sizeof(s));
        memcpy(cosine + i, &c, sizeof(c));
    }
}

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

const vec_isa KERNEL(vec_isa) = {
    .name = STRING(FLI_ISA),
    .width = VL,
    .load = load,
    .store = store,
    .load_each = load_each,
    .store_each = store_each,
    .apply = apply,
    .sincos = sincos_each,
};
