/* SPDX-License-Identifier: Apache-2.0 */
/* The checker itself: lines, numbers, the tolerance, and a driver of an op that
 * does wrong on purpose, once for each fault that flicheck must see. */
#include "unit.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "flicheck.h"

/* --- an op with faults: out = 2 x ----------------------------------------- */

static const char *const keys[] = { "rows", "n=8",        "dtype=f32", "fault=",
                                    "by=0", "list=1,2,3", "stride=",   NULL };

typedef struct {
    fli_tensor x, out, index;
    char *memory;
} op_state;

static void *setup(check *c)
{
    op_state *const s = check_state(c, sizeof(*s));
    const int is_padded = check_is(c, "stride", "pad");
    check_spec spec = {
        .name = "x",
        .role = CHECK_IN,
        .fill = CHECK_UNIFORM,
        .dtype = check_dtype(c, "dtype"),
        .ndim = 2,
        .shape = { check_int(c, "rows"), check_int(c, "n") },
        .pad = { is_padded ? 3 : 0 },
    };
    const int32_t index[] = { 0, 1 };

    s->x = check_tensor(c, &spec);
    spec.name = "out";
    spec.role = check_is(c, "fault", "inout")     ? CHECK_INOUT
                : check_is(c, "fault", "inexact") ? CHECK_OUT_EXACT
                                                  : CHECK_OUT;
    s->out = check_tensor(c, &spec);
    s->index = check_indices(c, "index", index, 2);
    s->memory = check_memory(c, 100);
    if (check_is(c, "fault", "broken"))
        check_broken(c, "broken on purpose");
    return s;
}

/* What the faults change before and after the right answer. */
static void harm(check *c, op_state *s, int64_t last)
{
    const char *const fault = check_word(c, "fault");
    static int calls;

    calls++;
    if (!strcmp(fault, "by"))
        check_set(&s->out, last,
                  check_get(&s->out, last) + check_float(c, "by"));
    else if (!strcmp(fault, "inexact"))
        check_set(&s->out, 0, nextafterf((float)check_get(&s->out, 0), 9));
    else if (!strcmp(fault, "nan"))
        check_set(&s->out, last, NAN);
    else if (!strcmp(fault, "input"))
        check_set(&s->x, 1, 7);
    else if (!strcmp(fault, "index"))
        check_set(&s->index, 1, 2);
    else if (!strcmp(fault, "front"))
        check_set(&s->out, -1, 0);
    else if (!strcmp(fault, "behind"))
        check_set(&s->out, last + 1, 0);
    else if (!strcmp(fault, "padding"))
        check_set(&s->out, s->out.shape[1], 0);
    else if (!strcmp(fault, "read"))
        check_set(&s->out, last, 0 * check_get(&s->x, last + 1));
    else if (!strcmp(fault, "memory"))
        s->memory[100] = 0;
    else if (!strcmp(fault, "crash"))
        raise(SIGSEGV);
    else if (!strcmp(fault, "abort"))
        abort();
    else if (!strcmp(fault, "hang"))
        pause();
    else if (!strcmp(fault, "drift")) /* each call another last bit */
        check_set(&s->out, 0,
                  nextafterf((float)check_get(&s->out, 0), (float)(calls % 2)));
}

static fli_status call(check *c, void *state, fli_context *ctx)
{
    op_state *const s = state;
    const int is_cpu = !strcmp(c->impl, "cpu");
    const char *const fault = check_word(c, "fault");
    fli_tensor bad = { 0 };
    int64_t last = 0;

    (void)ctx;
    if ((is_cpu && !strncmp(fault, "refuse", 6))
        || !strcmp(fault, "refuse_all")) {
        if (!strcmp(fault, "refuse_late"))
            check_set(&s->out, 0, 0);
        return fli_tensor_from_dlpack(NULL, NULL) ? FLI_UNSUPPORTED : FLI_OK;
    }
    if (is_cpu && !strcmp(fault, "fail"))
        return fli_tensor_from_dlpack(&bad, NULL);
    for (int64_t r = 0; r < s->x.shape[0]; r++)
        for (int64_t i = 0; i < s->x.shape[1]; i++) {
            last = r * s->x.stride[0] + i;
            if (is_cpu && !strcmp(fault, "unwritten") && i == 2)
                continue;
            if (!is_cpu && !strcmp(fault, "too_much") && i == 2)
                continue;
            check_set(&s->out, last, 2 * check_get(&s->x, last));
        }
    if (is_cpu)
        harm(c, s, last);
    return FLI_OK;
}

static const check_driver driver = { "twice", keys, setup, call };

/* --- running it ----------------------------------------------------------- */

static char output[16384]; /* of the last run */

/* The sums of a file of lines. */
static check_sum run_with(check_options options, const char *lines)
{
    static const char cases[] = "test_check_cases.txt";
    static const char log[] = "test_check_log.txt";
    static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
    check_sum sum = { 0 };
    FILE *file = fopen(cases, "w");

    assert_non_null(file);
    fputs(lines, file);
    fclose(file);
    fflush(stdout);
    /* cmocka catches faults and goes on; what runs cases must die of them */
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        signal(signals[i], SIG_DFL);
    const int kept = dup(1);

    assert_non_null(freopen(log, "w", stdout));
    check_run(&options, &driver, cases, &sum);
    fflush(stdout);
    dup2(kept, 1);
    close(kept);
    file = fopen(log, "r");
    output[fread(output, 1, sizeof(output) - 1, file)] = 0;
    fclose(file);
    remove(cases);
    remove(log);
    return sum;
}

static const check_options defaults = { .seed = 1, .timeout = 60 };

static void expect(const char *lines, int passed, int failed)
{
    const check_sum sum = run_with(defaults, lines);

    if (sum.passed != passed || sum.failed != failed)
        fail_msg("%d passed, %d failed of:\n%s\n%s", sum.passed, sum.failed,
                 lines, output);
}

static void expect_failure(const char *line, const char *said)
{
    expect(line, 0, 1);
    if (!strstr(output, said))
        fail_msg("'%s' is not in:\n%s", said, output);
}

/* --- lines ---------------------------------------------------------------- */

static void expect_error(const char *line, const char *error)
{
    static check_case one;

    check_parse(&one, &driver, line);
    assert_string_equal(one.error, error);
}

static void lines_are_parsed(void **state)
{
    static check_case one;

    (void)state;
    check_parse(&one, &driver, " id=a.b-C_1\trows=3  fault=x # n=9\n");
    assert_string_equal(one.error, "");
    assert_string_equal(check_value(&one, "id"), "a.b-C_1");
    assert_string_equal(check_value(&one, "rows"), "3");
    assert_string_equal(check_value(&one, "n"), "8");
    assert_string_equal(check_value(&one, "fault"), "x");
    assert_string_equal(check_value(&one, "bench"), "");
    assert_null(check_value(&one, "row"));
    assert_int_equal(one.tier, TIER_SMOKE);
    check_parse(&one, &driver, "id=a rows=3 tier=full");
    assert_int_equal(one.tier, TIER_FULL);
}

static void bad_lines_are_refused(void **state)
{
    char line[LINE_BYTES + 100] = "id=a rows=";

    (void)state;
    expect_error("id=a rows=1 colour=red", "key colour is unknown to twice");
    expect_error("id=a", "key rows is missing");
    expect_error("rows=1", "key id is missing");
    expect_error("id=a rows=1 rows=1", "key rows is given twice");
    expect_error("id=a rows", "'rows' is not key=value");
    expect_error("id=a/b rows=1",
                 "id is 'a/b', expected letters, digits, _ . -");
    expect_error("id=.. rows=1", "id is '..', expected letters, digits, _ . -");
    expect_error("id= rows=1", "id is '', expected letters, digits, _ . -");
    expect_error("id=a rows=1 tier=huge",
                 "tier is 'huge', expected smoke, full or bench");
    expect_error("id=a rows=1 tier=bench",
                 "tier is bench, expected a bench key too");
    memset(line + strlen(line), '1', LINE_BYTES);
    expect_error(line, "the line is longer than 2048 bytes");
}

static void bad_lines_fail_and_the_rest_runs(void **state)
{
    (void)state;
    expect("id=a rows=1\nid=b rows=1 colour=red\nid=c rows=1\n", 2, 1);
    assert_non_null(strstr(output, "test_check_cases.txt:2: key colour"));
    expect("id=a rows=1\n\n# comment\nid=a rows=2\n", 1, 1);
    assert_non_null(strstr(output, "id a is that of line 1 too"));
}

static void bad_values_fail(void **state)
{
    (void)state;
    expect_failure("id=a rows=x\n", "rows is 'x', expected an integer");
    expect_failure("id=a rows=1.5\n", "rows is '1.5', expected an integer");
    expect_failure("id=a rows=-1\n", "negative extent");
    expect_failure("id=a rows=1 dtype=f64\n", "dtype is 'f64', expected f32");
    expect_failure("id=a rows=1 fault=by by=1e\n", "expected a number");
    expect_failure("id=a rows=1 fault=broken\n", "broken on purpose");
}

static void lists_are_read(void **state)
{
    static check_case one;
    static check c;
    int32_t out[3];

    (void)state;
    c.one = &one;
    check_parse(&one, &driver, "id=a rows=1 list=-4,5");
    assert_int_equal(check_ints(&c, "list", out, 3), 2);
    assert_int_equal(out[0], -4);
    assert_int_equal(out[1], 5);
    check_parse(&one, &driver, "id=a rows=1 list=");
    assert_int_equal(check_ints(&c, "list", out, 3), 0);
    assert_string_equal(c.broken, "");
    check_parse(&one, &driver, "id=a rows=1 list=1,2,3,4");
    check_ints(&c, "list", out, 3);
    assert_string_equal(c.broken, "list is '1,2,3,4', expected fewer integers");
    c.broken[0] = 0;
    check_parse(&one, &driver, "id=a rows=1 list=1,");
    check_ints(&c, "list", out, 3);
    assert_string_equal(c.broken,
                        "list is '1,', expected integers with commas between");
}

static void tiers_and_ids_select(void **state)
{
    check_options options = defaults;
    const char lines[] = "id=a rows=1\nid=b rows=1 tier=full\n"
                         "id=c rows=1 tier=bench bench=x\n";

    (void)state;
    expect(lines, 1, 0);
    options.tier = TIER_FULL;
    assert_int_equal(run_with(options, lines).passed, 2);
    options.tier = TIER_SMOKE;
    options.id = "b";
    assert_int_equal(run_with(options, lines).passed, 1);
    options.id = "nobody";
    assert_int_equal(run_with(options, lines).passed, 0);
}

/* --- numbers -------------------------------------------------------------- */

static void halves_go_around(void **state)
{
    static const int32_t dtypes[] = { FLI_F16, FLI_BF16 };

    (void)state;
    for (int d = 0; d < 2; d++)
        for (int bits = 0; bits < 65536; bits++) {
            const uint16_t half = (uint16_t)bits;
            uint16_t again = 0;
            const double value = check_decode(&half, dtypes[d], 0);

            check_encode(&again, dtypes[d], 0, value);
            if (isnan(value))
                assert_true(isnan(check_decode(&again, dtypes[d], 0)));
            else
                assert_int_equal(again, half);
        }
}

static uint16_t encoded(int32_t dtype, double value)
{
    uint16_t half = 0;

    check_encode(&half, dtype, 0, value);
    return half;
}

static void halves_round_to_even(void **state)
{
    (void)state;
    assert_int_equal(encoded(FLI_F16, 1 + 0x1p-11), 0x3c00);
    assert_int_equal(encoded(FLI_F16, 1 + 0x3p-11), 0x3c02);
    assert_int_equal(encoded(FLI_F16, 1 + 0x1p-11 + 0x1p-30), 0x3c01);
    assert_int_equal(encoded(FLI_F16, 2 - 0x1p-11), 0x4000);
    assert_int_equal(encoded(FLI_F16, 65519.9), 0x7bff);
    assert_int_equal(encoded(FLI_F16, 65520), 0x7c00);
    assert_int_equal(encoded(FLI_F16, 0x1p-25), 0);
    assert_int_equal(encoded(FLI_F16, 0x1.8p-25), 1);
    assert_int_equal(encoded(FLI_F16, 0x1p-14 - 0x1p-25), 0x400);
    assert_int_equal(encoded(FLI_F16, -0.0), 0x8000);
    assert_int_equal(encoded(FLI_BF16, 1 + 0x1p-8), 0x3f80);
    assert_int_equal(encoded(FLI_BF16, 1 + 0x3p-8), 0x3f82);
    assert_int_equal(encoded(FLI_BF16, 0x1.ffp127), 0x7f80);
    assert_int_equal(encoded(FLI_BF16, 0x1.fep127), 0x7f7f);
}

static void ulps(void **state)
{
    (void)state;
    assert_true(check_ulp(FLI_F32, 1) == 0x1p-23);
    assert_true(check_ulp(FLI_F32, -1) == 0x1p-23);
    assert_true(check_ulp(FLI_F32, nextafterf(1, 0)) == 0x1p-24);
    assert_true(check_ulp(FLI_F32, 0) == 0x1p-149);
    assert_true(check_ulp(FLI_F32, 0x1p-140) == 0x1p-149);
    assert_true(check_ulp(FLI_F32, 0x1p-126) == 0x1p-149);
    assert_true(check_ulp(FLI_F32, INFINITY) == 0x1p104);
    assert_true(check_ulp(FLI_F16, 1) == 0x1p-10);
    assert_true(check_ulp(FLI_F16, 0x1p-24) == 0x1p-24);
    assert_true(check_ulp(FLI_F16, 65504) == 32);
    assert_true(check_ulp(FLI_BF16, 1) == 0x1p-7);
    assert_true(check_ulp(FLI_BF16, 1.99) == 0x1p-7);
    assert_true(check_ulp(FLI_BF16, 2) == 0x1p-6);
    assert_true(check_ulp(FLI_BF16, 0x1p-130) == 0x1p-133);
}

static void spread_of_a_row(void **state)
{
    const double ref[] = { 0.5, -4, NAN, INFINITY };
    const double plain[] = { 0.5, -4.25, 9, 9, 1.5, -4, 9, 9, 0, NAN, 9, 9 };
    check_spread s = check_measure(ref, plain, 1, 4);

    (void)state;
    assert_true(s.greatest == 4 && s.nearest == 0.25 && s.one_way == 0);
    assert_true(check_ratio(s) == 0);
    s = check_measure(ref, plain, 3, 4);
    assert_true(s.greatest == 4 && s.nearest == 0.25 && s.one_way == 1);
    assert_true(check_ratio(s) == 0.25);
    s = check_measure(ref + 2, plain, 3, 2);
    assert_true(s.greatest == 0 && s.nearest == 0 && s.one_way == 0);
    s = check_measure(ref, plain, 3, 0);
    assert_true(s.greatest == 0 && s.nearest == 0 && s.one_way == 0);
}

static double tolerance(int32_t dtype, double greatest, double nearest,
                        double one_way, double ratio)
{
    return check_tolerance(dtype, (check_spread){ greatest, nearest, one_way },
                           ratio);
}

static void tolerance_of_a_row(void **state)
{
    (void)state;
    assert_true(tolerance(FLI_F32, 4, 0.25, 0, 0) == 0.5 + 0x1p-21);
    assert_true(tolerance(FLI_BF16, 4, 0.25, 0, 0) == 0.5 + 0x1p-5);
    assert_true(tolerance(FLI_F32, 4, 0, 0, 0) == 0x1p-21);
    assert_true(tolerance(FLI_F16, 0, 0, 0, 0) == 0x1p-24);
    /* lucky: 16 ulps one way; the ratio of the tensor's other rows */
    assert_true(tolerance(FLI_F32, 4, 0, 0x1p-17, 0) == 9 * 0x1p-21);
    assert_true(tolerance(FLI_F32, 4, 0, 0x1p-17, 0.5) == 17 * 0x1p-21);
    assert_true(tolerance(FLI_F32, 4, 0x1p-19, 0x1p-17, 0) == 9 * 0x1p-21);
    assert_true(tolerance(FLI_F32, 4, 0x1p-18, 0x1p-17, 0) == 17 * 0x1p-21);
}

static void closeness(void **state)
{
    (void)state;
    assert_true(check_close(1, 1.5, 0.5));
    assert_false(check_close(1, 1.5 + 0x1p-50, 0.5));
    assert_true(check_close(0.0, -0.0, 0));
    assert_true(check_close(NAN, NAN, 1));
    assert_false(check_close(NAN, 0, 1e30));
    assert_false(check_close(0, NAN, INFINITY));
    assert_true(check_close(-INFINITY, -INFINITY, 0));
    assert_false(check_close(INFINITY, -INFINITY, INFINITY));
    assert_false(check_close(INFINITY, 3e38, INFINITY));
    assert_false(check_close(0, INFINITY, INFINITY));
}

/* --- faults --------------------------------------------------------------- */

static void right_ops_pass(void **state)
{
    (void)state;
    expect("id=a rows=3\nid=b rows=3 stride=pad dtype=bf16\n"
           "id=c rows=0\nid=d rows=3 n=0\nid=e rows=1 dtype=f16 n=1\n"
           "id=f rows=3 fault=inout stride=pad\nid=g rows=2 dtype=i32\n",
           7, 0);
    assert_string_equal(output, "");
}

static void wrong_values_fail(void **state)
{
    (void)state;
    /* out is in [0, 2), so that its ulp is 2^-23 or less */
    expect("id=a rows=2 fault=by by=5e-8\n", 1, 0);
    expect_failure("id=a rows=2 fault=by by=3e-7\n", "out[1, 7] is");
    expect_failure("id=a rows=2 fault=by by=0.05 dtype=bf16\n", "within");
    expect_failure("id=a rows=2 fault=nan\n", "out[1, 7] is nan");
    expect_failure("id=a rows=2 fault=inexact\n", "to the bit");
    expect_failure("id=a rows=2 fault=by by=1 dtype=i32\n", "to the bit");
    expect_failure("id=a rows=2 fault=unwritten\n", "(2 elements are wrong)");
    expect_failure("id=a rows=2 fault=unwritten dtype=u8\n", "is 165");
    expect_failure("id=a rows=2 fault=too_much\n", "out[0, 2] is");
}

static void failures_say_how_to_repeat_them(void **state)
{
    (void)state;
    expect_failure("id=a rows=2 fault=by by=1\n",
                   "again: flicheck --op twice --case a --impl cpu --isa "
                   "baseline --seed 1 test_check_cases.txt\n");
}

static void writes_elsewhere_fail(void **state)
{
    (void)state;
    expect_failure("id=a rows=2 fault=input\n", "changed byte");
    expect_failure("id=a rows=2 fault=index\n", "of the input index");
    expect_failure("id=a rows=2 fault=front\n", "in front of out");
    expect_failure("id=a rows=2 fault=padding stride=pad\n",
                   "where nothing was to be written");
    expect_failure("id=a rows=2 fault=memory\n", "outside of 100 bytes");
    for (uint64_t seed = 0; seed < 8; seed++) {
        check_options options = defaults;

        options.seed = seed;
        assert_int_equal(run_with(options, "id=a rows=2 fault=behind\n").failed,
                         1);
    }
}

/* Half of the tensors end at a page that cannot be read. */
static void reads_behind_the_end_fail(void **state)
{
    int failed = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 16; seed++) {
        check_options options = defaults;

        options.seed = seed;
        failed += run_with(options, "id=a rows=2 fault=read\n").failed;
    }
    assert_in_range(failed, 2, 16);
}

static void deaths_are_one_failure(void **state)
{
    check_options options = defaults;

    (void)state;
    expect("id=a rows=1\nid=b rows=1 fault=crash\nid=c rows=1 fault=abort\n"
           "id=d rows=1 fault=by by=1\nid=e rows=1\n",
           2, 3);
    assert_non_null(strstr(output, "FAIL twice b: cpu baseline, "));
    options.timeout = 1;
    const check_sum sum =
        run_with(options, "id=a rows=1 fault=hang\nid=b rows=1\n");

    assert_int_equal(sum.passed, 1);
    assert_int_equal(sum.failed, 1);
    assert_non_null(strstr(output, "took more than 1 s"));
}

static void refusals_pass_and_errors_fail(void **state)
{
    (void)state;
    expect("id=a rows=1 fault=refuse\n", 1, 0);
    expect_failure("id=a rows=1 fault=refuse_late\n",
                   "refused, and yet it wrote");
    expect_failure("id=a rows=1 fault=refuse_all\n", "ref, ");
    expect_failure("id=a rows=1 fault=fail\n", "INVALID_ARGUMENT: ");
}

static void refusals_are_listed(void **state)
{
    check_options options = defaults;

    (void)state;
    options.list = 1;
    run_with(options, "id=a rows=1 fault=refuse\n");
    assert_non_null(strstr(output, "twice\ta\tref\tyes\t\n"));
    assert_non_null(strstr(output, "twice\ta\tcpu baseline\tno\tUNSUPPORTED"));
}

static void other_bits_fail_in_the_full_tier(void **state)
{
    check_options options = defaults;

    (void)state;
    expect("id=a rows=1 n=1 fault=drift\n", 1, 0);
    options.tier = TIER_FULL;
    assert_int_equal(run_with(options, "id=a rows=1 n=1\n").passed, 1);
    assert_int_equal(run_with(options, "id=a rows=1 n=1 fault=drift\n").failed,
                     1);
}

/* --- files ---------------------------------------------------------------- */

static size_t read_file(const char *path, char *text, size_t n)
{
    FILE *const file = fopen(path, "rb");

    if (!file)
        fail_msg("%s is not there", path);
    const size_t bytes = fread(text, 1, n - 1, file);

    text[bytes] = 0;
    fclose(file);
    return bytes;
}

static int remove_dumps(void **state)
{
    (void)state;
    return system("rm -r test_check_dump");
}

static void dumps_are_written(void **state)
{
    check_options options = defaults;
    char text[1024], first[1024];

    (void)state;
    options.dump = "test_check_dump/deep";
    assert_int_equal(
        run_with(options, "id=a rows=2 n=3 dtype=bf16 stride=pad\n").passed, 1);
    read_file("test_check_dump/deep/twice/a/case.txt", text, sizeof(text));
    assert_string_equal(
        text, "op=twice id=a tier=smoke seed=0 bench= aligned=0 "
              "rows=2 n=3 dtype=bf16 fault= by=0 list=1,2,3 stride=pad\n");
    read_file("test_check_dump/deep/twice/a/tensors.txt", text, sizeof(text));
    assert_string_equal(text, "x in bf16 2,3\nout out bf16 2,3\n"
                              "index in i32 2\n");
    assert_int_equal(
        read_file("test_check_dump/deep/twice/a/x.npy", text, sizeof(text)),
        128 + 12);
    assert_memory_equal(text,
                        "\x93NUMPY\x01\x00\x76\x00{'descr': '<u2', "
                        "'fortran_order': False, 'shape': (2,3,), }",
                        64);
    assert_int_equal(text[127], '\n');
    read_file("test_check_dump/deep/twice/a/out.ref.npy", first, sizeof(first));
    for (int i = 0; i < 6; i++)
        assert_true(check_decode(first + 128, FLI_BF16, i)
                    == 2 * check_decode(text + 128, FLI_BF16, i));
    /* the seed decides */
    memcpy(first, text, sizeof(first));
    run_with(options, "id=a rows=2 n=3 dtype=bf16\n");
    read_file("test_check_dump/deep/twice/a/x.npy", text, sizeof(text));
    assert_memory_equal(text, first, 140);
    options.seed = 2;
    run_with(options, "id=a rows=2 n=3 dtype=bf16\n");
    read_file("test_check_dump/deep/twice/a/x.npy", text, sizeof(text));
    assert_memory_not_equal(text, first, 140);
    run_with(options, "id=a rows=2 n=3 dtype=bf16 seed=5\n");
    read_file("test_check_dump/deep/twice/a/x.npy", first, sizeof(first));
    options.seed = 3;
    run_with(options, "id=a rows=2 n=3 dtype=bf16 seed=5\n");
    read_file("test_check_dump/deep/twice/a/x.npy", text, sizeof(text));
    assert_memory_equal(text, first, 140);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_parsed),
        cmocka_unit_test(bad_lines_are_refused),
        cmocka_unit_test(bad_lines_fail_and_the_rest_runs),
        cmocka_unit_test(bad_values_fail),
        cmocka_unit_test(lists_are_read),
        cmocka_unit_test(tiers_and_ids_select),
        cmocka_unit_test(halves_go_around),
        cmocka_unit_test(halves_round_to_even),
        cmocka_unit_test(ulps),
        cmocka_unit_test(spread_of_a_row),
        cmocka_unit_test(tolerance_of_a_row),
        cmocka_unit_test(closeness),
        cmocka_unit_test(right_ops_pass),
        cmocka_unit_test(wrong_values_fail),
        cmocka_unit_test(failures_say_how_to_repeat_them),
        cmocka_unit_test(writes_elsewhere_fail),
        cmocka_unit_test(reads_behind_the_end_fail),
        cmocka_unit_test(deaths_are_one_failure),
        cmocka_unit_test(refusals_pass_and_errors_fail),
        cmocka_unit_test(refusals_are_listed),
        cmocka_unit_test(other_bits_fail_in_the_full_tier),
        cmocka_unit_test_teardown(dumps_are_written, remove_dumps),
    };

    return RUN(tests);
}
