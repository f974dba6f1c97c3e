#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the kernels' sources as C text: what src/jit hands to NVRTC.

    tools/embed.py KERNELS OUT.c OUT.d

Each file of the folder KERNELS that a CUDA kernel may include, under the name
that it is included by, and one SHA-256 over all of them.  OUT.d names them and
their folders, so that an edit and a new file make OUT.c again.
"""
import hashlib
import pathlib
import sys

PATTERNS = ["abi/*.h", "cuda/*.cu", "cuda/lib/*.cuh"]

HEAD = """\
/* Made by tools/embed.py. */
#include "jit/source.h"

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Woverlength-strings"
#endif

"""


def literal(text):
    """A C string, a line of it for each line of text."""
    lines = []
    for line in text.splitlines(keepends=True):
        out = ""
        for byte in line.encode():
            char = chr(byte)
            if char in '\\"':
                out += "\\" + char
            elif char == "\n":
                out += "\\n"
            elif 32 <= byte < 127 and char != "?":
                out += char
            else:
                out += f"\\{byte:03o}"
        lines.append(f'    "{out}"')
    return "\n".join(lines) or '    ""'


def table(name, values):
    return (f"const char *const {name}[] = {{\n"
            + ",\n".join(values) + "\n};\n\n")


def generate(files):
    """files: {name: text}"""
    digest = hashlib.sha256()
    for name, text in files.items():
        digest.update(f"{name}\0{text}\0".encode())
    return (HEAD + f"const int32_t fli__n_sources = {len(files)};\n\n"
            + table("fli__source_names", map(literal, files))
            + table("fli__source_texts", map(literal, files.values()))
            + "const uint8_t fli__sources_hash[32] = {\n    "
            + ", ".join(map(str, digest.digest())) + "\n};\n")


def main():
    kernels, out, depfile = map(pathlib.Path, sys.argv[1:])
    paths = sorted(p for pattern in PATTERNS for p in kernels.glob(pattern))
    out.write_text(generate({p.relative_to(kernels).as_posix(): p.read_text()
                             for p in paths}))
    folders = {kernels / pattern.rpartition("/")[0] for pattern in PATTERNS}
    names = [str(p).replace(" ", "\\ ") for p in [*sorted(folders), *paths]]
    depfile.write_text(f"{out}: {' '.join(names)}\n")


if __name__ == "__main__":
    main()
