/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine can do at this moment: streaming read, copy, and the peak
 * of multiply-add, each with the instructions of an ISA level.
 *
 * Memory is shared with other machines on most hosts and its speed drifts by
 * half within minutes, so the bench measures a ceiling beside every timing and
 * believes ratios only.  A ceiling of memory has the footprint of the case:
 * what fits into a cache is compared with that cache. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "flicheck.h"

enum { MAX_WORKERS = 256 };

static const double seconds = 0.02; /* of a turn */
static const size_t least_bytes = 64 << 10, most_bytes = 512 << 20;

#if defined(__x86_64__)
#define AVX2      __attribute__((target("avx2,fma")))
#define HAVE_AVX2 1
#else
#define AVX2
#define HAVE_AVX2 0
#endif

/* --- the loops ------------------------------------------------------------ */

/* 8 loads in flight, their bytes summed so that none is dropped.  n is a
 * multiple of 256. */
#define DEFINE_READ(name, bytes, attribute)                                    \
    attribute static long long name(const char *data, size_t n)                \
    {                                                                          \
        typedef long long v __attribute__((vector_size(bytes)));               \
        v sum[8] = { { 0 } };                                                  \
                                                                               \
        for (size_t at = 0; at < n; at += 8 * (bytes))                         \
            for (int i = 0; i < 8; i++)                                        \
                sum[i] += *(const v *)(data + at + i * (bytes));               \
        for (int i = 1; i < 8; i++)                                            \
            sum[0] += sum[i];                                                  \
        return sum[0][0] + sum[0][1];                                          \
    }

DEFINE_READ(read_16, 16, )
#if HAVE_AVX2
DEFINE_READ(read_32, 32, AVX2)
#endif

/* 12 chains: two units of latency 4 need 8, and 16 registers hold 12 and their
 * operands.  Assembly, so that no compiler keeps the chains in memory. */
#define FOR_12(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11)

#define DEFINE_FMA(name, floats, attribute, INSTRUCTIONS)                      \
    attribute static float name(int64_t turns)                                 \
    {                                                                          \
        typedef float v __attribute__((vector_size(4 * (floats))));            \
        const v x = (v){ 0 } + 0.9999f, y = (v){ 0 } + 1e-4f;                  \
        FOR_12(DECLARE)                                                        \
                                                                               \
        for (int64_t i = 0; i < turns; i++) {                                  \
            FOR_12(INSTRUCTIONS)                                               \
        }                                                                      \
        return (FOR_12(SUM) x)[0];                                             \
    }

#define DECLARE(i) v a##i = (v){ 0 } + 0.1f * (i);
#define SUM(i)     a##i +

#if HAVE_AVX2
#define MULTIPLY_ADD(i)                                                        \
    __asm__ volatile("mulps %1, %0\n\taddps %2, %0"                            \
                     : "+x"(a##i)                                              \
                     : "x"(x), "x"(y));
#define FUSED(i)                                                               \
    __asm__ volatile("vfmadd213ps %2, %1, %0" : "+x"(a##i) : "x"(x), "x"(y));
DEFINE_FMA(fma_4, 4, , MULTIPLY_ADD)
DEFINE_FMA(fma_8, 8, AVX2, FUSED)
#else
#define PLAIN(i) a##i = a##i * x + y;
DEFINE_FMA(fma_4, 4, , PLAIN)
#endif

/* --- workers -------------------------------------------------------------- */

typedef struct {
    pthread_barrier_t *barrier;
    const char *name;
    int avx2;
    char *data; /* of this worker */
    size_t bytes;
    double begin, end, done; /* done: bytes or operations */
} worker;

static volatile double sink;

static void turn(worker *w)
{
    const size_t half = w->bytes / 2;

    if (!strcmp(w->name, "fma")) {
        const int64_t turns = 100000;

#if HAVE_AVX2
        sink = w->avx2 ? fma_8(turns) : fma_4(turns);
#else
        sink = fma_4(turns);
#endif
        w->done += (double)turns * 12 * 2 * (w->avx2 ? 8 : 4);
    } else if (!strcmp(w->name, "copy")) {
        memcpy(w->data + half, w->data, half);
        sink = w->data[half];
        w->done += 2 * (double)half;
    } else {
#if HAVE_AVX2
        sink = (double)(w->avx2 ? read_32(w->data, w->bytes)
                                : read_16(w->data, w->bytes));
#else
        sink = (double)read_16(w->data, w->bytes);
#endif
        w->done += (double)w->bytes;
    }
}

static void *work(void *arg)
{
    worker *const w = arg;

    turn(w); /* warm */
    w->done = 0;
    pthread_barrier_wait(w->barrier);
    w->begin = check_now();
    do {
        turn(w);
        w->end = check_now();
    } while (w->end - w->begin < seconds);
    return NULL;
}

/* As a tensor of the cases: huge pages, and touched. */
static char *buffer(size_t bytes)
{
    static char *memory;
    static size_t have;
    const size_t align = 2 << 20;

    if (bytes > have) {
        if (memory)
            munmap(memory, have + align);
        have = bytes;
        memory = mmap(NULL, have + align, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            fprintf(stderr, "flicheck: no memory for %zu bytes\n", have);
            exit(2);
        }
#if defined(MADV_HUGEPAGE)
        madvise(memory, have + align, MADV_HUGEPAGE);
#endif
        memset(memory, 1, have + align);
    }
    return (char *)(((size_t)memory + align - 1) / align * align);
}

double check_ceiling(const char *name, const char *isa, int n, double bytes)
{
    static worker workers[MAX_WORKERS];
    static pthread_t threads[MAX_WORKERS];
    pthread_barrier_t barrier;
    const size_t all = bytes < (double)least_bytes  ? least_bytes
                       : bytes > (double)most_bytes ? most_bytes
                                                    : (size_t)bytes;
    double begin = 0, end = 0, done = 0;

    n = n < MAX_WORKERS ? n : MAX_WORKERS;
    const size_t part = (all / (size_t)n + 511) / 512 * 512;
    char *const data = buffer(part * (size_t)n);

    pthread_barrier_init(&barrier, NULL, (unsigned)n);
    for (int i = 0; i < n; i++) {
        workers[i] = (worker){ .barrier = &barrier,
                               .name = name,
                               .avx2 = HAVE_AVX2 && !strcmp(isa, "avx2"),
                               .data = data + part * (size_t)i,
                               .bytes = part };
        if (i && pthread_create(&threads[i], NULL, work, &workers[i])) {
            fprintf(stderr, "flicheck: a thread could not be started\n");
            exit(2);
        }
    }
    work(&workers[0]);
    for (int i = 0; i < n; i++) {
        if (i)
            pthread_join(threads[i], NULL);
        begin = i && begin < workers[i].begin ? begin : workers[i].begin;
        end = end > workers[i].end ? end : workers[i].end;
        done += workers[i].done;
    }
    pthread_barrier_destroy(&barrier);
    return done / (end - begin);
}
