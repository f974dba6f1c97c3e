# SPDX-License-Identifier: Apache-2.0
"""src/device/cuda_driver.h says of the driver what cuda.h says, where a CUDA
toolkit has one: symbols, prototypes, layouts, values."""
import os
import pathlib
import re
import shutil

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HEADER = ROOT / "src/device/cuda_driver.h"


def cuda_header():
    """cuda.h of the toolkit that the environment, the path, or Python has."""
    folders = [pathlib.Path(os.environ[name]) / "include"
               for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    nvcc = shutil.which("nvcc")
    if nvcc:
        folders.append(pathlib.Path(nvcc).resolve().parent.parent / "include")
    folders.append(pathlib.Path("/usr/local/cuda/include"))
    folders += ROOT.glob(".venv/lib/python*/site-packages/nvidia/*/include")
    for folder in folders:
        if (folder / "cuda.h").exists():
            return folder / "cuda.h"
    return pytest.skip("no cuda.h (CUDA_HOME names a toolkit)")


# In C++, which can ask what a type is.  Ours are plain: a handle is a void *, an
# enum an int32_t, so types are alike when a caller in C could not tell them apart.
ALIKE = """
#include <cstddef>
#include <cstring>
#include <type_traits>
#include "device/cuda_driver.h"
#include <cuda.h>

template <class A, class B> constexpr bool alike();

template <class A, class B> constexpr bool pointees()
{
    using C = std::remove_cv_t<A>;
    using D = std::remove_cv_t<B>;
    if constexpr (std::is_const_v<A> != std::is_const_v<B>)
        return false;
    else if constexpr (std::is_void_v<D>)
        return std::is_void_v<C> || std::is_class_v<C>; // of a handle
    else
        return alike<C, D>();
}

template <class A, class B> constexpr bool alike()
{
    if constexpr (std::is_pointer_v<A> && std::is_pointer_v<B>)
        return pointees<std::remove_pointer_t<A>, std::remove_pointer_t<B>>();
    else if constexpr (std::is_enum_v<A>)
        return std::is_same_v<B, int32_t> && sizeof(A) == sizeof(B);
    else if constexpr (std::is_integral_v<A> && std::is_integral_v<B>)
        return sizeof(A) == sizeof(B)
               && std::is_signed_v<A> == std::is_signed_v<B>;
    else
        return std::is_class_v<A> && std::is_class_v<B>
               && sizeof(A) == sizeof(B) && alignof(A) == alignof(B);
}

template <class R, class... A, class S, class... B>
constexpr bool same(R (*)(A...), S (*)(B...))
{
    if constexpr (sizeof...(A) == sizeof...(B))
        return alike<R, S>() && (true && ... && alike<A, B>());
    else
        return false;
}

#define TEXT(name) #name
#define EXPANDED(name) TEXT(name)
"""

PROTOTYPES = """
#define FLI_CU(name, suffix, arguments) \\
    static_assert(same((decltype(&name##suffix))nullptr, \\
                       (int32_t(*) arguments)nullptr), \\
                  "prototype of " #name); \\
    static_assert(!__builtin_strcmp(EXPANDED(name), #name #suffix), \\
                  "symbol of " #name);
FLI__CUDA_DRIVER(FLI_CU)
"""

LAYOUTS = {
    "fli__cu_launch_attribute": ("CUlaunchAttribute", {
        "id": "id", "value": "value", "value.cluster.x": "value.clusterDim.x",
        "value.cluster.y": "value.clusterDim.y",
        "value.cluster.z": "value.clusterDim.z",
        "value.programmatic_stream_serialization":
            "value.programmaticStreamSerializationAllowed"}),
    "fli__cu_launch_config": ("CUlaunchConfig", {
        "grid[0]": "gridDimX", "grid[1]": "gridDimY", "grid[2]": "gridDimZ",
        "block[0]": "blockDimX", "block[1]": "blockDimY",
        "block[2]": "blockDimZ", "shared_bytes": "sharedMemBytes",
        "stream": "hStream", "attributes": "attrs",
        "n_attributes": "numAttrs"}),
}

VALUES = {
    "FLI__CU_OUT_OF_MEMORY": "CUDA_ERROR_OUT_OF_MEMORY",
    "FLI__CU_INVALID_HANDLE": "CUDA_ERROR_INVALID_HANDLE",
    "FLI__CU_ATTRIBUTE_SMS": "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT",
    "FLI__CU_ATTRIBUTE_L2_BYTES": "CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE",
    "FLI__CU_ATTRIBUTE_MAJOR": "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR",
    "FLI__CU_ATTRIBUTE_MINOR": "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR",
    "FLI__CU_ATTRIBUTE_SHARED_OPTIN":
        "CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN",
    "FLI__CU_FUNC_MAX_THREADS": "CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK",
    "FLI__CU_FUNC_SHARED_BYTES": "CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES",
    "FLI__CU_FUNC_LOCAL_BYTES": "CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES",
    "FLI__CU_FUNC_REGISTERS": "CU_FUNC_ATTRIBUTE_NUM_REGS",
    "FLI__CU_FUNC_MAX_DYNAMIC_SHARED":
        "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES",
    "FLI__CU_LAUNCH_CLUSTER": "CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION",
    "FLI__CU_LAUNCH_PROGRAMMATIC_SERIALIZATION":
        "CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION",
    "FLI__CU_EVENT_NO_TIMING": "CU_EVENT_DISABLE_TIMING",
    "FLI__CU_CAPTURE_NONE": "CU_STREAM_CAPTURE_STATUS_NONE",
}

FAKE = {
    "FAKE_INVALID_VALUE": "CUDA_ERROR_INVALID_VALUE",
    "FAKE_OUT_OF_MEMORY": "CUDA_ERROR_OUT_OF_MEMORY",
    "FAKE_NOT_INITIALIZED": "CUDA_ERROR_NOT_INITIALIZED",
    "FAKE_NO_DEVICE": "CUDA_ERROR_NO_DEVICE",
    "FAKE_INVALID_DEVICE": "CUDA_ERROR_INVALID_DEVICE",
    "FAKE_INVALID_IMAGE": "CUDA_ERROR_INVALID_IMAGE",
    "FAKE_INVALID_CONTEXT": "CUDA_ERROR_INVALID_CONTEXT",
    "FAKE_INVALID_HANDLE": "CUDA_ERROR_INVALID_HANDLE",
    "FAKE_NOT_FOUND": "CUDA_ERROR_NOT_FOUND",
    "FAKE_ILLEGAL_ADDRESS": "CUDA_ERROR_ILLEGAL_ADDRESS",
    "FAKE_CAPTURE_UNSUPPORTED": "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
    "FAKE_CAPTURE_INVALIDATED": "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
    "FAKE_CAPTURED_EVENT": "CUDA_ERROR_CAPTURED_EVENT",
}


@pytest.fixture
def compile_against(run, tmp_path):
    """Compiles text behind ALIKE against cuda.h."""
    header = cuda_header()

    def compile_against(text):
        source = tmp_path / "test.cpp"
        source.write_text(ALIKE + text)
        run("c++", "-std=c++17", "-fsyntax-only", "-Werror", "-I",
            ROOT / "src", "-I", ROOT / "tests/fakecuda", "-isystem",
            header.parent, source)
    return compile_against


def asserts(checks):
    return "".join(f'static_assert({check}, "");\n' for check in checks)


def test_prototypes(compile_against):
    compile_against(PROTOTYPES)


def test_a_wrong_prototype_is_seen(compile_against):
    """The comparison itself can fail."""
    for wrong in ("(uint64_t flags)", "(int32_t flags)", "(void)",
                  "(void *flags)"):
        compile_against(f"static_assert(!same(&cuInit, (int32_t(*) {wrong})"
                        'nullptr), "");\n')
    for wrong in ("(void *module, const void *image)",
                  "(void **module, void *image)"):
        compile_against("static_assert(!same(&cuModuleLoadData, "
                        f'(int32_t(*) {wrong})nullptr), "");\n')


@pytest.mark.parametrize("ours", LAYOUTS)
def test_layout(compile_against, ours):
    theirs, members = LAYOUTS[ours]
    compile_against(asserts(
        [f"sizeof({ours}) == sizeof({theirs})",
         f"alignof({ours}) == alignof({theirs})"]
        + [f"offsetof({ours}, {a}) == offsetof({theirs}, {b}) && "
           f"sizeof({ours}::{a}) == sizeof({theirs}::{b})"
           for a, b in members.items()]))


def test_values(compile_against):
    compile_against(asserts(f"(int){a} == (int){b}" for a, b in VALUES.items()))


def test_values_of_the_fake_driver(compile_against):
    compile_against('#include "fakecuda.h"\n' + asserts(
        f"(int){a} == (int){b}" for a, b in FAKE.items()))


def test_every_value_is_compared():
    text = HEADER.read_text() + (ROOT / "tests/fakecuda/fakecuda.h").read_text()
    assert sorted(re.findall(r"^    (FLI__CU_\w+|FAKE_\w+) = \d+,?$", text,
                             re.M)) == sorted({**VALUES, **FAKE})
