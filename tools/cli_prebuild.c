/* SPDX-License-Identifier: Apache-2.0 */
/* flashinfer prebuild: what usual models ask for, prepared on contexts that have an
 * arch and no device, into a cache folder of its own, and that into a pack. */
#define _GNU_SOURCE /* sched_getaffinity, mkdtemp, setenv */

#include "cli.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ARCHS   8
#define MAX_THREADS 16

/* Capacity that is declared; no kernel depends on it. */
#define N_REQUESTS 64
#define N_ROWS     2048
#define N_PAGES    1024
#define PAGE_SIZE  16

/* --- models ----------------------------------------------------------------- */

typedef struct {
    int32_t n_qo_heads, n_kv_heads, head_dim;
    int64_t hidden, intermediate, vocab;
} model;

static const model models[] = {
    { 4, 2, 64, 256, 704, 256 },         /* models/tiny_llama */
    { 15, 5, 64, 960, 2560, 49152 },     /* SmolLM2 360M */
    { 32, 8, 64, 2048, 8192, 128256 },   /* Llama 3.2 1B */
    { 24, 8, 128, 3072, 8192, 128256 },  /* Llama 3.2 3B */
    { 32, 8, 128, 4096, 14336, 128256 }, /* Llama 3.1 8B */
    { 32, 32, 128, 4096, 11008, 32000 }, /* Llama 2 7B */
    { 64, 8, 128, 8192, 28672, 128256 }, /* Llama 3.1 70B */
};

static const fli_dtype dtypes[] = { FLI_BF16, FLI_F16, FLI_F32 };

/* Rows that a step may have: gemm has kernels for few and for many. */
static const int64_t rows[] = { 1, 8, 16, 32, 64, 128, 256, 512, 2048, 8192 };

#define N(array) ((int)(sizeof(array) / sizeof(*(array))))

/* What one call prepares for. */
typedef struct {
    fli_context *ctx;
    const model *m;
    fli_dtype dtype;
} job;

static fli_tensor matrix(const job *j, int64_t n_rows, int64_t n)
{
    return fli_tensor_2d(NULL, j->ctx, j->dtype, n_rows, n);
}

static fli_tensor heads(const job *j, int64_t n)
{
    return fli_tensor_3d(NULL, j->ctx, j->dtype, N_ROWS, n, j->m->head_dim);
}

static fli_tensor ints(const job *j, int64_t n)
{
    return fli_tensor_1d(NULL, j->ctx, FLI_I32, n);
}

static fli_tensor floats(const job *j, int64_t n)
{
    return fli_tensor_1d(NULL, j->ctx, FLI_F32, n);
}

/* --- what is prepared ------------------------------------------------------- */

static fli_status attention(const job *j)
{
    static const uint32_t flags[] = { 0, FLI_ATTENTION_BATCH_INVARIANT };
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;
    fli_status status = FLI_OK;

    desc.n_qo_heads = j->m->n_qo_heads;
    desc.n_kv_heads = j->m->n_kv_heads;
    desc.head_dim_qk = desc.head_dim_vo = j->m->head_dim;
    desc.dtype_q = (int32_t)j->dtype;
    desc.max_requests = N_REQUESTS;
    desc.max_rows = N_ROWS;
    for (int i = 0; i < N(flags) && !status; i++) {
        fli_attention *op = NULL;

        desc.flags = flags[i];
        status = fli_attention_create(&op, j->ctx, &desc);
        fli_attention_destroy(op);
    }
    return status;
}

static fli_status merge(const job *j)
{
    fli_merge_states_args args = FLI_MERGE_STATES_ARGS_INIT;
    const int64_t n = j->m->n_qo_heads;

    args.v =
        fli_tensor_4d(NULL, j->ctx, j->dtype, N_ROWS, 2, n, j->m->head_dim);
    args.lse = fli_tensor_3d(NULL, j->ctx, FLI_F32, N_ROWS, 2, n);
    args.v_out = heads(j, n);
    args.lse_out = fli_tensor_2d(NULL, j->ctx, FLI_F32, N_ROWS, n);
    return fli_merge_states_prepare(j->ctx, &args);
}

static fli_tensor pages(const job *j)
{
    return fli_tensor_4d(NULL, j->ctx, j->dtype, N_PAGES, PAGE_SIZE,
                         j->m->n_kv_heads, j->m->head_dim);
}

static fli_status append(const job *j)
{
    fli_append_args args = FLI_APPEND_ARGS_INIT;

    args.k = args.v = heads(j, j->m->n_kv_heads);
    args.batch_indices = args.positions = ints(j, N_ROWS);
    args.cache = fli_paged_kv(pages(j), pages(j), ints(j, N_REQUESTS + 1),
                              ints(j, N_PAGES));
    return fli_append_prepare(j->ctx, &args);
}

static fli_status page_copy(const job *j)
{
    fli_page_copy_args args = FLI_PAGE_COPY_ARGS_INIT;

    args.k = args.v = pages(j);
    args.from = args.to = ints(j, N_REQUESTS);
    return fli_page_copy_prepare(j->ctx, &args);
}

static fli_status positions(const job *j)
{
    fli_batch_indices_positions_args args =
        FLI_BATCH_INDICES_POSITIONS_ARGS_INIT;

    args.append_indptr = ints(j, N_REQUESTS + 1);
    args.seq_lens = ints(j, N_REQUESTS);
    args.batch_indices = args.positions = ints(j, N_ROWS);
    return fli_get_batch_indices_positions_prepare(j->ctx, &args);
}

static fli_status rope(const job *j)
{
    fli_rope_args args = FLI_ROPE_ARGS_INIT;

    args.q = args.q_out = heads(j, j->m->n_qo_heads);
    args.k = args.k_out = heads(j, j->m->n_kv_heads);
    args.positions = ints(j, N_ROWS);
    const fli_status status = fli_rope_prepare(j->ctx, &args);

    args.interleaved = 1;
    return status ? status : fli_rope_prepare(j->ctx, &args);
}

static fli_status norms(const job *j)
{
    fli_fused_add_rmsnorm_args fused = FLI_FUSED_ADD_RMSNORM_ARGS_INIT;
    fli_rmsnorm_args args = FLI_RMSNORM_ARGS_INIT;

    args.x = args.out = matrix(j, N_ROWS, j->m->hidden);
    fused.x = fused.residual = args.x;
    args.weight = fused.weight =
        fli_tensor_1d(NULL, j->ctx, j->dtype, j->m->hidden);
    const fli_status status = fli_rmsnorm_prepare(j->ctx, &args);

    return status ? status : fli_fused_add_rmsnorm_prepare(j->ctx, &fused);
}

static fli_status activation(const job *j)
{
    fli_act_and_mul_args args = FLI_ACT_AND_MUL_ARGS_INIT;

    args.x = matrix(j, N_ROWS, 2 * j->m->intermediate);
    args.out = matrix(j, N_ROWS, j->m->intermediate);
    const fli_status status = fli_silu_and_mul_prepare(j->ctx, &args);

    return status ? status : fli_gelu_tanh_and_mul_prepare(j->ctx, &args);
}

/* [.., k] by weights [n, k], for any number of rows. */
static fli_status product(const job *j, int64_t n, int64_t k, fli_dtype out)
{
    fli_gemm_args args = FLI_GEMM_ARGS_INIT;
    fli_status status = FLI_OK;

    args.b = matrix(j, n, k);
    for (int i = 0; i < N(rows) && !status; i++) {
        args.a = matrix(j, rows[i], k);
        args.out = fli_tensor_2d(NULL, j->ctx, out, rows[i], n);
        args.flags = 0;
        status = fli_gemm_prepare(j->ctx, &args);
        args.flags = FLI_GEMM_BATCH_INVARIANT;
        if (!status)
            status = fli_gemm_prepare(j->ctx, &args);
    }
    return status;
}

static fli_status gemm(const job *j)
{
    const model *m = j->m;
    const int64_t q = (int64_t)m->n_qo_heads * m->head_dim;
    const int64_t kv = (int64_t)m->n_kv_heads * m->head_dim;
    const struct {
        int64_t n, k;
        fli_dtype out;
    } weights[] = {
        { q + 2 * kv, m->hidden, j->dtype },
        { m->hidden, q, j->dtype },
        { 2 * m->intermediate, m->hidden, j->dtype },
        { m->hidden, m->intermediate, j->dtype },
        { m->vocab, m->hidden, FLI_F32 },
    };
    fli_status status = FLI_OK;

    for (int i = 0; i < N(weights) && !status; i++)
        status = product(j, weights[i].n, weights[i].k, weights[i].out);
    return status;
}

/* Of logits in f32, as engines have them, and as the model's dtype. */
static fli_status sampling(const job *j)
{
    const fli_dtype of[] = { FLI_F32, j->dtype };
    fli_sample_args args = FLI_SAMPLE_ARGS_INIT;
    fli_softmax_args softmax = FLI_SOFTMAX_ARGS_INIT;
    fli_status status = FLI_OK;

    args.tokens = ints(j, N_REQUESTS);
    softmax.probs =
        fli_tensor_2d(NULL, j->ctx, FLI_F32, N_REQUESTS, j->m->vocab);
    for (int i = 0; i < N(of) && !status; i++) {
        args.x = softmax.logits =
            fli_tensor_2d(NULL, j->ctx, of[i], N_REQUESTS, j->m->vocab);
        status = fli_sample_from_logits_prepare(j->ctx, &args);
        if (!status)
            status = fli_softmax_prepare(j->ctx, &softmax);
    }
    args.x = softmax.probs;
    return status ? status : fli_sample_from_probs_prepare(j->ctx, &args);
}

static fli_status filters(const job *j)
{
    fli_filter_args args = FLI_FILTER_ARGS_INIT;

    args.x = args.out =
        fli_tensor_2d(NULL, j->ctx, FLI_F32, N_REQUESTS, j->m->vocab);
    args.top_ks = ints(j, N_REQUESTS);
    args.top_ps = floats(j, N_REQUESTS);
    const fli_status status = fli_renorm_probs_prepare(j->ctx, &args);

    return status ? status : fli_mask_logits_prepare(j->ctx, &args);
}

/* Masks of trees of drafted tokens. */
static fli_status bits(const job *j)
{
    fli_segment_packbits_args segments = FLI_SEGMENT_PACKBITS_ARGS_INIT;
    fli_packbits_args args = FLI_PACKBITS_ARGS_INIT;
    const int64_t n = 8 * N_ROWS;

    args.x = segments.x = fli_tensor_1d(NULL, j->ctx, FLI_BOOL, n);
    args.out = segments.out = fli_tensor_1d(NULL, j->ctx, FLI_U8, n / 8);
    args.bit_order = segments.bit_order = FLI_BIT_ORDER_LITTLE;
    segments.indptr = segments.out_indptr = ints(j, N_REQUESTS + 1);
    const fli_status status = fli_packbits_prepare(j->ctx, &args);

    return status ? status : fli_segment_packbits_prepare(j->ctx, &segments);
}

static fli_status (*const prepare[])(const job *) = {
    attention,  gemm,   sampling, filters,   rope,      norms,
    activation, append, merge,    page_copy, positions, bits,
};

/* --- all of it, on all CPUs -------------------------------------------------- */

typedef struct {
    pthread_mutex_t lock;
    fli_context *ctx;
    int next;
    char failure[512]; /* of the first that failed */
} work;

enum { N_TASKS = N(models) * N(dtypes) * N(prepare) };

static fli_status run_task(fli_context *ctx, int i)
{
    const job j = { ctx, &models[i / N(prepare) % N(models)],
                    dtypes[i / N(prepare) / N(models)] };

    return prepare[i % N(prepare)](&j);
}

static void *take_tasks(void *arg)
{
    work *const w = arg;

    pthread_mutex_lock(&w->lock);
    while (w->next < N_TASKS && !*w->failure) {
        const int i = w->next++;

        pthread_mutex_unlock(&w->lock);
        const fli_status status = run_task(w->ctx, i);

        pthread_mutex_lock(&w->lock);
        if (status && !*w->failure)
            snprintf(w->failure, sizeof(w->failure), "%s", fli_last_error());
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static int n_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set))
        return 1;
    return CPU_COUNT(&set) < MAX_THREADS ? CPU_COUNT(&set) : MAX_THREADS;
}

/* Compiles for one arch. */
static int compile(const char *arch)
{
    work w = { .lock = PTHREAD_MUTEX_INITIALIZER };
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    pthread_t threads[MAX_THREADS];
    int n = 0;

    options.cuda_arch = arch;
    if (fli_context_create(&w.ctx, fli_cuda(0), &options))
        return refused();
    while (n < n_cpus() - 1
           && !pthread_create(&threads[n], NULL, take_tasks, &w))
        n++;
    take_tasks(&w);
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    fli_context_destroy(w.ctx);
    if (*w.failure)
        fprintf(stderr, "flashinfer: %s\n", w.failure);
    return *w.failure ? FAILED : OK;
}

static int compile_all(const char *archs)
{
    char list[128], *rest = list;
    int status = OK;

    if ((size_t)snprintf(list, sizeof(list), "%s", archs) >= sizeof(list))
        return bad_usage("too many archs:", archs);
    while (!status && rest)
        status = compile(strsep(&rest, ","));
    return status;
}

/* Compiles into the folder, which is private and of this run alone.  It stays if
 * that fails: the log is there. */
static int make_pack(const char *folder, const char *archs, const char *path)
{
    int32_t n;

    setenv("FLI_CACHE", folder, 1);
    int status = compile_all(archs);

    if (status)
        return status;
    if (fli_pack_write(path, &n))
        status = refused();
    else
        printf("%s: %d kernels\n", path, (int)n);
    fli_cache_clear(NULL);
    return status;
}

int prebuild(char **argv)
{
    const char *archs = NULL, *path = "flashinfer.pack";
    const option options[] = {
        { .name = "--arch", .text = &archs },
        { .name = "-o", .text = &path },
        { .name = NULL },
    };
    char folder[512];
    int status = parse(argv, options);

    if (status)
        return status;
    if (!archs)
        return bad_usage("prebuild needs", "--arch, such as --arch sm_90a");
    const char *const temporary = getenv("TMPDIR");

    snprintf(folder, sizeof(folder), "%s/flashinfer-XXXXXX",
             temporary && *temporary ? temporary : "/tmp");
    if (!mkdtemp(folder)) {
        fprintf(stderr, "flashinfer: no folder in %s\n", folder);
        return FAILED;
    }
    status = make_pack(folder, archs, path);
    rmdir(folder);
    return status;
}
