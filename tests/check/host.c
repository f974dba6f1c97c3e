/* SPDX-License-Identifier: Apache-2.0 */
/* What the library costs on the host: plan, the overhead of run, its size. */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "flicheck.h"

enum { TURNS = 200, INNER = 200 };

static int fail(const char *what)
{
    printf("FAIL host: %s: %s\n", what, fli_last_error());
    return 0;
}

/* Best and median of TURNS times inner calls of body, in us. */
#define TIME(inner, body, best, median)                                        \
    do {                                                                       \
        static double samples[TURNS];                                          \
                                                                               \
        for (int turn = 0; turn < TURNS; turn++) {                             \
            const double begin = check_now();                                  \
                                                                               \
            for (int i = 0; i < (inner); i++)                                  \
                if (body)                                                      \
                    return fail(#body);                                        \
            samples[turn] = (check_now() - begin) / (inner) * 1e6;             \
        }                                                                      \
        (median) = check_median(samples, TURNS);                               \
        (best) = samples[0];                                                   \
    } while (0)

static void print(const char *what, double median, double best)
{
    printf("%-64s %8.2f us  best %.2f\n", what, median, best);
}

/* 256 requests, one in 8 a prefill chunk, the lengths all different. */
static int time_plan(fli_context *ctx)
{
    enum { N = 256 };
    static int32_t q_indptr[N + 1], kv_len[N];
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;
    fli_attention *op;
    double best, median;

    for (int i = 0; i < N; i++) {
        kv_len[i] = 256 + i * 7919 % 4096;
        q_indptr[i + 1] = q_indptr[i] + (i % 8 ? 1 : 64);
    }
    desc.n_qo_heads = 32;
    desc.n_kv_heads = 8;
    desc.head_dim_qk = desc.head_dim_vo = 128;
    desc.dtype_q = FLI_BF16;
    desc.max_requests = N;
    desc.max_rows = 8192;
    batch.n_requests = N;
    batch.q_indptr = q_indptr;
    batch.kv_len = kv_len;
    batch.mask = FLI_MASK_CAUSAL;
    if (fli_attention_create(&op, ctx, &desc))
        return fail("fli_attention_create");
    const size_t bytes = fli_attention_workspace(op);
    void *const workspace = aligned_alloc(256, (bytes + 255) / 256 * 256);

    if (!workspace)
        return 0;
    TIME(1, fli_attention_plan(op, &batch, workspace, bytes, NULL), best,
         median);
    print("plan of 256 requests, 32/8 heads, d 128, bf16", median, best);
    for (int i = 0; i < N; i++)
        q_indptr[i + 1] = i + 1;
    TIME(1, fli_attention_plan(op, &batch, workspace, bytes, NULL), best,
         median);
    print("the same, decode only", median, best);
    fli_attention_destroy(op);
    free(workspace);
    return 1;
}

/* One request, kv 1, one head of 64, f32: nothing but overhead. */
static int time_run(fli_context *ctx)
{
    static float q[64], k[64], v[64], out[64];
    static int32_t page_indptr[2] = { 0, 1 }, page_indices[1];
    const int32_t q_indptr[2] = { 0, 1 }, kv_len[1] = { 1 };
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;
    fli_attention_args args = FLI_ATTENTION_ARGS_INIT;
    fli_attention *op;
    double best, median;

    desc.n_qo_heads = desc.n_kv_heads = 1;
    desc.head_dim_qk = desc.head_dim_vo = 64;
    desc.dtype_q = FLI_F32;
    desc.max_requests = desc.max_rows = 1;
    batch.n_requests = 1;
    batch.q_indptr = q_indptr;
    batch.kv_len = kv_len;
    args.q = fli_tensor_3d(q, ctx, FLI_F32, 1, 1, 64);
    args.out = fli_tensor_3d(out, ctx, FLI_F32, 1, 1, 64);
    args.kv = fli_paged_kv(fli_tensor_4d(k, ctx, FLI_F32, 1, 1, 1, 64),
                           fli_tensor_4d(v, ctx, FLI_F32, 1, 1, 1, 64),
                           fli_tensor_1d(page_indptr, ctx, FLI_I32, 2),
                           fli_tensor_1d(page_indices, ctx, FLI_I32, 1));
    if (fli_attention_create(&op, ctx, &desc))
        return fail("fli_attention_create");
    const size_t bytes = fli_attention_workspace(op);
    void *const workspace = aligned_alloc(256, (bytes + 255) / 256 * 256);

    if (!workspace || fli_attention_plan(op, &batch, workspace, bytes, NULL))
        return fail("fli_attention_plan");
    TIME(INNER, fli_attention_run(op, &args, NULL), best, median);
    print("run of f32, one request, kv 1, one head, one thread", median, best);
    fli_attention_destroy(op);
    free(workspace);
    return 1;
}

static void print_size(void)
{
    Dl_info info;
    struct stat status;

    if (dladdr((void *)(size_t)fli_version, &info)
        && !stat(info.dli_fname, &status))
        printf("%-64s %8.2f MB\n", "the library's file",
               (double)status.st_size * 1e-6);
}

int check_host_costs(void)
{
    static const check_impl best = { NULL, NULL };
    fli_context *const all = check_context(&best, 0);
    fli_context *const one = check_context(&best, 1);

    printf("\n");
    if (!all || !one)
        return fail("fli_context_create");
    const int right = time_plan(all) && time_run(one);

    print_size();
    return right;
}
