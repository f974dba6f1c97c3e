/* SPDX-License-Identifier: Apache-2.0 */
/* The planner as a device runs it, by threads in step; for test_plan.py alone. */
#include <pthread.h>

static pthread_barrier_t barrier;

#define PLAN_BARRIER() ((void)pthread_barrier_wait(&barrier))
#include "abi/plan_core.h"

#define MAX_LANES 64

__attribute__((visibility("default"))) void plan_core_lanes(
    const fli_plan_input *in, const fli_plan_output *out, int32_t lanes);

typedef struct {
    const fli_plan_input *in;
    const fli_plan_output *out;
    int32_t lane, lanes;
} lane_work;

static void *run_lane(void *arg)
{
    const lane_work *w = arg;

    fli__plan_core(w->in, w->out, w->lane, w->lanes);
    return NULL;
}

void plan_core_lanes(const fli_plan_input *in, const fli_plan_output *out,
                     int32_t lanes)
{
    pthread_t threads[MAX_LANES];
    lane_work work[MAX_LANES];

    pthread_barrier_init(&barrier, NULL, (unsigned)lanes);
    for (int32_t i = 0; i < lanes; i++) {
        work[i] = (lane_work){ in, out, i, lanes };
        pthread_create(&threads[i], NULL, run_lane, &work[i]);
    }
    for (int32_t i = 0; i < lanes; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
}
