# SPDX-License-Identifier: Apache-2.0
"""meson install into a prefix; then what the README promises: its example
compiles with pkg-config's flags and prints what it says, CMake finds the package,
and the examples of the tree run."""
import os
import re

import pytest


@pytest.fixture(scope="module")
def prefix(root, run, build, tmp_path_factory):
    staged = tmp_path_factory.mktemp("install")
    run(root / ".venv/bin/meson", "install", "--no-rebuild", "--quiet", "-C",
        build, "--destdir", staged)
    return staged / "usr/local"


@pytest.fixture
def environment(prefix):
    """What a user sets for a prefix of his own."""
    pc = next(prefix.rglob("flashinfer.pc"))
    return {**os.environ, "PKG_CONFIG_PATH": str(pc.parent),
            "LD_LIBRARY_PATH": str(pc.parent.parent),
            "FLI_THREADS": "2"}


def compile_and_run(run, environment, tmp_path, source):
    program = tmp_path / "program"
    flags = run("pkg-config", "--cflags", "--libs", "flashinfer",
                env=environment).split()
    run("cc", "-Wall", "-Werror", source, "-o", program, *flags,
        env=environment)
    return run(program, env=environment)


def readme_example(root):
    blocks = re.findall(r"^```c\n(.*?)^```", (root / "README.md").read_text(),
                        re.M | re.S)
    assert len(blocks) == 1
    return blocks[0]


def test_files(prefix):
    files = {str(p.relative_to(prefix)) for p in prefix.rglob("*")
             if p.is_file()}
    lib = "/".join(next(prefix.rglob("libflashinfer.so")).relative_to(
        prefix).parts[:-1])
    expected = {f"{lib}/cmake/flashinfer/flashinferConfig.cmake",
                f"{lib}/cmake/flashinfer/flashinferConfigVersion.cmake",
                f"{lib}/pkgconfig/flashinfer.pc",
                "include/flashinfer/flashinfer.h",
                "include/flashinfer/attention.h"}
    assert expected <= files
    headers = {f for f in files if f.startswith("include/")}
    assert all(f.startswith("include/flashinfer/") for f in headers)
    assert not [f for f in files if f.endswith(".a")], "internal libraries"


def test_readme_example(root, run, environment, tmp_path):
    text = readme_example(root)
    source = tmp_path / "example.c"
    source.write_text(text)
    out = compile_and_run(run, environment, tmp_path, source)
    promised = re.search(r"printf\(.*/\* ([\d. ]+):", text).group(1)
    assert out.split() == promised.split()


def test_readme_example_is_short(root):
    """Thirty lines of C: the body of main, give or take."""
    assert len(readme_example(root).splitlines()) <= 45


def test_decode_example(root, run, environment, tmp_path):
    """One decode step, as a user compiles it; it checks its own result."""
    out = compile_and_run(run, environment, tmp_path,
                          root / "examples/decode.c")
    assert "0x3f80" in out


def test_cmake_package(root, run, environment, prefix, tmp_path):
    (tmp_path / "example.c").write_text(readme_example(root))
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(consumer C)\n"
        "find_package(flashinfer 0.1 REQUIRED)\n"
        "add_executable(consumer example.c)\n"
        "target_link_libraries(consumer flashinfer::flashinfer)\n")
    made = tmp_path / "made"
    run("cmake", "-S", tmp_path, "-B", made, f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", made)
    assert len(run(made / "consumer", env=environment).split()) == 3


def test_cmake_refuses_another_version(run, prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(consumer C)\n"
        "find_package(flashinfer 9.0)\n"
        "if(flashinfer_FOUND)\nmessage(FATAL_ERROR found)\nendif()\n")
    run("cmake", "-S", tmp_path, "-B", tmp_path / "made",
        f"-DCMAKE_PREFIX_PATH={prefix}")


def test_loads_without_anything_else(run, environment):
    """dlopen by name, as a binding does."""
    code = ("import ctypes; l = ctypes.CDLL('libflashinfer.so.0');"
            "l.fli_version.restype = ctypes.c_char_p;"
            "print(l.fli_version().decode())")
    out = run("python3", "-c", code, env=environment)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", out)
