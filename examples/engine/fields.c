/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of members, which read config.json, requests and the command line
 * alike, each with the sentence that refuses a bad value. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

bool fail(error *e, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(e->text, sizeof(e->text), format, args);
    va_end(args);
    for (char *c = e->text; *c; c++)
        *c = (unsigned char)*c < ' ' ? '?' : *c; /* names from files */
    return false;
}

const cJSON *json_get(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNull(item) ? NULL : item;
}

bool read_ids(const cJSON *item, const char *name, int64_t vocab, int32_t max,
              int32_t *out, int32_t *n, error *e)
{
    const bool many = cJSON_IsArray(item);

    *n = 0;
    if (!many && !cJSON_IsNumber(item))
        return fail(e, "%s is not an array of token ids", name);
    for (const cJSON *i = many ? item->child : item; i;
         i = many ? i->next : NULL) {
        const double id = cJSON_IsNumber(i) ? i->valuedouble : -1;

        if (!(id >= 0 && id < (double)vocab) || id != floor(id))
            return fail(e, "%s[%d] is not a token id of 0 to %lld", name, *n,
                        (long long)vocab - 1);
        if (*n == max)
            return fail(e, "%s has more than %d token ids", name, max);
        out[(*n)++] = (int32_t)id;
    }
    return true;
}

static bool set_number(const field *f, void *at, double value, error *e)
{
    if (!(value >= f->low && value <= f->high)
        || (f->kind == INTEGER && value != floor(value)))
        return fail(e, "%s is %.15g, expected %s of %.15g to %.15g", f->name,
                    value, f->kind == INTEGER ? "an integer" : "a number",
                    f->low, f->high);
    if (f->kind == INTEGER)
        *(int64_t *)at = (int64_t)value;
    else
        *(double *)at = value;
    return true;
}

static bool is_missing(const field *f, const void *at)
{
    const double value = f->kind == INTEGER  ? (double)*(const int64_t *)at
                         : f->kind == NUMBER ? *(const double *)at
                                             : f->low;
    return value < f->low;
}

static bool read_field(const field *f, void *at, const cJSON *item, error *e)
{
    static const char *const kinds[] = { "a number", "a number",
                                         "true or false", "a string" };

    if (f->kind == IDS) {
        ids *list = at;

        return read_ids(item, f->name, (int64_t)f->high, MAX_IDS, list->at,
                        &list->n, e);
    }
    if (f->kind == FLAG && cJSON_IsBool(item))
        *(bool *)at = cJSON_IsTrue(item);
    else if (f->kind == TEXT && cJSON_IsString(item))
        *(const char **)at = item->valuestring;
    else if (f->kind <= NUMBER && cJSON_IsNumber(item))
        return set_number(f, at, item->valuedouble, e);
    else
        return fail(e, "%s is not %s", f->name, kinds[f->kind]);
    return true;
}

bool read_fields(const field *f, void *out, const cJSON *json, error *e)
{
    for (; f->name; f++) {
        const cJSON *item = json_get(json, f->name);
        void *at = (char *)out + f->offset;

        if (item && !read_field(f, at, item, e))
            return false;
        if (!item && is_missing(f, at))
            return fail(e, "%s is missing", f->name);
    }
    return true;
}

const field *find_field(const field *f, const char *name)
{
    for (; f->name; f++) {
        size_t i = 0;

        while (name[i] && (name[i] == '-' ? '_' : name[i]) == f->name[i])
            i++;
        if (!name[i] && !f->name[i])
            return f;
    }
    return NULL;
}

bool set_field(const field *f, void *out, const char *text, error *e)
{
    void *at = (char *)out + f->offset;
    char *end;

    if (f->kind == FLAG)
        return *(bool *)at = true;
    if (!text)
        return fail(e, "--%s needs a value", f->name);
    if (f->kind == TEXT)
        return *(const char **)at = text, true;
    const double value = strtod(text, &end);

    if (end == text || *end)
        return fail(e, "%s is %.64s, expected a number", f->name, text);
    return set_number(f, at, value, e);
}
