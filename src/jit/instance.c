/* SPDX-License-Identifier: Apache-2.0 */
/* The text of an instance.  Every launch makes one anew, to find its kernel by, so
 * defines do without printf. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "jit/compile.h"

void fli__instance_init(fli__instance *instance, const char *source,
                        const char *entry, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    const int n =
        vsnprintf(instance->name, sizeof(instance->name), format, args);

    va_end(args);
    instance->source = source;
    instance->entry = entry;
    instance->shared_bytes = 0;
    instance->length = 0;
    instance->is_too_long = n < 0 || (size_t)n >= sizeof(instance->name);
}

/* The digits of value before end; returns where they start. */
static char *digits(char *end, int64_t value)
{
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    do {
        *--end = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0)
        *--end = '-';
    return end;
}

static void add(fli__instance *instance, const char *text, size_t n)
{
    const size_t used = (size_t)instance->length;

    if (n > sizeof(instance->defines) - used) {
        instance->is_too_long = 1;
        return;
    }
    memcpy(instance->defines + used, text, n);
    instance->length += (int32_t)n;
}

void fli__instance_define(fli__instance *instance, const char *name,
                          int64_t value)
{
    char number[24];
    char *const end = number + sizeof(number) - 1;
    const char *const start = digits(end, value);

    *end = '\n';
    add(instance, "#define ", 8);
    add(instance, name, strlen(name));
    add(instance, " ", 1);
    add(instance, start, (size_t)(end + 1 - start));
}

void fli__instance_text(const fli__instance *instance, char *buf, size_t n)
{
    snprintf(buf, n, "%.*s#include \"%s\"\n", (int)instance->length,
             instance->defines, instance->source);
}
