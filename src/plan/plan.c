/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds and memory of a schedule, and the planner on the host. */
#include <string.h>

#include "plan/plan.h"

#include "abi/plan_core.h"

static fli_status check_class(const char *where, const fli__plan_config *config,
                              int32_t i)
{
    const fli_tile_class *c = &config->tile_class[i];

    CHECK(c->rows > 0 && c->kv_tile > 0 && c->cut > 0 && c->n_workers > 0,
          INTERNAL, "%s: tile class %d is empty", where, (int)i);
    CHECK(i == 0 || c->rows > c[-1].rows, INTERNAL,
          "%s: rows of tile class %d are %d, expected more than %d", where,
          (int)i, (int)c->rows, (int)c[-1].rows);
    CHECK(c->heads == 1 || c->heads == config->n_kv_heads, INTERNAL,
          "%s: heads of tile class %d are %d, expected 1 or %d", where, (int)i,
          (int)c->heads, (int)config->n_kv_heads);
    CHECK(c->cut == FLI__PLAN_NO_CUT || c->cut % c->kv_tile == 0, INTERNAL,
          "%s: cut of tile class %d is %d, expected a multiple of %d", where,
          (int)i, (int)c->cut, (int)c->kv_tile);
    CHECK(
        !(config->policy.flags & FLI_PLAN_INVARIANT)
            || (config->policy.chunk > 0 && config->policy.chunk % c->cut == 0),
        INTERNAL, "%s: chunk is %d, expected a multiple of cut %d", where,
        (int)config->policy.chunk, (int)c->cut);
    for (int32_t k = 0; k < i; k++) {
        const fli_tile_class *other = &config->tile_class[k];

        if (other->first_worker != c->first_worker)
            continue;
        CHECK(other->n_workers == c->n_workers, INTERNAL,
              "%s: tile classes %d and %d share a part of a range", where,
              (int)k, (int)i);
        CHECK(other->longest_first == c->longest_first, INTERNAL,
              "%s: tile classes %d and %d differ in the order of their range",
              where, (int)k, (int)i);
    }
    return FLI_OK;
}

/* Rows x heads that a piece of a class may leave as partial results. */
static int64_t partial_rows(const fli__plan_config *config,
                            const fli_tile_class *c)
{
    const int32_t grain = config->policy.flags & FLI_PLAN_INVARIANT
                              ? config->policy.chunk
                              : c->cut;
    const int64_t rows =
        MIN((int64_t)c->rows, (int64_t)config->max_rows * config->group);

    return grain == FLI__PLAN_NO_CUT && config->levels == 0 ? 0
                                                            : rows * c->heads;
}

static size_t aligned(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* memory NULL only measures; *bytes is what is taken so far. */
#define TAKE(member, n)                                                        \
    (out->member = memory ? (void *)(memory + *bytes) : NULL,                  \
     *bytes += aligned((size_t)(n) * sizeof(*out->member)))

/* What a run reads, items last: most of their room is seldom used. */
static void place_schedule(const fli__plan_bounds *bounds, char *memory,
                           fli_plan_output *out, size_t *bytes)
{
    TAKE(counters, bounds->max_merges);
    TAKE(merges, bounds->max_merges);
    TAKE(sources, bounds->max_sources);
    TAKE(items, bounds->max_items);
}

static void place_scratch(const fli__plan_config *config,
                          const fli__plan_bounds *bounds, char *memory,
                          fli_plan_output *out, size_t *bytes)
{
    out->max_strips = bounds->max_strips;
    TAKE(summary, 1);
    TAKE(used, 1);
    TAKE(strips, bounds->max_strips);
    TAKE(order, bounds->max_strips);
    TAKE(buckets, FLI_PLAN_BUCKETS);
    TAKE(request_sums, config->max_requests + 1);
    TAKE(strip_sums, bounds->max_strips + 1);
    TAKE(worker_sums, bounds->largest_range + 1);
    TAKE(lane_sums,
         FLI_PLAN_SCAN_LANES + FLI_PLAN_SCAN_LANES / FLI_PLAN_SCAN_GROUP);
    TAKE(borders, bounds->largest_range + 1);
    TAKE(turns, bounds->largest_range + FLI_PLAN_FAN - 1);
    TAKE(load, bounds->n_workers);
    TAKE(lengths, 2 * (int64_t)config->max_requests + 1);
}

#undef TAKE

/* Of all ranges of workers: pieces that cuts add, that are merged, and rows of
 * the latter. */
typedef struct {
    int64_t n_workers, largest, more, merged, rows;
} cut_room;

/* The range that class i opens, of W workers: each is cut at most once, so there
 * are W pieces more, and 2 W that are merged; under INVARIANT, where what is
 * behind a cut is single chunks, 8 W and 9 W. */
static void add_range(const fli__plan_config *config, int32_t i, cut_room *room)
{
    const int invariant = config->policy.flags & FLI_PLAN_INVARIANT;
    const fli_tile_class *c = &config->tile_class[i];
    const int64_t merged = (invariant ? 9 : 2) * (int64_t)c->n_workers;
    int64_t rows = 0;

    for (int32_t k = 0; k < config->n_classes; k++) {
        if (config->tile_class[k].first_worker != c->first_worker)
            continue;
        if (k < i)
            return;
        rows = MAX(rows, partial_rows(config, &config->tile_class[k]));
    }
    room->n_workers =
        MAX(room->n_workers, (int64_t)c->first_worker + c->n_workers);
    room->largest = MAX(room->largest, (int64_t)c->n_workers);
    room->more += (invariant ? 8 : 1) * (int64_t)c->n_workers;
    room->merged += merged;
    room->rows += merged * rows;
}

/* A request that fits a class is one strip, so only the largest class makes more of
 * them.  Items: strips times blocks of heads, an idle one a worker, what cuts add.
 * A level of groups adds a strip for each request, a merge for each request and
 * head and twice that sources. */
fli_status fli__plan_bound(const char *where, const fli__plan_config *config,
                           fli__plan_bounds *out)
{
    const int64_t packed_rows = (int64_t)config->max_rows * config->group;
    const int64_t n_requests = config->max_requests;
    const int64_t grouped = config->levels > 0 ? n_requests : 0;
    int64_t blocks = 0, piece_rows = 0, largest = 1;
    cut_room room = { 0 };

    for (int32_t i = 0; i < config->n_classes; i++) {
        const fli_tile_class *c = &config->tile_class[i];

        TRY(check_class(where, config, i));
        add_range(config, i, &room);
        blocks = MAX(blocks, config->n_kv_heads / c->heads);
        piece_rows = MAX(piece_rows, partial_rows(config, c));
        largest = MAX(largest, (int64_t)c->rows);
    }
    const int64_t rows_of_groups = MIN(packed_rows, grouped * piece_rows);
    const int64_t strips =
        packed_rows / largest + n_requests + config->levels * n_requests;
    const int64_t sources =
        room.merged + (config->levels + 1) * grouped * config->n_kv_heads;
    const int64_t partial =
        room.rows + (config->levels + 1) * rows_of_groups * config->n_kv_heads;
    const int64_t items = strips * blocks + room.n_workers + room.more;

    CHECK(packed_rows <= INT32_MAX && items <= INT32_MAX && sources <= INT32_MAX
              && partial <= INT32_MAX,
          UNSUPPORTED,
          "%s: max_rows %d and max_requests %d need %lld work items and %lld "
          "partial rows, expected at most %d",
          where, (int)config->max_rows, (int)config->max_requests,
          (long long)items, (long long)partial, (int)INT32_MAX);
    *out = (fli__plan_bounds){
        .n_workers = (int32_t)room.n_workers,
        .largest_range = (int32_t)room.largest,
        .max_items = (int32_t)items,
        .max_merges = (int32_t)(room.n_workers + grouped * config->n_kv_heads),
        .max_sources = (int32_t)sources,
        .max_partial_rows = (int32_t)partial,
        .max_strips = (int32_t)strips,
    };
    fli_plan_output unused;

    place_schedule(out, NULL, &unused, &out->schedule_bytes);
    place_scratch(config, out, NULL, &unused, &out->scratch_bytes);
    return FLI_OK;
}

void fli__plan_place(const fli__plan_config *config,
                     const fli__plan_bounds *bounds, void *schedule,
                     void *scratch, fli_plan_output *out)
{
    size_t schedule_bytes = 0, scratch_bytes = 0;

    place_schedule(bounds, schedule, out, &schedule_bytes);
    place_scratch(config, bounds, scratch, out, &scratch_bytes);
}

fli_plan_input fli__plan_input(const fli__plan_config *config,
                               const fli__plan_bounds *bounds,
                               const fli__plan_step *step)
{
    fli_plan_input in = {
        .q_indptr = step->q_indptr,
        .kv_len = step->kv_len,
        .n_requests = step->n_requests,
        .n_kv_heads = config->n_kv_heads,
        .group = config->group,
        .causal = step->causal,
        .window = step->window,
        .max_items = bounds->max_items,
        .max_merges = bounds->max_merges,
        .max_sources = bounds->max_sources,
        .max_partial_rows = bounds->max_partial_rows,
        .n_classes = config->n_classes,
        .n_workers = bounds->n_workers,
        .policy = config->policy,
    };

    memcpy(in.tile_class, config->tile_class, sizeof(in.tile_class));
    return in;
}

fli_status fli__plan_run(const char *where, const fli__plan_config *config,
                         const fli__plan_bounds *bounds,
                         const fli__plan_step *step, const fli_plan_output *out)
{
    const fli_plan_input in = fli__plan_input(config, bounds, step);

    fli__plan_core(&in, out, 0, 1);
    CHECK(!out->summary->overflow, INTERNAL,
          "%s: the schedule exceeds its bound of %d items", where,
          (int)bounds->max_items);
    fli__plan_sum_up(&in, out);
    return FLI_OK;
}
