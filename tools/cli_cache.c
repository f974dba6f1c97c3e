/* SPDX-License-Identifier: Apache-2.0 */
/* flashinfer cache: what is compiled, whether it is sound; and what info says of
 * CUDA. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 160

typedef struct {
    int n, n_damaged;
    int64_t bytes;
    char (*lines)[LINE_BYTES]; /* of the sound ones, if they are wanted */
    int n_lines;
} summary;

static void add_line(summary *to, const fli_kernel_file *file)
{
    char(*more)[LINE_BYTES] =
        realloc(to->lines, (size_t)(to->n_lines + 1) * LINE_BYTES);

    if (!more)
        exit(no_memory());
    to->lines = more;
    snprintf(more[to->n_lines++], LINE_BYTES,
             "%-48s %-8s %4d %5d %6d %8lld %6.2f  %d.%d%s%s", file->name,
             file->arch, (int)file->registers, (int)file->spill_bytes,
             (int)file->shared_bytes, (long long)file->bytes,
             (double)file->seconds, (int)file->nvrtc_version / 1000,
             (int)file->nvrtc_version % 1000, file->is_ptx ? " ptx" : "",
             file->wgmma_serial ? " wgmma-serial" : "");
}

static void take_file(void *ctx, const fli_kernel_file *file)
{
    summary *const to = ctx;

    to->n++;
    to->bytes += file->bytes;
    if (file->problem) {
        to->n_damaged++;
        printf("%s %s\n", file->path, file->problem);
    }
}

static void take_line(void *ctx, const fli_kernel_file *file)
{
    take_file(ctx, file);
    if (!file->problem)
        add_line(ctx, file);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Of the cache folder, or of a pack. */
static int look_through(const char *pack, fli_kernel_file_fn *visit,
                        summary *out)
{
    const fli_status status =
        pack ? fli_pack_list(pack, visit, out) : fli_cache_list(visit, out);

    return status ? refused() : OK;
}

static int list(const char *pack)
{
    summary all = { 0 };
    const int status = look_through(pack, take_line, &all);

    printf("%-48s %-8s %4s %5s %6s %8s %6s  %s\n", "kernel", "arch", "regs",
           "spill", "shared", "bytes", "s", "nvrtc");
    if (all.n_lines)
        qsort(all.lines, (size_t)all.n_lines, LINE_BYTES, by_text);
    for (int i = 0; i < all.n_lines; i++)
        puts(all.lines[i]);
    free(all.lines);
    return status;
}

static int verify(const char *pack)
{
    summary all = { 0 };
    const int status = look_through(pack, take_file, &all);

    if (status)
        return status;
    printf("%d kernels, %.1f MB: %d damaged\n", all.n, 1e-6 * (double)all.bytes,
           all.n_damaged);
    return all.n_damaged ? FAILED : OK;
}

static int clear(void)
{
    int32_t n;

    if (fli_cache_clear(&n))
        return refused();
    printf("%d files removed\n", (int)n);
    return OK;
}

int cache(char **argv)
{
    const char *const verb = argv[0] ? argv[0] : "nothing";
    const char *const pack = argv[0] ? argv[1] : NULL;

    if (pack && argv[2])
        return bad_usage("cache takes one pack at most, not also", argv[2]);
    if (!strcmp(verb, "list"))
        return list(pack);
    if (!strcmp(verb, "verify"))
        return verify(pack);
    if (!strcmp(verb, "clear") && !pack)
        return clear();
    return bad_usage("cache list, verify or clear, not",
                     pack && !strcmp(verb, "clear") ? pack : verb);
}

/* --- info ------------------------------------------------------------------- */

static void print_devices(void)
{
    fli_context *ctx;
    int32_t i = 0;

    while (!fli_context_create(&ctx, fli_cuda(i), NULL)) {
        printf("cuda     %s\n", fli_context_describe(ctx));
        fli_context_destroy(ctx);
        i++;
    }
    if (i == 0)
        printf("cuda     none; %s\n", fli_last_error());
}

void print_cuda(void)
{
    char text[1024];
    summary all = { 0 };

    print_devices();
    printf("nvrtc    %s\n",
           fli_nvrtc_describe(text, sizeof(text)) ? text : fli_last_error());
    if (!fli_cache_folder(text, sizeof(text))
        || fli_cache_list(take_file, &all))
        printf("cache    %s\n", fli_last_error());
    else
        printf("cache    %s: %d kernels, %.1f MB\n", text, all.n,
               1e-6 * (double)all.bytes);
    printf("pack     %s\n", fli_pack_path(text, sizeof(text)) ? text : "none");
}
