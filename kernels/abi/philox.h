/* SPDX-License-Identifier: Apache-2.0 */
/* The random numbers of the library: Philox4x32-10 (Salmon, Moraes, Dror and
 * Shaw, SC 2011), a block cipher in counter mode.  No state: who knows key and
 * counter has the numbers. */
#ifndef FLI_ABI_PHILOX_H
#define FLI_ABI_PHILOX_H

#include "abi/types.h"

typedef struct {
    uint32_t word[4];
} fli_philox;

FLI_FN fli_philox fli_philox_block(fli_philox counter, uint64_t seed)
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    uint32_t *c = counter.word;

    for (int i = 0; i < 10; i++) {
        const uint64_t a = (uint64_t)c[0] * 0xd2511f53u;
        const uint64_t b = (uint64_t)c[2] * 0xcd9e8d57u;

        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ key0;
        c[1] = (uint32_t)b;
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ key1;
        c[3] = (uint32_t)a;
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
    return counter;
}

/* The 64 bits of one draw. */
FLI_FN uint64_t fli_philox_draw(uint64_t seed, uint64_t offset, uint32_t stream,
                                uint32_t position)
{
    const fli_philox counter = { { (uint32_t)offset, (uint32_t)(offset >> 32),
                                   stream, position } };
    const fli_philox block = fli_philox_block(counter, seed);

    return block.word[0] | (uint64_t)block.word[1] << 32;
}

#endif
