/* SPDX-License-Identifier: Apache-2.0 */
/* merge_states on CUDA devices. */
#ifndef FLI_ATTENTION_MERGE_H
#define FLI_ATTENTION_MERGE_H

#include "device/device.h"

/* Launches kernels/cuda/merge.cu on fli_merge_params. */
fli_status fli__merge_cuda(const fli__call *call, const void *params);

#endif
