/* SPDX-License-Identifier: Apache-2.0 */
/* flashinfer: asks the library what it has, and why it chooses what it does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "core/env.h"

static const char usage[] =
    "usage: flashinfer explain attention [OPTION]...\n"
    "       flashinfer info [--device DEVICE]\n"
    "       flashinfer ops\n"
    "       flashinfer prebuild --arch ARCH[,ARCH]... [-o FILE]\n"
    "       flashinfer cache list|verify [PACK] | clear\n"
    "       flashinfer --version | --help\n"
    "\n"
    "explain attention: each implementation with yes, its reason for no, or -\n"
    "(not needed), for an op of\n"
    "  --q DTYPE          queries: f32, f16, bf16 (bf16)\n"
    "  --kv DTYPE         keys and values (as q)\n"
    "  --out DTYPE        output (as q)\n"
    "  --head-dim N       of queries and keys, and of values if not said "
    "(128)\n"
    "  --head-dim-vo N    of values and output\n"
    "  --group N          query heads of a key/value head (1)\n"
    "  --kv-heads N       key/value heads (1)\n"
    "  --graph            fixed grid, for capture in a graph\n"
    "  --invariant        bits of a row do not depend on the rest of the "
    "batch\n"
    "  --device DEVICE    cpu, cuda, cuda:1, ... (cpu)\n"
    "\n"
    "info: version, device, ISA, threads, CUDA, environment.\n"
    "ops: every op, and what implements it.\n"
    "prebuild: compiles the CUDA kernels of usual models for sm_80, sm_90a, "
    "...\n"
    "into a pack (flashinfer.pack), which needs no NVRTC and no GPU to find:\n"
    "beside the library, or named by FLI_PACK.\n"
    "cache list: the compiled kernels of the cache folder, or of a pack, with\n"
    "registers and bytes a thread spills; verify: checks each, exit status 1 "
    "if\n"
    "one is damaged; clear: removes those of the folder.\n"
    "\n"
    "exit status: 0; 1 the library refused, its sentence on stderr; 2 usage.\n";

/* --- explain -------------------------------------------------------------- */

static int print_explanation(fli_context *ctx, const fli_attention_desc *desc)
{
    const size_t n = fli_attention_explain(ctx, desc, NULL, 0);
    char *const text = n ? malloc(n + 1) : NULL;

    if (!n)
        return refused();
    if (!text)
        return no_memory();
    fli_attention_explain(ctx, desc, text, n + 1);
    fputs(text, stdout);
    free(text);
    return OK;
}

static int explain(char **argv)
{
    fli_attention_desc desc = FLI_ATTENTION_DESC_INIT;
    const char *device = "cpu";
    int32_t group = 1, graph = 0, invariant = 0;
    fli_context *ctx;

    desc.dtype_q = FLI_BF16;
    desc.n_kv_heads = 1;
    desc.head_dim_qk = 128;
    const option options[] = {
        { .name = "--q", .dtype = &desc.dtype_q },
        { .name = "--kv", .dtype = &desc.dtype_kv },
        { .name = "--out", .dtype = &desc.dtype_out },
        { .name = "--head-dim", .number = &desc.head_dim_qk },
        { .name = "--head-dim-vo", .number = &desc.head_dim_vo },
        { .name = "--group", .number = &group },
        { .name = "--kv-heads", .number = &desc.n_kv_heads },
        { .name = "--graph", .flag = &graph },
        { .name = "--invariant", .flag = &invariant },
        { .name = "--device", .text = &device },
        { .name = NULL },
    };

    if (!argv[0] || strcmp(argv[0], "attention"))
        return bad_usage("explain knows attention only, not",
                         argv[0] ? argv[0] : "nothing");
    int status = parse(argv + 1, options);

    if (status)
        return status;
    if ((int64_t)group * desc.n_kv_heads > INT32_MAX)
        return bad_usage("too many heads:", "--group times --kv-heads");
    desc.n_qo_heads = group * desc.n_kv_heads;
    if (!desc.head_dim_vo)
        desc.head_dim_vo = desc.head_dim_qk;
    desc.flags = (graph ? FLI_ATTENTION_GRAPH : 0u)
                 | (invariant ? FLI_ATTENTION_BATCH_INVARIANT : 0u);
    desc.max_requests = desc.max_rows = 1;
    status = open_device(device, &ctx);
    if (status)
        return status;
    status = print_explanation(ctx, &desc);
    fli_context_destroy(ctx);
    return status;
}

/* --- info ----------------------------------------------------------------- */

static void print_variable(const char *name, const char *values,
                           const char *meaning)
{
    const char *const value = getenv(name);
    char text[64] = "not set";

    if (value && *value)
        snprintf(text, sizeof(text), "%s", value);
    printf("  %-14s  %-16s  %s (%s)\n", name, text, meaning, values);
}

static int info(char **argv)
{
    const char *device = "cpu";
    const option options[] = {
        { .name = "--device", .text = &device },
        { .name = NULL },
    };
    fli_context *ctx;
    int status = parse(argv, options);

    if (!status)
        status = open_device(device, &ctx);
    if (status)
        return status;
    printf("version  %s\n", fli_version());
    printf("device   %s\n", fli_context_describe(ctx));
    if (fli_context_device(ctx).type == FLI_DEVICE_CPU)
        printf("isa      %s\n", fli_context_cpu_isa(ctx));
    printf("threads  %d\n", (int)fli_context_n_threads(ctx));
    print_cuda();
    printf("environment\n");
#define FLI_ENV(name, values, meaning) print_variable(#name, values, meaning);
    FLI__ENV_TABLE(FLI_ENV)
#undef FLI_ENV
    fli_context_destroy(ctx);
    return OK;
}

/* --- ops ------------------------------------------------------------------ */

typedef struct {
    const char *name, *family, *kind, *summary;
} op_line;

/* Every op of this build has a reference and a kernel for each ISA: it does not
 * link without. */
static int ops(char **argv)
{
    static const op_line lines[] = {
#define FLI_OP(name, family, kind, stem, summary)                              \
    { #name, #family, #kind, summary },
#include "ops.def"
#undef FLI_OP
    };
#if defined(FLI__BUILD_AVX2)
    static const char cpu[] = "avx2 baseline ref";
#else
    static const char cpu[] = "baseline ref";
#endif

    if (*argv)
        return bad_usage("ops takes no argument:", *argv);
    printf("%-28s %-10s %-10s %-18s %-5s %s\n", "op", "family", "kind", "cpu",
           "cuda", "summary");
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        printf("%-28s %-10s %-10s %-18s %-5s %s\n", lines[i].name,
               lines[i].family, lines[i].kind, cpu, "-", lines[i].summary);
    return OK;
}

int main(int argc, char **argv)
{
    const char *const verb = argc > 1 ? argv[1] : "";

    if (!strcmp(verb, "explain"))
        return explain(argv + 2);
    if (!strcmp(verb, "info"))
        return info(argv + 2);
    if (!strcmp(verb, "ops"))
        return ops(argv + 2);
    if (!strcmp(verb, "prebuild"))
        return prebuild(argv + 2);
    if (!strcmp(verb, "cache"))
        return cache(argv + 2);
    if (!strcmp(verb, "--version")) {
        printf("flashinfer %s\n", fli_version());
        return OK;
    }
    if (!strcmp(verb, "--help") || !strcmp(verb, "help")) {
        fputs(usage, stdout);
        return OK;
    }
    fputs(usage, stderr);
    return USAGE;
}
