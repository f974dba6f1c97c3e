/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the fake driver and what each of its calls begins and ends with. */
#ifndef TESTS_FAKECUDA_STATE_H
#define TESTS_FAKECUDA_STATE_H

#include "fakecuda.h"
#include "objects.h"

#ifndef FAKE_VERSION
#define FAKE_VERSION 13000
#endif

#define MAX_DEVICES  8
#define N_ATTRIBUTES 150

enum { CAPTURE_NONE, CAPTURE_ACTIVE, CAPTURE_INVALIDATED };

typedef struct {
    int32_t version, n_devices, is_initialized;
    char name[128];
    int32_t attributes[N_ATTRIBUTES];
    int64_t n_calls, fail_at;
    int32_t fail_with;
    char failed[64];
    int64_t n_allocations, n_synchronisations;
    fake_launch *launches;
    int32_t n_launches, n_capturing;
} fake_state;

/* A primary context; it outlives a reset. */
typedef struct {
    fake_object *context;
    int32_t n;
} fake_primary;

/* Guarded by the lock that begin takes. */
extern fake_state fake;
extern fake_primary fake_primaries[MAX_DEVICES];

extern _Thread_local fake_object *fake_current;

/* What a call is, for the rules that it comes under. */
enum {
    ANY_TIME = 1,  /* before cuInit, too */
    ALLOCATES = 2, /* counted */
    WAITS = 4,     /* counted */
    UNSAFE = 8,    /* not while a stream is captured */
    NEEDS_CURRENT = 16
};

/* Locks; the result that function has to end with, or 0. */
int32_t fake_begin(const char *function, int rules);

/* Unlocks; returns result. */
int32_t fake_end(int32_t result);

#endif
