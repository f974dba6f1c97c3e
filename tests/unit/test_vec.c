/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of the kernels: f16 and bf16 both ways over all their patterns,
 * for the references (real.h) and for the vectors of each ISA (vec.h,
 * math.h), and the vector functions against libm. */
#include "unit.h"

#include <math.h>
#include <stdlib.h>

#include "device/device.h"
#include "ref/real.h"
#include "vec_isa.h"

float fli__real_plain_load(const void *data, int32_t dtype, int64_t i);
void fli__real_plain_store(void *data, int32_t dtype, int64_t i, float value);

#define N_PATTERNS 65536

static const int32_t halves[] = { FLI_F16, FLI_BF16 };

/* Fails the test with what it was about, as cmocka knows only the line. */
#define expect(cond, ...)                                                      \
    do {                                                                       \
        if (!(cond))                                                           \
            fail_msg(__VA_ARGS__);                                             \
    } while (0)

static float float_of(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

/* --- the formats, once more ---------------------------------------------- */

/* The value of a pattern, by the definition of the format. */
static double decode(int32_t dtype, uint16_t h)
{
    const int fraction_bits = dtype == FLI_F16 ? 10 : 7;
    const int exponent_bits = 15 - fraction_bits;
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = (h >> fraction_bits) & ((1 << exponent_bits) - 1);
    const int fraction = h & ((1 << fraction_bits) - 1);
    double x;

    if (exponent == (1 << exponent_bits) - 1)
        x = fraction ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        x = ldexp(fraction, 1 - bias - fraction_bits);
    else
        x = ldexp((1 << fraction_bits) + fraction,
                  exponent - bias - fraction_bits);
    return h & 0x8000 ? -x : x;
}

/* inf's pattern; those below are finite. */
static uint16_t infinity_of(int32_t dtype)
{
    return dtype == FLI_F16 ? 0x7c00 : 0x7f80;
}

/* Halfway between the positive patterns h and h + 1, the one behind the
 * greatest counted as the power of two that it would be. */
static double halfway(int32_t dtype, uint16_t h)
{
    const double above = h + 1 < infinity_of(dtype)
                             ? decode(dtype, (uint16_t)(h + 1))
                             : ldexp(1, dtype == FLI_F16 ? 16 : 128);

    return (decode(dtype, h) + above) / 2;
}

/* True if h is finite x rounded to nearest even. */
static int is_rounded(int32_t dtype, double x, uint16_t h)
{
    const uint16_t magnitude = h & 0x7fff;
    const double a = fabs(x);

    if (!signbit(x) != !(h & 0x8000) || magnitude > infinity_of(dtype))
        return 0;
    const int is_even = magnitude % 2 == 0;

    if (magnitude < infinity_of(dtype)) {
        const double upper = halfway(dtype, magnitude);

        if (a > upper || (a == upper && !is_even))
            return 0;
    }
    if (magnitude > 0) {
        const double lower = halfway(dtype, (uint16_t)(magnitude - 1));

        if (a < lower || (a == lower && !is_even))
            return 0;
    }
    return 1;
}

static int is_nan_pattern(int32_t dtype, uint16_t h)
{
    return (h & 0x7fff) > infinity_of(dtype);
}

/* Any f32 pattern, so all exponents as often. */
static uint32_t random_bits(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(*seed >> 32);
}

/* --- real.h -------------------------------------------------------------- */

static void references_load_all_patterns(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < N_PATTERNS; i++) {
            const uint16_t h[2] = { (uint16_t)i };
            const double want = decode(halves[d], h[0]);
            const double got = load(h, halves[d], 0);
            const double plain = fli__real_plain_load(h, halves[d], 0);

            if (isnan(want)) {
                assert_true(isnan(got) && isnan(plain));
                continue;
            }
            expect(got == want && plain == want
                       && !signbit(got) == !signbit(want)
                       && !signbit(plain) == !signbit(want),
                   "%s %#x is %g, plain %g, expected %g",
                   fli_dtype_name(halves[d]), i, got, plain, want);
        }
}

static void expect_stored(int32_t dtype, double x)
{
    uint16_t h[2], plain[2]; /* gcc fears for an f32 */

    store(h, dtype, 0, x);
    expect(is_rounded(dtype, x, h[0]), "%s of %a is %#x", fli_dtype_name(dtype),
           x, h[0]);
    if ((double)(float)x != x)
        return;
    fli__real_plain_store(plain, dtype, 0, (float)x);
    expect(plain[0] == h[0], "%s of %a is %#x, plain %#x",
           fli_dtype_name(dtype), x, h[0], plain[0]);
}

static void references_store_to_nearest_even(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < infinity_of(halves[d]); i++) {
            const double x = decode(halves[d], (uint16_t)i);
            const double middle = halfway(halves[d], (uint16_t)i);

            for (int sign = -1; sign <= 1; sign += 2) {
                expect_stored(halves[d], sign * x);
                expect_stored(halves[d], sign * middle);
                expect_stored(halves[d], sign * nextafter(middle, 0));
                expect_stored(halves[d], sign * nextafter(middle, 1e300));
            }
        }
}

static void references_store_what_is_not_finite(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        const uint16_t inf = infinity_of(halves[d]);
        uint16_t h[10]; /* gcc fears for an f32 */

        store(h, halves[d], 0, (double)INFINITY);
        store(h, halves[d], 1, (double)-INFINITY);
        store(h, halves[d], 2, 1e300);
        store(h, halves[d], 3, (double)NAN);
        store(h, halves[d], 4, -0.0);
        assert_int_equal(h[0], inf);
        assert_int_equal(h[1], inf | 0x8000);
        assert_int_equal(h[2], inf);
        assert_true(is_nan_pattern(halves[d], h[3]));
        assert_int_equal(h[4], 0x8000);
    }
}

static void references_round_f32_once(void **state)
{
    float x[3];

    (void)state;
    store(x, FLI_F32, 0, 1 + 0x1p-24);            /* a tie */
    store(x, FLI_F32, 1, 1 + 0x1p-24 + 0x1p-50);  /* just above it */
    store(x, FLI_F32, 2, 0x1p-149 * 0.5 + 1e-60); /* into the subnormals */
    assert_true(x[0] == 1);
    assert_true(x[1] == 1 + 0x1p-23f);
    assert_true(x[2] == 0x1p-149f);
    assert_true(load(x, FLI_F32, 1) == 1 + 0x1p-23);
}

/* --- conversions of an ISA ----------------------------------------------- */

static void check_loads(const vec_isa *isa, int32_t dtype)
{
    static uint16_t patterns[N_PATTERNS];
    static float all[N_PATTERNS], each[N_PATTERNS];

    for (int i = 0; i < N_PATTERNS; i++)
        patterns[i] = (uint16_t)i;
    isa->load(patterns, dtype, N_PATTERNS, all);
    isa->load_each(patterns, dtype, N_PATTERNS, each);
    for (int i = 0; i < N_PATTERNS; i++) {
        const double want = decode(dtype, (uint16_t)i);

        if (isnan(want))
            assert_true(isnan(all[i]) && isnan(each[i]));
        else
            expect(bits_of(all[i]) == bits_of((float)want)
                       && bits_of(each[i]) == bits_of((float)want),
                   "%s: %s %#x is %g and %g, expected %g", isa->name,
                   fli_dtype_name(dtype), i, all[i], each[i], want);
    }
}

static void check_stored(const vec_isa *isa, int32_t dtype, const float *x,
                         int64_t n)
{
    static uint16_t all[4 * N_PATTERNS], each[4 * N_PATTERNS];

    isa->store(all, dtype, n, x);
    isa->store_each(each, dtype, n, x);
    for (int64_t i = 0; i < n; i++) {
        const int is_right = isnan(x[i]) ? is_nan_pattern(dtype, all[i])
                                         : is_rounded(dtype, x[i], all[i]);

        expect(is_right && all[i] == each[i], "%s: %s of %a is %#x and %#x",
               isa->name, fli_dtype_name(dtype), x[i], all[i], each[i]);
    }
}

/* Each pattern's value and what lies around the middle to the next one. */
static void check_stores(const vec_isa *isa, int32_t dtype)
{
    static float x[4 * N_PATTERNS];

    for (int i = 0; i < N_PATTERNS; i++) {
        const uint16_t magnitude = i & 0x7fff;
        const float sign = i & 0x8000 ? -1.0f : 1.0f;
        const float middle = magnitude < infinity_of(dtype)
                                 ? (float)halfway(dtype, magnitude) /* exact */
                                 : INFINITY;

        x[4 * i] = (float)decode(dtype, (uint16_t)i);
        x[4 * i + 1] = sign * middle;
        x[4 * i + 2] = sign * nextafterf(middle, 0);
        x[4 * i + 3] = sign * nextafterf(middle, INFINITY);
    }
    check_stored(isa, dtype, x, 4 * N_PATTERNS);
}

static void check_random_stores(const vec_isa *isa, int32_t dtype)
{
    static float x[4 * N_PATTERNS];
    uint64_t seed = 1;

    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < 4 * N_PATTERNS; i++)
            x[i] = float_of(random_bits(&seed));
        check_stored(isa, dtype, x, 4 * N_PATTERNS);
    }
}

/* Rows shorter than a vector leave what is behind them. */
static void check_parts(const vec_isa *isa, int32_t dtype)
{
    const size_t bytes = fli_dtype_bytes(dtype);
    float in[40], out[40];

    for (int i = 0; i < 40; i++)
        in[i] = (float)i - 7;
    for (int n = 0; n < 3 * isa->width; n++) {
        unsigned char *const data = malloc((size_t)(n + 1) * bytes);

        memset(data, 0x5a, (size_t)(n + 1) * bytes);
        memset(out, 0x5a, sizeof(out));
        isa->store(data, dtype, n, in);
        isa->load(data, dtype, n, out);
        assert_memory_equal(out, in, (size_t)n * sizeof(float));
        for (size_t i = 0; i < bytes; i++)
            assert_int_equal(data[(size_t)n * bytes + i], 0x5a);
        assert_int_equal(bits_of(out[n]), 0x5a5a5a5a);
        free(data);
    }
}

static void check_conversions(const vec_isa *isa)
{
    for (int d = 0; d < 2; d++) {
        check_loads(isa, halves[d]);
        check_stores(isa, halves[d]);
        check_random_stores(isa, halves[d]);
        check_parts(isa, halves[d]);
    }
    check_parts(isa, FLI_F32);
}

/* --- lanes --------------------------------------------------------------- */

static void check_lanes(const vec_isa *isa)
{
    const float a[8] = { -1, 2, -0.0f, NAN, 4, -INFINITY, 3, 7 };
    const float b[8] = { 1, -2, 5, 6, NAN, 1, INFINITY, 7 };
    const float max[8] = { 1, 2, 5, 6, NAN, 1, INFINITY, 7 };
    const float min[8] = { -1, -2, -0.0f, 6, NAN, -INFINITY, 3, 7 };
    const float selected[8] = { -1, -2, 5, 6, NAN, -INFINITY, INFINITY, 7 };
    float in[24], out[8];

    memcpy(in, a, sizeof(a));
    memcpy(in + 8, b, sizeof(b));
    isa->apply(VEC_MAX, in, out, 8);
    for (int i = 0; i < 8; i++)
        assert_true(out[i] == max[i] || (isnan(out[i]) && isnan(max[i])));
    isa->apply(VEC_MIN, in, out, 8);
    for (int i = 0; i < 8; i++)
        assert_true(out[i] == min[i] || (isnan(out[i]) && isnan(min[i])));
    isa->apply(VEC_SELECT, in, out, 8);
    assert_memory_equal(out, selected, sizeof(out));
    for (int i = 0; i < 8; i++) {
        in[i] = (float)(1 + i);
        in[8 + i] = (float)(2 - i);
        in[16 + i] = 0.5f;
    }
    isa->apply(VEC_FMA, in, out, 8);
    for (int i = 0; i < 8; i++)
        assert_true(out[i] == in[i] * in[8 + i] + 0.5f);
    for (int i = 0; i < 8; i += isa->width) {
        float sum = 0;

        for (int j = i; j < i + isa->width; j++)
            sum += in[j];
        isa->apply(VEC_SUM, in + i, out, isa->width);
        assert_true(out[0] == sum);
        for (int top = 0; top < isa->width; top++) {
            in[i + top] += 100;
            isa->apply(VEC_MAX_LANE, in + i, out, isa->width);
            assert_true(out[0] == in[i + top]);
            in[i + top] -= 100;
        }
    }
}

static void check_rint(const vec_isa *isa)
{
    const float in[8] = { 0.5f,  1.5f,       -2.5f, 2.4999998f,
                          -0.6f, 4194303.5f, -3.0f, 126.5f };
    float out[8];

    isa->apply(VEC_RINT, in, out, 8);
    for (int i = 0; i < 8; i++)
        assert_true(out[i] == rintf(in[i]));
}

/* --- functions ----------------------------------------------------------- */

static double erfc_of(double x)
{
    return erfc(x);
}

/* Error allowed: ulps of the result, or absolute where it is greater. */
typedef struct {
    const char *name;
    int function;
    double (*libm)(double);
    float from, to;
    double ulps, absolute;
} claim;

/* What the comments in vec.h and math.h say. */
static const claim claims[] = {
    { "exp2", VEC_EXP2, exp2, -126, 127.49f, 1.25, 0 },
    { "exp", VEC_EXP, exp, -87.3f, 88.7228f, 1.25, 0 },
    { "tanh", VEC_TANH, tanh, -12, 12, 2.5, 0 },
    { "tanh near 0", VEC_TANH, tanh, -1e-3f, 1e-3f, 2.5, 0 },
    { "erfc below 0", VEC_ERFC, erfc_of, -6, 0, 1.25, 0 },
    { "erfc above 0", VEC_ERFC, erfc_of, 0, 6, 0, 0x1p-23 },
    { "erfc's tail", VEC_ERFC, erfc_of, 0, 3.9999f, 64, 0 },
};

static double ulp_of(double x)
{
    return fabs(x) < 0x1p-126 ? 0x1p-149 : ldexp(1, ilogb(x) - 23);
}

static void check_claim(const vec_isa *isa, const claim *one)
{
    enum { N = 8192, ROUNDS = 100 };
    static float in[N], out[N];
    uint64_t seed = 2;
    double worst = 0;

    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++)
            in[i] = one->from
                    + (one->to - one->from)
                          * ((float)random_bits(&seed) * 0x1p-32f);
        in[0] = one->from;
        in[1] = one->to;
        in[2] = 0;
        in[3] = -0.0f;
        isa->apply(one->function, in, out, N);
        for (int i = 0; i < N; i++) {
            const double want = one->libm(in[i]), error = fabs(out[i] - want);
            const double bound = fmax(one->ulps * ulp_of(want), one->absolute);

            worst = fmax(worst, error / bound);
            expect(error <= bound, "%s: %s(%a) is %a, expected %a: %.2f ulp",
                   isa->name, one->name, in[i], out[i], want,
                   error / ulp_of(want));
        }
    }
    print_message("%s: %s reaches %.2f of its bound\n", isa->name, one->name,
                  worst);
}

static void check_edges(const vec_isa *isa)
{
    const float in[8] = { NAN, INFINITY, -INFINITY, 0, 200, -200, 4.5f, -4.5f };
    float out[8];

    isa->apply(VEC_EXP2, in, out, 8);
    assert_true(isnan(out[0]) && out[2] == 0 && out[3] == 1 && out[5] == 0);
    isa->apply(VEC_EXP, in, out, 8);
    assert_true(isnan(out[0]) && out[1] == INFINITY && out[3] == 1);
    assert_true(out[2] >= 0 && out[2] <= 0x1p-125f && out[4] == INFINITY);
    assert_true(out[5] >= 0 && out[5] <= 0x1p-125f);
    isa->apply(VEC_TANH, in, out, 8);
    assert_true(isnan(out[0]) && out[1] == 1 && out[2] == -1 && out[3] == 0);
    assert_true(out[4] == 1 && out[5] == -1);
    isa->apply(VEC_ERFC, in, out, 8);
    assert_true(isnan(out[0]) && out[1] == 0 && out[2] == 2 && out[3] == 1);
    assert_true(out[4] == 0 && out[5] == 2 && out[6] == 0 && out[7] == 2);
}

/* Angles up to SINCOS_MAX, and those that sit on multiples of pi / 2. */
static void check_sincos(const vec_isa *isa)
{
    enum { N = 1 << 16 };
    static double in[N], sine[N], cosine[N];
    const double scales[] = { 1, 10, 1e4, 1e6, 1e8 };
    uint64_t seed = 3;

    for (int round = 0; round < 10; round++) {
        const double scale = scales[round / 2];

        for (int i = 0; i < N; i++) {
            const double u = random_bits(&seed) * 0x1p-31 - 1; /* [-1, 1) */

            in[i] = round % 2 ? rint(u * scale / M_PI_2) * M_PI_2 : u * scale;
        }
        isa->sincos(in, sine, cosine, N);
        for (int i = 0; i < N; i++)
            expect(fabs(sine[i] - sin(in[i])) <= 1e-11
                       && fabs(cosine[i] - cos(in[i])) <= 1e-11,
                   "%s: sine and cosine of %a are %a %a", isa->name, in[i],
                   sine[i], cosine[i]);
    }
}

/* --- each ISA ------------------------------------------------------------ */

static void check_isa(const vec_isa *isa)
{
    check_conversions(isa);
    check_lanes(isa);
    check_rint(isa);
    for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++)
        check_claim(isa, &claims[i]);
    check_edges(isa);
    check_sincos(isa);
}

static void vectors_of_baseline(void **state)
{
    (void)state;
    assert_int_equal(fli__vec_isa_baseline.width, 4);
    check_isa(&fli__vec_isa_baseline);
}

static void vectors_of_avx2(void **state)
{
    (void)state;
#if defined(FLI__BUILD_AVX2)
    if (fli__cpu_isa() < FLI__ISA_AVX2)
        skip();
    assert_int_equal(fli__vec_isa_avx2.width, 8);
    check_isa(&fli__vec_isa_avx2);
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_load_all_patterns),
        cmocka_unit_test(references_store_to_nearest_even),
        cmocka_unit_test(references_store_what_is_not_finite),
        cmocka_unit_test(references_round_f32_once),
        cmocka_unit_test(vectors_of_baseline),
        cmocka_unit_test(vectors_of_avx2),
    };

    return RUN(tests);
}
