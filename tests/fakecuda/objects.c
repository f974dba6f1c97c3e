/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of what is alive and of copies to come; the caller has the lock. */
#include "objects.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD_BYTES 256
#define GUARD       0x5c
#define FRESH       0xcd

typedef struct copy {
    struct copy *next;
    int64_t position;
    void *stream;
    char *to;
    const char *from;
    size_t bytes;
} copy;

static fake_object *objects;
static copy *copies; /* in order */
static int64_t n_copies;

void fake_die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("fakecuda: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

fake_object *object_create(fake_kind kind, fake_object *owner)
{
    fake_object *made = calloc(1, sizeof(*made));

    if (!made)
        fake_die("out of memory");
    made->kind = kind;
    made->owner = owner;
    made->next = objects;
    objects = made;
    return made;
}

fake_object *object_find(fake_kind kind, const void *handle)
{
    fake_object *found = objects;

    while (found && (found != handle || found->kind != kind))
        found = found->next;
    return found;
}

fake_object *object_of(fake_kind kind, const void *handle)
{
    fake_object *found = object_find(kind, handle);

    if (!found)
        fake_die("%p is no handle of kind %d", handle, (int)kind);
    return found;
}

fake_object *object_at(fake_kind kind, const void *at, size_t bytes)
{
    const uintptr_t begin = (uintptr_t)at;

    for (fake_object *found = objects; found; found = found->next)
        if (found->kind == kind && begin >= (uintptr_t)found->data
            && begin + bytes <= (uintptr_t)found->data + found->bytes)
            return found;
    return NULL;
}

int memory_create(fake_object *object, size_t bytes)
{
    char *block =
        aligned_alloc(256, (2 * GUARD_BYTES + bytes + 255) / 256 * 256);

    if (!block)
        return 0;
    memset(block, GUARD, GUARD_BYTES);
    memset(block + GUARD_BYTES, FRESH, bytes);
    memset(block + GUARD_BYTES + bytes, GUARD, GUARD_BYTES);
    object->data = block + GUARD_BYTES;
    object->bytes = bytes;
    return 1;
}

static void memory_destroy(const fake_object *object)
{
    for (size_t i = 1; i <= GUARD_BYTES; i++)
        if (object->data[-(ptrdiff_t)i] != GUARD
            || object->data[object->bytes + i - 1] != GUARD)
            fake_die("memory of %zu bytes was written outside", object->bytes);
    free(object->data - GUARD_BYTES);
}

/* A copy that still waits for memory which is gone can only be a mistake. */
static void check_no_copy(const fake_object *object)
{
    for (const copy *waits = copies; waits; waits = waits->next)
        if ((waits->to >= object->data
             && waits->to < object->data + object->bytes)
            || (waits->from >= object->data
                && waits->from < object->data + object->bytes))
            fake_die("memory is freed with a copy on its way");
}

void object_destroy(fake_object *gone)
{
    fake_object **link = &objects;

    for (fake_object *other = objects; other;) {
        if (other->owner == gone) {
            object_destroy(other);
            other = objects; /* the list has changed */
        } else {
            other = other->next;
        }
    }
    while (*link != gone)
        link = &(*link)->next;
    *link = gone->next;
    if (gone->kind == MEMORY || gone->kind == PINNED) {
        check_no_copy(gone);
        memory_destroy(gone);
    } else {
        free(gone->data);
    }
    free(gone);
}

void object_each(fake_kind kind, void (*f)(fake_object *object, void *arg),
                 void *arg)
{
    for (fake_object *each = objects; each; each = each->next)
        if (each->kind == kind)
            f(each, arg);
}

static void count(fake_object *object, void *n)
{
    (void)object;
    ++*(int32_t *)n;
}

int32_t object_count(fake_kind kind)
{
    int32_t n = 0;

    object_each(kind, count, &n);
    return n;
}

/* --- copies ---------------------------------------------------------------- */

int64_t copy_enqueue(void *stream, void *to, const void *from, size_t bytes)
{
    copy **link = &copies;
    copy *made = calloc(1, sizeof(*made));

    if (!made)
        fake_die("out of memory");
    while (*link)
        link = &(*link)->next;
    *made = (copy){ NULL, ++n_copies, stream, to, from, bytes };
    *link = made;
    return made->position;
}

int64_t copy_last(void)
{
    return n_copies;
}

void copy_run(void *stream, int every, int64_t position)
{
    for (copy **link = &copies; *link;) {
        copy *done = *link;

        if ((!every && done->stream != stream) || done->position > position) {
            link = &done->next;
            continue;
        }
        memcpy(done->to, done->from, done->bytes);
        *link = done->next;
        free(done);
    }
}
