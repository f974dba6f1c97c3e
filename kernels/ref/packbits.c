/* SPDX-License-Identifier: Apache-2.0 */
/* Reference of packbits and segment_packbits. */
#include "abi/packbits.h"

#include "ref/real.h"

static uint8_t pack_byte(const uint8_t *x, int64_t n, int32_t little)
{
    int byte = 0;

    for (int i = 0; i < n && i < 8; i++)
        if (x[i])
            byte |= little ? 1 << i : 0x80 >> i;
    return (uint8_t)byte;
}

/* Part ith packs every nth segment; all of them count the bytes before it. */
void REF(packbits)(void *params, int32_t ith, int32_t nth)
{
    const fli_packbits_params *p = params;
    int64_t out = 0;

    for (int64_t segment = 0; segment < p->n_segments; segment++) {
        const int64_t begin = p->indptr ? p->indptr[segment] : 0;
        const int64_t end = p->indptr ? p->indptr[segment + 1] : p->n;
        const int64_t bytes = (end - begin + 7) / 8;

        if (segment % nth == ith)
            for (int64_t i = 0; i < bytes; i++)
                p->out[out + i] = pack_byte(p->x + begin + 8 * i,
                                            end - begin - 8 * i, p->little);
        if (p->out_indptr && ith == 0)
            p->out_indptr[segment] = (int32_t)out;
        out += bytes;
    }
    if (p->out_indptr && ith == 0)
        p->out_indptr[p->n_segments] = (int32_t)out;
}
