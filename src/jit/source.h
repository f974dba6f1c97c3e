/* SPDX-License-Identifier: Apache-2.0 */
/* The sources of the CUDA kernels, which tools/embed.py puts into the library. */
#ifndef FLI_JIT_SOURCE_H
#define FLI_JIT_SOURCE_H

#include <stdint.h>

extern const int32_t fli__n_sources;

/* As they are included: "abi/types.h", "cuda/norm.cu". */
extern const char *const fli__source_names[];
extern const char *const fli__source_texts[];

/* SHA-256 of all names and texts. */
extern const uint8_t fli__sources_hash[32];

#endif
