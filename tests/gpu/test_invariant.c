/* SPDX-License-Identifier: Apache-2.0 */
/* Batch-invariant attention and gemm: a row has the same bits alone and in a batch,
 * however its prompt is cut, and whose pages it reads. */
#include "attend.h"

#include "gpu_fixture.h"

static const attend_shape bf16 = { FLI_BF16, 8, 2, 128, 16, 8, 700, 260 };
static const attend_shape small = { FLI_BF16, 8, 8, 64, 16, 8, 700, 260 };
static const attend_shape f32 = { FLI_F32, 4, 2, 64, 8, 8, 700, 160 };

/* --- attention ---------------------------------------------------------------- */

/* Rows [begin, end) of out and lse. */
typedef struct {
    size_t begin, end;
} row_range;

/* Rows of a have the bits of as many rows of b. */
static void assert_rows(const char *name, const attend_data *d, const char *a,
                        row_range of_a, const char *b, size_t b_begin)
{
    const size_t row = d->q.bytes / (size_t)d->s.n_rows;
    const size_t lse_row = (size_t)d->s.n_qo_heads * sizeof(float);
    const size_t lse = attend_out_bytes(d) - (size_t)d->s.n_rows * lse_row;
    const size_t n = of_a.end - of_a.begin;

    assert_same(name, a + of_a.begin * row, b + b_begin * row, n * row);
    assert_same(name, a + lse + of_a.begin * lse_row,
                b + lse + b_begin * lse_row, n * lse_row);
}

/* Decode, chunks of prompts, whole prompts; short and long. */
static attend_step mixed_step(const attend_shape *s)
{
    const int32_t most = s->pages_each * s->page;
    attend_step step = { .n = 8,
                         .q_len = { 1, 300, 17, 1, 64, 5, 130, 1 },
                         .kv_len = { 777, 900, 17, most, 640, 256, 131, 1 } };

    return *attend_sum(&step);
}

/* Rows of one request of the cache, which is request 0 of the step then; q begins
 * at row `at` of all. */
static char *run_alone(const attend_data *d, int32_t request, size_t at,
                       int32_t q_len, int32_t kv_len)
{
    attend_op op = attend_create(d, ctx, FLI_ATTENTION_BATCH_INVARIANT, stream);
    void *const out = gpu_alloc(attend_out_bytes(d));
    fli_attention_args args = attend_args(d, ctx, out);
    attend_step step = { .n = 1, .q_len = { q_len }, .kv_len = { kv_len } };

    args.q.data = (char *)args.q.data + at * d->q.bytes / (size_t)d->s.n_rows;
    args.q.shape[0] = args.out.shape[0] = args.lse.shape[0] = q_len;
    args.kv.page_indptr.data = (int32_t *)d->indptr.device + request;
    args.kv.page_indptr.shape[0] = 2;
    attend_poison(d, out);
    attend_plan(&op, &step);
    attend_run(&op, &args);
    assert_well(ctx, "a request alone");
    char *const got = received(out, attend_out_bytes(d));

    gpu_free(out);
    attend_destroy(&op);
    return got;
}

static char *run_batch(const attend_data *d, attend_step *step)
{
    char *const got =
        attend_fresh(d, ctx, FLI_ATTENTION_BATCH_INVARIANT, step, stream);

    assert_close_to_cpu("a batch", d, step, got);
    return got;
}

static void alone_or_in_a_batch(const attend_shape *shape)
{
    attend_data *const d = attend_make(shape, 1);
    attend_step step = mixed_step(shape);
    char *const batch = run_batch(d, &step);
    char name[64];

    for (int32_t i = 0; i < step.n; i++) {
        const row_range rows = { (size_t)step.q_indptr[i],
                                 (size_t)step.q_indptr[i + 1] };
        char *const alone =
            run_alone(d, i, rows.begin, step.q_len[i], step.kv_len[i]);

        snprintf(name, sizeof(name), "request %d alone", (int)i);
        assert_rows(name, d, batch, rows, alone, 0);
        free(alone);
    }
    free(batch);
    attend_free(d);
}

/* Request 1's prompt of 300 rows over 900 tokens, in pieces. */
static void prompt_in_pieces(const attend_shape *shape)
{
    static const int32_t cuts[][5] = {
        { 0, 128, 300 },          { 0, 1, 300 },
        { 0, 299, 300 },          { 0, 100, 200, 300 },
        { 0, 16, 129, 297, 300 },
    };
    attend_data *const d = attend_make(shape, 2);
    attend_step step = mixed_step(shape);
    char *const whole = run_batch(d, &step);
    const int32_t first = step.q_indptr[1], before = 900 - 300;
    char name[64];

    for (int i = 0; i < COUNT(cuts); i++)
        for (int k = 0; cuts[i][k] < 300; k++) {
            const int32_t begin = cuts[i][k], end = cuts[i][k + 1];
            const row_range rows = { (size_t)(first + begin),
                                     (size_t)(first + end) };
            char *const piece =
                run_alone(d, 1, rows.begin, end - begin, before + end);

            snprintf(name, sizeof(name), "rows %d to %d of a prompt",
                     (int)begin, (int)end);
            assert_rows(name, d, whole, rows, piece, 0);
            free(piece);
        }
    free(whole);
    attend_free(d);
}

/* Makes the first n pages of request `to` copies of those of `from`. */
static void copy_pages(attend_data *d, int32_t from, int32_t to, int32_t n)
{
    const int32_t *const ids = d->ids.host;
    const size_t page = d->k.bytes / (size_t)d->n_pages;
    const int32_t each = d->s.pages_each;

    for (int32_t i = 0; i < n; i++)
        for (int v = 0; v < 2; v++) {
            attend_memory *const m = v ? &d->v : &d->k;
            char *const pages = m->host;

            memcpy(pages + (size_t)ids[to * each + i] * page,
                   pages + (size_t)ids[from * each + i] * page, page);
        }
    gpu_send(d->k.device, d->k.host, d->k.bytes);
    gpu_send(d->v.device, d->v.host, d->v.bytes);
}

/* Requests 0, 1 and 4 begin with the same 30 pages: in copies, then shared. */
static void own_or_shared_pages(const attend_shape *shape)
{
    enum { N = 30 };
    attend_data *const d = attend_make(shape, 3);
    attend_step step = mixed_step(shape);
    int32_t *const ids = d->ids.host;
    const int32_t each = shape->pages_each;
    const row_range all = { 0, (size_t)step.q_indptr[step.n] };

    copy_pages(d, 3, 0, N);
    copy_pages(d, 3, 1, N);
    copy_pages(d, 3, 4, N);
    char *const own = run_batch(d, &step);

    for (int32_t i = 0; i < N; i++)
        ids[i] = ids[each + i] = ids[4 * each + i] = ids[3 * each + i];
    gpu_send(d->ids.device, ids, d->ids.bytes);
    char *const shared = run_batch(d, &step);

    assert_rows("requests that share pages", d, shared, all, own, 0);
    free(own);
    free(shared);
    attend_free(d);
}

static const attend_shape *shape_of(void **state)
{
    return *state;
}

static void attention_alone_or_in_a_batch(void **state)
{
    alone_or_in_a_batch(shape_of(state));
}

static void attention_prompt_in_pieces(void **state)
{
    prompt_in_pieces(shape_of(state));
}

static void attention_own_or_shared_pages(void **state)
{
    own_or_shared_pages(shape_of(state));
}

/* --- gemm ----------------------------------------------------------------------- */

enum { MAX_M = 300 };

typedef struct {
    fli_dtype dtype, out;
    int64_t n, k;
} product;

static const product products[] = {
    { FLI_BF16, FLI_BF16, 512, 512 }, { FLI_BF16, FLI_F32, 200, 640 },
    { FLI_BF16, FLI_BF16, 77, 131 },  { FLI_BF16, FLI_BF16, 4096, 256 },
    { FLI_F32, FLI_F32, 130, 300 },   { FLI_F32, FLI_BF16, 64, 64 },
};

static void *random_floats(fli_dtype dtype, int64_t n, uint64_t seed)
{
    const size_t bytes = (size_t)n * fli_dtype_bytes(dtype);
    char *const host = xalloc(bytes);

    for (int64_t i = 0; i < n; i++) {
        const float x = (float)(int32_t)attend_roll(&seed) / 1e9f;
        uint32_t bits;

        memcpy(&bits, &x, sizeof(bits));
        if (dtype == FLI_F32)
            ((float *)(void *)host)[i] = x;
        else
            ((uint16_t *)(void *)host)[i] = (uint16_t)(bits >> 16);
    }
    void *const device = sent(host, bytes);

    free(host);
    return device;
}

/* Rows [at, at + m) of a times b, as they are in out. */
static char *multiplied(const product *p, void *a, void *b, void *out,
                        int64_t at, int64_t m)
{
    const size_t bytes = (size_t)(m * p->n) * fli_dtype_bytes(p->out);
    fli_gemm_args args = FLI_GEMM_ARGS_INIT;

    args.a = fli_tensor_2d(
        (char *)a + (size_t)(at * p->k) * fli_dtype_bytes(p->dtype), ctx,
        p->dtype, m, p->k);
    args.b = fli_tensor_2d(b, ctx, p->dtype, p->n, p->k);
    args.out = fli_tensor_2d(out, ctx, p->out, m, p->n);
    args.flags = FLI_GEMM_BATCH_INVARIANT;
    gpu_fill(out, 0xe5, bytes);
    assert_ok(fli_gemm(ctx, &args, stream));
    assert_well(ctx, "gemm");
    return received(out, bytes);
}

static void rows_of_any_m(const product *p)
{
    static const int32_t counts[] = { 1, 2, 7, 16, 17, 33, 64, 65, 128, 200 };
    void *const a = random_floats(p->dtype, MAX_M * p->k, 1);
    void *const b = random_floats(p->dtype, p->n * p->k, 2);
    const size_t row = (size_t)p->n * fli_dtype_bytes(p->out);
    void *const out = gpu_alloc(MAX_M * row);
    char *const all = multiplied(p, a, b, out, 0, MAX_M);
    char name[96];

    for (int i = 0; i < COUNT(counts); i++)
        for (int64_t at = 0; at + counts[i] <= MAX_M; at += 99) {
            char *const some = multiplied(p, a, b, out, at, counts[i]);

            snprintf(name, sizeof(name), "%d rows from row %d, n %d, k %d",
                     (int)counts[i], (int)at, (int)p->n, (int)p->k);
            assert_same(name, some, all + (size_t)at * row,
                        (size_t)counts[i] * row);
            free(some);
        }
    free(all);
    gpu_free(a);
    gpu_free(b);
    gpu_free(out);
}

static void gemm_rows_of_any_m(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT(products); i++)
        rows_of_any_m(&products[i]);
}

/* --- running ---------------------------------------------------------------- */

#define OF(name, shape)                                                        \
    { #name ", " #shape, name, NULL, NULL, (void *)&(shape) }

int main(void)
{
    const struct CMUnitTest tests[] = {
        OF(attention_alone_or_in_a_batch, bf16),
        OF(attention_alone_or_in_a_batch, small),
        OF(attention_alone_or_in_a_batch, f32),
        OF(attention_prompt_in_pieces, bf16),
        OF(attention_prompt_in_pieces, small),
        OF(attention_prompt_in_pieces, f32),
        OF(attention_own_or_shared_pages, bf16),
        OF(attention_own_or_shared_pages, small),
        OF(attention_own_or_shared_pages, f32),
        cmocka_unit_test(gemm_rows_of_any_m),
    };

    return cmocka_run_group_tests(tests, setup_gpu, teardown_gpu);
}
