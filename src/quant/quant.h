/* SPDX-License-Identifier: Apache-2.0 */
/* packbits and segment_packbits on CUDA devices. */
#ifndef FLI_QUANT_QUANT_H
#define FLI_QUANT_QUANT_H

#include "device/device.h"

/* Launch kernels/cuda/packbits.cu on fli_packbits_params. */
fli_status fli__packbits_cuda(const fli__call *call, const void *params);
fli_status fli__segment_packbits_cuda(const fli__call *call,
                                      const void *params);

#endif
