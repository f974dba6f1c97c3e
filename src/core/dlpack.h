/* SPDX-License-Identifier: Apache-2.0 */
/* The part of DLPack that tensors cross the boundary in.  Private: the official
 * header's DLTensor is an anonymous struct, so a public second declaration
 * would conflict with it; a test compares the layouts. */
#ifndef FLI_CORE_DLPACK_H
#define FLI_CORE_DLPACK_H

#include <stdint.h>

enum {
    FLI__DL_INT = 0,
    FLI__DL_UINT = 1,
    FLI__DL_FLOAT = 2,
    FLI__DL_BFLOAT = 4,
    FLI__DL_BOOL = 6
};

typedef struct {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
} fli__dl_dtype;

typedef struct {
    void *data;
    struct {
        int32_t type, index;
    } device;
    int32_t ndim;
    fli__dl_dtype dtype;
    int64_t *shape;
    int64_t *strides; /* elements; NULL: compact row-major */
    uint64_t byte_offset;
} fli__dl_tensor;

#endif
