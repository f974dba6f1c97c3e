/* SPDX-License-Identifier: Apache-2.0 */
/* What the oracle reads.  --dump DIR makes DIR/<op>/<id>/ with
 *
 *   case.txt         one line: op=<op>, then every key=value of the case,
 *                    defaults included, with blanks between
 *   tensors.txt      a line for each tensor: name, role (in, out, inout), dtype
 *                    (f32 f16 bf16 i32 i64 u8 bool), shape with commas
 *   <name>.npy       in and inout: the tensor as it is before the call
 *   <name>.ref.npy   out and inout: as the reference left it
 *
 * Arrays are compact whatever the strides were.  bf16 is uint16, bool uint8.
 * Elements that the reference did not write hold poison: the word ffe5 (a NaN)
 * in floats, bytes a5 in the others. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "flicheck.h"

enum { PATH_BYTES = 1024 };

static const char *descr(int32_t dtype)
{
    switch (dtype) {
    case FLI_F32:
        return "<f4";
    case FLI_F16:
        return "<f2";
    case FLI_BF16:
        return "<u2";
    case FLI_I32:
        return "<i4";
    case FLI_I64:
        return "<i8";
    default:
        return "|u1";
    }
}

/* Version 1.0: magic, length of the header, a Python dict, blanks up to 64. */
static void write_header(FILE *out, const fli_tensor *view)
{
    char header[256];
    int n = snprintf(header, sizeof(header),
                     "{'descr': '%s', 'fortran_order': False, 'shape': (",
                     descr(view->dtype));

    for (int i = 0; i < view->ndim; i++)
        n += snprintf(header + n, sizeof(header) - (size_t)n, "%lld,",
                      (long long)view->shape[i]);
    n += snprintf(header + n, sizeof(header) - (size_t)n, "), }");
    while ((10 + n + 1) % 64)
        header[n++] = ' ';
    header[n++] = '\n';
    fwrite("\x93NUMPY\x01", 1, 7, out);
    putc(0, out);
    putc(n & 255, out);
    putc(n >> 8, out);
    fwrite(header, 1, (size_t)n, out);
}

static void write_rows(FILE *out, const fli_tensor *view, const char *data)
{
    const size_t bytes = fli_dtype_bytes(view->dtype);

    for (int64_t r = 0; r < check_n_rows(view); r++)
        fwrite(data + (size_t)check_row(view, r) * bytes, bytes,
               (size_t)view->shape[view->ndim - 1], out);
}

static int close_all_written(FILE *out)
{
    const int right = !ferror(out);

    return !fclose(out) && right;
}

static int write_npy(const char *directory, const check_item *item,
                     const char *suffix, const char *data)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "%s/%s%s.npy", directory, item->spec.name,
             suffix);
    FILE *const out = fopen(path, "wb");

    if (!out)
        return 0;
    write_header(out, &item->view);
    write_rows(out, &item->view, data);
    return close_all_written(out);
}

static const char *role_name(check_role role)
{
    if (role == CHECK_IN)
        return "in";
    return role == CHECK_OUT || role == CHECK_OUT_EXACT ? "out" : "inout";
}

static int write_tensors(const check *c, const char *directory)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "%s/tensors.txt", directory);
    FILE *const out = fopen(path, "w");

    if (!out)
        return 0;
    for (int i = 0; i < c->n_items; i++) {
        const check_item *const item = &c->items[i];
        const char *const role = role_name(item->spec.role);
        int right = 1;

        fprintf(out, "%s %s %s ", item->spec.name, role,
                fli_dtype_name(item->spec.dtype));
        for (int d = 0; d < item->view.ndim; d++)
            fprintf(out, "%s%lld", d ? "," : "",
                    (long long)item->view.shape[d]);
        putc('\n', out);
        if (role[0] == 'i') {
            const ptrdiff_t at = item->block.data - item->block.pages;

            right = write_npy(directory, item, "", item->before + at);
        }
        if (item->spec.role != CHECK_IN)
            right &=
                write_npy(directory, item, ".ref", item->keep[CHECK_KEEP_REF]);
        if (!right) {
            fclose(out);
            return 0;
        }
    }
    return close_all_written(out);
}

static int write_case(const check *c, const char *directory)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "%s/case.txt", directory);
    FILE *const out = fopen(path, "w");

    if (!out)
        return 0;
    fprintf(out, "op=%s", c->one->driver->op);
    for (int i = 0; i < c->one->n_keys; i++)
        fprintf(out, " %s=%s", c->one->key[i], c->one->value[i]);
    putc('\n', out);
    return close_all_written(out);
}

/* Each folder of path, from the first that is not there. */
static int make_folders(char *path)
{
    for (char *slash = path + 1; *slash; slash++)
        if (*slash == '/') {
            *slash = 0;
            if (mkdir(path, 0777) && errno != EEXIST)
                return 0;
            *slash = '/';
        }
    return !mkdir(path, 0777) || errno == EEXIST;
}

int check_dump(const check *c)
{
    char directory[PATH_BYTES / 2];

    snprintf(directory, sizeof(directory), "%s/%s/%s", c->options->dump,
             c->one->driver->op, check_value(c->one, "id"));
    return make_folders(directory) && write_case(c, directory)
           && write_tensors(c, directory);
}
