/* SPDX-License-Identifier: Apache-2.0 */
/* The planner as a shared library, for tests/plan/test_plan.py alone. */
#include "abi/plan_core.h"
#include "plan/plan.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT void plan_core(const fli_plan_input *in, const fli_plan_output *out);
EXPORT int plan_bound(const fli__plan_config *config, fli__plan_bounds *out);
EXPORT size_t plan_size(int i);

void plan_core(const fli_plan_input *in, const fli_plan_output *out)
{
    fli__plan_core(in, out, 0, 1);
    if (!out->summary->overflow)
        fli__plan_sum_up(in, out);
}

int plan_bound(const fli__plan_config *config, fli__plan_bounds *out)
{
    return (int)fli__plan_bound("plan test", config, out);
}

/* Sizes of the structs that the test declares again, in its order. */
size_t plan_size(int i)
{
    static const size_t sizes[] = {
        sizeof(fli_tile_class),   sizeof(fli_plan_policy),
        sizeof(fli_plan_input),   sizeof(fli_work_item),
        sizeof(fli_merge_item),   sizeof(fli_plan_strip),
        sizeof(fli_plan_sum),     sizeof(fli_plan_border),
        sizeof(fli_plan_turn),    sizeof(fli_plan_need),
        sizeof(fli_plan_summary), sizeof(fli_plan_output),
        sizeof(fli__plan_config), sizeof(fli__plan_bounds),
    };

    return sizes[i];
}
