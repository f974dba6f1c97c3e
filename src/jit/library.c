/* SPDX-License-Identifier: Apache-2.0 */
#include "jit/library.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>

/* The first library that the pattern of a path names; NULL if none opens. */
static void *open_pattern(const char *pattern)
{
    void *library = NULL;
    glob_t found;

    if (glob(pattern, 0, NULL, &found))
        return NULL;
    for (size_t i = 0; i < found.gl_pathc && !library; i++)
        library = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_LOCAL);
    globfree(&found);
    return library;
}

void *fli__library_in(const fli__library_names *library, const char *root,
                      const char *rest)
{
    void *opened = NULL;

    for (int32_t i = 0; root && i < library->n && !opened; i++) {
        char pattern[1024];

        snprintf(pattern, sizeof(pattern), "%s%s/%s", root, rest,
                 library->names[i]);
        opened = open_pattern(pattern);
    }
    return opened;
}

void *fli__library_named(const fli__library_names *library, int flags)
{
    void *opened = NULL;

    for (int32_t i = 0; i < library->n && !opened; i++)
        opened = dlopen(library->names[i], RTLD_NOW | RTLD_LOCAL | flags);
    return opened;
}
