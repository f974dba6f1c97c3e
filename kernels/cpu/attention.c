/* SPDX-License-Identifier: Apache-2.0 */
/* attention: walks the work lists of a plan.  Few packed rows stream K and V
 * (lib/attention_stream.h), many multiply tiles of them (lib/attention_tile.h);
 * under INVARIANT all are tiles, whose rows have bits of their own. */
#include "abi/kernels.h"
#include "cpu/lib/attention_stream.h"
#include "cpu/lib/attention_tile.h"

static int streams(const fli_attention_params *p, const fli_work_item *item)
{
    return !(p->shape.flags & FLI_PLAN_INVARIANT) && item->tile_class == 0;
}

void KERNEL(attention_tiles)(const fli_attention_shape *shape,
                             fli_attention_tiles *tiles)
{
    const int32_t tokens = tile_tokens(shape);
    const int32_t dims = shape->head_dim_qk + shape->head_dim_vo;
    /* picoseconds of one core at AVX2, measured over dims 128 to 512 */
    const fli_tile_class stream = {
        .rows = STREAM_ROWS,
        .kv_tile = STREAM_TOKENS,
        .cut = 64,
        .heads = shape->n_kv_heads,
        .cost_item = 1000,
        .cost_row = 100,
        .cost_tile = 100,
        .cost_cell = 100,
        .cost_merge = 100,
    };
    const fli_tile_class tile = {
        .rows = TILE_ROWS,
        .kv_tile = tokens,
        .cut = tokens,
        .heads = 1,
        .cost_item = 1000,
        .cost_row = 100,
        .cost_tile = 100,
        .cost_cell = 100,
        .cost_merge = 100,
    };

    (void)dims;
    *tiles = (fli_attention_tiles){
        .policy = {
            .flags = shape->flags,
            .snap = 32,
            .longest_first = 1,
            .chunk = shape->flags & FLI_PLAN_INVARIANT ? 1024 : 0,
            .l2_bytes = 512 << 10,
            .token_bytes = 0,
        },
    };
    if (!(shape->flags & FLI_PLAN_INVARIANT))
        tiles->tile_class[tiles->n_classes++] = stream;
    tiles->tile_class[tiles->n_classes++] = tile;
    tiles->scratch_bytes = max64(stream_scratch(shape), tile_scratch(shape));
}

void KERNEL(attention)(void *params, int32_t ith, int32_t nth)
{
    const fli_attention_params *p = params;

    for (int32_t worker = ith; worker < p->n_workers; worker += nth) {
        char *scratch = p->scratch + worker * p->scratch_bytes;
        int32_t i = p->items[worker].tile_class < 0 ? -1 : worker;

        for (; i >= 0; i = p->items[i].next) {
            const fli_work_item *item = &p->items[i];
            attention_work work;

            begin_work(&work, p, item);
            if (streams(p, item))
                stream_item(&work, scratch);
            else
                tile_item(&work, scratch);
            arrive(p, item);
        }
    }
}
