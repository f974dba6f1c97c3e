/* SPDX-License-Identifier: Apache-2.0 */
/* plan: bounds, memory, and a schedule as text.  That any schedule is right is for
 * tests/plan. */
#include "unit.h"

#include <stdlib.h>

#include "plan/plan.h"

static const fli__plan_config config = {
    .max_requests = 4,
    .max_rows = 64,
    .n_kv_heads = 2,
    .group = 4,
    .n_classes = 2,
    .tile_class = { { .rows = 16,
                      .kv_tile = 16,
                      .cut = 32,
                      .heads = 2,
                      .n_workers = 2,
                      .cost_item = 10,
                      .cost_cell = 1 },
                    { .rows = 64,
                      .kv_tile = 16,
                      .cut = 32,
                      .heads = 1,
                      .n_workers = 2,
                      .cost_item = 10,
                      .cost_cell = 1 } },
};

static void bounds_are_the_documented_ones(void **state)
{
    fli__plan_bounds b;

    (void)state;
    assert_ok(fli__plan_bound("test bound", &config, &b));
    assert_int_equal(b.n_workers, 2);
    assert_int_equal(b.max_strips, 64 * 4 / 64 + 4);
    assert_int_equal(b.max_items, b.max_strips * 2 + 2 * 2);
    assert_int_equal(b.max_merges, 2);
    assert_int_equal(b.max_sources, 2 * 2);
    assert_int_equal(b.max_partial_rows, 2 * 2 * 64);
}

static void each_range_has_room_for_its_own_rows(void **state)
{
    fli__plan_config c = config;
    fli__plan_bounds b;

    (void)state;
    c.tile_class[1].first_worker = 2;
    c.tile_class[1].n_workers = 3;
    assert_ok(fli__plan_bound("test bound", &c, &b));
    assert_int_equal(b.n_workers, 5);
    assert_int_equal(b.largest_range, 3);
    assert_int_equal(b.max_items, b.max_strips * 2 + 2 * 5);
    assert_int_equal(b.max_sources, 2 * 5);
    assert_int_equal(b.max_partial_rows, 2 * 2 * 16 * 2 + 2 * 3 * 64);
}

static void invariant_has_room_for_chunks(void **state)
{
    fli__plan_config c = config;
    fli__plan_bounds b;

    (void)state;
    c.policy.flags = FLI_PLAN_INVARIANT;
    c.policy.chunk = 32;
    assert_ok(fli__plan_bound("test bound", &c, &b));
    assert_int_equal(b.max_sources, 9 * 2);
}

static void no_cut_needs_no_partials(void **state)
{
    fli__plan_config c = config;
    fli__plan_bounds b;

    (void)state;
    c.n_classes = 1;
    c.tile_class[0].cut = FLI__PLAN_NO_CUT;
    assert_ok(fli__plan_bound("test bound", &c, &b));
    assert_int_equal(b.max_partial_rows, 0);
}

static void tiles_are_no_larger_than_the_batch(void **state)
{
    fli__plan_config c = config;
    fli__plan_bounds b;

    (void)state;
    c.max_rows = 3; /* 12 packed rows */
    assert_ok(fli__plan_bound("test bound", &c, &b));
    assert_int_equal(b.max_partial_rows, 2 * 2 * 12 * 2);
}

static void bad_classes_are_our_bugs(void **state)
{
    fli__plan_bounds b;
    fli__plan_config c = config;

    (void)state;
    c.tile_class[1].rows = 16;
    assert_fails(fli__plan_bound("test bound", &c, &b), INTERNAL,
                 "test bound: rows of tile class 1 are 16, expected more than "
                 "16");
    c = config;
    c.tile_class[0].heads = 3;
    assert_fails(fli__plan_bound("test bound", &c, &b), INTERNAL,
                 "test bound: heads of tile class 0 are 3, expected 1 or 2");
    c = config;
    c.tile_class[0].cut = 24;
    assert_fails(
        fli__plan_bound("test bound", &c, &b), INTERNAL,
        "test bound: cut of tile class 0 is 24, expected a multiple of "
        "16");
    c = config;
    c.tile_class[0].n_workers = 0;
    assert_fails(fli__plan_bound("test bound", &c, &b), INTERNAL,
                 "test bound: tile class 0 is empty");
    c = config;
    c.tile_class[1].n_workers = 3;
    assert_fails(fli__plan_bound("test bound", &c, &b), INTERNAL,
                 "test bound: tile classes 0 and 1 share a part of a range");
    c = config;
    c.tile_class[1].longest_first = 1;
    assert_fails(
        fli__plan_bound("test bound", &c, &b), INTERNAL,
        "test bound: tile classes 0 and 1 differ in the order of their "
        "range");
    c = config;
    c.policy.flags = FLI_PLAN_INVARIANT;
    c.policy.chunk = 48;
    assert_fails(fli__plan_bound("test bound", &c, &b), INTERNAL,
                 "test bound: chunk is 48, expected a multiple of cut 32");
}

static void too_much_is_unsupported(void **state)
{
    fli__plan_bounds b;
    fli__plan_config c = config;

    (void)state;
    c.max_rows = INT32_MAX;
    assert_int_equal(fli__plan_bound("test bound", &c, &b), FLI_UNSUPPORTED);
    c = config;
    c.max_requests = INT32_MAX;
    assert_int_equal(fli__plan_bound("test bound", &c, &b), FLI_UNSUPPORTED);
}

/* A plan of config in memory that garbage filled. */
typedef struct {
    fli__plan_bounds bounds;
    fli_plan_output out;
    void *memory;
} planned;

static planned plan(const fli__plan_config *c, const fli__plan_step *step)
{
    planned p;

    assert_ok(fli__plan_bound("test bound", c, &p.bounds));
    const size_t bytes = p.bounds.schedule_bytes + p.bounds.scratch_bytes;

    p.memory = aligned_alloc(64, bytes);
    assert_non_null(p.memory);
    memset(p.memory, 0xa5, bytes);
    fli__plan_place(c, &p.bounds, p.memory,
                    (char *)p.memory + p.bounds.schedule_bytes, &p.out);
    assert_ok(fli__plan_run("test plan", c, &p.bounds, step, &p.out));
    return p;
}

static void parts_are_aligned_and_apart(void **state)
{
    fli__plan_bounds b;
    fli_plan_output out;
    char *memory;

    (void)state;
    assert_ok(fli__plan_bound("test bound", &config, &b));
    memory = aligned_alloc(64, b.schedule_bytes + b.scratch_bytes);
    fli__plan_place(&config, &b, memory, memory + b.schedule_bytes, &out);
    const struct {
        const void *at;
        size_t bytes;
    } parts[] = {
        { out.counters, (size_t)b.max_merges * 4 },
        { out.merges, (size_t)b.max_merges * sizeof(*out.merges) },
        { out.sources, (size_t)b.max_sources * 4 },
        { out.items, (size_t)b.max_items * sizeof(*out.items) },
        { out.summary, sizeof(*out.summary) },
        { out.used, sizeof(*out.used) },
        { out.strips, (size_t)b.max_strips * sizeof(*out.strips) },
        { out.order, (size_t)b.max_strips * 4 },
        { out.buckets, FLI_PLAN_BUCKETS * 4 },
        { out.request_sums, (4 + 1) * sizeof(fli_plan_sum) },
        { out.strip_sums, (size_t)(b.max_strips + 1) * sizeof(fli_plan_sum) },
        { out.worker_sums, (2 + 1) * sizeof(fli_plan_sum) },
        { out.lane_sums, (128 + 8) * sizeof(fli_plan_sum) },
        { out.borders, (2 + 1) * sizeof(*out.borders) },
        { out.turns, (2 + 3) * sizeof(*out.turns) },
        { out.load, 2 * 8 },
        { out.lengths, (2 * 4 + 1) * 4 },
    };
    const char *at = memory;

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        assert_true((const char *)parts[i].at >= at);
        assert_int_equal((uintptr_t)parts[i].at % 64, 0);
        at = (const char *)parts[i].at + parts[i].bytes;
    }
    assert_true(at <= memory + b.schedule_bytes + b.scratch_bytes);
    free(memory);
}

static void prints_a_plan(void **state)
{
    const int32_t q_indptr[] = { 0, 1, 21 }, kv_len[] = { 320, 20 };
    const fli__plan_step step = {
        .n_requests = 2, .q_indptr = q_indptr, .kv_len = kv_len, .causal = 1
    };
    const planned p = plan(&config, &step);
    char buf[2000];
    fli__text text = { buf, sizeof(buf), 0 };

    (void)state;
    fli__plan_print(&text, &p.out);
    assert_string_equal(
        buf,
        /* 4 rows x 2 heads x 20 kv tiles + 10; two heads of 64 x 1 + 10 (the
           first 16 rows see 16 tokens) and 16 x 2 + 10 */
        "plan  2 workers  5 items  0 merges  imbalance 1.15\n"
        "  worker 0  cost 170\n"
        "    class 0  request 0  rows 0..4  heads 0..2  kv 0..320\n"
        "  worker 1  cost 232\n"
        "    class 1  request 1  rows 4..68  heads 0..1  kv 0..20\n"
        "    class 1  request 1  rows 68..84  heads 0..1  kv 0..20\n"
        "    class 1  request 1  rows 4..68  heads 1..2  kv 0..20\n"
        "    class 1  request 1  rows 68..84  heads 1..2  kv 0..20\n");
    assert_int_equal(text.length, strlen(buf));
    free(p.memory);
}

/* Workers that no class with work has do not count. */
static void idle_ranges_are_not_imbalance(void **state)
{
    const int32_t q_indptr[] = { 0, 1 }, kv_len[] = { 3200 };
    const fli__plan_step step = { .n_requests = 1,
                                  .q_indptr = q_indptr,
                                  .kv_len = kv_len };
    fli__plan_config c = config;
    char buf[2000];
    fli__text text = { buf, sizeof(buf), 0 };

    (void)state;
    c.tile_class[1].first_worker = 2;
    c.tile_class[1].n_workers = 7;
    const planned p = plan(&c, &step);

    assert_int_equal(p.out.summary->classes, 1);
    assert_int_equal(p.out.summary->n_workers, 9);
    assert_int_equal(p.out.summary->n_busy, 2);
    assert_int_equal(p.out.summary->total_cost, 2 * 810);
    assert_int_equal(p.out.summary->max_cost, 810);
    fli__plan_print(&text, &p.out);
    assert_non_null(
        strstr(buf, "plan  9 workers  9 items  1 merges  imbalance 1.00\n"));
    free(p.memory);
}

static void prints_cuts(void **state)
{
    const int32_t q_indptr[] = { 0, 1 }, kv_len[] = { 3200 };
    const fli__plan_step step = { .n_requests = 1,
                                  .q_indptr = q_indptr,
                                  .kv_len = kv_len };
    const planned p = plan(&config, &step);
    char buf[2000];
    fli__text text = { buf, sizeof(buf), 0 };

    (void)state;
    fli__plan_print(&text, &p.out);
    assert_string_equal(
        buf, "plan  2 workers  2 items  1 merges  imbalance 1.00\n"
             "  worker 0  cost 810\n"
             "    class 0  request 0  rows 0..4  heads 0..2  kv 0..1600"
             "  partial 0  merge 0\n"
             "  worker 1  cost 810\n"
             "    class 0  request 0  rows 0..4  heads 0..2  kv 1600..3200"
             "  partial 8  merge 0\n"
             "  merge 0  rows 0..4  heads 0..2  partials 0 8\n");
    free(p.memory);
}

static void text_goes_on_past_its_buffer(void **state)
{
    char buf[8] = "xxxxxxx";
    fli__text text = { buf, 4, 0 };

    (void)state;
    fli__text_add(&text, "%s", "ab");
    fli__text_add(&text, "%s", "cdef");
    fli__text_add(&text, "%s", "gh");
    assert_int_equal(text.length, 8);
    assert_string_equal(buf, "abc");
    assert_string_equal(buf + 4, "xxx");
    text = (fli__text){ NULL, 0, 0 };
    fli__text_add(&text, "%s", "abc");
    assert_int_equal(text.length, 3);
}

static void an_empty_step_is_idle(void **state)
{
    const int32_t q_indptr[] = { 0 };
    const fli__plan_step step = { .q_indptr = q_indptr };
    const planned p = plan(&config, &step);

    (void)state;
    assert_int_equal(p.out.summary->n_pieces, 0);
    assert_int_equal(p.out.summary->classes, 0);
    assert_int_equal(p.out.summary->n_busy, 0);
    for (int w = 0; w < 2; w++)
        assert_int_equal(p.out.items[w].tile_class, -1);
    free(p.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_are_the_documented_ones),
        cmocka_unit_test(each_range_has_room_for_its_own_rows),
        cmocka_unit_test(invariant_has_room_for_chunks),
        cmocka_unit_test(no_cut_needs_no_partials),
        cmocka_unit_test(tiles_are_no_larger_than_the_batch),
        cmocka_unit_test(bad_classes_are_our_bugs),
        cmocka_unit_test(too_much_is_unsupported),
        cmocka_unit_test(parts_are_aligned_and_apart),
        cmocka_unit_test(prints_a_plan),
        cmocka_unit_test(idle_ranges_are_not_imbalance),
        cmocka_unit_test(prints_cuts),
        cmocka_unit_test(text_goes_on_past_its_buffer),
        cmocka_unit_test(an_empty_step_is_idle),
    };

    return RUN(tests);
}
