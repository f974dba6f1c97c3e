/* SPDX-License-Identifier: Apache-2.0 */
/* attention on CUDA: a launch runs the workers of one tile class. */
#ifndef FLI_ABI_ATTENTION_LAUNCH_H
#define FLI_ABI_ATTENTION_LAUNCH_H

#include "abi/attention.h"

/* Block b is worker first_worker + b. */
typedef struct {
    fli_attention_params p;
    int32_t first_worker;
    int32_t reserved;
} fli_attention_launch;

/* The prefill kernel's shared memory of a block, and its scratch of a worker for
 * chunks, in bytes: rows of Q, and of K and V in two stages, padded to multiples of
 * 16 elements and by 16 bytes; or in their place rows of states. */
#define FLI_PREFILL_ROW(dim)         ((int32_t)((dim) + 15) / 16 * 32 + 16)
#define FLI_PREFILL_STATES(rows, vo) ((rows) * 2 * (FLI_PREFILL_ROW(vo) + 4))
#define FLI_PREFILL_TILES(rows, kv_tile, qk, vo)                               \
    ((rows) * FLI_PREFILL_ROW(qk)                                              \
     + 2 * (kv_tile) * (FLI_PREFILL_ROW(qk) + FLI_PREFILL_ROW(vo)))
#define FLI_ATTENTION_PREFILL_SHARED(rows, kv_tile, qk, vo)                    \
    (64 + 32 * (kv_tile) + 8 * (rows)                                          \
     + (FLI_PREFILL_TILES(rows, kv_tile, qk, vo)                               \
                > FLI_PREFILL_STATES(rows, vo)                                 \
            ? FLI_PREFILL_TILES(rows, kv_tile, qk, vo)                         \
            : FLI_PREFILL_STATES(rows, vo)))
#define FLI_ATTENTION_PREFILL_SCRATCH(rows, vo)                                \
    (2 * FLI_PREFILL_STATES(rows, vo))

/* The decode kernel's: each warp's ring of slots, which hold 16 rows of K or of V,
 * padded likewise; the items that its loader is ahead, 32 words each, and its rows'
 * m and d. */
#define FLI_DECODE_WARPS         8
#define FLI_DECODE_PITCH(qk, vo) FLI_PREFILL_ROW((qk) > (vo) ? (qk) : (vo))
#define FLI_DECODE_ITEMS(slots)  (((slots) + 1) / 2)
#define FLI_ATTENTION_DECODE_SHARED(slots, qk, vo)                             \
    (FLI_DECODE_WARPS                                                          \
     * ((slots) * 16 * FLI_DECODE_PITCH(qk, vo)                                \
        + FLI_DECODE_ITEMS(slots) * 128 + 128))

#endif
