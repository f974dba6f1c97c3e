/* SPDX-License-Identifier: Apache-2.0 */
/* One decode step of an engine: four requests of different lengths, one new token
 * each, over a paged KV cache whose pages lie in no particular order. */
#include <flashinfer/flashinfer.h>

#include <stdio.h>
#include <stdlib.h>

enum {
    N_REQUESTS = 4,
    N_QO_HEADS = 32,
    N_KV_HEADS = 8,
    HEAD_DIM = 128,
    PAGE_SIZE = 16,
    N_PAGES = 64
};

static int fail(void)
{
    fprintf(stderr, "%s\n", fli_last_error());
    return 1;
}

int main(void)
{
    const int32_t kv_len[N_REQUESTS] = { 1, 17, 100, 300 };
    int32_t q_indptr[N_REQUESTS + 1] = { 0 };
    int32_t page_indptr[N_REQUESTS + 1] = { 0 };
    int32_t page_indices[N_PAGES];
    fli_context *ctx;

    if (fli_context_create(&ctx, fli_cpu(), NULL)) /* or fli_cuda(0) */
        return fail();

    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT; /* what never changes */
    fli_attention *attn;

    desc.n_qo_heads = N_QO_HEADS;
    desc.n_kv_heads = N_KV_HEADS;
    desc.head_dim_qk = desc.head_dim_vo = HEAD_DIM;
    desc.dtype_q = desc.dtype_kv = desc.dtype_out = FLI_BF16;
    desc.max_requests = 256;
    desc.max_rows = 8192;
    if (fli_attention_create(&attn, ctx, &desc))
        return fail();

    const size_t bytes = fli_attention_workspace(attn); /* exact */
    void *workspace = aligned_alloc(256, (bytes + 255) / 256 * 256);
    const size_t pool = (size_t)N_PAGES * PAGE_SIZE * N_KV_HEADS * HEAD_DIM;
    uint16_t *k_pages = calloc(pool, sizeof(*k_pages));
    uint16_t *v_pages = calloc(pool, sizeof(*v_pages));
    uint16_t *q = calloc(N_REQUESTS * N_QO_HEADS * HEAD_DIM, sizeof(*q));
    uint16_t *out = calloc(N_REQUESTS * N_QO_HEADS * HEAD_DIM, sizeof(*out));

    if (!workspace || !k_pages || !v_pages || !q || !out)
        return 1;
    for (size_t i = 0; i < pool; i++)
        v_pages[i] = 0x3f80; /* 1 in bf16: so every output is 1 */
    for (int i = 0; i < N_REQUESTS; i++) {
        const int n_pages = (kv_len[i] + PAGE_SIZE - 1) / PAGE_SIZE;

        q_indptr[i + 1] = q_indptr[i] + 1;
        page_indptr[i + 1] = page_indptr[i] + n_pages;
        for (int j = page_indptr[i]; j < page_indptr[i + 1]; j++)
            page_indices[j] = j * 29 % N_PAGES;
    }

    /* every step: lengths only, on the host */
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;

    batch.n_requests = N_REQUESTS;
    batch.q_indptr = q_indptr;
    batch.kv_len = kv_len;
    if (fli_attention_plan(attn, &batch, workspace, bytes, NULL))
        return fail();

    /* every layer */
    fli_attention_args args = FLI_ATTENTION_ARGS_INIT;

    args.q = fli_tensor_3d(q, ctx, FLI_BF16, N_REQUESTS, N_QO_HEADS, HEAD_DIM);
    args.out =
        fli_tensor_3d(out, ctx, FLI_BF16, N_REQUESTS, N_QO_HEADS, HEAD_DIM);
    args.kv =
        fli_paged_kv(fli_tensor_4d(k_pages, ctx, FLI_BF16, N_PAGES, PAGE_SIZE,
                                   N_KV_HEADS, HEAD_DIM),
                     fli_tensor_4d(v_pages, ctx, FLI_BF16, N_PAGES, PAGE_SIZE,
                                   N_KV_HEADS, HEAD_DIM),
                     fli_tensor_1d(page_indptr, ctx, FLI_I32, N_REQUESTS + 1),
                     fli_tensor_1d(page_indices, ctx, FLI_I32, N_PAGES));
    args.mask = FLI_MASK_CAUSAL;
    if (fli_attention_run(attn, &args, NULL))
        return fail();

    char plan[2048];

    fli_attention_print(attn, plan, sizeof(plan));
    printf("%s\nout[0] is bf16 0x%04x, expected 0x3f80\n", plan, out[0]);
    const int wrong = out[0] != 0x3f80;

    fli_attention_destroy(attn);
    fli_context_destroy(ctx);
    free(workspace);
    free(k_pages);
    free(v_pages);
    free(q);
    free(out);
    return wrong;
}
