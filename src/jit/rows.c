/* SPDX-License-Identifier: Apache-2.0 */
/* What the launches of kernels that go over rows share. */
#include "jit/rows.h"

#include <inttypes.h>
#include <string.h>

#include "core/check.h"

int32_t fli__rows_vec(size_t element_bytes, uintptr_t addresses,
                      int64_t lengths)
{
    const int32_t vec = (int32_t)(16 / element_bytes);

    return (lengths & (vec - 1)) == 0 && addresses % 16 == 0 ? vec : 1;
}

static void define_vec(fli__instance *instance, int32_t vec)
{
    const size_t used = strlen(instance->name);

    fli__instance_define(instance, "VEC", vec);
    if (used + 4 > sizeof(instance->name)) {
        instance->is_too_long = 1;
        return;
    }
    memcpy(instance->name + used, "_v", 2);
    instance->name[used + 2] = (char)('0' + vec);
    instance->name[used + 3] = 0;
}

fli_status fli__rows_kernel(const fli__call *call, fli__instance *instance,
                            int32_t vec, const fli__kernel **out)
{
    if (call->prepare && vec > 1) {
        fli__instance both[2] = { *instance, *instance };
        const fli__kernel *kernels[2];

        define_vec(&both[0], vec);
        define_vec(&both[1], 1);
        TRY(fli__jit_kernels(call, both, 2, kernels));
        *out = kernels[0];
        return FLI_OK;
    }
    define_vec(instance, vec);
    return fli__jit_kernel(call, instance, out);
}

fli__row_cut fli__rows_cut(int64_t n, int32_t items, uint32_t max_threads)
{
    const int64_t most = (int64_t)items * max_threads;
    const int64_t parts = n > most ? (n + most - 1) / most : 1;
    const int64_t vectors = (n + parts - 1) / parts;
    const uint32_t threads = (uint32_t)((vectors + items - 1) / items);
    fli__row_cut cut = { .threads = threads ? threads : 1, .rows = 1 };

    if (cut.threads > 32) /* whole warps */
        cut.threads = (cut.threads + 31) / 32 * 32;
    if (cut.threads < max_threads)
        cut.rows = max_threads / cut.threads;
    /* a grid has at most 65535 blocks along y; they come back for more */
    cut.parts = (uint32_t)(parts < 65535 ? parts : 65535);
    return cut;
}

fli_status fli__rows_blocks(const fli__call *call, int64_t n_rows,
                            uint32_t rows, uint32_t *out)
{
    const int64_t n = n_rows / rows + (n_rows % rows > 0);

    CHECK(n <= INT32_MAX, UNSUPPORTED,
          "%s: rows take %" PRId64 " blocks of %u, expected at most %d",
          call->where, n, (unsigned)rows, INT32_MAX);
    *out = (uint32_t)n;
    return FLI_OK;
}
