/* SPDX-License-Identifier: Apache-2.0 */
/* Every host kernel of the library: for each stem a reference, its f32 twin and
 * a CPU kernel for each ISA, all of type fli_task over the stem's params. */
#ifndef FLI_ABI_KERNELS_H
#define FLI_ABI_KERNELS_H

#include "abi/types.h"

#define FLI_KERNEL(name)                                                       \
    void fli__##name##_ref(void *, int32_t, int32_t);                          \
    void fli__##name##_plain(void *, int32_t, int32_t);                        \
    void fli__##name##_baseline(void *, int32_t, int32_t);                     \
    void fli__##name##_avx2(void *, int32_t, int32_t);

FLI_KERNEL(attention)
FLI_KERNEL(merge)
FLI_KERNEL(append)
FLI_KERNEL(page_copy)
FLI_KERNEL(positions)
FLI_KERNEL(rope)
FLI_KERNEL(norm)
FLI_KERNEL(activation)
FLI_KERNEL(gemm)
FLI_KERNEL(gemm_pack)
FLI_KERNEL(packbits)
FLI_KERNEL(softmax)
FLI_KERNEL(sample)
FLI_KERNEL(filter)

#undef FLI_KERNEL

#endif
