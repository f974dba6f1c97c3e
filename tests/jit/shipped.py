#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles every CUDA kernel that `flashinfer prebuild` makes ready, without a GPU:

    tests/jit/shipped.py ARCH...

A kernel is a test.  It fails if a thread spills registers to memory, or if the
assembler had to serialise wgmma.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = ROOT / os.environ.get("FLI_BUILD", "build") / "tools/flashinfer"


def flashinfer(*arguments):
    return subprocess.run([str(PROGRAM), *map(str, arguments)], text=True,
                          capture_output=True)


def lines_of(pack):
    """Of each kernel: name, arch, registers, spilled and shared bytes, bytes,
    seconds, NVRTC's version, and perhaps words on what is odd."""
    done = flashinfer("cache", "list", pack)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return [line.split() for line in done.stdout.splitlines()[1:]]


def problems_of(line):
    if int(line[3]):
        yield f"spills {line[3]} bytes a thread"
    yield from (word for word in line[8:] if word != "ptx")


def check(arch, pack):
    """(passed, failed)"""
    start = time.monotonic()
    done = flashinfer("prebuild", "--arch", arch, "-o", pack)
    if done.returncode:
        print(f"FAIL  {arch}: {done.stderr.strip()}")
        return 0, 1
    lines = lines_of(pack)
    seconds = {line[0]: float(line[6]) for line in lines}
    slowest = max(seconds, key=seconds.get)
    size = pack.stat().st_size
    print(f"{arch}: {len(lines)} kernels, {size / 1e6:.1f} MB, "
          f"{sum(seconds.values()):.1f} s of compiling in "
          f"{time.monotonic() - start:.1f} s, the slowest "
          f"{seconds[slowest]:.2f} s ({slowest})")
    failed = 0
    for line in lines:
        problems = ", ".join(problems_of(line))
        if problems:
            failed += 1
            print(f"FAIL  {line[0]} {arch}: {problems}")
    return len(lines) - failed, failed


def tell_evidence(pack):
    """Are these the kernels that passed on a GPU?"""
    sys.stdout.flush()
    subprocess.run([sys.executable, str(ROOT / "tests/gpu/evidence.py"),
                    "compare", str(pack)])


def main():
    passed = failed = 0
    if "\nnvrtc    cuda: " in flashinfer("info").stdout:
        print("SKIP  NVRTC is not here (make test installs it)\n"
              "0 passed, 0 failed, 1 skipped")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        for arch in sys.argv[1:]:
            pack = pathlib.Path(folder) / "test.pack"
            counts = check(arch, pack)
            passed += counts[0]
            failed += counts[1]
            if counts[0]:
                tell_evidence(pack)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
