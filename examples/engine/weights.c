/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors: an 8-byte length, a JSON header, then the tensors, in one file or
 * in shards that an index names.  Files are mapped, never copied.  Nothing in
 * them is trusted: each offset is checked against the file before it is used. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"

#define INDEX "model.safetensors.index.json"

typedef struct shard {
    const char *file, *data; /* its name; all of it, mapped */
    size_t bytes, begin;     /* of the file; of the tensors in it */
    cJSON *header;
    struct shard *next;
} shard;

static const char *map(const char *dir, const char *file, size_t *bytes)
{
    char path[4096];
    struct stat info;

    snprintf(path, sizeof(path), "%s/%s", dir, file);
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &info))
        die("%.400s: %s", path, strerror(errno));
    *bytes = (size_t)info.st_size;
    const char *data = mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE, fd, 0);

    close(fd);
    if (data == MAP_FAILED)
        die("%.400s: not a file, or an empty one", path);
    return data;
}

/* Any JSON but an object is an empty one. */
cJSON *weights_json(const char *dir, const char *file)
{
    size_t bytes;
    const char *text = map(dir, file, &bytes);
    cJSON *json = cJSON_ParseWithLength(text, bytes);

    munmap((void *)text, bytes);
    if (!json)
        die("%.400s/%s is not JSON", dir, file);
    return json;
}

static const shard *open_shard(weights *w, const char *file)
{
    size_t bytes;
    const char *data = map(w->dir, file, &bytes);
    shard *s = take(&w->memory, 1, sizeof(*s));
    uint64_t length = 0;

    *s = (shard){ .file = file, .data = data, .bytes = bytes };
    s->next = w->shards;
    w->shards = s;
    for (int i = 7; i >= 0 && bytes >= 8; i--)
        length = length << 8 | (unsigned char)data[i];
    if (bytes < 8 || length > bytes - 8)
        die("%s: header length is %llu, the file has %zu bytes", file,
            (unsigned long long)length, bytes);
    s->begin = 8 + (size_t)length;
    s->header = cJSON_ParseWithLength(data + 8, (size_t)length);
    if (!cJSON_IsObject(s->header))
        die("%s: the header is not a JSON object", file);
    return s;
}

/* The shard that holds the tensor called name. */
static const shard *find_shard(weights *w, const char *name)
{
    const char *file = "model.safetensors";
    const shard *s = w->shards;

    if (w->index)
        file = get_text(json_get(w->index, "weight_map"), name, "nothing");
    const char *suffix = strrchr(file, '.');

    /* A shard is a safetensors file of the folder itself. */
    if (!suffix || strcmp(suffix, ".safetensors") || file[0] == '.'
        || strpbrk(file, "/\\") || strlen(file) > 255)
        die(INDEX ": weight_map names %.128s for %s, expected a .safetensors "
                  "file of the same folder",
            file, name);
    while (s && strcmp(s->file, file))
        s = s->next;
    return s ? s : open_shard(w, file);
}

void weights_open(weights *w, const char *dir)
{
    char path[4096];

    *w = (weights){ .dir = dir };
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    if (access(path, F_OK))
        w->index = weights_json(dir, INDEX);
}

void weights_close(weights *w)
{
    for (const shard *s = w->shards; s; s = s->next) {
        cJSON_Delete(s->header);
        munmap((void *)s->data, s->bytes);
    }
    give_back(&w->memory);
    cJSON_Delete(w->index);
    *w = (weights){ 0 };
}

/* array[i], or -1 where there is no such number. */
static double element(const cJSON *array, int i)
{
    const cJSON *item = cJSON_GetArrayItem(array, i);

    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

void weights_find(weights *w, const char *name, fli_tensor *t)
{
    const shard *s = find_shard(w, name);
    const cJSON *entry = json_get(s->header, name);
    const cJSON *shape = json_get(entry, "shape");
    const cJSON *offsets = json_get(entry, "data_offsets");
    const double begin = element(offsets, 0), end = element(offsets, 1);
    const double most = (double)(s->bytes - s->begin);

    if (!entry)
        die("%s: tensor %s is missing", s->file, name);
    t->dtype = (int32_t)dtype_named(get_text(entry, "dtype", "missing"));
    if (!t->dtype)
        die("%s: the dtype of %s is not BF16, F16 or F32", s->file, name);
    double bytes = (double)fli_dtype_bytes(t->dtype);
    bool ok = cJSON_GetArraySize(shape) == t->ndim;

    for (int i = 0; i < t->ndim; bytes *= (double)t->shape[i++])
        ok = ok && element(shape, i) == (double)t->shape[i];
    if (!ok)
        die("%s: the shape of %s is not that of config.json", s->file, name);
    if (!(begin >= 0 && end <= most) || end - begin != bytes)
        die("%s: %s is bytes %.0f to %.0f of %.0f, expected %.0f bytes",
            s->file, name, begin, end, most, bytes);
    t->data = (void *)(s->data + s->begin + (size_t)begin);
}
