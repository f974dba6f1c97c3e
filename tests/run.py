#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the test suites and adds up what they counted.

    tests/run.py test|full|all|gpu [-k WORD] [--list]

A suite is one command of the table below.  What it counts (test functions,
checker cases) is read from its own output; one that crashes, hangs or counts
nothing is 1 failed.  Skipped tests are named with their reason.  The last line
alone is the total.  Whole outputs are kept in build/logs.
"""
import argparse
import concurrent.futures
import glob
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build/logs"
VENV = ROOT / ".venv/bin/python"
PYTHON = str(VENV) if VENV.exists() else sys.executable
PYTEST = f"{PYTHON} -m pytest -q -rs -p no:cacheprovider"

# --- the table ------------------------------------------------------------

# Build folders: options beyond the defaults, and the compiler.
BUILDS = {
    "build": ("", "cc"),
    "build-clang": ("", "clang"),
    "build-asan": ("-Dbuildtype=debugoptimized "
                   "-Db_sanitize=address,undefined -Db_lundef=false", "clang"),
    "build-tsan": ("-Dbuildtype=debugoptimized -Db_sanitize=thread "
                   "-Db_lundef=false", "clang"),
    "build-asan-gcc": ("-Dbuildtype=debugoptimized "
                       "-Db_sanitize=address,undefined", "cc"),
    "build-fuzz": ("-Dbuildtype=debugoptimized -Dfuzz=true "
                   "-Db_sanitize=address,undefined -Db_lundef=false", "clang"),
}

SANITIZER = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:"
                    "detect_stack_use_after_return=1:abort_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


class Suite:
    """tier: test or full; alone: needs both cores to itself."""

    def __init__(self, name, command, tier="test", timeout=120, alone=False,
                 **environment):
        self.name = name
        self.command = command
        self.tier = tier
        self.timeout = timeout
        self.alone = alone
        self.environment = environment


def build(directory, *targets, tier="test"):
    options, compiler = BUILDS[directory]
    # gcc warns of what its sanitizers' own code could do
    werror = f"-Dwerror={str(directory != 'build-asan-gcc').lower()}"
    of = ", tier full" if tier == "full" else ""
    return Suite(" ".join([f"{directory}: -Werror", *targets]) + of,
                 f"{PYTHON} tools/build {directory} -Dtests=true {werror} "
                 f"{options} {' '.join(targets)}", tier=tier, timeout=600,
                 alone=True, CC=compiler)


def units(directory, *words, tier="test", timeout=120):
    """Every tests/unit/test_*.c, or those whose name has one of words."""
    names = sorted(pathlib.Path(p).stem
                   for p in glob.glob(str(ROOT / "tests/unit/test_*.c")))
    of = ", tier full" if tier == "full" else ""
    return [Suite(f"{directory}: unit/{name}{of}",
                  f"{directory}/tests/unit/{name}", tier=tier,
                  timeout=timeout)
            for name in names
            if not words or any(word in name for word in words)]


def check(directory, tier_of_cases, *flags, tier="test", timeout=300):
    return Suite(f"{directory}: cases of tier {tier_of_cases}",
                 f"{directory}/tests/check/flicheck --tier {tier_of_cases} "
                 + " ".join(flags), tier=tier, timeout=timeout)


def fuzz(name):
    return Suite(f"build-fuzz: {name}",
                 f"{PYTHON} tests/fuzz/run.py build-fuzz/tests/fuzz/{name} 60",
                 tier="full", timeout=150)


def suites():
    """In the order they run: what is cheap and telling first."""
    return [
        Suite("checksrc", f"{PYTHON} tools/checksrc.py"),
        Suite("tools", f"{PYTEST} tests/tools"),
        build("build"),
        *units("build"),
        check("build", "smoke", "--dump build/dump"),
        Suite("oracle", f"{PYTHON} tests/oracle/oracle.py build/dump",
              timeout=300),
        Suite("plan", f"{PYTEST} tests/plan", timeout=300),
        Suite("abi", f"{PYTEST} tests/abi"),
        Suite("interpose", "build/tests/interpose/run_allocates_nothing",
              LD_PRELOAD="build/tests/interpose/count_calls.so"),
        Suite("kernels for sm_90a", f"{PYTHON} tests/jit/shipped.py sm_90a",
              timeout=300, alone=True),
        Suite("command line", f"{PYTEST} tests/jit"),
        Suite("install", f"{PYTEST} tests/install"),
        Suite("engine", f"{PYTEST} -m 'not slow' tests/engine", timeout=300),
        build("build-clang"),
        build("build-asan"),
        *units("build-asan"),
        check("build-asan", "smoke"),
        build("build-tsan", "tests/unit/test_pool"),
        *units("build-tsan", "pool"),
        # --- the longer tier; the first two are there after make test ---
        build("build", tier="full"),
        build("build-clang", tier="full"),
        Suite("kernels for sm_80 and sm_100a",
              f"{PYTHON} tests/jit/shipped.py sm_80 sm_100a", tier="full",
              timeout=600, alone=True),
        Suite("abi, torch's DLPack header", f"{PYTEST} -k official tests/abi",
              tier="full"),
        build("build-tsan", tier="full"),
        *units("build-tsan", tier="full"),
        check("build-tsan", "smoke", tier="full", timeout=900),
        build("build-asan-gcc", tier="full"),
        *units("build-asan-gcc", tier="full"),
        check("build-asan-gcc", "smoke", tier="full", timeout=900),
        check("build", "full", "--dump build/dump-full", tier="full",
              timeout=1200),
        Suite("oracle, tier full",
              f"{PYTHON} tests/oracle/oracle.py build/dump-full", tier="full",
              timeout=900),
        check("build-clang", "full", tier="full", timeout=900),
        build("build-fuzz", tier="full"),
        fuzz("fuzz_desc"),
        fuzz("fuzz_model"),
        Suite("engine, slow", f"{PYTEST} -m slow tests/engine", tier="full",
              timeout=900),
    ]


# Suites of gpu_suites that run at once: most of their time is the host's.
AT_ONCE = 5


def nvrtc_folder():
    """Where this Python's packages have libnvrtc, or ""."""
    found = [f for p in sys.path
             for f in glob.glob(p + "/nvidia/*/lib/libnvrtc.so*")]
    return str(pathlib.Path(found[0]).parent) if found else ""


def gpu_suite(name, command, timeout=300, **environment):
    """What make gpu-build made may have been carried here from elsewhere."""
    return Suite(name, command, "gpu", timeout,
                 LD_LIBRARY_PATH=str(ROOT / "build-gpu"),
                 FLI_NVRTC=nvrtc_folder(),
                 FLI_CACHE=str(ROOT / "build-gpu/cache"), **environment)


CHECKER = "build-gpu/tests/check/flicheck"


def cuda_cases(op):
    """The cases of an op, and those that reach each shipped kernel of it."""
    return [
        gpu_suite(f"cuda, {op}", f"{CHECKER} --cuda tests/cases/{op}.txt "
                  f"build-gpu/tests/check/{op}.gen.txt", FLI_LOG="jit"),
        *[gpu_suite(f"cuda, shipped: {op}",
                    f"{CHECKER} --cuda --tier full {file}", FLI_LOG="jit")
          for file in glob.glob(str(ROOT / f"tests/gpu/cases/{op}.txt"))],
    ]


def sanitized(tool, *ops):
    """The smaller cases of the shipped kernels under compute-sanitizer."""
    path = os.environ["PATH"] + ":/usr/local/cuda/bin"
    program = shutil.which("compute-sanitizer", path=path)
    name = f"{tool}: {ops[0]}" + (", others" if len(ops) > 1 else "")
    if not program:
        return skipped(name, "compute-sanitizer is not here")
    files = " ".join(f"tests/gpu/cases/{op}.txt" for op in ops)
    return gpu_suite(name, f"{program} --tool {tool} --target-processes all "
                     f"--error-exitcode 9 {CHECKER} --cuda {files}")


def skipped(name, why):
    text = rf"SKIP  {why}\n0 passed, 0 failed, 1 skipped\n"
    return Suite(name, f"printf {shlex.quote(text)}", "gpu")


def gpu_suites():
    """make gpu-test, on a machine with a GPU; make gpu-build came before."""
    ops = re.findall(r"^FLI_OP\((\w+),", (ROOT / "src/ops.def").read_text(),
                     re.M)
    everywhere = " ".join(
        f"tests/cases/{op}.txt build-gpu/tests/check/{op}.gen.txt"
        for op in ops)
    (ROOT / "build-gpu/cache").mkdir(mode=0o700, exist_ok=True)
    return [
        sanitized("memcheck", "attention", "merge_states", "append",
                  "page_copy", "get_batch_indices_positions"),
        sanitized("memcheck", "gemm", "rope", "rmsnorm", "fused_add_rmsnorm",
                  "silu_and_mul", "gelu_and_mul", "gelu_tanh_and_mul"),
        sanitized("memcheck", "packbits", "segment_packbits", "softmax",
                  "sample_from_logits", "sample_from_probs", "renorm_probs",
                  "mask_logits"),
        sanitized("racecheck", "attention"),
        sanitized("racecheck", "gemm", "rmsnorm", "rope", "segment_packbits",
                  "sample_from_logits", "softmax"),
        *[suite for op in ops for suite in cuda_cases(op)],
        *[gpu_suite(f"gpu/{pathlib.Path(p).stem}",
                    f"build-gpu/tests/gpu/{pathlib.Path(p).stem}")
          for p in sorted(glob.glob(str(ROOT / "tests/gpu/test_*.c")))],
        gpu_suite("gpu/test_engine", f"{PYTHON} tests/gpu/test_engine.py",
                  FLI_BUILD="build-gpu"),
        gpu_suite("cpu, cases of tier smoke", f"{CHECKER} {everywhere}"),
        # the fake driver's tests know it by the path it was built at
        *[gpu_suite(s.name, s.command) for s in units("build-gpu")
          if "_cuda" not in s.name and "/test_cuda" not in s.name],
    ]


def write_evidence(total):
    """A green make gpu-test says which kernels it was about."""
    pack = ROOT / "build-gpu/flashinfer.pack"
    if not pack.exists():
        print("no evidence is written: make gpu-build makes the pack for it")
        return
    logs = sorted(glob.glob(str(LOGS / "cuda-*.txt")))
    subprocess.run([PYTHON, "tests/gpu/evidence.py", "write", str(pack),
                    str(total.passed), *logs], cwd=ROOT)


# --- reading a suite's output ---------------------------------------------

def read_cmocka(text):
    """TAP; what a test printed before "# SKIP" is its reason."""
    passed = len(re.findall(r"^ok \d+ - ", text, re.M))
    failed = len(re.findall(r"^not ok \d+ - ", text, re.M))
    skips = re.findall(r"^(.*)\nnot ok \d+ # SKIP (.*)$", text, re.M)
    planned = sum(map(int, re.findall(r"^1\.\.(\d+)$", text, re.M)))
    if not planned:
        return None
    ended = passed + failed + len(skips)
    lost = 1 if ended < planned else 0
    return passed, failed + lost, [f"{name}: {why}" for why, name in skips]


def read_pytest(text):
    """The summary of pytest -q."""
    line = re.findall(r"^(?:=+ )?((?:\d+ \w+(?:, )?)+) in [\d.]+s.*$", text,
                      re.M)
    if not line:
        return None
    counts = {word.rstrip("s"): int(n)
              for n, word in re.findall(r"(\d+) (\w+)", line[-1])}
    failed = sum(counts.get(word, 0) for word in ("failed", "error", "xpassed"))
    skips = []
    for n, why in re.findall(r"^SKIPPED \[(\d+)\] (.*)$", text, re.M):
        skips += [why] * int(n)
    skips += ["(no reason)"] * (counts.get("skipped", 0) - len(skips))
    return counts.get("passed", 0), failed, skips


def read_line(text):
    """Our own programs: SKIP lines, and last "N passed, N failed, N skipped"."""
    lines = re.findall(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$",
                       text, re.M)
    if not lines:
        return None
    skips = re.findall(r"^SKIP\s+(.*)$", text, re.M)
    n = int(lines[-1][2] or 0)
    skips = skips[:n] + ["(no reason)"] * (n - len(skips))
    return int(lines[-1][0]), int(lines[-1][1]), skips


def read(suite, text, status):
    """(passed, failed, skips) of a suite that ended with status."""
    counts = None
    for reader in (read_cmocka, read_line, read_pytest):
        counts = counts or reader(text)
    if counts is None:
        built = "tools/build " in suite.command and status == 0
        return (1, 0, []) if built else (0, 1, [])
    passed, failed, skips = counts
    nothing = not passed and not failed and not skips
    if not failed and (status or nothing):
        failed = 1
    return passed, failed, skips


# --- running --------------------------------------------------------------

def execute(suite):
    """(output, exit status); -1 for a timeout, 127 for no such program."""
    environment = {**os.environ, **SANITIZER, "CMOCKA_MESSAGE_OUTPUT": "TAP",
                   "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}",
                   "VIRTUAL_ENV": str(ROOT / ".venv"),  # NVRTC is in it
                   "FLI_CACHE": str(ROOT / "build/cache"),
                   "PYTHONDONTWRITEBYTECODE": "1", **suite.environment}
    log = LOGS / (re.sub(r"\W+", "-", suite.name) + ".txt")
    with open(log, "w") as out:
        try:
            child = subprocess.Popen(shlex.split(suite.command), cwd=ROOT,
                                     env=environment, stdout=out,
                                     stderr=subprocess.STDOUT,
                                     stdin=subprocess.DEVNULL,
                                     start_new_session=True)
        except OSError as error:
            return f"{error}\n", 127
        try:
            status = child.wait(suite.timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            out.write(f"\nkilled after {suite.timeout} s\n")
            status = -1
    return log.read_text(errors="replace"), status


class Total:
    def __init__(self):
        self.passed = self.failed = 0
        self.skips = []
        self.red = []

    def add(self, suite, seconds, counts, text, status):
        passed, failed, skips = counts
        self.passed += passed
        self.failed += failed
        self.skips += [f"{suite.name}: {why}" for why in skips]
        print(f"{seconds:7.1f} s  {suite.name:44} {passed} passed, "
              f"{failed} failed, {len(skips)} skipped", flush=True)
        for line in re.findall(r"^evidence: .*$", text, re.M):
            print(f"           {line}")
        if failed:
            self.red.append(suite.name)
            told = re.sub(r"^flashinfer: jit: .*\n", "", text, flags=re.M)
            tail = "\n".join(told.rstrip().split("\n")[-40:])
            print(f"--- {suite.command}\n--- exit status {status}, the end of "
                  f"its output:\n{tail}\n---", flush=True)


def batches(chosen):
    """Neighbours that need not be alone run together."""
    batch = []
    for suite in chosen:
        if suite.alone and batch:
            yield batch
            batch = []
        batch.append(suite)
        if suite.alone:
            yield batch
            batch = []
    if batch:
        yield batch


def timed(suite):
    start = time.monotonic()
    text, status = execute(suite)
    if "LeakSanitizer has encountered a fatal error" in text:
        text, status = execute(suite)  # its tracer died, not what it looked at
    return suite, time.monotonic() - start, read(suite, text, status), text, \
        status


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tier", choices=["test", "full", "all", "gpu"])
    parser.add_argument("-k", default="", metavar="WORD",
                        help="only suites whose name has this")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    known = gpu_suites() if options.tier == "gpu" else suites()
    chosen = [s for s in known if options.tier in (s.tier, "all")
              and options.k in s.name]
    if options.list:
        for suite in chosen:
            print(f"{suite.name:46} {suite.command}")
        return 0
    LOGS.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    total = Total()
    at_once = AT_ONCE if options.tier == "gpu" else 1
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for batch in batches(chosen):
            for done in pool.map(timed, batch):
                total.add(*done)
    print(f"{time.monotonic() - start:7.1f} s  in all")
    for skip in total.skips:
        print(f"skipped  {skip}")
    for name in total.red:
        print(f"failed   {name}")
    red = total.failed or not total.passed
    if options.tier == "gpu" and not options.k and not red:
        write_evidence(total)
    print(f"{total.passed} passed, {total.failed} failed, "
          f"{len(total.skips)} skipped")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
