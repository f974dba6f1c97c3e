/* SPDX-License-Identifier: Apache-2.0 */
/* ceiling: reads, or copies, n pieces of 16 bytes. */
#ifndef FLI_ABI_CEILING_H
#define FLI_ABI_CEILING_H

#include "abi/types.h"

typedef struct {
    const void *in;
    void *out;
    int64_t n;
} fli_ceiling_params;

#endif
