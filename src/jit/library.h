/* SPDX-License-Identifier: Apache-2.0 */
/* Shared libraries that are looked for at run time under several names, best
 * first. */
#ifndef FLI_JIT_LIBRARY_H
#define FLI_JIT_LIBRARY_H

#include <stdint.h>

typedef struct {
    const char *const *names; /* "libnvrtc.so.13", ... */
    int32_t n;
} fli__library_names;

/* The first that opens in the folders that the pattern root + rest names; NULL if
 * none does, or root is NULL. */
void *fli__library_in(const fli__library_names *library, const char *root,
                      const char *rest);

/* The first that the system opens by name; flags: 0, or RTLD_NOLOAD for what the
 * process has loaded. */
void *fli__library_named(const fli__library_names *library, int flags);

#endif
