/* SPDX-License-Identifier: Apache-2.0 */
/* What every unit test includes: cmocka, and the checks of the library. */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <flashinfer/flashinfer.h>

/* expr gives FLI_<status>, with exactly this text. */
#define assert_fails(expr, status, text)                                       \
    do {                                                                       \
        assert_int_equal((expr), FLI_##status);                                \
        assert_string_equal(fli_last_error(), text);                           \
    } while (0)

#define assert_ok(expr)                                                        \
    do {                                                                       \
        const fli_status got = (expr);                                         \
        if (got)                                                               \
            fail_msg("%s: %s", #expr, fli_last_error());                       \
    } while (0)

#define RUN(tests) cmocka_run_group_tests(tests, NULL, NULL)

#endif
