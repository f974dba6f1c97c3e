/* SPDX-License-Identifier: Apache-2.0 */
/* Case lines: parsing, and the values that drivers ask for. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "flicheck.h"

/* "name=default" or "name". */
static const char *const common_keys[] = { "id",     "tier=smoke", "seed=0",
                                           "bench=", "aligned=0",  NULL };

static void fail(check_case *one, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void fail(check_case *one, const char *format, ...)
{
    va_list list;

    if (one->error[0])
        return;
    va_start(list, format);
    vsnprintf(one->error, sizeof(one->error), format, list);
    va_end(list);
}

/* Copies n characters into the text of the case; "" when it is full. */
static const char *keep(check_case *one, size_t *used, const char *from,
                        size_t n)
{
    char *to = one->text + *used;

    if (*used + n + 1 > sizeof(one->text)) {
        fail(one, "the line is longer than %d bytes", LINE_BYTES);
        return "";
    }
    memcpy(to, from, n);
    to[n] = 0;
    *used += n + 1;
    return to;
}

static void declare(check_case *one, size_t *used, const char *const *keys)
{
    for (; *keys; keys++) {
        const char *const equals = strchr(*keys, '=');
        const size_t n = equals ? (size_t)(equals - *keys) : strlen(*keys);

        if (one->n_keys == MAX_KEYS) {
            fail(one, "the driver has more than %d keys", MAX_KEYS);
            return;
        }
        one->key[one->n_keys] = keep(one, used, *keys, n);
        one->value[one->n_keys++] = equals ? equals + 1 : NULL;
    }
}

static int find(const check_case *one, const char *key, size_t n)
{
    for (int i = 0; i < one->n_keys; i++)
        if (strlen(one->key[i]) == n && !memcmp(one->key[i], key, n))
            return i;
    return -1;
}

const char *check_value(const check_case *one, const char *key)
{
    const int i = find(one, key, strlen(key));

    return i < 0 ? NULL : one->value[i];
}

static void take(check_case *one, size_t *used, const char *token, size_t n,
                 int *given)
{
    const char *const equals = memchr(token, '=', n);

    if (!equals) {
        fail(one, "'%.*s' is not key=value", (int)n, token);
        return;
    }
    const size_t key_bytes = (size_t)(equals - token);
    const int i = find(one, token, key_bytes);

    if (i < 0)
        fail(one, "key %.*s is unknown to %s", (int)key_bytes, token,
             one->driver->op);
    else if (given[i])
        fail(one, "key %s is given twice", one->key[i]);
    else
        one->value[i] = keep(one, used, equals + 1, n - key_bytes - 1);
    if (i >= 0)
        given[i] = 1;
}

static void check_common(check_case *one)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    static const char *const tiers[] = { "smoke", "full", "bench" };
    const char *const id = check_value(one, "id");
    const char *const tier = check_value(one, "tier");
    int i = 0;

    for (int k = 0; k < one->n_keys; k++)
        if (!one->value[k]) {
            fail(one, "key %s is missing", one->key[k]);
            return;
        }
    if (!id[0] || id[0] == '.' || id[strspn(id, letters)])
        fail(one, "id is '%s', expected letters, digits, _ . -", id);
    while (i < 3 && strcmp(tier, tiers[i]))
        i++;
    if (i == 3)
        fail(one, "tier is '%s', expected smoke, full or bench", tier);
    one->tier = (check_tier)i;
    if (one->tier == TIER_BENCH && !check_value(one, "bench")[0])
        fail(one, "tier is bench, expected a bench key too");
}

void check_parse(check_case *out, const check_driver *driver, const char *line)
{
    int given[MAX_KEYS] = { 0 };
    size_t used = 0;

    out->driver = driver;
    out->n_keys = 0;
    out->error[0] = 0;
    out->tier = TIER_SMOKE;
    declare(out, &used, common_keys);
    declare(out, &used, driver->keys);
    for (;;) {
        line += strspn(line, " \t\r\n");
        if (!*line || *line == '#')
            break;
        const size_t n = strcspn(line, " \t\r\n");

        take(out, &used, line, n, given);
        line += n;
    }
    if (!out->error[0])
        check_common(out);
}

static void check_unique(check_case *cases, int n)
{
    const char *const id = check_value(&cases[n], "id");

    for (int i = 0; i < n && !cases[n].error[0]; i++)
        if (!cases[i].error[0] && !strcmp(check_value(&cases[i], "id"), id))
            fail(&cases[n], "id %s is that of line %d too", id, cases[i].line);
}

static int count_lines(FILE *in)
{
    int n = 1;

    for (int byte = getc(in); byte != EOF; byte = getc(in))
        n += byte == '\n';
    rewind(in);
    return n;
}

check_case *check_load(const check_driver *driver, const char *file, int *n)
{
    FILE *const in = fopen(file, "r");
    char *line = NULL;
    size_t line_bytes = 0;

    *n = 0;
    if (!in)
        return NULL;
    /* keys and values point into their case, so the array must not move */
    check_case *const cases =
        check_xalloc((size_t)count_lines(in) * sizeof(*cases));

    for (int number = 1; getline(&line, &line_bytes, in) >= 0; number++) {
        const char *const start = line + strspn(line, " \t\r\n");

        if (!*start || *start == '#')
            continue;
        cases[*n].file = file;
        cases[*n].line = number;
        check_parse(&cases[*n], driver, start);
        if (!cases[*n].error[0])
            check_unique(cases, *n);
        (*n)++;
    }
    free(line);
    fclose(in);
    return cases;
}

/* --- values for drivers --------------------------------------------------- */

static void break_case(const check *c, const char *key, const char *value,
                       const char *expected)
{
    /* a driver may not change the case; that its reading breaks it is ours */
    char *const broken = ((check *)c)->broken;

    if (!broken[0])
        snprintf(broken, REASON_BYTES, "%s is '%s', expected %s", key, value,
                 expected);
}

const char *check_word(const check *c, const char *key)
{
    const char *const value = check_value(c->one, key);

    if (value)
        return value;
    break_case(c, key, "", "a key of the driver's list");
    return "";
}

int check_is(const check *c, const char *key, const char *word)
{
    return !strcmp(check_word(c, key), word);
}

int64_t check_int(const check *c, const char *key)
{
    const char *const value = check_word(c, key);
    char *end;

    errno = 0;
    const int64_t x = strtoll(value, &end, 10);

    if (end == value || *end || errno) {
        break_case(c, key, value, "an integer");
        return 1;
    }
    return x;
}

double check_float(const check *c, const char *key)
{
    const char *const value = check_word(c, key);
    char *end;
    const double x = strtod(value, &end);

    if (end == value || *end) {
        break_case(c, key, value, "a number");
        return 1;
    }
    return x;
}

int check_ints(const check *c, const char *key, int32_t *out, int max)
{
    const char *const value = check_word(c, key);
    const char *at = value;
    int n = 0;

    while (*at) {
        char *end;
        const long x = strtol(at, &end, 10);

        if (end == at || (*end && *end != ',') || (*end && !end[1])
            || x < INT32_MIN || x > INT32_MAX) {
            break_case(c, key, value, "integers with commas between");
            return n;
        }
        if (n == max) {
            break_case(c, key, value, "fewer integers");
            return n;
        }
        out[n++] = (int32_t)x;
        at = *end ? end + 1 : end;
    }
    return n;
}

int32_t check_dtype(const check *c, const char *key)
{
    static const int32_t dtypes[] = { FLI_F32, FLI_F16, FLI_BF16, FLI_I32,
                                      FLI_I64, FLI_U8,  FLI_BOOL };
    const char *const value = check_word(c, key);

    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++)
        if (!strcmp(value, fli_dtype_name(dtypes[i])))
            return dtypes[i];
    break_case(c, key, value, "f32, f16, bf16, i32, i64, u8 or bool");
    return FLI_F32;
}
