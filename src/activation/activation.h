/* SPDX-License-Identifier: Apache-2.0 */
/* silu_and_mul, gelu_and_mul, gelu_tanh_and_mul on CUDA devices. */
#ifndef FLI_ACTIVATION_ACTIVATION_H
#define FLI_ACTIVATION_ACTIVATION_H

#include "device/device.h"

/* Launches kernels/cuda/activation.cu on fli_activation_params. */
fli_status fli__activation_cuda(const fli__call *call, const void *params);

#endif
