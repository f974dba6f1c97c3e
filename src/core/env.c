/* SPDX-License-Identifier: Apache-2.0 */
/* The only place that reads the environment. */
#include "core/env.h"

#include <stdlib.h>

const char *fli__env_get(fli__env variable)
{
    static const char *const names[] = {
#define FLI_ENV(name, values, meaning) #name,
        FLI__ENV_TABLE(FLI_ENV)
#undef FLI_ENV
    };
    const char *value = getenv(names[variable]);

    return value && *value ? value : NULL;
}
