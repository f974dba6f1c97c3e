/* SPDX-License-Identifier: Apache-2.0 */
/* rope on CUDA devices. */
#ifndef FLI_ROPE_ROPE_H
#define FLI_ROPE_ROPE_H

#include "device/device.h"

/* Launches kernels/cuda/rope.cu on fli_rope_params. */
fli_status fli__rope_cuda(const fli__call *call, const void *params);

#endif
