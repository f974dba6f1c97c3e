/* SPDX-License-Identifier: Apache-2.0 */
/* What include/flashinfer/jit.h offers on the cache folder and on packs. */
#include <flashinfer/jit.h>

#include <stdio.h>
#include <unistd.h>

#include "jit/cache.h"
#include "jit/nvrtc.h"
#include "jit/pack.h"

static void visit_image(const char *path, const fli__image *image,
                        fli_kernel_file_fn *visit, void *ctx)
{
    const fli__image_header *const header = image->header;
    fli_kernel_file file = { .path = path };

    file.problem = fli__image_problem(image, NULL);
    if (!file.problem) {
        file.name = header->key.name;
        file.arch = header->key.arch;
        file.bytes = (int64_t)header->payload_bytes;
        file.registers = header->registers;
        file.spill_bytes = header->spill_store_bytes;
        file.shared_bytes = header->shared_bytes;
        file.wgmma_serial = header->wgmma_serial;
        file.is_ptx = header->is_ptx;
        file.nvrtc_version = header->nvrtc_version;
        file.seconds = header->seconds;
    }
    visit(ctx, &file);
}

/* --- the cache folder ------------------------------------------------------- */

size_t fli_cache_folder(char *buf, size_t n)
{
    char name[FLI__PATH_BYTES];

    if (fli__cache_name(name, sizeof(name)))
        return 0;
    return (size_t)snprintf(buf, n, "%s", name);
}

typedef struct {
    fli_kernel_file_fn *visit;
    void *ctx;
} visitor;

static fli_status visit_file(void *arg, const char *path, fli__image *image)
{
    const visitor *const to = arg;

    visit_image(path, image, to->visit, to->ctx);
    return FLI_OK;
}

fli_status fli_cache_list(fli_kernel_file_fn *visit, void *ctx)
{
    const fli_context *const memory = &fli__memory_context;
    visitor to = { visit, ctx };

    CHECK(visit, INVALID_ARGUMENT,
          "cache list: visit is NULL, expected a function");
    return fli__cache_each(memory, visit_file, &to);
}

fli_status fli_cache_clear(int32_t *n_removed)
{
    char folder[FLI__PATH_BYTES], path[FLI__PATH_BYTES + 256];
    int32_t n = 0;
    DIR *dir;

    TRY(fli__cache_opendir(folder, &dir));
    while (dir && fli__cache_next(dir, folder, path))
        n += !unlink(path);
    if (dir)
        closedir(dir);
    if (n_removed)
        *n_removed = n;
    return FLI_OK;
}

/* --- packs ------------------------------------------------------------------ */

size_t fli_pack_path(char *buf, size_t n)
{
    char name[1024];

    fli__pack_name(name, sizeof(name));
    return (size_t)snprintf(buf, n, "%s", name);
}

static fli_status list_pack(const char *path, int fd,
                            const fli__pack_header *header, const visitor *to)
{
    const fli_context *const memory = &fli__memory_context;
    fli__pack_line *index;

    TRY(fli__pack_read_index(memory, path, fd, header, &index));
    fli_status status = FLI_OK;

    for (uint32_t i = 0; i < header->n_images && !status; i++) {
        fli__image image;

        status = fli__pack_read(memory, fd, &index[i], &image);
        if (!status)
            visit_image(path, &image, to->visit, to->ctx);
        fli__image_free(memory, &image);
    }
    fli__free(memory, index, fli__pack_index_bytes(header));
    return status;
}

fli_status fli_pack_list(const char *path, fli_kernel_file_fn *visit, void *ctx)
{
    const visitor to = { visit, ctx };
    fli__pack_header header;
    int fd;

    CHECK(path && visit, INVALID_ARGUMENT,
          "pack list: path or visit is NULL, expected both");
    TRY(fli__pack_open(path, &fd, &header));
    const fli_status status = list_pack(path, fd, &header, &to);

    close(fd);
    return status;
}

/* --- NVRTC ------------------------------------------------------------------ */

size_t fli_nvrtc_describe(char *buf, size_t n)
{
    const char *why;
    const fli__nvrtc *const nvrtc = fli__nvrtc_open(&why);

    if (!nvrtc) {
        fli__fail(FLI_UNSUPPORTED, "cuda: %s", why);
        return 0;
    }
    return (size_t)snprintf(buf, n, "%d.%d, %s", (int)nvrtc->major,
                            (int)nvrtc->minor, nvrtc->path);
}
