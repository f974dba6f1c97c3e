/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256, one block of 64 bytes at a time. */
#include "core/hash.h"

#include <string.h>

#include "core/status.h"

/* The first 32 bits of the fractions of the cube roots of the primes to 311. */
static const uint32_t rounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void expand(uint32_t w[64], const uint8_t *block)
{
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16
               | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        const uint32_t x = w[i - 15], y = w[i - 2];

        w[i] = w[i - 16] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + w[i - 7]
               + (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
    }
}

/* a to h as in the standard. */
static void add_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    uint32_t w[64];

    expand(w, block);
    for (int i = 0; i < 64; i++) {
        const uint32_t t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25))
                            + ((e & f) ^ (~e & g)) + rounds[i] + w[i];
        const uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22))
                            + ((a & b) ^ (a & c) ^ (b & c));

        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    const uint32_t sums[] = { a, b, c, d, e, f, g, h };

    for (int i = 0; i < 8; i++)
        state[i] += sums[i];
}

void fli__hash_begin(fli__hash *hash)
{
    static const uint32_t first[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    };

    memcpy(hash->state, first, sizeof(first));
    hash->n_bytes = 0;
}

void fli__hash_add(fli__hash *hash, const void *data, size_t bytes)
{
    const uint8_t *from = data;

    while (bytes) {
        const size_t used = hash->n_bytes % 64;
        const size_t n = MIN(64 - used, bytes);

        memcpy(hash->block + used, from, n);
        if (used + n == 64)
            add_block(hash->state, hash->block);
        hash->n_bytes += n;
        from += n;
        bytes -= n;
    }
}

void fli__hash_end(fli__hash *hash, uint8_t out[FLI__HASH_BYTES])
{
    const uint64_t n_bits = hash->n_bytes * 8;
    const size_t used = hash->n_bytes % 64;
    const size_t pad = (used < 56 ? 56 : 120) - used;
    uint8_t tail[72] = { 0x80 };

    for (int i = 0; i < 8; i++)
        tail[pad + i] = (uint8_t)(n_bits >> (56 - 8 * i));
    fli__hash_add(hash, tail, pad + 8);
    for (int i = 0; i < FLI__HASH_BYTES; i++)
        out[i] = (uint8_t)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}

void fli__hash_add_text(fli__hash *hash, const char *text)
{
    fli__hash_add(hash, text, strlen(text) + 1);
}

void fli__hash_text(const uint8_t *hash, int32_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (int32_t i = 0; i < n; i++) {
        out[2 * i] = digits[hash[i] >> 4];
        out[2 * i + 1] = digits[hash[i] & 15];
    }
    out[2 * n] = 0;
}
