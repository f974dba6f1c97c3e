/* SPDX-License-Identifier: Apache-2.0 */
/* plan: the planner on the device, for engines whose lengths the host does not
 * know.  The text is the host's, so the schedule is, too.
 *
 * The first thread does what is sequential, and a global load costs it half a
 * microsecond: what it reads lies in shared memory where that is large enough. */
#include "abi/plan_launch.h"
#include "cuda/lib/base.cuh"

/* Calls: inlined, the text takes NVRTC three times as long. */
#define PLAN_FN        static __device__ __noinline__
#define PLAN_BARRIER() __syncthreads()
#include "abi/plan_core.h"

/* Does the caller's batch break a rule at request i? */
DEVICE int32_t is_wrong(const fli_plan_launch *p, int32_t i)
{
    const int32_t *q_indptr = p->in.q_indptr;

    return q_indptr[i] > q_indptr[i + 1] || q_indptr[i + 1] > p->max_rows
           || (i == 0 && q_indptr[0] != 0) || p->in.kv_len[i] < 0;
}

/* Copies the lengths to where runs read them; a batch that breaks a rule becomes
 * one of no requests. */
DEVICE int32_t take_lengths(const fli_plan_launch *p)
{
    const int32_t n = p->in.n_requests;
    int32_t wrong = 0;

    for (int32_t i = threadIdx.x; i < n; i += blockDim.x) {
        wrong |= is_wrong(p, i);
        p->q_indptr[i + 1] = p->in.q_indptr[i + 1];
        p->kv_len[i] = p->in.kv_len[i];
    }
    if (threadIdx.x == 0)
        p->q_indptr[0] = 0;
    wrong = __syncthreads_or(wrong);
    if (wrong && threadIdx.x == 0)
        raise_sticky(p->sticky, FLI_STICKY_LENGTHS);
    return wrong ? 0 : n;
}

#define MOVE(member)                                                           \
    (*(char **)&out->member = memory + ((char *)out->member - p->scratch))

DEVICE void move_scratch(const fli_plan_launch *p, fli_plan_output *out)
{
    extern __shared__ __align__(64) char memory[];

    MOVE(summary);
    MOVE(strips);
    MOVE(order);
    MOVE(request_strip);
    MOVE(buckets);
    MOVE(tail);
    MOVE(heap);
    MOVE(load);
}

KERNEL __launch_bounds__(256)
    fli_plan(const __grid_constant__ fli_plan_launch p)
{
    __shared__ fli_plan_input in;
    __shared__ fli_plan_output out;

    pdl_wait();
    const int32_t n = take_lengths(&p);

    if (threadIdx.x == 0) {
        in = p.in;
        in.q_indptr = p.q_indptr;
        in.kv_len = p.kv_len;
        in.n_requests = n;
        out = p.out;
        if (p.scratch_bytes > 0)
            move_scratch(&p, &out);
    }
    __syncthreads();
    fli__plan_core(&in, &out, threadIdx.x, blockDim.x);
}
