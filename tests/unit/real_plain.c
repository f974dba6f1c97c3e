/* SPDX-License-Identifier: Apache-2.0 */
/* kernels/ref/real.h as the f32 build of the references has it. */
#define FLI_PLAIN
#include "ref/real.h"

float fli__real_plain_load(const void *data, int32_t dtype, int64_t i);
void fli__real_plain_store(void *data, int32_t dtype, int64_t i, float value);

float fli__real_plain_load(const void *data, int32_t dtype, int64_t i)
{
    return load(data, dtype, i);
}

void fli__real_plain_store(void *data, int32_t dtype, int64_t i, float value)
{
    store(data, dtype, i, value);
}
