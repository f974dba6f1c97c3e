/* SPDX-License-Identifier: Apache-2.0 */
/* ISA levels of the CPU that this process runs on. */
#include "device/device.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const names[] = {
    [FLI__ISA_NONE] = "",
    [FLI__ISA_BASELINE] = "baseline",
    [FLI__ISA_AVX2] = "avx2",
};

#define N_ISAS ((fli__isa)(sizeof(names) / sizeof(*names)))

#if defined(FLI__BUILD_AVX2)
/* AVX2, FMA and F16C in the CPU, and the ymm registers saved by the system. */
static int has_avx2(void)
{
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, F16C = 1 << 29, AVX2 = 1 << 5 };
    enum { XMM_YMM = 6 };
    const unsigned leaf1 = FMA | OSXSAVE | F16C;
    unsigned a, b, c, d, low, high;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & leaf1) != leaf1)
        return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & XMM_YMM) != XMM_YMM)
        return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & AVX2);
}
#endif

fli__isa fli__cpu_isa(void)
{
#if defined(FLI__BUILD_AVX2)
    if (has_avx2())
        return FLI__ISA_AVX2;
#endif
    return FLI__ISA_BASELINE;
}

const char *fli__isa_name(fli__isa isa)
{
    return isa < N_ISAS ? names[isa] : "";
}

fli__isa fli__isa_from_name(const char *name)
{
    for (fli__isa isa = FLI__ISA_BASELINE; isa < N_ISAS; isa++)
        if (!strcmp(name, names[isa]))
            return isa;
    return FLI__ISA_NONE;
}
