/* SPDX-License-Identifier: Apache-2.0 */
/* What create, plan, run and explain share: the op and its implementations. */
#ifndef FLI_ATTENTION_ATTENTION_H
#define FLI_ATTENTION_ATTENTION_H

#include <flashinfer/attention.h>

#include "abi/attention.h"
#include "core/check.h"
#include "device/device.h"
#include "plan/plan.h"

typedef void fli__attention_tiles_fn(const fli_attention_shape *,
                                     fli_attention_tiles *);

/* The implementations, params of whose reject is a fli_attention_shape, and the
 * tile classes of each. */
extern const fli__impl_list fli__attention_list;
extern fli__attention_tiles_fn *const fli__attention_tiles[];

struct fli_attention {
    const fli_context *ctx;
    fli_attention_desc desc; /* defaults filled in */
    const fli__impl *impl;
    fli__plan_config config;
    fli__plan_bounds bounds;
    size_t workspace_bytes;

    /* The last plan: NULL before it.  params has the shape and the schedule, the
     * rest is filled by run in a copy. */
    void *workspace;
    int32_t n_rows;
    int64_t work; /* about the operations of a run, see fli__run_task */
    fli_plan_output schedule;
    fli_attention_params params;
    fli_plan_summary summary;
};

/* Copies desc with its defaults filled in, checking all but the capacity, and
 * derives the shape. */
fli_status fli__attention_desc(const char *where,
                               const fli_attention_desc *desc,
                               fli_attention_desc *out,
                               fli_attention_shape *shape);

/* "causal" */
const char *fli__mask_name(int32_t mask);

#endif
