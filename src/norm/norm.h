/* SPDX-License-Identifier: Apache-2.0 */
/* rmsnorm and fused_add_rmsnorm on CUDA devices. */
#ifndef FLI_NORM_NORM_H
#define FLI_NORM_NORM_H

#include "device/device.h"

/* Launch kernels/cuda/norm.cu on fli_norm_params, without and with residual. */
fli_status fli__norm_cuda(const fli__call *call, const void *params);
fli_status fli__norm_residual_cuda(const fli__call *call, const void *params);

#endif
