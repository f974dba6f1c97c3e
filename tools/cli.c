/* SPDX-License-Identifier: Apache-2.0 */
/* Options, devices and failures of the flashinfer program. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int bad_usage(const char *what, const char *value)
{
    fprintf(stderr, "flashinfer: %s %s; see flashinfer --help\n", what, value);
    return USAGE;
}

int refused(void)
{
    fprintf(stderr, "flashinfer: %s\n", fli_last_error());
    return FAILED;
}

int no_memory(void)
{
    fprintf(stderr, "flashinfer: no memory\n");
    return FAILED;
}

static int take_dtype(const char *text, int32_t *out)
{
    static const int32_t dtypes[] = { FLI_F32, FLI_F16, FLI_BF16 };

    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++)
        if (!strcmp(text, fli_dtype_name(dtypes[i]))) {
            *out = dtypes[i];
            return OK;
        }
    return bad_usage("expected f32, f16 or bf16, not", text);
}

static int take_number(const char *text, int32_t *out)
{
    char *end;
    const long n = strtol(text, &end, 10);

    if (end == text || *end || n < 1 || n > 1000000)
        return bad_usage("expected a number of 1 to 1000000, not", text);
    *out = (int32_t)n;
    return OK;
}

static int take(const option *o, const char *value)
{
    if (o->dtype)
        return take_dtype(value, o->dtype);
    if (o->number)
        return take_number(value, o->number);
    *o->text = value;
    return OK;
}

int parse(char **argv, const option *options)
{
    for (; *argv; argv++) {
        const option *o = options;

        while (o->name && strcmp(o->name, *argv))
            o++;
        if (!o->name)
            return bad_usage("unknown option", *argv);
        if (o->flag) {
            *o->flag = 1;
            continue;
        }
        if (!argv[1])
            return bad_usage("a value is missing after", *argv);
        const int status = take(o, *++argv);

        if (status)
            return status;
    }
    return OK;
}

int open_device(const char *name, fli_context **ctx)
{
    fli_device device = fli_cpu();
    char *end;

    if (!strncmp(name, "cuda", 4) && (!name[4] || name[4] == ':')) {
        const long n = name[4] ? strtol(name + 5, &end, 10) : 0;

        if (name[4] && (end == name + 5 || *end || n < 0 || n > 1023))
            return bad_usage("no such device:", name);
        device = fli_cuda((int32_t)n);
    } else if (strcmp(name, "cpu")) {
        return bad_usage("no such device:", name);
    }
    return fli_context_create(ctx, device, NULL) ? refused() : OK;
}
