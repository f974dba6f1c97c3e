/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes with one sentence of text, kept for each thread in a fixed
 * buffer: failing needs no memory and no handle. */
#ifndef FLI_CORE_STATUS_H
#define FLI_CORE_STATUS_H

#include <flashinfer/base.h>

/* Records the thread's message (cut at 511 bytes) and returns status. */
fli_status fli__fail(fli_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define FAIL(status, ...) fli__fail(FLI_##status, __VA_ARGS__)

/* Returns from the calling function unless cond holds. */
#define CHECK(cond, status, ...)                                               \
    do {                                                                       \
        if (!(cond))                                                           \
            return FAIL(status, __VA_ARGS__);                                  \
    } while (0)

/* Returns the status of expr unless it is OK. */
#define TRY(expr)                                                              \
    do {                                                                       \
        const fli_status try_status = (expr);                                  \
        if (try_status)                                                        \
            return try_status;                                                 \
    } while (0)

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
