/* SPDX-License-Identifier: Apache-2.0 */
/* From an instance to an image, by NVRTC. */
#ifndef FLI_JIT_COMPILE_H
#define FLI_JIT_COMPILE_H

#include "jit/image.h"

/* The key of instance on ctx. */
void fli__key_make(const fli_context *ctx, const fli__instance *instance,
                   fli__key *out);

/* The compiler's log; text is NULL where there is none. */
typedef struct {
    char *text;
    size_t bytes; /* allocated */
} fli__compile_log;

void fli__compile_log_free(const fli_context *ctx, fli__compile_log *log);

/* Compiles instance.  log is to be freed whatever the status.  COMPILE for an
 * error in the text (the sentence ends with the first one) or without NVRTC;
 * OUT_OF_MEMORY. */
fli_status fli__compile(const fli__call *call, const fli__instance *instance,
                        const fli__key *key, fli__image *out,
                        fli__compile_log *log);

/* The whole text that is compiled, as much as fits in n bytes. */
void fli__instance_text(const fli__instance *instance, char *buf, size_t n);

#endif
