/* SPDX-License-Identifier: Apache-2.0 */
/* What create, plan, run and explain share: the op and its implementations. */
#ifndef FLI_ATTENTION_ATTENTION_H
#define FLI_ATTENTION_ATTENTION_H

#include <flashinfer/attention.h>

#include "abi/attention.h"
#include "abi/plan_launch.h"
#include "core/check.h"
#include "device/device.h"
#include "plan/plan.h"

typedef void fli__attention_tiles_fn(const fli_attention_shape *,
                                     fli_attention_tiles *);

/* The implementations, params of whose reject is a fli_attention_shape, and of
 * whose task or launch a fli__attention_run; and the tile classes of each. */
extern const fli__impl_list fli__attention_list;
extern fli__attention_tiles_fn *const fli__attention_tiles[];

/* Offsets in the workspace of
 *
 *   q_indptr | kv_len | schedule | partial_o | partial_md | scratch | planner
 *
 * each 64-byte aligned.  What plan writes comes first: on CUDA it is copied from
 * the host as one. */
typedef struct {
    size_t kv_len, schedule, partial_o, partial_md, scratch, planner;
} fli__attention_layout;

/* What CUDA has beside it: kernels, staging. */
typedef struct fli__attention_device fli__attention_device;

struct fli_attention {
    const fli_context *ctx;
    fli_attention_desc desc; /* defaults filled in */
    const fli__impl *impl;
    fli__plan_config config;
    fli__plan_bounds bounds;
    fli__attention_layout at;
    size_t workspace_bytes;
    fli__attention_device *device; /* CUDA, else NULL */

    /* The last plan: NULL before it.  params has the shape and the schedule, the
     * rest is filled by run in a copy. */
    void *workspace;
    int32_t is_on_device; /* planned there: the lengths are not known here */
    int32_t n_rows;       /* that q, out and lse must have */
    int64_t
        work; /* about the operations of a run, see fli__run_impl; 0: none */
    fli_plan_output schedule; /* as the host wrote it */
    fli_attention_params params;
    fli_plan_summary summary;
};

/* What tasks and launches get. */
typedef struct {
    fli_attention_params params;
    const fli_attention *op;
} fli__attention_run;

/* Copies desc with its defaults filled in, checking all but the capacity, and
 * derives the shape. */
fli_status fli__attention_desc(const fli_context *ctx, const char *where,
                               const fli_attention_desc *desc,
                               fli_attention_desc *out,
                               fli_attention_shape *shape);

/* "causal" */
const char *fli__mask_name(int32_t mask);

/* --- attention.c: what both plans share ------------------------------------ */

fli_status fli__attention_check_step(const char *where, const fli_attention *op,
                                     int32_t n_requests, int32_t mask,
                                     int32_t window);
fli_status fli__attention_check_workspace(const char *where,
                                          const fli_attention *op,
                                          const void *workspace, size_t bytes);

/* Points op->params at the parts of workspace, and *out at its schedule and its
 * planner's scratch. */
void fli__attention_place(fli_attention *op, void *workspace,
                          fli_plan_output *out);

/* --- attention_cuda.c ------------------------------------------------------ */

fli__attention_tiles_fn fli__attention_tiles_portable;
fli__attention_tiles_fn fli__attention_tiles_generic;

/* Why the portable kernels cannot: of a fli_attention_shape. */
const char *fli__attention_reject_portable(const void *shape);

/* Compiles the kernels of op's tile classes, and gives each class its range of
 * workers in op->config. */
fli_status fli__attention_compile(const char *where, fli_attention *op);

/* Staging and host memory for plans, when op->bounds are known. */
fli_status fli__attention_reserve(const char *where, fli_attention *op);

/* NULL is fine. */
void fli__attention_release(const fli_context *ctx,
                            fli__attention_device *device);

/* Where the host plans: a slot that is copied to the workspace, and scratch. */
fli_status fli__attention_begin_plan(const fli__call *call, fli_attention *op,
                                     char **head, char **scratch);

/* Copies what op->schedule uses to workspace, in stream order. */
fli_status fli__attention_end_plan(const fli__call *call, fli_attention *op,
                                   void *workspace);

/* Compiles the device's planner where create did not.  INVALID_STATE in a
 * capture. */
fli_status fli__attention_planner(const fli__call *call, fli_attention *op);

/* Launches it. */
fli_status fli__attention_plan_there(const fli__call *call, fli_attention *op,
                                     fli_plan_launch *plan, void *workspace);

/* Launches the classes that have work, of a fli__attention_run. */
fli__launch_fn fli__attention_cuda;

#endif
