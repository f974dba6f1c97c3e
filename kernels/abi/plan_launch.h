/* SPDX-License-Identifier: Apache-2.0 */
/* plan on CUDA: the planner of plan_core.h as a launch of one block. */
#ifndef FLI_ABI_PLAN_LAUNCH_H
#define FLI_ABI_PLAN_LAUNCH_H

#include "abi/plan.h"

typedef struct {
    fli_plan_input in; /* lengths as the caller has them, unchecked */
    fli_plan_output out;
    int32_t *q_indptr, *kv_len; /* where a run reads them */
    int32_t max_rows;           /* that q_indptr may end at */
    int32_t reserved;
    /* The planner's scratch as out has it, moved to the block's shared memory
     * unless scratch_bytes is 0. */
    const char *scratch;
    int64_t scratch_bytes;
    uint32_t *sticky;
} fli_plan_launch;

#endif
