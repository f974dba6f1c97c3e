/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors: an 8-byte length, a JSON header, then the tensors, in one file or
 * in shards that an index names.  Files are mapped, never copied.  Nothing in
 * them is trusted: each offset is checked against the file before it is used. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"

enum { MAX_HEADER = 100 << 20, MAX_PATH = 4096 };

typedef struct mapping {
    const char *data;
    size_t bytes;
} mapping;

typedef struct shard {
    const char *file;
    mapping map;
    cJSON *header;
    size_t begin; /* of the tensors in the file */
} shard;

static bool map_file(mapping *map, const char *dir, const char *file, error *e)
{
    char path[MAX_PATH];
    struct stat info;

    if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
        return fail(e, "%.64s: the path is too long", file);
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return fail(e, "%.400s: %s", path, strerror(errno));
    if (fstat(fd, &info) || !S_ISREG(info.st_mode) || info.st_size == 0) {
        close(fd);
        return fail(e, "%.400s: not a file, or an empty one", path);
    }
    map->bytes = (size_t)info.st_size;
    map->data = mmap(NULL, map->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (map->data == MAP_FAILED)
        return fail(e, "%.400s: %s", path, strerror(errno));
    return true;
}

static void unmap(const mapping *map)
{
    munmap((void *)map->data, map->bytes);
}

static cJSON *parse_object(const char *text, size_t bytes)
{
    cJSON *json = cJSON_ParseWithLength(text, bytes);

    if (cJSON_IsObject(json))
        return json;
    cJSON_Delete(json);
    return NULL;
}

cJSON *weights_json(const char *dir, const char *file, error *e)
{
    mapping map;

    if (!map_file(&map, dir, file, e))
        return NULL;
    cJSON *json =
        map.bytes <= MAX_HEADER ? parse_object(map.data, map.bytes) : NULL;

    unmap(&map);
    if (!json)
        fail(e, "%.400s/%.64s: not a JSON object", dir, file);
    return json;
}

static bool open_shard(weights *w, const char *file, error *e)
{
    shard *shards =
        realloc(w->shards, (size_t)(w->n_shards + 1) * sizeof(*shards));

    if (!shards)
        return fail(e, "out of memory");
    w->shards = shards;
    shard *s = &shards[w->n_shards];
    unsigned char length[8];
    uint64_t bytes = 0;

    *s = (shard){ .file = file };
    if (!map_file(&s->map, w->dir, file, e))
        return false;
    w->n_shards++;
    if (s->map.bytes < sizeof(length))
        return fail(e, "%.64s: %zu bytes, too short for a safetensors file",
                    file, s->map.bytes);
    memcpy(length, s->map.data, sizeof(length));
    for (int i = 7; i >= 0; i--)
        bytes = bytes << 8 | length[i];
    if (bytes > MAX_HEADER || bytes > s->map.bytes - sizeof(length))
        return fail(e, "%.64s: header length is %llu, the file has %zu bytes",
                    file, (unsigned long long)bytes, s->map.bytes);
    s->begin = sizeof(length) + (size_t)bytes;
    s->header = parse_object(s->map.data + sizeof(length), (size_t)bytes);
    return s->header || fail(e, "%.64s: the header is not a JSON object", file);
}

/* A shard is a safetensors file of the folder itself. */
static bool check_shard_name(const char *file, error *e)
{
    static const char suffix[] = ".safetensors";
    const size_t length = strlen(file), end = sizeof(suffix) - 1;

    if (length <= end || length > 255 || strcmp(file + length - end, suffix)
        || file[0] == '.' || strpbrk(file, "/\\"))
        return fail(e,
                    "model.safetensors.index.json: weight_map names %.128s, "
                    "expected a .safetensors file of the same folder",
                    file);
    return true;
}

static const shard *shard_of(weights *w, const char *name, error *e)
{
    const char *file = "model.safetensors";

    if (w->index) {
        const cJSON *item = json_get(json_get(w->index, "weight_map"), name);

        if (!cJSON_IsString(item)) {
            fail(e, "model.safetensors.index.json: weight_map lacks %s", name);
            return NULL;
        }
        file = item->valuestring;
        if (!check_shard_name(file, e))
            return NULL;
    }
    for (int32_t i = 0; i < w->n_shards; i++)
        if (!strcmp(w->shards[i].file, file))
            return &w->shards[i];
    return open_shard(w, file, e) ? &w->shards[w->n_shards - 1] : NULL;
}

bool weights_open(weights *w, const char *dir, error *e)
{
    char path[MAX_PATH];

    *w = (weights){ .dir = dir };
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    if (!access(path, F_OK))
        return true;
    snprintf(path, sizeof(path), "%s/model.safetensors.index.json", dir);
    if (access(path, F_OK))
        return fail(e, "%.400s: no model.safetensors and no index of shards",
                    dir);
    w->index = weights_json(dir, "model.safetensors.index.json", e);
    return w->index != NULL;
}

void weights_close(weights *w)
{
    for (int32_t i = 0; i < w->n_shards; i++) {
        cJSON_Delete(w->shards[i].header);
        unmap(&w->shards[i].map);
    }
    free(w->shards);
    cJSON_Delete(w->index);
}

static fli_dtype dtype_of(const cJSON *item)
{
    const char *name = cJSON_IsString(item) ? item->valuestring : "";

    return !strcmp(name, "BF16")  ? FLI_BF16
           : !strcmp(name, "F16") ? FLI_F16
           : !strcmp(name, "F32") ? FLI_F32
                                  : FLI_NO_DTYPE;
}

/* array[i], or -1 where there is no such number. */
static double element(const cJSON *array, int i)
{
    const cJSON *item = cJSON_GetArrayItem(array, i);

    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

bool weights_find(weights *w, const char *name, int64_t n0, int64_t n1,
                  stored *out, error *e)
{
    const shard *s = shard_of(w, name, e);
    const cJSON *entry = s ? json_get(s->header, name) : NULL;
    const cJSON *shape = json_get(entry, "shape");
    const cJSON *offsets = json_get(entry, "data_offsets");
    const double begin = element(offsets, 0), end = element(offsets, 1);

    if (!s)
        return false;
    if (!entry)
        return fail(e, "%.64s: tensor %s is missing", s->file, name);
    out->dtype = dtype_of(json_get(entry, "dtype"));
    if (!out->dtype)
        return fail(e, "%.64s: the dtype of %s is not BF16, F16 or F32",
                    s->file, name);
    if (cJSON_GetArraySize(shape) != 1 + (n1 > 0)
        || element(shape, 0) != (double)n0
        || (n1 && element(shape, 1) != (double)n1))
        return fail(e, "%.64s: the shape of %s is not [%lld%s%.0lld]", s->file,
                    name, (long long)n0, n1 ? ", " : "", (long long)n1);
    const size_t have = s->map.bytes - s->begin;

    out->bytes = (size_t)(n0 * (n1 ? n1 : 1)) * fli_dtype_bytes(out->dtype);
    if (!(begin >= 0 && end >= begin && end <= (double)have)
        || (size_t)end - (size_t)begin != out->bytes)
        return fail(e,
                    "%.64s: %s is bytes %.0f to %.0f, expected %zu bytes of "
                    "the file's %zu",
                    s->file, name, begin, end, out->bytes, have);
    out->data = s->map.data + s->begin + (size_t)begin;
    return true;
}
