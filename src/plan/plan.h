/* SPDX-License-Identifier: Apache-2.0 */
/* The inspector: how much room a schedule needs, and from lengths to a schedule.
 * Pure functions over caller's memory; kernels/abi/plan_core.h decides. */
#ifndef FLI_PLAN_PLAN_H
#define FLI_PLAN_PLAN_H

#include "abi/plan.h"
#include "core/status.h"

/* Cuts that never fall: a class of such a cut has no partial results. */
#define FLI__PLAN_NO_CUT INT32_MAX

/* What never changes from step to step. */
typedef struct {
    int32_t max_requests, max_rows;
    int32_t n_kv_heads, group;
    int32_t levels; /* nested groups allowed; 0: no segments */
    int32_t n_classes;
    fli_tile_class tile_class[FLI_MAX_CLASSES];
    fli_plan_policy policy;
} fli__plan_config;

/* The exact room that any step within the config may need. */
typedef struct {
    int32_t n_workers, largest_range; /* of workers */
    int32_t max_items, max_merges, max_sources, max_partial_rows;
    int32_t max_strips;
    size_t schedule_bytes, scratch_bytes; /* of fli__plan_place */
} fli__plan_bounds;

typedef struct {
    int32_t n_requests;
    const int32_t *q_indptr, *kv_len;
    int32_t causal, window;
} fli__plan_step;

/* UNSUPPORTED where the bounds exceed 31 bits; INTERNAL for tile classes that
 * break the rules of abi/plan.h.  where is "<op> <verb>". */
fli_status fli__plan_bound(const char *where, const fli__plan_config *config,
                           fli__plan_bounds *out);

/* Lays the planner's output over 64-byte aligned memory of bounds->schedule_bytes
 * and bounds->scratch_bytes.  What a run reads of the schedule ends with the last
 * item. */
void fli__plan_place(const fli__plan_config *config,
                     const fli__plan_bounds *bounds, void *schedule,
                     void *scratch, fli_plan_output *out);

/* The planner's input for a step.  Its pointers may be of any device. */
fli_plan_input fli__plan_input(const fli__plan_config *config,
                               const fli__plan_bounds *bounds,
                               const fli__plan_step *step);

/* Plans a step that the caller has checked. */
fli_status fli__plan_run(const char *where, const fli__plan_config *config,
                         const fli__plan_bounds *bounds,
                         const fli__plan_step *step,
                         const fli_plan_output *out);

/* --- print.c -------------------------------------------------------------- */

/* Text that goes on past the end of its buffer, as snprintf's does. */
typedef struct {
    char *buf;
    size_t n, length;
} fli__text;

void fli__text_add(fli__text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A line for the plan, for each worker and each of its items. */
void fli__plan_print(fli__text *text, const fli_plan_output *out);

#endif
