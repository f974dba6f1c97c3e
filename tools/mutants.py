#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do the tests notice?  Plants the faults of tests/mutants.txt one at a time.

    tools/mutants.py [-k WORD] [--report FILE]

Each fault is put into a copy of the tree, what it touches is rebuilt, and the
tests run until the first is red: unit tests, the planner's properties for its
files, the smoke cases of the ops named, the oracle on those, then all other
smoke cases.  A fault that no test notices is a survivor; one whose text is no
longer in its file is stale.  Both make the exit status 1.  The table goes to
docs/results/mutants.md.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build-mutants"
TREE = WORK / "tree"
PYTHON = ROOT / ".venv/bin/python"
SEED = "1"


class Mutant:
    def __init__(self, name, why):
        self.name, self.why = name, why
        self.file, self.ops = "", []
        self.old, self.new = [], []


def read_table(path):
    """== name: what is wrong / file PATH / ops NAME ... / - old / + new"""
    mutants = []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "==":
            name, _, why = rest.partition(": ")
            mutants.append(Mutant(name, why))
        elif word == "file":
            mutants[-1].file = rest.strip()
        elif word == "ops":
            mutants[-1].ops = rest.split()
        elif word in "-+":
            (mutants[-1].old if word == "-" else mutants[-1].new).append(rest)
        else:
            sys.exit(f"{path}:{number}: {line}")
    names = [m.name for m in mutants]
    if len(set(names)) != len(names):
        sys.exit(f"{path}: a name occurs twice")
    return mutants


def fault_in(text, mutant):
    """text with the fault; None unless its place is found exactly once.  Blanks
    and line ends are alike, so that formatting does not matter."""
    words = " ".join(mutant.old).split()
    pattern = r"\s*".join(re.escape(word) for word in words)
    places = list(re.finditer(pattern, text)) if words else []
    if len(places) != 1:
        return None
    new = " ".join(mutant.new)
    at = places[0]
    return text[:at.start()] + new + text[at.end():]


def run(command, timeout=600, **environment):
    """(exit status, output) in the copy."""
    try:
        done = subprocess.run(
            [str(c) for c in command], cwd=TREE, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
            env={**os.environ, "CMOCKA_MESSAGE_OUTPUT": "TAP",
                 "PYTHONDONTWRITEBYTECODE": "1", **environment})
    except subprocess.TimeoutExpired:
        return -1, "timeout"
    return done.returncode, done.stdout


# --- what runs, in order; each gives the name of the red test or "" --------

def first(pattern, text, otherwise):
    found = re.search(pattern, text, re.M)
    return found.group(1) if found else otherwise


def units(_):
    for program in sorted(TREE.glob("build/tests/*/test_*")):
        if program.is_file() and os.access(program, os.X_OK):
            status, text = run([program], timeout=60)
            if status:
                return f"{program.name} " + first(r"^not ok \d+ - (\w+)$",
                                                  text, "died")
    return ""


def properties(mutant):
    if "plan" not in mutant.file:
        return ""
    status, text = run([PYTHON, "-m", "pytest", "-q", "-x", "-p",
                        "no:cacheprovider", "tests/plan"], FLI_BUILD="build")
    return "plan " + first(r"^FAILED \S+::(\w+)", text, "died") if status else ""


def check(ops):
    for op in ops:
        status, text = run(["build/tests/check/flicheck", "--op", op, "--tier",
                            "smoke", "--seed", SEED])
        if status:
            return f"flicheck {op} " + first(r"^FAIL\s+(.*)$", text, "died")[:60]
    return ""


def named_cases(mutant):
    return check(mutant.ops)


def oracle(mutant):
    for op in mutant.ops:
        shutil.rmtree(TREE / "dump", ignore_errors=True)
        run(["build/tests/check/flicheck", "--op", op, "--tier", "smoke",
             "--seed", SEED, "--dump", "dump"])
        status, text = run([PYTHON, "tests/oracle/oracle.py", "dump"])
        if status:
            return f"oracle {op} " + first(r"^FAIL\s+(.*)$", text, "died")[:60]
    return ""


def all_ops():
    return re.findall(r"^FLI_OP\((\w+)", (ROOT / "src/ops.def").read_text(),
                      re.M)


def other_cases(mutant):
    return check(op for op in all_ops() if op not in mutant.ops)


STAGES = [units, properties, named_cases, oracle, other_cases]


# --- the copy --------------------------------------------------------------

def copy_tree():
    """What git has or would have; files that are the same keep their times, so
    that little is built again."""
    names = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others",
         "--exclude-standard"], capture_output=True, text=True,
        check=True).stdout.split("\0")
    for name in filter(None, names):
        source, to = ROOT / name, TREE / name
        if not source.is_file() or name.startswith("models/"):
            continue
        to.parent.mkdir(parents=True, exist_ok=True)
        if not to.exists() or to.read_bytes() != source.read_bytes():
            shutil.copy(source, to)
    for path in TREE.rglob("*.[ch]"):
        name = path.relative_to(TREE)
        if name.parts[0] != "build" and not (ROOT / name).exists():
            path.unlink()
    link = TREE / ".venv"
    if not link.exists():
        link.symlink_to(ROOT / ".venv")


def build():
    return run([PYTHON, "tools/build", "build", "-Dtests=true",
                "-Dengine=false", "-Dbuildtype=debugoptimized"])


def try_mutant(mutant):
    """(how it ended, by what)"""
    path = TREE / mutant.file
    good = path.read_text() if path.exists() else ""
    bad = fault_in(good, mutant)
    if bad is None:
        return "stale", ""
    try:
        path.write_text(bad)
        status, text = build()
        if status:
            return "killed", "build: " + first(r"error: (.*)$", text, "?")[:60]
        for stage in STAGES:
            red = stage(mutant)
            if red:
                return "killed", red
        return "survived", ""
    finally:
        path.write_text(good)


def table(results, seconds):
    killed = sum(how == "killed" for _, how, _ in results)
    lines = ["# Mutants", "",
             "One-line faults of `tests/mutants.txt`, each planted alone; the "
             "tests ran until the first was red (`make mutants`).", "",
             f"{killed} of {len(results)} killed, "
             f"{sum(how == 'survived' for _, how, _ in results)} survived, "
             f"{sum(how == 'stale' for _, how, _ in results)} stale; "
             f"{seconds / 60:.0f} minutes.", "",
             "| fault | file | what | first red test |", "|---|---|---|---|"]
    for mutant, how, by in results:
        by = by.replace("|", "\\|") if how == "killed" else f"**{how}**"
        lines.append(f"| {mutant.name} | `{mutant.file}` | {mutant.why} | "
                     f"{by} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-k", default="", metavar="WORD",
                        help="only mutants whose name or file has this")
    parser.add_argument("--report", default=ROOT / "docs/results/mutants.md",
                        type=pathlib.Path)
    options = parser.parse_args()
    mutants = [m for m in read_table(ROOT / "tests/mutants.txt")
               if options.k in m.name or options.k in m.file]
    start = time.monotonic()
    copy_tree()
    status, text = build()
    if status:
        print(text)
        sys.exit("mutants: the tree does not build")
    everything = Mutant("none", "")
    everything.file, everything.ops = "plan", all_ops()
    for stage in STAGES:
        red = stage(everything)
        if red:
            sys.exit(f"mutants: red without a fault: {red}")
    print(f"{time.monotonic() - start:7.1f} s  no fault, all green", flush=True)
    results = []
    for mutant in mutants:
        began = time.monotonic()
        how, by = try_mutant(mutant)
        results.append((mutant, how, by))
        print(f"{time.monotonic() - began:7.1f} s  {mutant.name:28} {how:9} "
              f"{by}", flush=True)
    if not options.k:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(table(results, time.monotonic() - start))
    bad = sum(how != "killed" for _, how, _ in results)
    print(f"{len(results) - bad} passed, {bad} failed, 0 skipped")
    return 1 if bad or not results else 0


if __name__ == "__main__":
    sys.exit(main())
