/* SPDX-License-Identifier: Apache-2.0 */
/* The schedule of an attention step: what the planner reads and writes.
 *
 * Integers only, so that the host and a device planner agree bit for bit.  Packed
 * row = query row x group + head in its group.  A worker is a CTA on a GPU and a
 * part (ith, nth) on a CPU. */
#ifndef FLI_ABI_PLAN_H
#define FLI_ABI_PLAN_H

#include "abi/types.h"

enum { FLI_PLAN_GRAPH = 1, FLI_PLAN_INVARIANT = 2, FLI_MAX_CLASSES = 4 };

/* A compiled tile class; the table ascends in rows. */
typedef struct {
    int32_t rows; /* packed rows of a tile */
    int32_t kv_tile,
        cut;       /* tokens of a step; cuts fall on multiples of cut, itself
                             one of kv_tile */
    int32_t heads; /* kv heads of an item: 1 or n_kv_heads */
    int32_t first_worker, n_workers; /* its range of workers */
    int32_t longest_first; /* 0: order of the batch; as all of its range */
    uint32_t cost_item, cost_row, cost_tile, cost_cell, cost_merge;
    /* of an item, a packed row, a kv tile, a row x kv tile, a partial row merged;
       any one unit */
} fli_tile_class;

typedef struct {
    uint32_t flags;   /* FLI_PLAN_*: independent */
    int32_t snap;     /* a tile within snap/1024 of the load is taken whole */
    int32_t chunk;    /* INVARIANT: fold length, multiple of cut */
    int64_t l2_bytes; /* K/V of the heads walked together; 0: all heads */
    int64_t token_bytes; /* K + V of a token and kv head */
} fli_plan_policy;

/* Arrays in host memory, or device memory for the device planner. */
typedef struct {
    const int32_t *q_indptr, *kv_len; /* [n_requests + 1], [n_requests] */
    const int32_t
        *segment_indptr;          /* [n_requests + 1]; NULL: one private segment
                                         a request */
    const int32_t *segment_len;   /* [n_segments] tokens */
    const int32_t *segment_group; /* [n_segments] group id, -1 private */
    int32_t n_requests, n_kv_heads, group;
    int32_t causal, window; /* weigh costs, never coverage */
    int32_t max_items, max_merges, max_sources, max_partial_rows;
    int32_t n_classes;
    int32_t n_workers; /* of all ranges */
    int32_t reserved;
    fli_tile_class tile_class[FLI_MAX_CLASSES];
    fli_plan_policy policy;
} fli_plan_input;

/* items[w] is the first item of worker w. */
typedef struct {
    int32_t tile_class;          /* -1: idle */
    int32_t next;                /* next item of this worker, -1: none */
    int32_t request, n_requests; /* n_requests > 1: a group's segment */
    int32_t row_begin, row_end;  /* packed rows over the batch */
    int32_t kv_head, n_kv_heads;
    int32_t segment, segment_begin; /* that of kv_begin; position of its first
                                       token */
    int32_t kv_begin, kv_end; /* positions in the request: in that segment, or
                                 where n_requests is 1, on into the next ones */
    int32_t partial; /* first partial row; -1: writes out and lse itself */
    int32_t merge, n_merges; /* merge items this piece arrives at */
    int32_t reserved;
} fli_work_item;

/* The last of n_sources arrivals merges in list order and resets the counter.
 * sources[source ..] holds the first partial row of each piece, ascending in kv.
 * Partial rows are f32 [rows][head_dim_vo] and [rows][2] (m, d), head-major inside
 * an item: row r of head h is at first + (h - kv_head) * (row_end - row_begin) + r. */
typedef struct {
    int32_t row_begin, row_end, kv_head, n_kv_heads;
    int32_t source, n_sources, counter, reserved;
} fli_merge_item;

/* A strip: rows of one request over a range of its kv, for every head; or the
 * rows of a group over their shared segment.  A tile is a strip and a block of
 * heads.  The planner's own, as all that follows. */
typedef struct {
    int32_t request, n_requests;
    int32_t row_begin, row_end;
    int32_t kv_begin, kv_end;
    int32_t see_begin, see_end; /* what the expected mask leaves of it */
    int32_t tile_class;
    int32_t segment, segment_begin;
    int32_t parent;       /* the group's strip before this one in kv, or -1 */
    int32_t member;       /* of n_grouped: its first request; -1: not grouped */
    int32_t n_pieces;     /* grouped: pieces of a block of heads, and their */
    int32_t piece_tokens; /* length; a strip that is not is cut while dealing */
    int32_t partial;      /* grouped: first partial row */
    int32_t bucket;       /* of its cost, longest first */
    int32_t reserved;
    uint64_t cost; /* of a tile, uncut */
} fli_plan_strip;

/* Figures of an element of a list, then of all elements before it. */
typedef struct {
    uint64_t n[4];
} fli_plan_sum;

/* Where the work of a range, in the order of the batch, passes from a worker to
 * the next one. */
typedef struct {
    uint64_t cost;        /* of all before it */
    int32_t tile;         /* it is before this tile, or inside of it */
    int32_t at;           /* inside: the position of the cut; else -1 */
    int32_t strip, block; /* inside: of the tile */
} fli_plan_border;

/* A worker whose turn comes when it has the least load. */
typedef struct {
    uint64_t load;
    int32_t worker, tail; /* its last item, or -1 */
} fli_plan_turn;

/* Capacity that is promised. */
typedef struct {
    int64_t strips, tiles, merges, sources, partial_rows;
} fli_plan_need;

/* What a plan came to. */
typedef struct {
    int32_t overflow; /* 1: the input's capacities do not even hold the uncut
                         work; every worker is idle */
    uint32_t classes; /* bit c: class c has work */
    int32_t n_workers, n_pieces; /* pieces: items that are not idle */
    int32_t n_items, n_merges, n_sources, n_partial_rows;
    int32_t n_strips, n_grouped; /* grouped requests */
    /* Only on the host: of ranges with work, their workers, what all cost and what
       the busiest costs. */
    int32_t n_busy;
    uint64_t total_cost, max_cost;
} fli_plan_summary;

enum {
    FLI_PLAN_BUCKETS = 8 * 64,
    FLI_PLAN_LEVELS = 4,       /* nested groups; segments beyond are private */
    FLI_PLAN_FAN = 4,          /* of the heap of turns */
    FLI_PLAN_SCAN_LANES = 128, /* that a running sum is shared by, at most */
    FLI_PLAN_SCAN_GROUP = 16   /* of them that one lane adds up */
};

/* Where the planner writes: the schedule, then its scratch. */
typedef struct {
    fli_work_item *items;
    fli_merge_item *merges;
    int32_t *sources;
    int32_t *counters; /* [max_merges] */

    fli_plan_summary *summary;
    fli_plan_need *used;
    int32_t max_strips;
    fli_plan_strip *strips;
    int32_t *order;             /* [max_strips] */
    int32_t *buckets;           /* [FLI_PLAN_BUCKETS] */
    fli_plan_sum *request_sums; /* [n_requests + 1] */
    fli_plan_sum *strip_sums;   /* [max_strips + 1] */
    fli_plan_sum *worker_sums;  /* of the largest range [n + 1] */
    fli_plan_sum *lane_sums; /* [FLI_PLAN_SCAN_LANES] and one a group of them */
    fli_plan_border *borders; /* of the largest range [n + 1] */
    fli_plan_turn *turns;     /* of the largest range [n + FLI_PLAN_FAN - 1] */
    uint64_t *load;           /* [n_workers] */
    int32_t *lengths; /* [2 * n_requests + 1]: a device's copy of them */
} fli_plan_output;

#endif
