# SPDX-License-Identifier: Apache-2.0
"""The library exports what the headers declare, and symbols.txt is that list:
what a reviewer looks at when the ABI changes."""
import re


def exported(run, build):
    text = run("nm", "-D", "--defined-only", build / "libflashinfer.so")
    return sorted(line.split()[-1].split("@")[0] for line in text.splitlines())


def listed(root):
    lines = (root / "tests/abi/symbols.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def declared(root):
    names = []
    for header in (root / "include/flashinfer").glob("*.h"):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        names += re.findall(r"^FLI_API\b[^;(]*?(\w+)\(", text, re.M)
    return sorted(names)


def test_exported_is_listed(root, run, build):
    assert exported(run, build) == listed(root)


def test_declared_is_listed(root):
    assert declared(root) == listed(root)


def test_list_is_sorted(root):
    assert listed(root) == sorted(set(listed(root)))


def test_needs_only_the_c_library(root, run, build):
    text = run("readelf", "-d", build / "libflashinfer.so")
    needed = re.findall(r"NEEDED.*\[(.*?)\]", text)
    known = re.compile(r"(libc|libdl|libm|libpthread|ld-linux.*)\.so\.\d$")
    assert [n for n in needed if not known.match(n)] == []
    assert "[libflashinfer.so.0]" in text


def test_no_stack_that_runs_code(run, build):
    stack = re.search(r"GNU_STACK.*\n?.*", run("readelf", "-lW", build
                                               / "libflashinfer.so")).group(0)
    assert " RWE" not in stack


def embedded_bytes(root):
    """The text of the CUDA kernels, which src/jit compiles at run time."""
    return sum(path.stat().st_size for pattern in (
        "abi/*.h", "cuda/*.cu", "cuda/lib/*.cuh")
        for path in (root / "kernels").glob(pattern))


def test_at_most_one_megabyte_of_code(root, run, build, tmp_path):
    copy = tmp_path / "lib.so"
    run("strip", "-o", copy, build / "libflashinfer.so")
    assert copy.stat().st_size <= 5 << 20
    assert copy.stat().st_size - embedded_bytes(root) <= 1 << 20
