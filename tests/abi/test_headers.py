# SPDX-License-Identifier: Apache-2.0
"""Each public header compiles alone, in C99 and in C++17, without a warning, and
the layouts that the ABI promises hold in both."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HEADERS = sorted(p.name for p in (ROOT / "include/flashinfer").glob("*.h"))
FLAGS = ["-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
         "-I", ROOT / "include"]
COMPILERS = {
    "gcc-c99": ["cc", "-std=c99", "-xc"],
    "gcc-c++17": ["c++", "-std=c++17", "-xc++"],
    "clang-c99": ["clang", "-std=c99", "-xc"],
    "clang-c++17": ["clang", "-std=c++17", "-xc++"],
}


def compiles(run, tmp_path, compiler, text, *flags):
    source = tmp_path / "test.c"
    source.write_text(text)
    run(*COMPILERS[compiler], *FLAGS, *flags, source)


def all_headers():
    return "".join((ROOT / "include/flashinfer" / h).read_text()
                   for h in HEADERS)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("header", HEADERS)
def test_alone(run, tmp_path, compiler, header):
    """Twice, too: the guard holds."""
    include = f"#include <flashinfer/{header}>\n"
    compiles(run, tmp_path, compiler, 2 * include + "int main(void);\n")


def inits():
    """(type, macro) of every FLI_*_INIT."""
    return re.findall(r"#define (FLI_\w+_INIT)\s*\\?\s*\{ sizeof\((\w+)\) \}",
                      all_headers())


@pytest.mark.parametrize("compiler", COMPILERS)
def test_init_macros(run, tmp_path, compiler):
    """They leave members out, which -Wextra warns of: the one exception."""
    found = inits()
    assert len(found) >= 10
    body = "".join(f"    {type_} v{i} = {macro};\n    (void)v{i};\n"
                   for i, (macro, type_) in enumerate(found))
    compiles(run, tmp_path, compiler,
             "#include <flashinfer/flashinfer.h>\nint f(void);\n"
             f"int f(void)\n{{\n{body}    return 0;\n}}\n",
             "-Wno-missing-field-initializers")


def test_every_sized_struct_has_an_init_macro():
    sized = re.findall(r"typedef struct \w+ \{\s*size_t size;.*?\n\} (\w+);",
                       all_headers(), re.S)
    assert len(sized) >= 10
    assert sorted(sized) == sorted(type_ for _, type_ in inits())


OFFSETS = {"data": 0, "shape": 8, "stride": 56, "dtype": 104, "device": 108,
           "ndim": 116}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_tensor_layout(run, tmp_path, compiler):
    checks = ["sizeof(fli_tensor) == 120", "sizeof(fli_device) == 8",
              "sizeof(fli_status) == 4", "FLI_MAX_NDIM == 6"]
    checks += [f"offsetof(fli_tensor, {name}) == {at}"
               for name, at in OFFSETS.items()]
    compiles(run, tmp_path, compiler,
             "#include <flashinfer/flashinfer.h>\n" + "".join(
                 f"extern int check{i}[({c}) ? 1 : -1];\n"
                 for i, c in enumerate(checks)))


ENUMS = {"FLI_OK": 0, "FLI_INVALID_ARGUMENT": 1, "FLI_UNSUPPORTED": 2,
         "FLI_INVALID_STATE": 3, "FLI_OUT_OF_MEMORY": 4, "FLI_WORKSPACE": 5,
         "FLI_COMPILE": 6, "FLI_DEVICE": 7, "FLI_IO": 8, "FLI_TIMEOUT": 9,
         "FLI_INTERNAL": 10, "FLI_F32": 1, "FLI_F16": 2, "FLI_BF16": 3,
         "FLI_I32": 16, "FLI_I64": 17, "FLI_U8": 18, "FLI_BOOL": 19,
         "FLI_DEVICE_CPU": 1, "FLI_DEVICE_CUDA": 2, "FLI_MASK_NONE": 0,
         "FLI_MASK_CAUSAL": 1, "FLI_NHD": 0, "FLI_HND": 1}


def test_enum_values(run, tmp_path):
    compiles(run, tmp_path, "gcc-c99",
             "#include <flashinfer/flashinfer.h>\n" + "".join(
                 f"extern int check{i}[({name} == {value}) ? 1 : -1];\n"
                 for i, (name, value) in enumerate(ENUMS.items())))


def dlpack_header():
    """The official header, where torch is installed."""
    for base in ROOT.glob(".venv/lib/python*/site-packages/torch/include"):
        if (base / "ATen/dlpack.h").exists():
            return base / "ATen/dlpack.h"
    return None


# The layout that DLPack 1.x publishes, in case its header is not here.
DLPACK = """
#include <stdint.h>
typedef enum { kDLCPU = 1, kDLCUDA = 2 } DLDeviceType;
typedef struct { DLDeviceType device_type; int32_t device_id; } DLDevice;
typedef enum { kDLInt = 0, kDLUInt = 1, kDLFloat = 2, kDLBfloat = 4, kDLBool = 6
} DLDataTypeCode;
typedef struct { uint8_t code; uint8_t bits; uint16_t lanes; } DLDataType;
typedef struct { void *data; DLDevice device; int32_t ndim; DLDataType dtype;
    int64_t *shape; int64_t *strides; uint64_t byte_offset; } DLTensor;
"""


@pytest.mark.parametrize("source", ["published", "official"])
def test_dlpack_layout(run, tmp_path, source):
    """src/core/dlpack.h is what the official header says."""
    text = DLPACK
    if source == "official":
        header = dlpack_header()
        if not header:
            pytest.skip("torch is not installed (make test-full does it)")
        text = f'#include "{header}"\n'
    checks = ["sizeof(fli__dl_tensor) == sizeof(DLTensor)",
              "sizeof(fli__dl_dtype) == sizeof(DLDataType)",
              "(int)FLI__DL_INT == (int)kDLInt",
              "(int)FLI__DL_UINT == (int)kDLUInt",
              "(int)FLI__DL_FLOAT == (int)kDLFloat",
              "(int)FLI__DL_BFLOAT == (int)kDLBfloat",
              "(int)FLI__DL_BOOL == (int)kDLBool",
              "(int)FLI_DEVICE_CPU == (int)kDLCPU",
              "(int)FLI_DEVICE_CUDA == (int)kDLCUDA",
              "offsetof(fli__dl_tensor, device.type) == "
              "offsetof(DLTensor, device.device_type)",
              "offsetof(fli__dl_tensor, device.index) == "
              "offsetof(DLTensor, device.device_id)"]
    checks += [f"offsetof(fli__dl_tensor, {m}) == offsetof(DLTensor, {m})"
               for m in ("data", "ndim", "dtype.code", "dtype.bits",
                         "dtype.lanes", "shape", "strides", "byte_offset")]
    source = tmp_path / "test.c"
    source.write_text(
        "#include <stddef.h>\n#include <flashinfer/flashinfer.h>\n"
        f'{text}#include "core/dlpack.h"\n' + "".join(
            f'_Static_assert({c}, "");\n' for c in checks))
    run("cc", "-std=c11", "-fsyntax-only", "-Werror", "-I", ROOT / "include",
        "-I", ROOT / "src", source)
