/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA devices: declared so that the ABI need not change, not built yet. */
#include "device/device.h"

fli_status fli__cuda_context_create(fli_device device)
{
    return FAIL(UNSUPPORTED,
                "context create: device is cuda:%d, and this version has no "
                "CUDA backend; use fli_cpu()",
                (int)device.index);
}
