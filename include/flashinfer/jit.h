/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled CUDA kernels on disk: the cache folder, and packs made ahead.
 *
 * A kernel that a context needs is looked for in a pack (FLI_PACK, else
 * flashinfer.pack beside the library), then in the cache folder (FLI_CACHE, else
 * $XDG_CACHE_HOME/flashinfer, else ~/.cache/flashinfer), and compiled by NVRTC
 * where neither has it.  A file is found by a hash of the kernel's text, of all
 * sources that it may include, of the compiler's options and of the arch, so a
 * library with other kernels never takes it.  NVRTC's version is not hashed, but
 * told: a newer NVRTC compiles anew what fli_cache_clear has removed.
 *
 * None of this needs a GPU.  Errors: INVALID_ARGUMENT, IO, OUT_OF_MEMORY.
 * Threads: any, also beside processes that compile. */
#ifndef FLASHINFER_JIT_H
#define FLASHINFER_JIT_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A kernel of the cache folder or of a pack.  Where problem is not NULL, what it
 * says is wrong ("is damaged") and all below it is zero.  The library fills it:
 * later versions may have more members behind these. */
typedef struct fli_kernel_file {
    const char *path;    /* the file that it is in */
    const char *problem; /* NULL: none */
    const char *name;    /* "norm_bf16_8" */
    const char *arch;    /* "sm_90a" */
    int64_t bytes;       /* of code */
    int32_t registers;   /* of a thread; these four are 0 for PTX */
    int32_t spill_bytes;
    int32_t shared_bytes;  /* static */
    int32_t wgmma_serial;  /* 1: the assembler serialised wgmma */
    int32_t is_ptx;        /* 1: the GPU was too new for that NVRTC */
    int32_t nvrtc_version; /* 13000 for 13.0 */
    float seconds;         /* that compiling took */
} fli_kernel_file;

/* file and its texts are valid during the call. */
typedef void fli_kernel_file_fn(void *ctx, const fli_kernel_file *file);

/* The cache folder, which need not exist, as much as fits in n bytes; returns the
 * length it would have, 0 with the reason in fli_last_error where none is
 * set. */
FLI_API size_t fli_cache_folder(char *buf, size_t n);

/* Reads and checks every kernel of the cache folder, in no order. */
FLI_API fli_status fli_cache_list(fli_kernel_file_fn *visit, void *ctx);

/* Removes the cache folder's files, logs and what was left half written; files
 * that are none of its own stay.  n_removed may be NULL. */
FLI_API fli_status fli_cache_clear(int32_t *n_removed);

/* Writes every sound kernel of the cache folder to a pack at path, in place of
 * what is there.  n_kernels may be NULL. */
FLI_API fli_status fli_pack_write(const char *path, int32_t *n_kernels);

/* Reads and checks every kernel of the pack at path. */
FLI_API fli_status fli_pack_list(const char *path, fli_kernel_file_fn *visit,
                                 void *ctx);

/* The pack that contexts look into, in the manner of fli_cache_folder; "" and 0
 * where there is none. */
FLI_API size_t fli_pack_path(char *buf, size_t n);

/* NVRTC's version and file, "13.0, <path>", in the same manner; 0 with where it was
 * looked for in fli_last_error where it is not found. */
FLI_API size_t fli_nvrtc_describe(char *buf, size_t n);

#ifdef __cplusplus
}
#endif
#endif
