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

/* Costs are picoseconds of a core with AVX2, where all data comes from memory;
 * measured at dims of 256, and in proportion to them at others. */
static fli_tile_class stream_class(const fli_attention_shape *shape)
{
    const uint32_t dims = (uint32_t)(shape->head_dim_qk + shape->head_dim_vo);
    const uint32_t bytes = (uint32_t)v_dtype_bytes(shape->dtype_kv);

    return (fli_tile_class){
        .rows = STREAM_ROWS,
        .kv_tile = STREAM_TOKENS,
        .cut = 4 * STREAM_TOKENS,
        .heads = shape->n_kv_heads,
        .longest_first = 1,
        .cost_item = 500000,
        .cost_row = 200 * dims,
        .cost_tile = 200 * dims * bytes,
        .cost_cell = 300 * dims,
        .cost_merge = 300 * (uint32_t)shape->head_dim_vo,
    };
}

static fli_tile_class tile_class(const fli_attention_shape *shape)
{
    const uint32_t dims = (uint32_t)(shape->head_dim_qk + shape->head_dim_vo);
    const uint32_t elements = dims * (uint32_t)tile_tokens(shape);

    return (fli_tile_class){
        .rows = TILE_ROWS,
        .kv_tile = tile_tokens(shape),
        .cut = tile_tokens(shape),
        .heads = 1,
        .longest_first = 1,
        .cost_item = 500000,
        .cost_row = 500 * dims,
        .cost_tile = 190 * elements,
        .cost_cell = 16 * elements,
        .cost_merge = 300 * (uint32_t)shape->head_dim_vo,
    };
}

void KERNEL(attention_tiles)(const fli_attention_shape *shape,
                             fli_attention_tiles *tiles)
{
    const int64_t dims = shape->head_dim_qk + shape->head_dim_vo;

    *tiles = (fli_attention_tiles){
        .policy = {
            .flags = shape->flags,
            .snap = 32,
            .chunk = shape->flags & FLI_PLAN_INVARIANT ? 2 * TILE_TOKENS : 0,
            .l2_bytes = 512 << 10, /* half of a common L2 */
            .token_bytes = dims * (int64_t)v_dtype_bytes(shape->dtype_kv),
        },
        .scratch_bytes = max64(stream_scratch(shape), tile_scratch(shape)),
    };
    if (!(shape->flags & FLI_PLAN_INVARIANT))
        tiles->tile_class[tiles->n_classes++] = stream_class(shape);
    tiles->tile_class[tiles->n_classes++] = tile_class(shape);
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
