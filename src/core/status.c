/* SPDX-License-Identifier: Apache-2.0 */
/* Status names and the text of each thread's last failure. */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

#include <flashinfer/base.h>

#define MESSAGE_BYTES 512

static _Thread_local char message[MESSAGE_BYTES];

fli_status fli__fail(fli_status status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    return status;
}

const char *fli_last_error(void)
{
    return message;
}

const char *fli_version(void)
{
    return FLI_VERSION;
}

const char *fli_status_name(fli_status status)
{
    static const char *const names[] = {
        [FLI_OK] = "OK",
        [FLI_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
        [FLI_UNSUPPORTED] = "UNSUPPORTED",
        [FLI_INVALID_STATE] = "INVALID_STATE",
        [FLI_OUT_OF_MEMORY] = "OUT_OF_MEMORY",
        [FLI_WORKSPACE] = "WORKSPACE",
        [FLI_COMPILE] = "COMPILE",
        [FLI_DEVICE] = "DEVICE",
        [FLI_IO] = "IO",
        [FLI_TIMEOUT] = "TIMEOUT",
        [FLI_INTERNAL] = "INTERNAL",
    };
    const size_t i = (size_t)status;

    return i < sizeof(names) / sizeof(*names) ? names[i] : "unknown status";
}
