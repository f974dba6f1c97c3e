/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels and their parameters in cubins (ELF with .nv.info sections), in PTX and
 * in the text that tests write. */
#include "image.h"

#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Entries of .nv.info: a format, an attribute, and 16 bits of value or size. */
enum { SIZED = 4, PARAM_BYTES = 0x19 };

static int starts_with(const char *text, const char *start)
{
    return !strncmp(text, start, strlen(start));
}

static int is_elf(const void *image)
{
    return !memcmp(image, ELFMAG, SELFMAG);
}

static int is_ptx(const char *image)
{
    return starts_with(image, "//") || starts_with(image, ".version");
}

int image_is_known(const void *image)
{
    return is_elf(image) || is_ptx(image) || starts_with(image, "FAKECUDA ");
}

size_t image_bytes(const void *image)
{
    const Elf64_Ehdr *elf = image;
    const Elf64_Shdr *sections;
    size_t bytes;

    if (!is_elf(image))
        return strlen(image) + 1;
    sections = (const void *)((const char *)image + elf->e_shoff);
    bytes = elf->e_shoff + elf->e_shnum * sizeof(*sections);
    if (elf->e_phoff > elf->e_shoff)
        bytes = elf->e_phoff + elf->e_phnum * sizeof(Elf64_Phdr);
    for (int i = 0; i < elf->e_shnum; i++) {
        const size_t end = sections[i].sh_offset + sections[i].sh_size;

        if (sections[i].sh_type != SHT_NOBITS && end > bytes)
            bytes = end;
    }
    return bytes;
}

/* The section whose name is prefix and name. */
static const Elf64_Shdr *section(const char *image, const char *prefix,
                                 const char *name)
{
    const Elf64_Ehdr *elf = (const void *)image;
    const Elf64_Shdr *sections = (const void *)(image + elf->e_shoff);
    const char *names = image + sections[elf->e_shstrndx].sh_offset;

    for (int i = 0; i < elf->e_shnum; i++) {
        const char *text = names + sections[i].sh_name;

        if (starts_with(text, prefix) && !strcmp(text + strlen(prefix), name))
            return &sections[i];
    }
    return NULL;
}

static int param_bytes_of_elf(const char *image, const char *name)
{
    const Elf64_Shdr *info = section(image, ".nv.info.", name);

    if (!info || !section(image, ".text.", name))
        return -1;
    const unsigned char *at = (const void *)(image + info->sh_offset);
    const unsigned char *end = at + info->sh_size;

    while (at < end) {
        const int value = at[2] | at[3] << 8;

        if (at[1] == PARAM_BYTES)
            return value;
        at += 4 + (at[0] == SIZED ? value : 0);
    }
    return 0;
}

/* ".visible .entry name(" and ".param .align 8 .b8 name_param_0[112]" */
static int param_bytes_of_ptx(const char *image, const char *name)
{
    char text[128];

    snprintf(text, sizeof(text), ".entry %s(", name);
    const char *at = strstr(image, text);

    if (!at)
        return -1;
    snprintf(text, sizeof(text), "%s_param_0[", name);
    at = strstr(at, text);
    return at ? atoi(at + strlen(text)) : 0;
}

static int param_bytes_of_text(const char *image, const char *name)
{
    char text[128];

    snprintf(text, sizeof(text), " %s:", name);
    const char *at = strstr(image, text);

    return at ? atoi(at + strlen(text)) : -1;
}

int image_param_bytes(const void *image, const char *name)
{
    if (is_elf(image))
        return param_bytes_of_elf(image, name);
    if (is_ptx(image))
        return param_bytes_of_ptx(image, name);
    return param_bytes_of_text(image, name);
}
