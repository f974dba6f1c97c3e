/* SPDX-License-Identifier: Apache-2.0 */
/* What every file of the engine uses: failing, memory, members of JSON. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "engine.h"

enum { ALIGNMENT = 256 }; /* the most that the library asks for */

char failure[512];

void note(const char *format, ...)
{
    va_list args;

    if (*failure)
        return;
    va_start(args, format);
    vsnprintf(failure, sizeof(failure), format, args);
    va_end(args);
}

void must(fli_status status)
{
    if (status)
        die("%s", fli_last_error());
}

double now(void)
{
    static double first;
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    const double seconds = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;

    first = first > 0 ? first : seconds;
    return seconds - first;
}

/* A block begins with the address of the block taken before. */
void *take(void **memory, int64_t n, size_t size)
{
    const bool fits = n < PTRDIFF_MAX / 2 / (int64_t)size;
    char *block = fits ? calloc((size_t)n * size + 2 * ALIGNMENT, 1) : NULL;

    if (!block)
        die("out of memory: %.0f MB", (double)n * (double)size / 1e6);
    *(void **)block = *memory;
    *memory = block;
    return block + 2 * ALIGNMENT - (uintptr_t)block % ALIGNMENT;
}

void give_back(void **memory)
{
    while (*memory) {
        void *block = *memory;

        *memory = *(void **)block;
        free(block);
    }
}

const cJSON *json_get(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNull(item) ? NULL : item;
}

double get_number(const cJSON *object, const char *name, range r, double absent)
{
    const cJSON *item = json_get(object, name);
    const double value = item ? item->valuedouble : absent;

    if (!item && absent < r.low)
        note("%s is missing", name);
    else if (item && !cJSON_IsNumber(item))
        note("%s is not a number", name);
    else if (item && !(value >= r.low && value <= r.high))
        note("%s is %.15g, expected a number of %.15g to %.15g", name, value,
             r.low, r.high);
    else
        return value;
    return r.low;
}

int64_t get_integer(const cJSON *object, const char *name, range r,
                    int64_t absent)
{
    const double value = get_number(object, name, r, (double)absent);

    if (value != floor(value))
        note("%s is %.15g, expected an integer", name, value);
    return (int64_t)value;
}

bool get_flag(const cJSON *object, const char *name, bool absent)
{
    const cJSON *item = json_get(object, name);

    if (item && !cJSON_IsBool(item))
        note("%s is not true or false", name);
    return item ? cJSON_IsTrue(item) : absent;
}

const char *get_text(const cJSON *object, const char *name, const char *absent)
{
    const cJSON *item = json_get(object, name);

    if (item && !cJSON_IsString(item))
        note("%s is not a string", name);
    return cJSON_IsString(item) ? item->valuestring : absent;
}

/* The first of ids, which are a number or an array, or the one after i. */
static const cJSON *next_id(const cJSON *ids, const cJSON *i)
{
    if (cJSON_IsArray(ids))
        return i ? i->next : ids->child;
    return i ? NULL : ids;
}

const cJSON *get_ids(const cJSON *object, const char *name, int64_t vocab)
{
    const cJSON *ids = json_get(object, name);
    int n = 0;

    for (const cJSON *i = next_id(ids, NULL); i; i = next_id(ids, i), n++)
        if (!cJSON_IsNumber(i) || i->valuedouble != floor(i->valuedouble)
            || !(i->valuedouble >= 0 && i->valuedouble < (double)vocab))
            note("%s[%d] is not a token id of 0 to %lld", name, n,
                 (long long)vocab - 1);
    return ids;
}

bool has_id(const cJSON *ids, int32_t id)
{
    const cJSON *i = next_id(ids, NULL);

    while (i && i->valuedouble != id)
        i = next_id(ids, i);
    return i != NULL;
}

fli_dtype dtype_named(const char *name)
{
    static const char *const names[] = {
        [FLI_F32] = "float32", [FLI_F16] = "float16", [FLI_BF16] = "bfloat16"
    };
    int i = FLI_BF16;

    while (i && strcmp(name, names[i]) && strcasecmp(name, fli_dtype_name(i)))
        i--;
    return (fli_dtype)i;
}
