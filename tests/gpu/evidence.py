#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which machine code passed on a GPU, and whether it is still the same.

    tests/gpu/evidence.py write PACK N_PASSED LOG...
    tests/gpu/evidence.py compare PACK

PACK is one of `flashinfer prebuild`.  write, at the end of a green make gpu-test
that ran with that pack, makes tests/gpu/evidence.tsv: a row for every kernel of the
pack that the checker's suites (their LOGs, with FLI_LOG=jit) loaded from it.
compare says how many kernels of a pack compiled anew are those of the rows.
"""
import collections
import hashlib
import pathlib
import re
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EVIDENCE = ROOT / "tests/gpu/evidence.tsv"
PROGRAM = ROOT / "build-gpu/tools/flashinfer"

# As in src/jit/pack.h and image.h.
PACK = struct.Struct("<8sII32s16x")
LINE = struct.Struct("<32sQQ16x")
IMAGE = struct.Struct("<8sIi64s16s32s32sQ5iif60x")

Kernel = collections.namedtuple("Kernel", "name arch key cubin nvrtc")


def text(raw):
    return raw.split(b"\0")[0].decode()


def kernel_at(data, offset):
    magic, version, _, name, arch, key, _, n, *_, nvrtc, _ = IMAGE.unpack_from(
        data, offset)
    if magic != b"FLIKERN\0" or version != 1:
        sys.exit("evidence.py: an image of the pack is of another version")
    payload = data[offset + IMAGE.size:offset + IMAGE.size + n]
    return Kernel(text(name), text(arch), key.hex()[:16],
                  hashlib.sha256(payload).hexdigest(),
                  f"{nvrtc // 1000}.{nvrtc % 1000}")


def kernels_of(path):
    """The kernels of a pack, by name."""
    data = pathlib.Path(path).read_bytes()
    magic, version, n, _ = PACK.unpack_from(data, 0)
    if magic != b"FLIPACK\0" or version != 1:
        sys.exit(f"evidence.py: {path} is no pack of version 1")
    offsets = [LINE.unpack_from(data, PACK.size + i * LINE.size)[1]
               for i in range(n)]
    return sorted(kernel_at(data, offset) for offset in offsets)


# --- write ------------------------------------------------------------------

def cases_by_kernel(logs):
    """Of each kernel loaded from the pack, the cases that passed in the suites
    that loaded it."""
    cases = collections.Counter()
    for log in logs:
        out = pathlib.Path(log).read_text(errors="replace")
        passed = re.findall(r"^(\d+) passed, 0 failed", out, re.M)
        for name in set(re.findall(r"jit: (\w+) from the pack", out)):
            cases[name] += int(passed[-1]) if passed else 0
    return cases


def card():
    info = subprocess.run([str(PROGRAM), "info"], text=True,
                          capture_output=True).stdout
    found = re.search(r"^cuda +cuda:0 \((.*), sm_\w+, \d+ SMs\)$", info, re.M)
    return found.group(1) if found else "unknown"


def write(pack, n_passed, logs):
    kernels = kernels_of(pack)
    cases = cases_by_kernel(logs)
    shown = [k for k in kernels if cases[k.name]]
    if not shown:
        sys.exit("evidence.py: no kernel of the pack was loaded; the pack is of "
                 "other sources or for another GPU")
    lines = [
        "# Kernels of `flashinfer prebuild` that passed make gpu-test.  cases: of",
        "# the checker, of ops that load the kernel; cubin: SHA-256 of the code.",
        f"# card: {card()}",
        f"# date: {time.strftime('%Y-%m-%d', time.gmtime())}",
        f"# arch: {shown[0].arch}",
        f"# nvrtc: {shown[0].nvrtc}",
        f"# tests: {n_passed}",
        "kernel\tcases\tkey\tcubin",
    ]
    lines += [f"{k.name}\t{cases[k.name]}\t{k.key}\t{k.cubin}" for k in shown]
    EVIDENCE.write_text("\n".join(lines) + "\n")
    print(f"evidence: {len(shown)} of {len(kernels)} shipped kernels, in "
          f"{EVIDENCE.relative_to(ROOT)}")
    for k in kernels:
        if not cases[k.name]:
            print(f"evidence: no case loads {k.name}")


# --- compare ----------------------------------------------------------------

def read():
    """(facts, {name: cubin}) of the file."""
    facts, rows = {}, {}
    for line in EVIDENCE.read_text().splitlines():
        found = re.fullmatch(r"# (\w+): (.*)", line)
        if found and "\t" not in line:
            facts[found.group(1)] = found.group(2)
        elif "\t" in line:
            name, _, _, cubin = line.split("\t")
            rows[name] = cubin
    return facts, rows


def compare(pack):
    if not EVIDENCE.exists():
        print("evidence: none yet of kernels that passed on a GPU")
        return
    facts, rows = read()
    kernels = [k for k in kernels_of(pack) if k.arch == facts["arch"]]
    if not kernels:
        return
    others = {k.nvrtc for k in kernels} - {facts["nvrtc"]}
    if others:
        print(f"evidence: not compared, it is of NVRTC {facts['nvrtc']} and "
              f"this one is {', '.join(others)}")
        return
    same = sum(rows.get(k.name) == k.cubin for k in kernels)
    print(f"evidence: {same} of {len(kernels)} shipped kernels as they passed "
          f"on {facts['card']} on {facts['date']}")


def main():
    if len(sys.argv) >= 4 and sys.argv[1] == "write":
        write(sys.argv[2], sys.argv[3], sys.argv[4:])
    elif len(sys.argv) == 3 and sys.argv[1] == "compare":
        compare(sys.argv[2])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
