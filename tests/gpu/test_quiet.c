/* SPDX-License-Identifier: Apache-2.0 */
/* What a run asks of the driver: launches, and where it stands; never memory, never
 * to wait.  A plan of attention copies once.  The library's calls go through
 * libshim.so, which counts them, and its memory comes from an allocator that
 * counts. */
#include <dlfcn.h>
#include <unistd.h>

#include "gpu_unit.h"

#include "ops.h"

static long (*shim_count)(const char *name);
static fli_context *ctx;
static gpu_stream stream;
static long n_allocations;

static void *count_alloc(void *arg, size_t bytes)
{
    (void)arg;
    n_allocations++;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void count_free(void *arg, void *memory, size_t bytes)
{
    (void)arg;
    (void)bytes;
    n_allocations++;
    free(memory);
}

/* Calls that ask for nothing but an answer. */
static const char *const questions[] = { "cuCtxGetCurrent", "cuCtxSetCurrent",
                                         "cuStreamGetCtx",
                                         "cuStreamIsCapturing" };

enum { LAUNCHES, COPIES, RECORDS, WAITS, OTHERS, N_COUNTS };

typedef struct {
    long n[N_COUNTS], memory;
} counts;

static counts count(void)
{
    counts c = { .n = { [LAUNCHES] = shim_count("cuLaunchKernelEx"),
                        [COPIES] = shim_count("cuMemcpyHtoDAsync"),
                        [RECORDS] = shim_count("cuEventRecord"),
                        [WAITS] = shim_count("cuEventSynchronize"),
                        [OTHERS] = shim_count(NULL) },
                 .memory = n_allocations };

    for (int i = 0; i < OTHERS; i++)
        c.n[OTHERS] -= c.n[i];
    for (int i = 0; i < COUNT(questions); i++)
        c.n[OTHERS] -= shim_count(questions[i]);
    return c;
}

static counts since(counts before)
{
    counts c = count();

    for (int i = 0; i < N_COUNTS; i++)
        c.n[i] -= before.n[i];
    c.memory -= before.memory;
    return c;
}

static void assert_nothing_else(const char *name, const counts *c)
{
    if (c->n[OTHERS] || c->memory)
        fail_msg("%s: %ld calls of the driver that are neither launches nor "
                 "questions, %ld of the allocator",
                 name, c->n[OTHERS], c->memory);
}

static void assert_only_launches(const char *name, const counts *c)
{
    assert_nothing_else(name, c);
    if (!c->n[LAUNCHES] || c->n[COPIES] || c->n[RECORDS] || c->n[WAITS])
        fail_msg("%s: %ld launches, %ld copies, %ld events, %ld waits, "
                 "expected launches only",
                 name, c->n[LAUNCHES], c->n[COPIES], c->n[RECORDS],
                 c->n[WAITS]);
}

static void the_shim_counts(void **state)
{
    const counts before = count();
    fli_context *other;

    (void)state;
    assert_ok(fli_context_create(&other, fli_cuda(0), NULL));
    fli_context_destroy(other);
    assert_true(since(before).n[OTHERS] > 4);
}

static void run_only_launches(void **state)
{
    const ops_kind *const kind = *state;
    ops_case *const c = ops_make(kind, ctx, stream);

    assert_ok(kind->prepare(c));
    for (int i = 0; i < 3; i++) { /* the first time as every other */
        const counts before = count();
        const fli_status status = ops_call(c, stream);
        const counts made = since(before);

        if (status)
            fail_msg("%s: %s", kind->name, fli_last_error());
        assert_only_launches(kind->name, &made);
        assert_well(ctx, kind->name);
    }
    gpu_capture_begin(stream);
    const counts before = count();
    const fli_status status = ops_call(c, stream);
    const counts made = since(before);

    gpu_graph_destroy(gpu_capture_end(stream));
    assert_int_equal(status, FLI_OK);
    assert_only_launches(kind->name, &made);
    ops_free(c);
}

/* --- plans ------------------------------------------------------------------ */

typedef struct {
    fli_attention *op;
    void *workspace;
    size_t bytes;
} planner;

static planner make_planner(void)
{
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;
    planner p;

    desc.n_qo_heads = desc.n_kv_heads = 4;
    desc.head_dim_qk = desc.head_dim_vo = 128;
    desc.dtype_q = FLI_BF16;
    desc.max_requests = 2;
    desc.max_rows = 64;
    assert_ok(fli_attention_create(&p.op, ctx, &desc));
    p.bytes = fli_attention_workspace(p.op);
    p.workspace = gpu_alloc(p.bytes);
    return p;
}

static void drop(planner *p)
{
    fli_attention_destroy(p->op);
    gpu_free(p->workspace);
}

static void plan_copies_once(void **state)
{
    static const int32_t q_indptr[] = { 0, 1, 33 }, kv_len[] = { 900, 40 };
    fli_attention_batch batch = FLI_ATTENTION_BATCH_INIT;
    planner p = make_planner();

    (void)state;
    batch.n_requests = 2;
    batch.q_indptr = q_indptr;
    batch.kv_len = kv_len;
    for (int i = 0; i < 10; i++) {
        const counts before = count();

        assert_ok(
            fli_attention_plan(p.op, &batch, p.workspace, p.bytes, stream));
        const counts made = since(before);

        assert_nothing_else("attention plan", &made);
        assert_int_equal(made.n[LAUNCHES], 0);
        assert_int_equal(made.n[COPIES], 1);
        assert_int_equal(made.n[RECORDS], 1);
        assert_int_equal(made.n[WAITS], i >= 4); /* for what was 4 plans ago */
    }
    assert_well(ctx, "attention plan");
    drop(&p);
}

static void plan_device_only_launches(void **state)
{
    static const int32_t q_indptr[] = { 0, 1, 33 }, kv_len[] = { 900, 40 };
    fli_attention_device_batch batch = FLI_ATTENTION_DEVICE_BATCH_INIT;
    planner p = make_planner();

    (void)state;
    batch.n_requests = 2;
    batch.q_indptr =
        fli_tensor_1d(sent(q_indptr, sizeof(q_indptr)), ctx, FLI_I32, 3);
    batch.kv_len = fli_tensor_1d(sent(kv_len, sizeof(kv_len)), ctx, FLI_I32, 2);
    /* the first one compiles */
    assert_ok(
        fli_attention_plan_device(p.op, &batch, p.workspace, p.bytes, stream));
    for (int i = 0; i < 6; i++) {
        const counts before = count();

        assert_ok(fli_attention_plan_device(p.op, &batch, p.workspace, p.bytes,
                                            stream));
        const counts made = since(before);

        assert_only_launches("attention plan_device", &made);
        assert_int_equal(made.n[LAUNCHES], 1);
    }
    assert_well(ctx, "attention plan_device");
    gpu_free(batch.q_indptr.data);
    gpu_free(batch.kv_len.data);
    drop(&p);
}

/* --- running ---------------------------------------------------------------- */

/* libshim.so lies beside this program.  cuBLASLt is left out: what it asks of the
 * driver goes past the shim. */
static int setup(void **state)
{
    fli_context_options options = FLI_CONTEXT_OPTIONS_INIT;
    char path[4096];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);

    (void)state;
    path[n > 0 ? n : 0] = 0;
    strcpy(strrchr(path, '/'), "/libshim.so");
    setenv("FLI_LIBCUDA", path, 1);
    void *const shim = dlopen(path, RTLD_NOW);

    if (!shim) {
        printf("# %s\n", dlerror());
        return 1;
    }
    *(void **)&shim_count = dlsym(shim, "shim_count");
    gpu_open();
    stream = gpu_stream_create();
    options.allocator.alloc = count_alloc;
    options.allocator.free = count_free;
    options.impl = "gemm:portable";
    return !shim_count || fli_context_create(&ctx, fli_cuda(0), &options);
}

static int teardown(void **state)
{
    (void)state;
    fli_context_destroy(ctx);
    return 0;
}

int main(void)
{
    struct CMUnitTest tests[64] = {
        cmocka_unit_test(the_shim_counts),
        cmocka_unit_test(plan_copies_once),
        cmocka_unit_test(plan_device_only_launches),
    };
    int n = 3;

    for (int i = 0; i < ops_n_kinds; i++)
        if (strcmp(ops_kinds[i].name, "gemm, f32")) /* generic alone takes it */
            tests[n++] = (struct CMUnitTest){
                .name = ops_kinds[i].name,
                .test_func = run_only_launches,
                .initial_state = (void *)&ops_kinds[i],
            };
    return _cmocka_run_group_tests("quiet", tests, (size_t)n, setup, teardown);
}
