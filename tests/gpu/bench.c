/* SPDX-License-Identifier: Apache-2.0 */
/* make gpu-bench: one table of what the kernels reach beside ceilings of the
 * same run.
 *
 * What is timed is a graph of launches over sets of inputs that are far more
 * than the L2 holds, divided by their number; medians.  Ceilings: a kernel that
 * only reads, one that copies (abi/ceiling.h), and cuBLAS.  Arguments are names of
 * sections; FLI_BENCH_TSV names a file for the rows; with FLI_BENCH_ONCE each is
 * called once, untimed, for a profiler. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <flashinfer/flashinfer.h>

#include "abi/ceiling.h"
#include "gpu.h"
#include "jit/jit.h"

enum {
    N_SAMPLES = 9,
    COLD_MB = 400 /* of inputs in a graph: the L2 has 50 */
};

static fli_context *ctx;
static gpu_stream stream;
static double read_rate, copy_rate; /* bytes a second */
static FILE *tsv;
static int once; /* FLI_BENCH_ONCE: one call of each, for a profiler */

static void must(fli_status status)
{
    if (!status)
        return;
    fflush(stdout);
    fprintf(stderr, "bench: %s\n", fli_last_error());
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- data ------------------------------------------------------------------ */

static uint64_t dice = 88172645463325252u;

static uint32_t roll(void)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (uint32_t)(dice >> 32);
}

/* Device memory of n elements of bf16 or f32, about N(0, 1). */
static void *normals(int64_t n, fli_dtype dtype)
{
    const size_t element = fli_dtype_bytes(dtype);
    const int64_t period = n < 1 << 20 ? n : 1 << 20;
    char *host = malloc((size_t)period * element);
    char *device = gpu_alloc((size_t)n * element);

    for (int64_t i = 0; i < period; i++) {
        const float x =
            (float)(roll() % 2048 + roll() % 2048 + roll() % 2048) / 1024.0f
            - 3;
        uint32_t bits;

        memcpy(&bits, &x, sizeof(bits));
        if (dtype == FLI_F32)
            ((float *)(void *)host)[i] = x;
        else
            ((uint16_t *)(void *)host)[i] = (uint16_t)(bits >> 16);
    }
    for (int64_t at = 0; at < n; at += period)
        gpu_send(device + (size_t)at * element, host,
                 (size_t)(n - at < period ? n - at : period) * element);
    free(host);
    return device;
}

static int32_t *ints(const int32_t *host, int64_t n)
{
    int32_t *device = gpu_alloc((size_t)n * sizeof(*host));

    gpu_send(device, host, (size_t)n * sizeof(*host));
    return device;
}

static int sets_for(double bytes)
{
    const int n = (int)ceil(COLD_MB * 1e6 / bytes);

    return n < 2 ? 2 : n > 64 ? 64 : n;
}

/* --- rows of the table ------------------------------------------------------ */

static void row(const char *name, double seconds, double rate, const char *unit,
                double ceiling, const char *of)
{
    char share[32] = "-";

    if (ceiling > 0)
        snprintf(share, sizeof(share), "%.1f %% of %s", 100 * rate / ceiling,
                 of);
    printf("%-58s %10.2f us %9.1f %-7s %s\n", name, seconds * 1e6, rate * 1e-9,
           unit, share);
    fflush(stdout);
    if (tsv)
        fprintf(tsv, "%s\t%.3f\t%.4g\t%s\t%.4g\t%s\n", name, seconds * 1e6,
                rate * 1e-9, unit, ceiling > 0 ? 100 * rate / ceiling : 0, of);
}

static void bytes_row(const char *name, double seconds, double bytes,
                      double ceiling, const char *of)
{
    row(name, seconds, bytes / seconds, "GB/s", ceiling, of);
}

static void heading(const char *text)
{
    printf("\n%s\n", text);
}

/* Seconds of one of n calls of what, of set i, in one graph. */
static double time_sets(fli_status (*what)(void *state, int i), void *state,
                        int n)
{
    must(what(state, 0)); /* compiles */
    gpu_wait();
    if (once)
        return 1;
    gpu_capture_begin(stream);
    for (int i = 0; i < n; i++)
        must(what(state, i));
    const gpu_graph graph = gpu_capture_end(stream);
    const double seconds = gpu_graph_seconds(graph, stream, N_SAMPLES) / n;

    gpu_graph_destroy(graph);
    if (gpu_wait()) {
        fprintf(stderr, "bench: the device failed\n");
        exit(1);
    }
    must(fli_context_check(ctx));
    return seconds;
}

/* --- ceilings ---------------------------------------------------------------- */

static fli_status ceiling_call(void *state, int i)
{
    const fli__call call = { ctx, "bench run", stream, 0 };
    fli_ceiling_params p = *(fli_ceiling_params *)state;
    const fli__launch launch = {
        /* reads by as many blocks as there is room for, copies by one a span */
        .grid = { p.n > 0 ? (uint32_t)ctx->cuda->caps.n_sms * 4
                          : (uint32_t)(-p.n / (512 * 8)),
                  1, 1 },
        .block = { 512, 1, 1 },
    };
    const fli__kernel *kernel;
    fli__instance instance;
    fli_status status;

    (void)i;
    fli__instance_init(&instance, "cuda/ceiling.cu", "fli_ceiling",
                       p.n < 0 ? "ceiling_copy" : "ceiling_read");
    fli__instance_define(&instance, "FLI_COPY", p.n < 0);
    p.n = p.n < 0 ? -p.n : p.n;
    status = fli__jit_kernel(&call, &instance, &kernel);
    return status ? status : fli__cuda_launch(&call, kernel, &launch, &p);
}

static void ceilings(void)
{
    const size_t bytes = (size_t)1 << 30;
    fli_ceiling_params p = { gpu_alloc(bytes), gpu_alloc(bytes),
                             (int64_t)(bytes / 16) };

    heading("ceilings");
    gpu_fill((void *)p.in, 0, bytes);
    const double read = time_sets(ceiling_call, &p, 2);

    read_rate = (double)bytes / read;
    bytes_row("read, 1 GiB", read, (double)bytes, 0, "");
    p.n = -p.n; /* copies */
    const double copy = time_sets(ceiling_call, &p, 2);

    copy_rate = 2 * (double)bytes / copy;
    bytes_row("copy, 1 GiB read and written", copy, 2 * (double)bytes, 0, "");
    gpu_free((void *)p.in);
    gpu_free(p.out);
}

/* --- attention -------------------------------------------------------------- */

enum { MAX_SETS = 64, MAX_REQUESTS = 256 };

typedef struct {
    const char *name;
    int n, q_heads, kv_heads, dim, page;
    int32_t q_len, kv_len[MAX_REQUESTS];
    int ragged, causal;
} attention_case;

typedef struct {
    fli_attention *op;
    fli_attention_args args[MAX_SETS];
} attention_state;

static fli_status attention_call(void *state, int i)
{
    attention_state *s = state;

    return fli_attention_run(s->op, &s->args[i], stream);
}

static void shuffle(int32_t *ids, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        ids[i] = i;
    for (int32_t i = n - 1; i > 0; i--) {
        const int32_t j = (int32_t)(roll() % (uint32_t)(i + 1)), t = ids[i];

        ids[i] = ids[j];
        ids[j] = t;
    }
}

static double attention_seconds(const attention_case *c, double *bytes)
{
    attention_state s = { 0 };
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;
    int32_t q_indptr[MAX_REQUESTS + 1] = { 0 },
                                    indptr[MAX_REQUESTS + 1] = { 0 };
    int64_t tokens = 0;

    for (int i = 0; i < c->n; i++) {
        q_indptr[i + 1] = q_indptr[i] + c->q_len;
        tokens += c->kv_len[i];
        indptr[i + 1] = indptr[i]
                        + (c->ragged ? c->kv_len[i]
                                     : (c->kv_len[i] + c->page - 1) / c->page);
    }
    const int64_t rows = q_indptr[c->n], width = c->kv_heads * c->dim;
    const int32_t used = indptr[c->n];
    const int64_t pool = c->ragged ? tokens : (int64_t)used * c->page;

    *bytes = (double)(tokens * width * 2 * 2);
    const int sets = sets_for(*bytes);

    desc.n_qo_heads = c->q_heads;
    desc.n_kv_heads = c->kv_heads;
    desc.head_dim_qk = desc.head_dim_vo = c->dim;
    desc.dtype_q = FLI_BF16;
    desc.max_requests = c->n;
    desc.max_rows = (int32_t)rows;
    must(fli_attention_create(&s.op, ctx, &desc));
    const size_t workspace_bytes = fli_attention_workspace(s.op);
    void *workspace = gpu_alloc(workspace_bytes);

    batch.n_requests = c->n;
    batch.q_indptr = q_indptr;
    batch.kv_len = c->kv_len;
    batch.mask = c->causal;
    must(fli_attention_plan(s.op, &batch, workspace, workspace_bytes, stream));
    void *q = normals(rows * c->q_heads * c->dim, FLI_BF16);
    void *out = gpu_alloc((size_t)(rows * c->q_heads * c->dim) * 2);
    void *lse = gpu_alloc((size_t)(rows * c->q_heads) * 4);
    int32_t *device_indptr = ints(indptr, c->n + 1);
    int32_t *ids = malloc((size_t)used * sizeof(*ids));
    void *owned[MAX_SETS][3];

    for (int i = 0; i < sets; i++) {
        void *k = normals(pool * width, FLI_BF16);
        void *v = normals(pool * width, FLI_BF16);
        fli_attention_args *a = &s.args[i];

        shuffle(ids, c->ragged ? 0 : used);
        int32_t *table = ints(ids, c->ragged ? 1 : used);

        *a = (fli_attention_args)FLI_ATTENTION_ARGS_INIT;
        a->q = fli_tensor_3d(q, ctx, FLI_BF16, rows, c->q_heads, c->dim);
        a->out = fli_tensor_3d(out, ctx, FLI_BF16, rows, c->q_heads, c->dim);
        a->lse = fli_tensor_2d(lse, ctx, FLI_F32, rows, c->q_heads);
        if (c->ragged)
            a->kv = fli_ragged_kv(
                fli_tensor_3d(k, ctx, FLI_BF16, pool, c->kv_heads, c->dim),
                fli_tensor_3d(v, ctx, FLI_BF16, pool, c->kv_heads, c->dim),
                fli_tensor_1d(device_indptr, ctx, FLI_I32, c->n + 1));
        else
            a->kv = fli_paged_kv(
                fli_tensor_4d(k, ctx, FLI_BF16, used, c->page, c->kv_heads,
                              c->dim),
                fli_tensor_4d(v, ctx, FLI_BF16, used, c->page, c->kv_heads,
                              c->dim),
                fli_tensor_1d(device_indptr, ctx, FLI_I32, c->n + 1),
                fli_tensor_1d(table, ctx, FLI_I32, used));
        a->mask = c->causal;
        owned[i][0] = k;
        owned[i][1] = v;
        owned[i][2] = table;
    }
    const double seconds = time_sets(attention_call, &s, sets);

    for (int i = 0; i < sets; i++)
        for (int k = 0; k < 3; k++)
            gpu_free(owned[i][k]);
    gpu_free(q);
    gpu_free(out);
    gpu_free(lse);
    gpu_free(device_indptr);
    gpu_free(workspace);
    free(ids);
    fli_attention_destroy(s.op);
    return seconds;
}

static void decode_row(const char *name, int n, int32_t kv_len, int q_heads,
                       int kv_heads, int dim, int page, int zipf)
{
    attention_case c = { .name = name,
                         .n = n,
                         .q_heads = q_heads,
                         .kv_heads = kv_heads,
                         .dim = dim,
                         .page = page,
                         .q_len = 1,
                         .causal = FLI_MASK_CAUSAL };
    double sum = 0, bytes;
    char text[96];

    for (int i = 0; i < n; i++)
        sum += 1.0 / (i + 1);
    for (int i = 0; i < n; i++)
        c.kv_len[i] = zipf ? 1 + (int32_t)(kv_len * n / sum / (i + 1)) : kv_len;
    for (int i = n - 1; i > 0 && zipf; i--) {
        const int j = (int)(roll() % (uint32_t)(i + 1));
        const int32_t t = c.kv_len[i];

        c.kv_len[i] = c.kv_len[j];
        c.kv_len[j] = t;
    }
    const double seconds = attention_seconds(&c, &bytes);

    snprintf(text, sizeof(text), "decode %s%d x %d, %d/%d heads, d %d, page %d",
             zipf ? "zipf " : "", n, kv_len, q_heads, kv_heads, dim, page);
    bytes_row(text, seconds, bytes, read_rate, "read");
}

static void decode(void)
{
    static const int dims[] = { 64, 80, 96, 112, 256 };
    static const int groups[] = { 1, 3, 5, 7, 16 };
    static const int pages[] = { 1, 3, 48 };

    heading("decode, bf16, random pages");
    decode_row("", 64, 4096, 32, 8, 128, 16, 0);
    decode_row("", 128, 512, 32, 8, 128, 16, 1);
    decode_row("", 128, 512, 32, 8, 128, 16, 0);
    decode_row("", 1, 1024, 32, 8, 128, 16, 0);
    decode_row("", 1, 4096, 32, 8, 128, 16, 0);
    decode_row("", 16, 1024, 32, 8, 128, 16, 0);
    for (size_t i = 0; i < sizeof(dims) / sizeof(*dims); i++)
        decode_row("", 64, 4096, 32, 8, dims[i], 16, 0);
    for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++)
        decode_row("", 64, 4096, 8 * groups[i], 8, 128, 16, 0);
    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++)
        decode_row("", 64, 4096, 32, 8, 128, pages[i], 0);
}

static void prefill_row(int n, int32_t length, int page, int causal, int dim)
{
    attention_case c = { .n = n,
                         .q_heads = 16,
                         .kv_heads = 16,
                         .dim = dim,
                         .page = page,
                         .ragged = page == 0,
                         .q_len = length,
                         .causal = causal };
    double bytes, flops = 0;
    char text[96];

    for (int i = 0; i < n; i++) {
        c.kv_len[i] = length;
        flops += 4.0 * 16 * dim * length * length * (causal ? 0.5 : 1);
    }
    const double seconds = attention_seconds(&c, &bytes);

    snprintf(text, sizeof(text), "prefill %s %d x %d, 16 heads, d %d, %s",
             causal ? "causal" : "full", n, length, dim,
             page ? "page 16" : "ragged");
    row(text, seconds, flops / seconds, "GFLOP/s", 0, "");
}

static void prefill(void)
{
    heading("prefill, bf16");
    prefill_row(1, 16384, 0, FLI_MASK_CAUSAL, 128);
    prefill_row(1, 16384, 16, FLI_MASK_CAUSAL, 128);
    prefill_row(4, 4096, 0, FLI_MASK_CAUSAL, 128);
    prefill_row(16, 1024, 0, FLI_MASK_CAUSAL, 128);
    prefill_row(4, 4096, 0, FLI_MASK_NONE, 128);
    prefill_row(4, 4096, 0, FLI_MASK_CAUSAL, 64);
    prefill_row(4, 4096, 0, FLI_MASK_CAUSAL, 256);
}

/* --- small ops -------------------------------------------------------------- */

enum { ROWS = 16384, HIDDEN = 4096 };

static fli_status rmsnorm_call(void *state, int i)
{
    (void)i;
    return fli_rmsnorm(ctx, state, stream);
}

static fli_status fused_call(void *state, int i)
{
    (void)i;
    return fli_fused_add_rmsnorm(ctx, state, stream);
}

static fli_status silu_call(void *state, int i)
{
    (void)i;
    return fli_silu_and_mul(ctx, state, stream);
}

static fli_status rope_call(void *state, int i)
{
    (void)i;
    return fli_rope(ctx, state, stream);
}

static fli_status append_call(void *state, int i)
{
    (void)i;
    return fli_append(ctx, state, stream);
}

static void norms(void *x, void *y, void *weight, int64_t n)
{
    fli_rmsnorm_args norm = FLI_RMSNORM_ARGS_INIT;
    fli_fused_add_rmsnorm_args fused = FLI_FUSED_ADD_RMSNORM_ARGS_INIT;
    fli_act_and_mul_args act = FLI_ACT_AND_MUL_ARGS_INIT;
    const double bytes = (double)n * HIDDEN * 2;
    char text[96];

    norm.x = fused.x = fli_tensor_2d(x, ctx, FLI_BF16, n, HIDDEN);
    norm.out = fused.residual = fli_tensor_2d(y, ctx, FLI_BF16, n, HIDDEN);
    norm.weight = fused.weight = fli_tensor_1d(weight, ctx, FLI_BF16, HIDDEN);
    act.x = fli_tensor_2d(x, ctx, FLI_BF16, n / 2, 2 * HIDDEN);
    act.out = fli_tensor_2d(y, ctx, FLI_BF16, n / 2, HIDDEN);
    snprintf(text, sizeof(text), "rmsnorm %d x %d", (int)n, HIDDEN);
    bytes_row(text, time_sets(rmsnorm_call, &norm, 4), 2 * bytes, copy_rate,
              "copy");
    snprintf(text, sizeof(text), "fused_add_rmsnorm %d x %d", (int)n, HIDDEN);
    bytes_row(text, time_sets(fused_call, &fused, 4), 4 * bytes, copy_rate,
              "copy");
    if (n < 2)
        return;
    snprintf(text, sizeof(text), "silu_and_mul %d x %d", (int)n / 2, HIDDEN);
    bytes_row(text, time_sets(silu_call, &act, 4), 1.5 * bytes, copy_rate,
              "copy");
}

static void small_ops(void)
{
    enum { PAGE = 16, PAGES = ROWS / PAGE };
    void *x = normals((int64_t)ROWS * HIDDEN, FLI_BF16);
    void *y = normals((int64_t)ROWS * HIDDEN, FLI_BF16);
    void *weight = normals(HIDDEN, FLI_BF16);
    void *kv = normals((int64_t)ROWS * 2048, FLI_BF16);
    static int32_t positions[ROWS], zeros[ROWS], ids[PAGES];
    const int32_t indptr[2] = { 0, PAGES };
    fli_rope_args rope = FLI_ROPE_ARGS_INIT;
    fli_append_args append = FLI_APPEND_ARGS_INIT;

    for (int i = 0; i < ROWS; i++)
        positions[i] = i;
    shuffle(ids, PAGES);
    heading("small ops, bf16");
    norms(x, y, weight, ROWS);
    norms(x, y, weight, 1);
    rope.q = rope.q_out = fli_tensor_3d(x, ctx, FLI_BF16, ROWS, 32, 128);
    rope.k = rope.k_out = fli_tensor_3d(kv, ctx, FLI_BF16, ROWS, 8, 128);
    rope.positions = fli_tensor_1d(ints(positions, ROWS), ctx, FLI_I32, ROWS);
    bytes_row("rope 16384 x (32 + 8) x 128, in place",
              time_sets(rope_call, &rope, 4), 2.0 * ROWS * 40 * 128 * 2,
              copy_rate, "copy");
    append.k = fli_tensor_3d(kv, ctx, FLI_BF16, ROWS, 8, 128);
    append.v = append.k;
    append.v.data = (char *)kv + (size_t)ROWS * 1024 * 2;
    append.batch_indices = fli_tensor_1d(ints(zeros, ROWS), ctx, FLI_I32, ROWS);
    append.positions = rope.positions;
    append.cache =
        fli_paged_kv(fli_tensor_4d(x, ctx, FLI_BF16, PAGES, PAGE, 8, 128),
                     fli_tensor_4d(y, ctx, FLI_BF16, PAGES, PAGE, 8, 128),
                     fli_tensor_1d(ints(indptr, 2), ctx, FLI_I32, 2),
                     fli_tensor_1d(ints(ids, PAGES), ctx, FLI_I32, PAGES));
    bytes_row("append 16384 x 8 x 128, page 16",
              time_sets(append_call, &append, 4), 4.0 * ROWS * 1024 * 2,
              copy_rate, "copy");
    gpu_free(x);
    gpu_free(y);
    gpu_free(kv);
}

/* --- gemm -------------------------------------------------------------------- */

typedef struct {
    fli_context *ctx;
    fli_gemm_args args[MAX_SETS];
} gemm_state;

static fli_status gemm_call(void *state, int i)
{
    gemm_state *s = state;

    return fli_gemm(s->ctx, &s->args[i], stream);
}

static void gemm_row(fli_context *forced, const char *impl, int64_t m,
                     int64_t n, int64_t k, double cublas, double *seconds)
{
    static gemm_state s;
    const double bytes = (double)(n * k * 2), flops = 2.0 * (double)(m * n * k);
    const int sets = sets_for(bytes);
    void *a = normals(m * k, FLI_BF16), *out = gpu_alloc((size_t)(m * n) * 2);
    char text[96];

    s.ctx = forced;
    for (int i = 0; i < sets; i++) {
        s.args[i] = (fli_gemm_args)FLI_GEMM_ARGS_INIT;
        s.args[i].a = fli_tensor_2d(a, ctx, FLI_BF16, m, k);
        s.args[i].b =
            fli_tensor_2d(normals(n * k, FLI_BF16), ctx, FLI_BF16, n, k);
        s.args[i].out = fli_tensor_2d(out, ctx, FLI_BF16, m, n);
    }
    *seconds = 0;
    if (fli_gemm(forced, &s.args[0], stream) == FLI_OK) {
        *seconds = time_sets(gemm_call, &s, sets);
        snprintf(text, sizeof(text), "gemm %d x %d x %d, %s", (int)m, (int)n,
                 (int)k, impl);
        if (m <= 64)
            bytes_row(text, *seconds, bytes, read_rate, "read");
        else
            row(text, *seconds, flops / *seconds, "GFLOP/s",
                cublas > 0 ? flops / cublas : 0, "cuBLAS");
    } else {
        printf("gemm %d x %d x %d, %s: %s\n", (int)m, (int)n, (int)k, impl,
               fli_last_error());
    }
    for (int i = 0; i < sets; i++)
        gpu_free(s.args[i].b.data);
    gpu_free(a);
    gpu_free(out);
}

static void gemm(void)
{
    static const int64_t sizes[][3] = {
        { 1, 4096, 4096 },    { 16, 4096, 4096 },   { 64, 4096, 4096 },
        { 1, 28672, 4096 },   { 16, 28672, 4096 },  { 512, 4096, 4096 },
        { 4096, 4096, 4096 }, { 8192, 8192, 8192 },
    };
    fli_context_options o = FLI_CONTEXT_OPTIONS_INIT;
    fli_context *cublas = NULL, *portable;

    heading("gemm, bf16");
    o.impl = "gemm:cublaslt";
    must(fli_context_create(&cublas, fli_cuda(0), &o));
    o.impl = "gemm:portable";
    must(fli_context_create(&portable, fli_cuda(0), &o));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        const int64_t *s = sizes[i];
        double theirs, ours;

        gemm_row(cublas, "cublaslt", s[0], s[1], s[2], 0, &theirs);
        gemm_row(portable, "portable", s[0], s[1], s[2], theirs, &ours);
    }
    fli_context_destroy(cublas);
    fli_context_destroy(portable);
}

/* --- sampling ---------------------------------------------------------------- */

enum { VOCAB = 128256 };

typedef struct {
    int softmax;
    fli_sample_args sample[MAX_SETS];
    fli_softmax_args probs[MAX_SETS];
} sample_state;

static fli_status sample_call(void *state, int i)
{
    sample_state *s = state;

    return s->softmax ? fli_softmax(ctx, &s->probs[i], stream)
                      : fli_sample_from_logits(ctx, &s->sample[i], stream);
}

static void *repeated(const void *value, size_t bytes, int64_t n)
{
    char *host = malloc(bytes * (size_t)n);
    void *device = gpu_alloc(bytes * (size_t)n);

    for (int64_t i = 0; i < n; i++)
        memcpy(host + bytes * (size_t)i, value, bytes);
    gpu_send(device, host, bytes * (size_t)n);
    free(host);
    return device;
}

static void sample_rows(const char *name, int n, int32_t k, float p,
                        int softmax)
{
    static sample_state s;
    const double bytes = (double)n * VOCAB * 4;
    const float temperature = 1;
    const int64_t seed = 42;
    const int sets = sets_for(bytes);
    void *tokens = gpu_alloc((size_t)n * 4), *out = NULL;
    void *ks = repeated(&k, sizeof(k), n), *ps = repeated(&p, sizeof(p), n);
    void *ts = repeated(&temperature, sizeof(temperature), n);
    void *seeds = repeated(&seed, sizeof(seed), n);
    char text[96];

    s.softmax = softmax;
    if (softmax)
        out = gpu_alloc((size_t)bytes);
    for (int i = 0; i < sets; i++) {
        fli_sample_args *a = &s.sample[i];

        *a = (fli_sample_args)FLI_SAMPLE_ARGS_INIT;
        a->x = fli_tensor_2d(normals((int64_t)n * VOCAB, FLI_F32), ctx, FLI_F32,
                             n, VOCAB);
        a->tokens = fli_tensor_1d(tokens, ctx, FLI_I32, n);
        if (k)
            a->top_ks = fli_tensor_1d(ks, ctx, FLI_I32, n);
        if (p < 1)
            a->top_ps = fli_tensor_1d(ps, ctx, FLI_F32, n);
        a->temperatures = fli_tensor_1d(ts, ctx, FLI_F32, n);
        a->seeds = fli_tensor_1d(seeds, ctx, FLI_I64, n);
        a->offsets = fli_tensor_1d(seeds, ctx, FLI_I64, n);
        s.probs[i] = (fli_softmax_args)FLI_SOFTMAX_ARGS_INIT;
        s.probs[i].logits = a->x;
        s.probs[i].probs = fli_tensor_2d(out, ctx, FLI_F32, n, VOCAB);
    }
    snprintf(text, sizeof(text), "%s, %d x %d", name, n, VOCAB);
    bytes_row(text, time_sets(sample_call, &s, sets), bytes * (1 + softmax),
              softmax ? copy_rate : read_rate, softmax ? "copy" : "read");
    for (int i = 0; i < sets; i++)
        gpu_free(s.sample[i].x.data);
    gpu_free(tokens);
    gpu_free(out);
    gpu_free(ks);
    gpu_free(ps);
    gpu_free(ts);
    gpu_free(seeds);
}

static void sampling(void)
{
    static const int batches[] = { 1, 64, 512 };

    heading("sampling from f32 logits, parameters by row");
    for (int i = 0; i < 3; i++) {
        sample_rows("top-k 50, top-p 0.9", batches[i], 50, 0.9f, 0);
        sample_rows("top-p 0.9", batches[i], 0, 0.9f, 0);
        sample_rows("no filter", batches[i], 0, 1, 0);
        sample_rows("softmax", batches[i], 0, 1, 1);
    }
}

/* --- host --------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* A decode batch of 256 requests, 32 / 8 heads, d 128. */
typedef struct {
    fli_attention *op;
    fli_attention_batch batch;
    fli_attention_args args;
    void *workspace;
    size_t bytes;
} host_case;

enum { N_HOST = 256, HOST_PAGES = 32 * N_HOST };

static int32_t host_q_indptr[N_HOST + 1], host_kv_len[N_HOST];

static host_case make_host_case(uint32_t flags)
{
    static int32_t indptr[N_HOST + 1], ids[HOST_PAGES];
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;
    host_case c = { .batch = FLI_ATTENTION_BATCH_INIT,
                    .args = FLI_ATTENTION_ARGS_INIT };
    void *kv = normals((int64_t)HOST_PAGES * 16 * 1024, FLI_BF16);

    for (int i = 0; i < N_HOST; i++) {
        host_kv_len[i] = 16 + (int32_t)(roll() % 496);
        host_q_indptr[i + 1] = i + 1;
        indptr[i + 1] = 32 * (i + 1);
    }
    shuffle(ids, HOST_PAGES);
    desc.n_qo_heads = 32;
    desc.n_kv_heads = 8;
    desc.head_dim_qk = desc.head_dim_vo = 128;
    desc.dtype_q = FLI_BF16;
    desc.flags = flags;
    desc.max_requests = desc.max_rows = N_HOST;
    must(fli_attention_create(&c.op, ctx, &desc));
    c.bytes = fli_attention_workspace(c.op);
    c.workspace = gpu_alloc(c.bytes);
    c.batch.n_requests = N_HOST;
    c.batch.q_indptr = host_q_indptr;
    c.batch.kv_len = host_kv_len;
    c.batch.mask = FLI_MASK_CAUSAL;
    c.args.q = fli_tensor_3d(normals(N_HOST * 4096, FLI_BF16), ctx, FLI_BF16,
                             N_HOST, 32, 128);
    c.args.out = fli_tensor_3d(gpu_alloc(N_HOST * 4096 * 2), ctx, FLI_BF16,
                               N_HOST, 32, 128);
    c.args.kv = fli_paged_kv(
        fli_tensor_4d(kv, ctx, FLI_BF16, HOST_PAGES, 16, 8, 128),
        fli_tensor_4d(kv, ctx, FLI_BF16, HOST_PAGES, 16, 8, 128),
        fli_tensor_1d(ints(indptr, N_HOST + 1), ctx, FLI_I32, N_HOST + 1),
        fli_tensor_1d(ints(ids, HOST_PAGES), ctx, FLI_I32, HOST_PAGES));
    c.args.mask = FLI_MASK_CAUSAL;
    return c;
}

static void host_rows(const char *kind, const host_case *c)
{
    enum { TURNS = 200, RUNS = 16 };
    static double plan[TURNS], run[TURNS];
    char text[96];

    for (int i = 0; i < TURNS; i++) {
        const double begin = now();

        must(fli_attention_plan(c->op, &c->batch, c->workspace, c->bytes,
                                stream));
        const double planned = now();

        for (int k = 0; k < RUNS; k++)
            must(fli_attention_run(c->op, &c->args, stream));
        run[i] = (now() - planned) / RUNS;
        plan[i] = planned - begin;
        gpu_wait();
    }
    qsort(plan, TURNS, sizeof(*plan), ascending);
    qsort(run, TURNS, sizeof(*run), ascending);
    snprintf(text, sizeof(text), "plan of 256 requests, copy enqueued%s", kind);
    row(text, plan[TURNS / 2], 0, "", 0, "");
    snprintf(text, sizeof(text), "run, launch included%s", kind);
    row(text, run[TURNS / 2], 0, "", 0, "");
}

static void device_planner_row(const host_case *c)
{
    fli_attention_device_batch batch = FLI_ATTENTION_DEVICE_BATCH_INIT;

    batch.n_requests = N_HOST;
    batch.mask = FLI_MASK_CAUSAL;
    batch.q_indptr = fli_tensor_1d(ints(host_q_indptr, N_HOST + 1), ctx,
                                   FLI_I32, N_HOST + 1);
    batch.kv_len =
        fli_tensor_1d(ints(host_kv_len, N_HOST), ctx, FLI_I32, N_HOST);
    must(fli_attention_plan_device(c->op, &batch, c->workspace, c->bytes,
                                   stream));
    gpu_wait();
    gpu_capture_begin(stream);
    for (int i = 0; i < 10; i++)
        must(fli_attention_plan_device(c->op, &batch, c->workspace, c->bytes,
                                       stream));
    const gpu_graph graph = gpu_capture_end(stream);

    row("device planner, 256 requests",
        gpu_graph_seconds(graph, stream, N_SAMPLES) / 10, 0, "", 0, "");
    gpu_graph_destroy(graph);
}

static void host(void)
{
    const host_case usual = make_host_case(0);
    const host_case graph = make_host_case(FLI_ATTENTION_GRAPH);

    heading("host, and the device planner");
    host_rows("", &usual);
    host_rows(" (GRAPH)", &graph);
    device_planner_row(&graph);
    fli_attention_destroy(usual.op);
    fli_attention_destroy(graph.op);
}

/* --- cold start ----------------------------------------------------------------- */

/* In a process of its own: create an op, from NVRTC or from the cache. */
static int cold(const char *what)
{
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;
    fli_rmsnorm_args norm = FLI_RMSNORM_ARGS_INIT;
    fli_attention *op;

    gpu_open();
    must(fli_context_create(&ctx, fli_cuda(0), NULL));
    const double begin = now();

    norm.x = norm.out = fli_tensor_2d(NULL, ctx, FLI_BF16, 1, HIDDEN);
    norm.weight = fli_tensor_1d(NULL, ctx, FLI_BF16, HIDDEN);
    desc.n_qo_heads = 32;
    desc.n_kv_heads = 8;
    desc.head_dim_qk = desc.head_dim_vo = 128;
    desc.dtype_q = FLI_BF16;
    desc.max_requests = desc.max_rows = 64;
    if (!strcmp(what, "rmsnorm"))
        must(fli_rmsnorm_prepare(ctx, &norm));
    else
        must(fli_attention_create(&op, ctx, &desc));
    printf("%.6f\n", now() - begin);
    return 0;
}

static double child(const char *self, const char *what, const char *cache)
{
    char command[1024], line[64] = "0";

    snprintf(command, sizeof(command), "FLI_CACHE='%s' '%s' --cold %s", cache,
             self, what);
    FILE *out = popen(command, "r");

    if (!out || !fgets(line, sizeof(line), out) || pclose(out))
        fprintf(stderr, "bench: %s failed\n", command);
    return atof(line);
}

static void cold_start(const char *self)
{
    static const char *const names[] = { "rmsnorm", "attention" };
    char cache[] = "/tmp/fli-cold-XXXXXX", text[96], command[128];

    heading("cold start: compile, load; then the same from the cache");
    for (int i = 0; i < 2; i++) {
        strcpy(cache + strlen(cache) - 6, "XXXXXX");
        if (!mkdtemp(cache))
            return;
        snprintf(text, sizeof(text), "%s, empty cache", names[i]);
        row(text, child(self, names[i], cache), 0, "", 0, "");
        snprintf(text, sizeof(text), "%s, warm cache", names[i]);
        row(text, child(self, names[i], cache), 0, "", 0, "");
        snprintf(command, sizeof(command), "rm -rf '%s'", cache);
        if (system(command))
            return;
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } sections[] = {
        { "decode", decode },   { "prefill", prefill },
        { "small", small_ops }, { "sampling", sampling },
        { "gemm", gemm },       { "host", host },
    };

    if (argc == 3 && !strcmp(argv[1], "--cold"))
        return cold(argv[2]);
    gpu_open();
    stream = gpu_stream_create();
    must(fli_context_create(&ctx, fli_cuda(0), NULL));
    printf("%s\n", fli_context_describe(ctx));
    once = getenv("FLI_BENCH_ONCE") != NULL;
    tsv = getenv("FLI_BENCH_TSV") ? fopen(getenv("FLI_BENCH_TSV"), "w") : NULL;
    ceilings();
    for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++) {
        int wanted = argc < 2;

        for (int a = 1; a < argc; a++)
            wanted |= !strcmp(argv[a], sections[i].name);
        if (wanted)
            sections[i].run();
    }
    if (argc < 2)
        cold_start(argv[0]);
    fli_context_destroy(ctx);
    return tsv ? fclose(tsv) : 0;
}
