/* SPDX-License-Identifier: Apache-2.0 */
/* plan: the planner on the device, for engines whose lengths the host does not
 * know.  The text is the host's, so the schedule is, too.
 *
 * One block, as its lanes wait for each other a dozen times.  All but the schedule
 * lies in shared memory where that is large enough: a step of a search there takes
 * some 30 cycles, in global memory 600. */
#include "abi/plan_launch.h"
#include "cuda/lib/base.cuh"

/* Plans on the device have no segments. */
#define PLAN_GROUPS    0
#define PLAN_FN        static __device__
#define PLAN_BARRIER() __syncthreads()
#define PLAN_ROLLED    _Pragma("unroll 1")

/* As four words of 16 bytes: an item is 64, and aligned. */
#define PLAN_STORE(item, ...) store_item(item, fli_work_item{ __VA_ARGS__ })

DEVICE void store_item(fli_work_item *to, fli_work_item from)
{
    int4 *word = (int4 *)to;

    word[0] =
        make_int4(from.tile_class, from.next, from.request, from.n_requests);
    word[1] =
        make_int4(from.row_begin, from.row_end, from.kv_head, from.n_kv_heads);
    word[2] =
        make_int4(from.segment, from.segment_begin, from.kv_begin, from.kv_end);
    word[3] = make_int4(from.partial, from.merge, from.n_merges, 0);
}

/* Copied to where it is used, the text takes half as long again to compile. */
static __device__ __noinline__ void plan_scan(fli_plan_sum *, int32_t,
                                              fli_plan_sum *, int32_t, int32_t);
static __device__ __noinline__ int32_t plan_find(const fli_plan_sum *, int32_t,
                                                 int32_t, int32_t, uint64_t);
static __device__ __noinline__ uint64_t plan_cost_kv(const fli_plan_input *,
                                                     const fli_plan_strip *,
                                                     int32_t, int32_t);

#include "abi/plan_core.h"

/* Copies the lengths to where runs read them, and to scratch for the planner; a
 * batch that breaks a rule becomes one of no requests. */
DEVICE int32_t take_lengths(const fli_plan_launch *p, int32_t *lengths)
{
    const int32_t n = p->in.n_requests;
    int32_t wrong = 0;

    PLAN_ROLLED
    for (int32_t i = threadIdx.x; i < n; i += blockDim.x) {
        const int32_t begin = p->in.q_indptr[i], end = p->in.q_indptr[i + 1];
        const int32_t kv_len = p->in.kv_len[i];

        wrong |= begin > end || end > p->max_rows || (i == 0 && begin != 0)
                 || kv_len < 0;
        p->q_indptr[i + 1] = lengths[i + 1] = end;
        p->kv_len[i] = lengths[n + 1 + i] = kv_len;
    }
    if (threadIdx.x == 0)
        p->q_indptr[0] = lengths[0] = 0;
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
    MOVE(used);
    MOVE(strips);
    MOVE(order);
    MOVE(buckets);
    MOVE(request_sums);
    MOVE(strip_sums);
    MOVE(worker_sums);
    MOVE(lane_sums);
    MOVE(borders);
    MOVE(turns);
    MOVE(load);
    MOVE(lengths);
}

KERNEL __launch_bounds__(512, 1)
    fli_plan(const __grid_constant__ fli_plan_launch p)
{
    __shared__ fli_plan_input in;
    fli_plan_output out = p.out;

    if (p.scratch_bytes > 0)
        move_scratch(&p, &out);
    pdl_wait();
    pdl_launch();
    const int32_t n = take_lengths(&p, out.lengths);

    if (threadIdx.x == 0) {
        in = p.in;
        in.q_indptr = out.lengths;
        in.kv_len = out.lengths + in.n_requests + 1;
        in.n_requests = n;
    }
    __syncthreads();
    fli__plan_core(&in, &out, threadIdx.x, blockDim.x);
}
