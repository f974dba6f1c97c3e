/* SPDX-License-Identifier: Apache-2.0 */
/* What the fake driver hands out, and what waits in its streams. */
#ifndef TESTS_FAKECUDA_OBJECTS_H
#define TESTS_FAKECUDA_OBJECTS_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    CONTEXT,
    MODULE,
    FUNCTION,
    MEMORY,
    PINNED,
    EVENT,
    STREAM
} fake_kind;

/* A handle is the address of one; memory is found by the address of its data. */
typedef struct fake_object {
    struct fake_object *next;
    fake_kind kind;
    struct fake_object *owner; /* its context; of a function its module */
    int32_t device;            /* CONTEXT */
    char *data;                /* MEMORY, PINNED, MODULE: its image */
    size_t bytes;
    char name[64];          /* FUNCTION */
    size_t param_bytes;     /* FUNCTION */
    int32_t dynamic_shared; /* FUNCTION: what a launch may have */
    int32_t capture;        /* STREAM: CUstreamCaptureStatus */
    void *stream;           /* EVENT: where it was recorded */
    int64_t position;       /* EVENT: behind this copy */
    int32_t is_captured;    /* EVENT */
} fake_object;

/* Ends the program: a real driver would do anything. */
void fake_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

fake_object *object_create(fake_kind kind, fake_object *owner);

/* Ends the program if there is none such. */
fake_object *object_of(fake_kind kind, const void *handle);

/* NULL if there is none such. */
fake_object *object_find(fake_kind kind, const void *handle);

/* The MEMORY or PINNED that holds [at, at + bytes), NULL if none does. */
fake_object *object_at(fake_kind kind, const void *at, size_t bytes);

/* With all that it owns. */
void object_destroy(fake_object *object);

/* For each: f(object, arg). */
void object_each(fake_kind kind, void (*f)(fake_object *object, void *arg),
                 void *arg);

int32_t object_count(fake_kind kind);

/* Memory of bytes with guards around it. */
int memory_create(fake_object *object, size_t bytes);

/* --- copies that wait ------------------------------------------------------- */

/* Returns its position. */
int64_t copy_enqueue(void *stream, void *to, const void *from, size_t bytes);

/* The position of the last copy enqueued anywhere. */
int64_t copy_last(void);

/* Runs the copies of stream (all streams if every) up to position. */
void copy_run(void *stream, int every, int64_t position);

#endif
