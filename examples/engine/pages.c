/* SPDX-License-Identifier: Apache-2.0 */
/* Who holds which page of the KV cache, and which pages are worth keeping.
 *
 * A full page is a node of the prefix tree: its edge is the page_size tokens it
 * holds, its path from the root all the tokens before.  A request that begins
 * with the same tokens holds the same pages.
 *
 * Pages that nobody holds stand in one list: empty ones first, then those of the
 * tree, least recently used first.  Whoever holds a page holds its parent, and
 * pages are let go last one first, so a child always stands before its parent and
 * the head of the list has no children: taking the head is the whole eviction. */
#include <string.h>

#include "engine.h"

static void insert(pages *p, int32_t id, int32_t before)
{
    const int32_t after = p->at[before].after;

    p->at[id].before = before;
    p->at[id].after = after;
    p->at[before].after = p->at[after].before = id;
    p->n_unused++;
}

void pages_create(pages *p, int32_t n, int32_t page_size)
{
    *p = (pages){ .n = n, .page_size = page_size };
    p->at = take(&p->memory, n + 1, sizeof(*p->at));
    p->tokens = take(&p->memory, n, (size_t)page_size * sizeof(*p->tokens));
    p->at[n] = (page){ .before = n, .after = n, .child = NONE };
    for (int32_t i = 0; i < n; i++) {
        p->at[i] = (page){ .parent = NONE, .child = NONE, .sibling = NONE };
        insert(p, i, n);
    }
}

int32_t pages_take(pages *p)
{
    const int32_t id = p->at[p->n].after;
    page *taken = &p->at[id];

    if (taken->parent != NONE) {
        int32_t *link = &p->at[taken->parent].child;

        while (*link != id)
            link = &p->at[*link].sibling;
        *link = taken->sibling;
        taken->parent = NONE;
    }
    pages_hold(p, id);
    return id;
}

void pages_hold(pages *p, int32_t id)
{
    page *held = &p->at[id];

    if (held->n_holders++ == 0) {
        p->at[held->before].after = held->after;
        p->at[held->after].before = held->before;
        p->n_unused--;
    }
    p->n_shared += held->n_holders == 2;
}

void pages_release(pages *p, int32_t id)
{
    const page *held = &p->at[id];

    p->n_shared -= held->n_holders == 2;
    if (--p->at[id].n_holders == 0)
        insert(p, id, held->parent == NONE ? p->n : p->at[p->n].before);
}

int32_t pages_find(const pages *p, int32_t parent, const int32_t *tokens)
{
    const size_t bytes = (size_t)p->page_size * sizeof(*tokens);
    int32_t id = p->at[parent].child;

    while (id != NONE
           && memcmp(p->tokens + (int64_t)id * p->page_size, tokens, bytes))
        id = p->at[id].sibling;
    return id;
}

void pages_publish(pages *p, int32_t id, int32_t parent, const int32_t *tokens)
{
    memcpy(p->tokens + (int64_t)id * p->page_size, tokens,
           (size_t)p->page_size * sizeof(*tokens));
    p->at[id].parent = parent;
    p->at[id].sibling = p->at[parent].child;
    p->at[parent].child = id;
}
