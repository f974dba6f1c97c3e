/* SPDX-License-Identifier: Apache-2.0 */
/* Page tables, indices and lengths that point outside: no fault, nothing written
 * where nothing belongs, nobody else's rows changed, and fli_context_check tells it
 * once. */
#include "attend.h"
#include "ops.h"

#include "gpu_fixture.h"

static const char page_id[] = "a page id outside the pool";
static const char short_table[] = "a page table shorter than kv_len needs";
static const char bad_index[] = "a row or request index out of range";

/* The device is well, the check tells says, and only once. */
static void assert_told(const char *name, const char *says)
{
    assert_waits(name);
    if (fli_context_check(ctx) != FLI_INVALID_ARGUMENT
        || !strstr(fli_last_error(), says))
        fail_msg("%s: the check gave \"%s\", expected \"%s\"", name,
                 fli_last_error(), says);
    assert_well(ctx, "the check after the one that told");
}

/* --- attention ---------------------------------------------------------------- */

/* Host copies of a table, to be broken for the last request. */
typedef struct {
    int32_t n, each, n_pages, n_indices;
    int32_t indptr[ATTEND_MAX_REQUESTS + 1];
    int32_t *ids;
} table;

static void id_below_zero(table *t)
{
    t->ids[(t->n - 1) * t->each] = -1;
}

static void id_behind_the_pool(table *t)
{
    t->ids[t->n * t->each - 1] = t->n_pages;
}

static void id_far_above(table *t)
{
    t->ids[(t->n - 1) * t->each + 1] = INT32_MAX;
}

static void id_far_below(table *t)
{
    t->ids[(t->n - 1) * t->each + 1] = INT32_MIN;
}

static void all_ids_outside(table *t)
{
    for (int32_t i = 0; i < t->each; i++)
        t->ids[(t->n - 1) * t->each + i] = i % 2 ? -1 - i : t->n_pages + i;
}

static void one_page_short(table *t)
{
    t->indptr[t->n]--;
}

static void one_page_only(table *t)
{
    t->indptr[t->n] = t->indptr[t->n - 1] + 1;
}

static void no_page(table *t)
{
    t->indptr[t->n] = t->indptr[t->n - 1];
}

static void descending(table *t)
{
    t->indptr[t->n] = INT32_MIN;
}

static void begins_behind_the_table(table *t)
{
    t->indptr[t->n - 1] = t->indptr[t->n] = INT32_MAX;
}

static void fewer_indices(table *t)
{
    t->n_indices = t->indptr[t->n - 1] + 1;
}

static const struct {
    const char *name, *says;
    void (*harm)(table *t);
} harms[] = {
    { "an id of -1", page_id, id_below_zero },
    { "an id of n_pages", page_id, id_behind_the_pool },
    { "an id of 2^31 - 1", page_id, id_far_above },
    { "an id of -2^31", page_id, id_far_below },
    { "no id in the pool", page_id, all_ids_outside },
    { "a page too few", short_table, one_page_short },
    { "one page", short_table, one_page_only },
    { "no page", short_table, no_page },
    { "page_indptr that ends at -2^31", short_table, descending },
    { "page_indptr that begins at 2^31 - 1", short_table,
      begins_behind_the_table },
    { "page_indices that end early", short_table, fewer_indices },
};

static table table_of(const attend_data *d)
{
    table t = { .n = d->s.n_requests,
                .each = d->s.pages_each,
                .n_pages = d->n_pages,
                .n_indices = d->n_pages };

    memcpy(t.indptr, d->indptr.host, d->indptr.bytes);
    t.ids = xalloc(d->ids.bytes);
    memcpy(t.ids, d->ids.host, d->ids.bytes);
    return t;
}

/* Bytes of a row of out and of lse, and where lse begins. */
static void assert_other_rows(const char *name, const attend_data *d,
                              const attend_step *step, const char *got,
                              const char *want)
{
    const size_t all = (size_t)d->s.n_rows;
    const size_t row = d->q.bytes / all;
    const size_t lse_row = (size_t)d->s.n_qo_heads * sizeof(float);
    const size_t lse = attend_out_bytes(d) - all * lse_row;
    const size_t own = (size_t)step->q_indptr[step->n - 1];
    const size_t end = (size_t)step->q_indptr[step->n];

    assert_same(name, got, want, own * row);
    assert_same(name, got + lse, want + lse, own * lse_row);
    assert_same(name, got + end * row, want + end * row, (all - end) * row);
    assert_same(name, got + lse + end * lse_row, want + lse + end * lse_row,
                (all - end) * lse_row);
}

static char *run_with(const attend_data *d, const attend_op *op,
                      const fli_attention_args *args)
{
    attend_poison(d, args->out.data);
    attend_run(op, args);
    assert_waits("a run");
    return received(args->out.data, attend_out_bytes(d));
}

/* The last request has all tokens there can be, so that every page matters. */
static void harm_tables(const attend_shape *shape, const int32_t *q_len)
{
    attend_data *const d = attend_make(shape, 1);
    attend_op op = attend_create(d, ctx, 0, stream);
    void *const out = gpu_alloc(attend_out_bytes(d));
    fli_attention_args args = attend_args(d, ctx, out);
    attend_step step = { .n = shape->n_requests };

    for (int32_t i = 0; i < step.n; i++) {
        step.q_len[i] = q_len[i];
        step.kv_len[i] = shape->pages_each * shape->page - 3 * (step.n - 1 - i);
    }
    attend_plan(&op, &step);
    char *const want = run_with(d, &op, &args);

    assert_well(ctx, "a sound table");
    for (int i = 0; i < COUNT(harms); i++) {
        table t = table_of(d);

        harms[i].harm(&t);
        args.kv.page_indptr.data = sent(t.indptr, d->indptr.bytes);
        args.kv.page_indices.data = sent(t.ids, d->ids.bytes);
        args.kv.page_indices.shape[0] = t.n_indices;
        char *const got = run_with(d, &op, &args);

        assert_told(harms[i].name, harms[i].says);
        assert_other_rows(harms[i].name, d, &step, got, want);
        gpu_free(args.kv.page_indptr.data);
        gpu_free(args.kv.page_indices.data);
        free(t.ids);
        free(got);
    }
    free(want);
    gpu_free(out);
    attend_destroy(&op);
    attend_free(d);
}

static const attend_shape bf16 = { FLI_BF16, 8, 2, 128, 16, 4, 300, 40 };
static const attend_shape f32 = { FLI_F32, 4, 2, 64, 8, 4, 300, 20 };
static const int32_t decode[] = { 1, 1, 1, 1 };
static const int32_t prefill[] = { 70, 1, 20, 130 };

static void tables_of_decode(void **state)
{
    (void)state;
    harm_tables(&bf16, decode);
}

static void tables_of_prefill(void **state)
{
    (void)state;
    harm_tables(&bf16, prefill);
}

static void tables_of_f32(void **state)
{
    (void)state;
    harm_tables(&f32, decode);
    harm_tables(&f32, prefill);
}

/* The same cache as one run of tokens. */
static void ragged_tokens(void **state)
{
    attend_data *const d = attend_make(&bf16, 2);
    const int32_t n = bf16.n_requests, each = bf16.pages_each * bf16.page;
    const int64_t tokens = (int64_t)d->n_pages * bf16.page;
    attend_op op = attend_create(d, ctx, 0, stream);
    void *const out = gpu_alloc(attend_out_bytes(d));
    fli_attention_args args = attend_args(d, ctx, out);
    attend_step step = { .n = n };
    int32_t indptr[ATTEND_MAX_REQUESTS + 1];
    const struct {
        const char *name;
        int32_t begin, end; /* of the last request */
    } bad[] = {
        { "tokens that end early", (n - 1) * each, (n - 1) * each + 5 },
        { "no tokens", (n - 1) * each, (n - 1) * each },
        { "tokens behind the cache", (int32_t)tokens + 9,
          (int32_t)tokens + 9 + each },
        { "tokens that end behind the cache", (int32_t)tokens - 9, INT32_MAX },
        { "tokens that begin at -2^31", INT32_MIN, INT32_MIN + each },
    };

    (void)state;
    for (int32_t i = 0; i < n; i++) {
        step.q_len[i] = prefill[i];
        step.kv_len[i] = each;
    }
    args.kv = fli_ragged_kv(fli_tensor_3d(d->k.device, ctx, FLI_BF16, tokens,
                                          bf16.n_kv_heads, bf16.dim),
                            fli_tensor_3d(d->v.device, ctx, FLI_BF16, tokens,
                                          bf16.n_kv_heads, bf16.dim),
                            fli_tensor_1d(NULL, ctx, FLI_I32, n + 1));
    attend_plan(&op, &step);
    char *want = NULL;

    for (int i = -1; i < COUNT(bad); i++) {
        for (int32_t k = 0; k <= n; k++)
            indptr[k] = k * each;
        if (i >= 0) {
            indptr[n - 1] = bad[i].begin;
            indptr[n] = bad[i].end;
        }
        args.kv.kv_indptr.data = sent(indptr, (size_t)(n + 1) * 4);
        char *const got = run_with(d, &op, &args);

        if (i < 0) {
            assert_well(ctx, "a sound kv_indptr");
            want = got;
        } else {
            assert_told(bad[i].name, short_table);
            if (bad[i].begin >= (n - 1) * each)
                assert_other_rows(bad[i].name, d, &step, got, want);
            free(got);
        }
        gpu_free(args.kv.kv_indptr.data);
    }
    free(want);
    gpu_free(out);
    attend_destroy(&op);
    attend_free(d);
}

/* --- pages ---------------------------------------------------------------------- */

enum { GUARD = 1 << 16, HEADS = 2, DIM = 64, PAGE = 16, N_PAGES = 8 };
enum { ROW = HEADS * DIM, POOL = N_PAGES * PAGE * ROW };

/* Device memory between guards of poison; its contents on the host. */
typedef struct {
    char *device; /* the guard before */
    size_t bytes;
    char *host;
} guarded;

static guarded guard(size_t bytes, uint64_t seed)
{
    guarded g = { .bytes = bytes, .host = xalloc(bytes + 2 * GUARD) };

    memset(g.host, 0xe5, bytes + 2 * GUARD);
    for (size_t i = 0; i < bytes; i++)
        g.host[GUARD + i] = (char)(attend_roll(&seed) & 0x3f);
    g.device = sent(g.host, bytes + 2 * GUARD);
    return g;
}

/* Memory is what g->host says, guards included. */
static void assert_memory(const char *name, const guarded *g)
{
    char *const got = received(g->device, g->bytes + 2 * GUARD);

    assert_same(name, got, g->host, g->bytes + 2 * GUARD);
    free(got);
}

static void drop(guarded *g)
{
    gpu_free(g->device);
    free(g->host);
}

static uint16_t *elements(const guarded *g)
{
    return (uint16_t *)(void *)(g->host + GUARD);
}

static fli_tensor pages_of(const guarded *g)
{
    return fli_tensor_4d(g->device + GUARD, ctx, FLI_BF16, N_PAGES, PAGE, HEADS,
                         DIM);
}

/* Appends three rows, of which the middle one has no place to go. */
static void append_between(const char *name, const char *says, int32_t request,
                           int32_t position, int32_t id)
{
    const int32_t requests[] = { 0, request, 1 };
    const int32_t positions[] = { 19, position, 0 };
    const int32_t indptr[] = { 0, 2, 4, 6 };
    const int32_t ids[] = { 5, 1, 7, 0, id, 6 };
    const size_t row = ROW * sizeof(uint16_t);
    guarded in = guard(3 * row, 11), k = guard(POOL * 2, 12);
    guarded v = guard(POOL * 2, 13);
    fli_append_args a = FLI_APPEND_ARGS_INIT;

    a.k = a.v = fli_tensor_3d(in.device + GUARD, ctx, FLI_BF16, 3, HEADS, DIM);
    a.batch_indices =
        fli_tensor_1d(sent(requests, sizeof(requests)), ctx, FLI_I32, 3);
    a.positions =
        fli_tensor_1d(sent(positions, sizeof(positions)), ctx, FLI_I32, 3);
    a.cache = fli_paged_kv(
        pages_of(&k), pages_of(&v),
        fli_tensor_1d(sent(indptr, sizeof(indptr)), ctx, FLI_I32, 4),
        fli_tensor_1d(sent(ids, sizeof(ids)), ctx, FLI_I32, 6));
    assert_ok(fli_append(ctx, &a, stream));
    assert_told(name, says);
    for (int i = 0; i < 2; i++) { /* token 3 of page 1, token 0 of page 7 */
        uint16_t *const pool = elements(i ? &v : &k);

        memcpy(pool + (1 * PAGE + 3) * ROW, elements(&in), row);
        memcpy(pool + 7 * PAGE * ROW, elements(&in) + 2 * ROW, row);
        assert_memory(name, i ? &v : &k);
    }
    assert_memory(name, &in);
    gpu_free(a.batch_indices.data);
    gpu_free(a.positions.data);
    gpu_free(a.cache.page_indptr.data);
    gpu_free(a.cache.page_indices.data);
    drop(&in);
    drop(&k);
    drop(&v);
}

static void append_writes_nothing_outside(void **state)
{
    (void)state;
    append_between("append to request n", bad_index, 3, 0, 2);
    append_between("append to request 2^31 - 1", bad_index, INT32_MAX, 0, 2);
    append_between("append behind the pages", short_table, 2, 32, 2);
    append_between("append far behind", short_table, 2, INT32_MAX, 2);
    append_between("append to page -1", page_id, 2, 5, -1);
    append_between("append to page n", page_id, 2, 5, N_PAGES);
    append_between("append to page 2^31 - 1", page_id, 2, 5, INT32_MAX);
    append_between("append to page -2^31", page_id, 2, 5, INT32_MIN);
}

/* Copies page 1 to 2, and another one that is not there. */
static void copy_beside(const char *name, int32_t from, int32_t to)
{
    const int32_t froms[] = { from, 1 }, tos[] = { to, 2 };
    guarded k = guard(POOL * 2, 21), v = guard(POOL * 2, 22);
    fli_page_copy_args a = FLI_PAGE_COPY_ARGS_INIT;

    a.k = pages_of(&k);
    a.v = pages_of(&v);
    a.from = fli_tensor_1d(sent(froms, sizeof(froms)), ctx, FLI_I32, 2);
    a.to = fli_tensor_1d(sent(tos, sizeof(tos)), ctx, FLI_I32, 2);
    assert_ok(fli_page_copy(ctx, &a, stream));
    assert_told(name, page_id);
    for (int i = 0; i < 2; i++) {
        uint16_t *const pool = elements(i ? &v : &k);

        memcpy(pool + 2 * PAGE * ROW, pool + PAGE * ROW, PAGE * ROW * 2);
        assert_memory(name, i ? &v : &k);
    }
    gpu_free(a.from.data);
    gpu_free(a.to.data);
    drop(&k);
    drop(&v);
}

static void page_copy_writes_nothing_outside(void **state)
{
    (void)state;
    copy_beside("a copy of page -1", -1, 4);
    copy_beside("a copy of page n", N_PAGES, 4);
    copy_beside("a copy to page -1", 4, -1);
    copy_beside("a copy to page n", 4, N_PAGES);
    copy_beside("a copy to page 2^31 - 1", 4, INT32_MAX);
    copy_beside("a copy to page -2^31", 4, INT32_MIN);
}

/* --- indices of the other ops ----------------------------------------------------- */

static ops_case *make(const char *name)
{
    int i = 0;

    while (strcmp(ops_kinds[i].name, name))
        i++;
    return ops_make(&ops_kinds[i], ctx, stream);
}

static char *called(const ops_case *c)
{
    ops_fill(c, 1);
    if (ops_call(c, stream))
        fail_msg("%s: %s", c->kind->name, fli_last_error());
    assert_waits(c->kind->name);
    return ops_read(c);
}

/* Row 4 of 11 draws from a row that is not there: it is invalid. */
static void sample_from_no_row(void **state)
{
    static const int32_t bad[] = { -1, 11, INT32_MAX, INT32_MIN };
    ops_case *const c = make("sample_from_logits");
    int32_t indices[11];

    (void)state;
    for (int i = 0; i < 11; i++)
        indices[i] = 10 - i;
    c->args.sample.indices =
        fli_tensor_1d(sent(indices, sizeof(indices)), ctx, FLI_I32, 11);
    char *const want = called(c);

    assert_well(ctx, "sound indices");
    memset(want + 4 * sizeof(int32_t), 0, sizeof(int32_t)); /* its token */
    want[11 * sizeof(int32_t) + 4] = 0;                     /* is it valid? */
    for (int i = 0; i < COUNT(bad); i++) {
        indices[4] = bad[i];
        gpu_send(c->args.sample.indices.data, indices, sizeof(indices));
        char *const got = called(c);

        assert_told("a row that is not there", bad_index);
        assert_same("sampling beside a row that is not there", got, want,
                    c->out_bytes);
        free(got);
    }
    gpu_free(c->args.sample.indices.data);
    free(want);
    ops_free(c);
}

/* Row 5 is at no position of the cache: it is left as it was. */
static void rope_beyond_its_cache(void **state)
{
    enum { N = 37, POSITIONS = 64, DIM_ROPE = 128 };
    static const int32_t bad[] = { -1, POSITIONS, INT32_MAX, INT32_MIN };
    ops_case *const c = make("rope");
    float *const cache = xalloc(POSITIONS * DIM_ROPE * sizeof(float));
    int32_t positions[N];
    size_t at = 0;

    (void)state;
    for (int i = 0; i < POSITIONS * DIM_ROPE; i++)
        cache[i] = (float)(i % 97) / 97;
    for (int i = 0; i < N; i++)
        positions[i] = 3 * i % POSITIONS;
    void *const cosines = sent(cache, POSITIONS * DIM_ROPE * sizeof(float));

    c->args.rope.cos_sin_cache =
        fli_tensor_2d(cosines, ctx, FLI_F32, POSITIONS, DIM_ROPE);
    c->args.rope.positions.data = sent(positions, sizeof(positions));
    char *const want = called(c);

    assert_well(ctx, "sound positions");
    for (int i = 0; i < 2; i++) { /* of q, then of k */
        const fli_tensor *t = i ? &c->args.rope.k_out : &c->args.rope.q_out;
        const size_t row = (size_t)t->stride[0] * 2;

        memset(want + at + 5 * row, 0xe5, row);
        at += N * row;
    }
    for (int i = 0; i < COUNT(bad); i++) {
        positions[5] = bad[i];
        gpu_send(c->args.rope.positions.data, positions, sizeof(positions));
        char *const got = called(c);

        assert_told("a position that is not in the cache", bad_index);
        assert_same("rope beside a row without position", got, want,
                    c->out_bytes);
        free(got);
    }
    gpu_free(c->args.rope.positions.data);
    gpu_free(cosines);
    free(cache);
    free(want);
    ops_free(c);
}

/* More rows than tokens: the rows before the first token belong to nobody. */
static void positions_before_the_first(void **state)
{
    static const int32_t seq_lens[] = { 300, 300, 200, 300 }; /* of 201 rows */
    ops_case *const c = make("get_batch_indices_positions");

    (void)state;
    c->args.positions.seq_lens.data = sent(seq_lens, sizeof(seq_lens));
    char *const got = called(c);
    const int32_t *const indices = (const int32_t *)(void *)got;

    assert_told("more rows than tokens", bad_index);
    assert_int_equal(indices[9], -1);
    assert_int_equal(indices[300 + 9], -1);
    assert_int_equal(indices[10], 2);
    assert_int_equal(indices[300 + 10], 0);
    gpu_free(c->args.positions.seq_lens.data);
    free(got);
    ops_free(c);
}

static void segments_that_are_none(void **state)
{
    enum { N = 5000 };
    static const int32_t bad[][6] = {
        { 0, 1, 9, 5, 4000, N },         { -8, 1, 9, 9, 4000, N },
        { 0, 1, 9, 9, 4000, N + 1 },     { 0, 1, 9, INT32_MAX, 4000, N },
        { 0, 1, INT32_MIN, 9, 4000, N }, { N, 0, N, 0, N, 0 },
    };
    ops_case *const c = make("segment_packbits");
    fli_segment_packbits_args *const a = &c->args.segments;
    const size_t bytes = (size_t)a->out.shape[0];
    guarded out = guard(bytes, 31);

    (void)state;
    a->out.data = out.device + GUARD;
    for (int i = 0; i < COUNT(bad); i++) {
        a->indptr.data = sent(bad[i], sizeof(bad[i]));
        free(called(c));
        assert_told("segments that are none", bad_index);
        gpu_receive(out.host + GUARD, out.device + GUARD, bytes);
        assert_memory("segments that are none", &out);
        gpu_free(a->indptr.data);
    }
    drop(&out);
    ops_free(c);
}

/* --- running ---------------------------------------------------------------- */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_of_decode),
        cmocka_unit_test(tables_of_prefill),
        cmocka_unit_test(tables_of_f32),
        cmocka_unit_test(ragged_tokens),
        cmocka_unit_test(append_writes_nothing_outside),
        cmocka_unit_test(page_copy_writes_nothing_outside),
        cmocka_unit_test(sample_from_no_row),
        cmocka_unit_test(rope_beyond_its_cache),
        cmocka_unit_test(positions_before_the_first),
        cmocka_unit_test(segments_that_are_none),
    };

    return cmocka_run_group_tests(tests, setup_gpu, teardown_gpu);
}
