/* SPDX-License-Identifier: Apache-2.0 */
#include "attend.h"

#include <math.h>

#define POISON 0xe5

/* --- data ------------------------------------------------------------------- */

uint32_t attend_roll(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 32);
}

static float normal(uint64_t *state)
{
    float sum = -6;

    for (int i = 0; i < 12; i++)
        sum += (float)(attend_roll(state) >> 8) / 16777216;
    return sum;
}

static void set(void *data, fli_dtype dtype, int64_t i, float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    if (dtype == FLI_F32)
        ((float *)data)[i] = x;
    else
        ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
}

static float get(const void *data, fli_dtype dtype, int64_t i)
{
    uint32_t bits;
    float x;

    if (dtype == FLI_F32)
        return ((const float *)data)[i];
    bits = (uint32_t)((const uint16_t *)data)[i] << 16;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static attend_memory floats(fli_dtype dtype, int64_t n, uint64_t *state)
{
    attend_memory m = { .bytes = (size_t)n * fli_dtype_bytes(dtype) };

    m.host = xalloc(m.bytes);
    for (int64_t i = 0; i < n; i++)
        set(m.host, dtype, i, normal(state));
    m.device = sent(m.host, m.bytes);
    return m;
}

static attend_memory shuffled(int32_t n, uint64_t *state)
{
    attend_memory m = { .bytes = (size_t)n * sizeof(int32_t) };
    int32_t *const ids = m.host = xalloc(m.bytes);

    for (int32_t i = 0; i < n; i++) {
        const int32_t j = (int32_t)(attend_roll(state) % (uint32_t)(i + 1));

        ids[i] = ids[j];
        ids[j] = i;
    }
    m.device = sent(ids, m.bytes);
    return m;
}

static attend_memory multiples(int32_t n, int32_t of)
{
    attend_memory m = { .bytes = (size_t)n * sizeof(int32_t) };
    int32_t *const sums = m.host = xalloc(m.bytes);

    for (int32_t i = 0; i < n; i++)
        sums[i] = i * of;
    m.device = sent(sums, m.bytes);
    return m;
}

attend_data *attend_make(const attend_shape *shape, uint64_t seed)
{
    attend_data *const d = xalloc(sizeof(*d));
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    const int64_t row = (int64_t)shape->n_qo_heads * shape->dim;

    d->s = *shape;
    d->n_pages = shape->n_requests * shape->pages_each;
    const int64_t kv =
        (int64_t)d->n_pages * shape->page * shape->n_kv_heads * shape->dim;

    assert_true(shape->n_requests <= ATTEND_MAX_REQUESTS);
    d->q = floats(shape->dtype, shape->n_rows * row, &state);
    d->k = floats(shape->dtype, kv, &state);
    d->v = floats(shape->dtype, kv, &state);
    d->indptr = multiples(shape->n_requests + 1, shape->pages_each);
    d->ids = shuffled(d->n_pages, &state);
    return d;
}

void attend_free(attend_data *d)
{
    attend_memory *const all[] = { &d->q, &d->k, &d->v, &d->indptr, &d->ids };

    for (int i = 0; i < COUNT(all); i++) {
        free(all[i]->host);
        gpu_free(all[i]->device);
    }
    free(d);
}

/* --- steps ------------------------------------------------------------------ */

attend_step *attend_sum(attend_step *step)
{
    step->q_indptr[0] = 0;
    for (int32_t i = 0; i < step->n; i++)
        step->q_indptr[i + 1] = step->q_indptr[i] + step->q_len[i];
    return step;
}

attend_step attend_random(const attend_shape *shape, int32_t n, uint64_t *state)
{
    const int32_t most = shape->pages_each * shape->page;
    attend_step step = { .n = n };
    int32_t left = shape->n_rows - n; /* beyond a row each */

    for (int32_t i = 0; i < n; i++) {
        const uint32_t kind = attend_roll(state) % 8;
        int32_t q_len = kind == 0   ? 0
                        : kind < 6  ? 1
                        : kind == 6 ? 2 + (int32_t)(attend_roll(state) % 15)
                                    : 2 + (int32_t)(attend_roll(state) % 150);

        if (q_len - 1 > left)
            q_len = 1;
        left -= q_len > 1 ? q_len - 1 : 0;
        step.q_len[i] = q_len;
        step.kv_len[i] =
            q_len
            + (int32_t)(attend_roll(state) % (uint32_t)(most - q_len + 1));
    }
    return *attend_sum(&step);
}

/* --- ops -------------------------------------------------------------------- */

static fli_attention *create(const attend_data *d, fli_context *ctx,
                             uint32_t flags)
{
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;
    fli_attention *op;

    desc.n_qo_heads = d->s.n_qo_heads;
    desc.n_kv_heads = d->s.n_kv_heads;
    desc.head_dim_qk = desc.head_dim_vo = d->s.dim;
    desc.dtype_q = (int32_t)d->s.dtype;
    desc.flags = flags;
    desc.max_requests = d->s.n_requests;
    desc.max_rows = d->s.n_rows;
    assert_ok(fli_attention_create(&op, ctx, &desc));
    return op;
}

static fli_attention_batch batch_of(attend_step *step)
{
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;

    attend_sum(step);
    batch.n_requests = step->n;
    batch.q_indptr = step->q_indptr;
    batch.kv_len = step->kv_len;
    batch.mask = FLI_MASK_CAUSAL;
    return batch;
}

attend_op attend_create(const attend_data *d, fli_context *ctx, uint32_t flags,
                        gpu_stream stream)
{
    attend_op op = { .op = create(d, ctx, flags), .stream = stream };

    op.bytes = fli_attention_workspace(op.op);
    op.workspace = gpu_alloc(op.bytes);
    gpu_fill(op.workspace, POISON, op.bytes);
    return op;
}

void attend_destroy(attend_op *op)
{
    assert_waits("destroying an op");
    fli_attention_destroy(op->op);
    gpu_free(op->workspace);
}

void attend_plan(const attend_op *op, attend_step *step)
{
    const fli_attention_batch batch = batch_of(step);

    assert_ok(fli_attention_plan(op->op, &batch, op->workspace, op->bytes,
                                 op->stream));
}

void attend_run(const attend_op *op, const fli_attention_args *args)
{
    assert_ok(fli_attention_run(op->op, args, op->stream));
}

/* --- what they write -------------------------------------------------------- */

static size_t lse_offset(const attend_data *d)
{
    return (d->q.bytes + 255) / 256 * 256;
}

size_t attend_out_bytes(const attend_data *d)
{
    return lse_offset(d)
           + (size_t)d->s.n_rows * (size_t)d->s.n_qo_heads * sizeof(float);
}

void attend_poison(const attend_data *d, void *out)
{
    gpu_fill(out, POISON, attend_out_bytes(d));
}

fli_attention_args attend_args(const attend_data *d, const fli_context *ctx,
                               void *out)
{
    const attend_shape *const s = &d->s;
    const int on_cpu = fli_context_device(ctx).type == FLI_DEVICE_CPU;
    fli_attention_args a = FLI_ATTENTION_ARGS_INIT;
#define DATA(member) (on_cpu ? d->member.host : d->member.device)

    a.q =
        fli_tensor_3d(DATA(q), ctx, s->dtype, s->n_rows, s->n_qo_heads, s->dim);
    a.out = fli_tensor_3d(out, ctx, s->dtype, s->n_rows, s->n_qo_heads, s->dim);
    a.lse = fli_tensor_2d((char *)out + lse_offset(d), ctx, FLI_F32, s->n_rows,
                          s->n_qo_heads);
    a.kv = fli_paged_kv(
        fli_tensor_4d(DATA(k), ctx, s->dtype, d->n_pages, s->page,
                      s->n_kv_heads, s->dim),
        fli_tensor_4d(DATA(v), ctx, s->dtype, d->n_pages, s->page,
                      s->n_kv_heads, s->dim),
        fli_tensor_1d(DATA(indptr), ctx, FLI_I32, s->n_requests + 1),
        fli_tensor_1d(DATA(ids), ctx, FLI_I32, d->n_pages));
#undef DATA
    a.mask = FLI_MASK_CAUSAL;
    return a;
}

char *attend_fresh(const attend_data *d, fli_context *ctx, uint32_t flags,
                   attend_step *step, gpu_stream stream)
{
    attend_op op = attend_create(d, ctx, flags, stream);
    void *const out = gpu_alloc(attend_out_bytes(d));
    const fli_attention_args args = attend_args(d, ctx, out);

    attend_poison(d, out);
    attend_plan(&op, step);
    attend_run(&op, &args);
    assert_well(ctx, "a fresh run");
    char *const got = received(out, attend_out_bytes(d));

    gpu_free(out);
    attend_destroy(&op);
    return got;
}

/* --- beside the CPU --------------------------------------------------------- */

static char *run_on_cpu(const attend_data *d, attend_step *step)
{
    const fli_attention_batch batch = batch_of(step);
    char *const out = xalloc(attend_out_bytes(d));
    fli_context *ctx;

    assert_ok(fli_context_create(&ctx, fli_cpu(), NULL));
    fli_attention *const op = create(d, ctx, 0);
    const size_t bytes = fli_attention_workspace(op);
    void *const workspace = aligned_alloc(256, (bytes + 255) / 256 * 256);
    const fli_attention_args args = attend_args(d, ctx, out);

    assert_non_null(workspace);
    assert_ok(fli_attention_plan(op, &batch, workspace, bytes, NULL));
    assert_ok(fli_attention_run(op, &args, NULL));
    fli_attention_destroy(op);
    fli_context_destroy(ctx);
    free(workspace);
    return out;
}

/* An element is off by some roundings of the row's greatest, which is below 4. */
static void assert_close(const char *name, double got, double want, double most,
                         int64_t i)
{
    if (fabs(got - want) <= most || (got == want && isinf(want)))
        return;
    fail_msg("%s: element %lld is %g, on the CPU %g", name, (long long)i, got,
             want);
}

void assert_close_to_cpu(const char *name, const attend_data *d,
                         attend_step *step, const char *got)
{
    char *const want = run_on_cpu(d, step);
    const int64_t heads = (int64_t)step->q_indptr[step->n] * d->s.n_qo_heads;
    const double most = d->s.dtype == FLI_F32 ? 1e-4 : 3e-2;

    for (int64_t i = 0; i < heads * d->s.dim; i++)
        assert_close(name, (double)get(got, d->s.dtype, i),
                     (double)get(want, d->s.dtype, i), most, i);
    for (int64_t i = 0; i < heads; i++)
        assert_close(name, (double)get(got + lse_offset(d), FLI_F32, i),
                     (double)get(want + lse_offset(d), FLI_F32, i), 1e-3, i);
    free(want);
}
