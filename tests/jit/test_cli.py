# SPDX-License-Identifier: Apache-2.0
"""flashinfer cache, prebuild and what info says of CUDA, without a GPU."""
import os
import subprocess

import pytest


@pytest.fixture
def flashinfer(build, tmp_path):
    """Runs the program with a cache folder of its own; (status, out, err)."""
    def call(*arguments, **variables):
        environment = {**os.environ, "FLI_CACHE": str(tmp_path / "cache"),
                       **variables}
        done = subprocess.run([build / "tools/flashinfer", *arguments],
                              cwd=tmp_path, env=environment, text=True,
                              capture_output=True)
        return done.returncode, done.stdout, done.stderr
    return call


HEAD = ("kernel                                           arch     regs spill "
        "shared    bytes      s  nvrtc\n")


def test_an_empty_cache(flashinfer, tmp_path):
    assert flashinfer("cache", "list") == (0, HEAD, "")
    assert flashinfer("cache", "verify") == (0, "0 kernels, 0.0 MB: 0 damaged\n",
                                             "")
    assert flashinfer("cache", "clear") == (0, "0 files removed\n", "")
    assert not (tmp_path / "cache").exists()


def test_damaged_files(flashinfer, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    file = folder / "norm-0123456789abcdef.cubin"
    file.write_bytes(b"")
    assert flashinfer("cache", "verify") == (
        1, f"{file} is cut short\n1 kernels, 0.0 MB: 1 damaged\n", "")
    (folder / "mine.txt").write_text("kept")
    assert flashinfer("cache", "clear") == (0, "1 files removed\n", "")
    assert os.listdir(folder) == ["mine.txt"]


def test_a_file_that_is_no_pack(flashinfer, tmp_path):
    (tmp_path / "x.pack").write_text("no pack at all, but long enough to be read "
                                     "as the header of one")
    for verb in "list", "verify":
        status, _, error = flashinfer("cache", verb, "x.pack")
        assert (status, error) == (
            1, "flashinfer: pack: x.pack is no pack of kernels\n")


@pytest.mark.parametrize("arguments, message", [
    (["cache"], "cache list, verify or clear, not nothing"),
    (["cache", "wash"], "cache list, verify or clear, not wash"),
    (["cache", "clear", "x.pack"], "cache list, verify or clear, not x.pack"),
    (["cache", "list", "a", "b"], "cache takes one pack at most, not also b"),
    (["prebuild"], "prebuild needs --arch, such as --arch sm_90a"),
    (["prebuild", "sm_90a"], "unknown option sm_90a"),
])
def test_usage(flashinfer, arguments, message):
    assert flashinfer(*arguments) == (
        2, "", f"flashinfer: {message}; see flashinfer --help\n")


def test_prebuild_refuses_an_arch(flashinfer, tmp_path):
    status, _, error = flashinfer("prebuild", "--arch", "sm_70",
                                  TMPDIR=str(tmp_path))
    assert status == 1
    assert error.startswith("flashinfer: context create: cuda_arch is 'sm_70', "
                            "expected one of sm_80, ")
    assert not (tmp_path / "flashinfer.pack").exists()


def test_prebuild_without_nvrtc(flashinfer, tmp_path):
    status, _, error = flashinfer("prebuild", "--arch", "sm_90a",
                                  FLI_NVRTC="/none", TMPDIR=str(tmp_path))
    assert status == 1
    assert "FLI_NVRTC is '/none', which is neither" in error


def test_info_without_cuda(flashinfer, tmp_path):
    status, out, _ = flashinfer("info", FLI_LIBCUDA="/none", FLI_NVRTC="/none")
    assert status == 0
    assert "\ncuda     none; context create: device is cuda:0, and " in out
    assert "\nnvrtc    cuda: FLI_NVRTC is '/none', which is neither " in out
    assert f"\ncache    {tmp_path}/cache: 0 kernels, 0.0 MB\n" in out
    assert "\npack     none\n" in out
