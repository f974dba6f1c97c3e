/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a case: tensors and blocks with poison around and between their
 * elements and a page behind them that traps, snapshots of what calls must not
 * change, poison in what they must write. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "flicheck.h"

enum { GUARD_BYTES = 256 }; /* at least, in front of the data */

/* Elements of bench tensors repeat after so many: making them is slow. */
static const int64_t bench_period = 1 << 20;

void *check_xalloc(size_t bytes)
{
    void *const memory = calloc(1, bytes ? bytes : 1);

    if (!memory) {
        fprintf(stderr, "flicheck: no memory for %zu bytes\n", bytes);
        exit(2);
    }
    return memory;
}

static void poison(void *memory, size_t bytes, int32_t dtype)
{
    uint16_t *const words = memory; /* pages: even, and aligned */
    const uint16_t word = check_is_float(dtype) ? CHECK_POISON_WORD : 0xa5a5;

    for (size_t i = 0; i < bytes / 2; i++)
        words[i] = word;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Pages that hold offset + bytes, then the trap. */
static void map(check_block *block, size_t bytes, int gpu)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    /* large blocks begin at 2 MiB, so that they can be huge pages */
    const size_t large = 2u << 20, align = bytes < large ? page : large;

    block->pages_bytes = round_up(bytes, page);
    block->gpu = gpu;
    if (gpu) { /* without the trap: compute-sanitizer has its own */
        block->pages = check_gpu_alloc(block->pages_bytes);
        return;
    }
    const size_t all = block->pages_bytes + page + align;
    char *const memory = mmap(NULL, all, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        fprintf(stderr, "flicheck: no memory for %zu bytes\n", bytes);
        exit(2);
    }
    block->pages = (char *)round_up((size_t)memory, align);
    char *const trap = block->pages + block->pages_bytes;

    if (block->pages > memory)
        munmap(memory, (size_t)(block->pages - memory));
    if (memory + all > trap + page)
        munmap(trap + page, (size_t)(memory + all - trap - page));
    mprotect(trap, page, PROT_NONE);
#if defined(MADV_HUGEPAGE)
    if (align == large)
        madvise(block->pages, block->pages_bytes, MADV_HUGEPAGE);
#endif
}

static void unmap(const check_block *block)
{
    if (block->gpu)
        check_gpu_free(block->pages);
    else
        munmap(block->pages,
               block->pages_bytes + (size_t)sysconf(_SC_PAGESIZE));
}

/* --- tensors -------------------------------------------------------------- */

static void place(check *c, check_block *block, size_t bytes, int32_t dtype)
{
    const size_t element = fli_dtype_bytes(dtype);
    const uint64_t dice = check_hash(c->random, "place");
    size_t shift = 0;

    if (!c->aligned && check_is_float(dtype) && dice & 2)
        shift = (1 + (dice >> 2) % 3) * element;
    block->data_bytes = bytes;
    map(block, bytes + 2 * GUARD_BYTES, c->gpu);
    poison(block->pages, block->pages_bytes, dtype);
    /* only floats may lie anywhere: blobs and tables want their alignment */
    if (!c->aligned && check_is_float(dtype) && dice & 1)
        block->data = block->pages + block->pages_bytes - bytes;
    else
        block->data = block->pages + GUARD_BYTES + shift;
}

static void fill_element(check *c, const check_item *item, int64_t i)
{
    const int32_t dtype = item->spec.dtype;
    void *const data = item->block.data;

    switch (item->spec.fill) {
    case CHECK_NORMAL:
        check_encode(data, dtype, i, check_normal(c));
        break;
    case CHECK_UNIFORM:
        check_encode(data, dtype, i, (double)(check_random(c) >> 11) * 0x1p-53);
        break;
    case CHECK_ZERO:
        check_encode(data, dtype, i, 0);
        break;
    case CHECK_NAN:
        break;
    }
}

int64_t check_n_rows(const fli_tensor *view)
{
    int64_t n = view->shape[view->ndim - 1] > 0;

    for (int i = 0; i < view->ndim - 1; i++)
        n *= view->shape[i];
    return n;
}

int64_t check_row(const fli_tensor *view, int64_t r)
{
    int64_t at = 0;

    for (int i = view->ndim - 2; i >= 0; i--) {
        at += r % view->shape[i] * view->stride[i];
        r /= view->shape[i];
    }
    return at;
}

static void fill_rows(check *c, const check_item *item)
{
    const int64_t n = item->view.shape[item->view.ndim - 1];

    if (item->spec.fill == CHECK_NAN)
        return;
    for (int64_t r = 0; r < check_n_rows(&item->view); r++) {
        const int64_t first = check_row(&item->view, r);

        for (int64_t i = first; i < first + n; i++)
            fill_element(c, item, i);
    }
}

/* Compact and large: the first elements again and again. */
static void fill_repeated(check *c, const check_item *item)
{
    const size_t element = fli_dtype_bytes(item->spec.dtype);
    const size_t period = (size_t)bench_period * element;
    char *const data = item->block.data;

    for (int64_t i = 0; i < bench_period; i++)
        fill_element(c, item, i);
    for (size_t at = period; at < item->block.data_bytes; at += period) {
        const size_t left = item->block.data_bytes - at;

        memcpy(data + at, data, left < period ? left : period);
    }
}

static void set_broken(check *c, const char *reason)
{
    if (!c->broken[0])
        snprintf(c->broken, sizeof(c->broken), "%s", reason);
}

void check_broken(check *c, const char *reason)
{
    set_broken(c, reason);
}

static int is_right(check *c, const check_spec *spec)
{
    if (!c->in_setup)
        set_broken(c, "the driver makes a tensor outside its setup");
    else if (c->n_items == MAX_TENSORS)
        set_broken(c, "the driver makes too many tensors");
    else if (spec->ndim < 1 || spec->ndim > FLI_MAX_NDIM)
        set_broken(c, "the driver makes a tensor of no rank");
    else if (!fli_dtype_bytes(spec->dtype))
        set_broken(c, "the driver makes a tensor of no dtype");
    for (int i = 0; i < spec->ndim && i < FLI_MAX_NDIM; i++)
        if (spec->shape[i] < 0 || spec->pad[i] < 0)
            set_broken(c, "the driver makes a tensor of a negative extent");
    return !c->broken[0];
}

fli_tensor check_tensor(check *c, const check_spec *spec)
{
    if (!is_right(c, spec))
        return (fli_tensor){ 0 };
    check_item *const item = &c->items[c->n_items++];
    const int last = spec->ndim - 1;
    int64_t extent = 1, pitch = 1;
    int compact = 1;

    item->spec = *spec;
    item->view = (fli_tensor){
        .dtype = spec->dtype,
        .device = c->gpu ? fli_cuda(0) : fli_cpu(),
        .ndim = spec->ndim,
    };
    for (int i = last; i >= 0; i--) {
        const int64_t n = spec->shape[i];

        item->view.shape[i] = n;
        if (i < last)
            pitch += spec->pad[i];
        item->view.stride[i] = pitch;
        compact &= i == last || !spec->pad[i];
        if (extent)
            extent = n ? extent + (n - 1) * pitch : 0;
        pitch *= n ? n : 1;
    }
    place(c, &item->block, (size_t)extent * fli_dtype_bytes(spec->dtype),
          spec->dtype);
    item->view.data = item->block.data;
    if (spec->role == CHECK_OUT || spec->role == CHECK_OUT_EXACT || !extent)
        return item->view;
    if (c->bench && compact && extent > bench_period)
        fill_repeated(c, item);
    else
        fill_rows(c, item);
    return item->view;
}

fli_tensor check_make(check *c, const char *name, check_role role,
                      check_fill fill, int32_t dtype, int32_t ndim,
                      const int64_t *shape)
{
    check_spec spec = {
        .name = name,
        .role = role,
        .fill = fill,
        .dtype = dtype,
        .ndim = ndim,
    };

    for (int i = 0; i < ndim && i < FLI_MAX_NDIM; i++)
        spec.shape[i] = shape[i];
    return check_tensor(c, &spec);
}

fli_tensor check_indices(check *c, const char *name, const int32_t *values,
                         int64_t n)
{
    const fli_tensor tensor =
        check_make(c, name, CHECK_IN, CHECK_NAN, FLI_I32, 1, &n);

    if (tensor.data && n)
        memcpy(tensor.data, values, (size_t)n * sizeof(*values));
    return tensor;
}

/* --- other memory --------------------------------------------------------- */

void *check_memory(check *c, size_t bytes)
{
    if (c->n_blocks == MAX_BLOCKS) {
        set_broken(c, "the driver takes too many blocks of memory");
        return NULL;
    }
    check_block *const block = &c->blocks[c->n_blocks++];

    block->data_bytes = bytes;
    map(block, bytes + 2 * GUARD_BYTES, c->gpu);
    memset(block->pages, 0xa5, block->pages_bytes);
    /* as near to the trap as 256 bytes allow */
    block->data = block->pages + (block->pages_bytes - bytes) / 256 * 256;
    memset(block->data, 0, bytes);
    return block->data;
}

void *check_state(check *c, size_t bytes)
{
    if (c->n_states == MAX_BLOCKS) {
        set_broken(c, "the driver takes too many states");
        return NULL;
    }
    c->states[c->n_states] = check_xalloc(bytes);
    return c->states[c->n_states++];
}

/* --- before and after calls ----------------------------------------------- */

void check_seal(check *c)
{
    for (int i = 0; i < c->n_items; i++) {
        check_item *const item = &c->items[i];
        const check_block *const block = &item->block;

        item->before = check_xalloc(block->pages_bytes);
        memcpy(item->before, block->pages, block->pages_bytes);
    }
    c->random_after_setup = c->random;
}

void check_refill(check *c)
{
    for (int i = 0; i < c->n_items; i++)
        if (c->items[i].spec.role != CHECK_IN)
            memcpy(c->items[i].block.pages, c->items[i].before,
                   c->items[i].block.pages_bytes);
    c->random = c->random_after_setup;
}

static int same(const check_item *item, size_t from, size_t to, char *reason)
{
    const char *const now = item->block.pages, *const before = item->before;

    if (!memcmp(now + from, before + from, to - from))
        return 1;
    while (now[from] == before[from])
        from++;
    const ptrdiff_t at = now + from - item->block.data;
    const ptrdiff_t bytes = (ptrdiff_t)item->block.data_bytes;
    const char *const name = item->spec.name;

    if (at < 0)
        snprintf(reason, REASON_BYTES, "wrote %td bytes in front of %s", -at,
                 name);
    else if (at >= bytes)
        snprintf(reason, REASON_BYTES, "wrote %td bytes behind the end of %s",
                 at - bytes, name);
    else if (item->spec.role == CHECK_IN)
        snprintf(reason, REASON_BYTES, "changed byte %td of the input %s", at,
                 name);
    else
        snprintf(reason, REASON_BYTES,
                 "wrote to byte %td of %s, where nothing was to be written", at,
                 name);
    return 0;
}

/* All but the elements must be as before: guards, padding. */
static int same_gaps(const check_item *item, char *reason)
{
    const fli_tensor *const view = &item->view;
    const size_t element = fli_dtype_bytes(view->dtype);
    const size_t first = (size_t)(item->block.data - item->block.pages);
    const size_t row_bytes = (size_t)view->shape[view->ndim - 1] * element;
    size_t at = 0; /* the first byte not seen yet */

    for (int64_t r = 0; r < check_n_rows(view); r++) {
        const size_t row = first + (size_t)check_row(view, r) * element;

        if (!same(item, at, row, reason))
            return 0;
        at = row + row_bytes;
    }
    return same(item, at, item->block.pages_bytes, reason);
}

static int intact_block(const check_block *block, char *reason)
{
    const char *const end = block->data + block->data_bytes;
    const char *const last = block->pages + block->pages_bytes;

    for (const char *p = block->pages; p < last; p++) {
        if (p == block->data)
            p = end;
        if (p < last && *p != '\xa5') {
            snprintf(reason, REASON_BYTES,
                     "wrote outside of %zu bytes of memory, at offset %td",
                     block->data_bytes, p - block->data);
            return 0;
        }
    }
    return 1;
}

int check_intact(const check *c, char *reason)
{
    for (int i = 0; i < c->n_items; i++) {
        const check_item *const item = &c->items[i];
        const int intact = item->spec.role == CHECK_IN
                               ? same(item, 0, item->block.pages_bytes, reason)
                               : same_gaps(item, reason);

        if (!intact)
            return 0;
    }
    for (int i = 0; i < c->n_blocks; i++)
        if (!intact_block(&c->blocks[i], reason))
            return 0;
    return 1;
}

int check_untouched(const check *c, char *reason)
{
    char change[REASON_BYTES];

    for (int i = 0; i < c->n_items; i++)
        if (!same(&c->items[i], 0, c->items[i].block.pages_bytes, change)) {
            snprintf(reason, REASON_BYTES, "refused, and yet it %.400s",
                     change);
            return 0;
        }
    return 1;
}

void check_keep(check *c, check_keep_in where)
{
    for (int i = 0; i < c->n_items; i++) {
        check_item *const item = &c->items[i];

        if (item->spec.role == CHECK_IN)
            continue;
        if (!item->keep[where])
            item->keep[where] = check_xalloc(item->block.data_bytes);
        memcpy(item->keep[where], item->block.data, item->block.data_bytes);
    }
}

int check_same_bits(const check *c, char *reason)
{
    for (int i = 0; i < c->n_items; i++) {
        const check_item *const item = &c->items[i];

        if (item->spec.role == CHECK_IN
            || !memcmp(item->keep[CHECK_KEEP_AGAIN], item->block.data,
                       item->block.data_bytes))
            continue;
        snprintf(reason, REASON_BYTES, "a second call gave %s other bits",
                 item->spec.name);
        return 0;
    }
    return 1;
}

void check_release(check *c)
{
    for (int i = 0; i < c->n_items; i++) {
        unmap(&c->items[i].block);
        free(c->items[i].before);
        for (int k = 0; k < CHECK_N_KEEPS; k++)
            free(c->items[i].keep[k]);
    }
    for (int i = 0; i < c->n_blocks; i++)
        unmap(&c->blocks[i]);
    for (int i = 0; i < c->n_states; i++)
        free(c->states[i]);
}
