/* SPDX-License-Identifier: Apache-2.0 */
/* A plan as text. */
#include <stdarg.h>
#include <stdio.h>

#include "plan/plan.h"

void fli__text_add(fli__text *text, const char *format, ...)
{
    const size_t at = MIN(text->length, text->n);
    va_list args;

    va_start(args, format);
    const int n = vsnprintf(text->n > 0 ? text->buf + at : NULL, text->n - at,
                            format, args);

    va_end(args);
    text->length += n > 0 ? (size_t)n : 0;
}

static void print_item(fli__text *text, const fli_work_item *item)
{
    fli__text_add(text, "    class %d  request %d", (int)item->tile_class,
                  (int)item->request);
    if (item->n_requests > 1)
        fli__text_add(text, "..%d", (int)(item->request + item->n_requests));
    fli__text_add(text, "  rows %d..%d  heads %d..%d  kv %d..%d",
                  (int)item->row_begin, (int)item->row_end, (int)item->kv_head,
                  (int)(item->kv_head + item->n_kv_heads), (int)item->kv_begin,
                  (int)item->kv_end);
    if (item->partial >= 0)
        fli__text_add(text, "  partial %d  merge %d", (int)item->partial,
                      (int)item->merge);
    fli__text_add(text, "\n");
}

void fli__plan_print(fli__text *text, const fli_plan_output *out)
{
    const fli_plan_summary *sum = out->summary;
    const uint64_t total = MAX(sum->total_cost, (uint64_t)1);
    const double imbalance =
        (double)sum->max_cost * sum->n_busy / (double)total;

    fli__text_add(text,
                  "plan  %d workers  %d items  %d merges  imbalance %.2f\n",
                  (int)sum->n_workers, (int)sum->n_items, (int)sum->n_merges,
                  sum->total_cost ? imbalance : 1.0);
    for (int32_t w = 0; w < sum->n_workers; w++) {
        fli__text_add(text, "  worker %d  cost %llu\n", (int)w,
                      (unsigned long long)out->load[w]);
        for (int32_t i = w; i >= 0; i = out->items[i].next)
            if (out->items[i].tile_class >= 0)
                print_item(text, &out->items[i]);
    }
    for (int32_t m = 0; m < sum->n_merges; m++) {
        const fli_merge_item *merge = &out->merges[m];

        fli__text_add(text, "  merge %d  rows %d..%d  heads %d..%d  partials",
                      (int)m, (int)merge->row_begin, (int)merge->row_end,
                      (int)merge->kv_head,
                      (int)(merge->kv_head + merge->n_kv_heads));
        for (int32_t k = 0; k < merge->n_sources; k++)
            fli__text_add(text, " %d", (int)out->sources[merge->source + k]);
        fli__text_add(text, "\n");
    }
}
