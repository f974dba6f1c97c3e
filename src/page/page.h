/* SPDX-License-Identifier: Apache-2.0 */
/* append, page_copy and get_batch_indices_positions on CUDA devices. */
#ifndef FLI_PAGE_PAGE_H
#define FLI_PAGE_PAGE_H

#include "device/device.h"

/* Launch kernels/cuda/<stem>.cu on the params of abi/<stem>.h. */
fli_status fli__append_cuda(const fli__call *call, const void *params);
fli_status fli__page_copy_cuda(const fli__call *call, const void *params);
fli_status fli__positions_cuda(const fli__call *call, const void *params);

#endif
