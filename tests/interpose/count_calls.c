/* SPDX-License-Identifier: Apache-2.0 */
/* Loaded with LD_PRELOAD: counts what asks the system for memory or threads, by
 * any thread, then does it. */
#define _GNU_SOURCE /* RTLD_NEXT */

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

/* The C library's own, so that dlsym is not needed before it can allocate. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

long count_calls(void);

static atomic_long n_calls;

long count_calls(void)
{
    return atomic_load(&n_calls);
}

void *malloc(size_t bytes)
{
    atomic_fetch_add(&n_calls, 1);
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
    atomic_fetch_add(&n_calls, 1);
    return __libc_calloc(n, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    atomic_fetch_add(&n_calls, 1);
    return __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    atomic_fetch_add(&n_calls, 1);
    return __libc_memalign(alignment, bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
    atomic_fetch_add(&n_calls, 1);
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    atomic_fetch_add(&n_calls, 1);
    *out = __libc_memalign(alignment, bytes);
    return *out || !bytes ? 0 : ENOMEM;
}

void free(void *memory)
{
    if (memory)
        atomic_fetch_add(&n_calls, 1);
    __libc_free(memory);
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd,
           off_t offset)
{
    void *(*next)(void *, size_t, int, int, int, off_t);

    *(void **)&next = dlsym(RTLD_NEXT, "mmap");
    atomic_fetch_add(&n_calls, 1);
    return next(at, bytes, protection, flags, fd, offset);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                   void *(*start)(void *), void *arg)
{
    int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
    atomic_fetch_add(&n_calls, 1);
    return next(thread, attributes, start, arg);
}
