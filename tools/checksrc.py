#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the tree against STYLE.md and ARCHITECTURE.md.

    tools/checksrc.py [--report] [--fix] [ROOT]

Each rule has a name and counts as one test; every finding is an error:

    file:line: RULE: what is wrong

A finding is silenced by a comment on its line or on a line of its own above it:

    checksrc: off RULE, because ...

which is itself an error (SILENCER) when nothing is found there.  --report adds
sizes (columns, functions, files, branches), which are advice.  --fix formats
the C files.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys

TEXT = {".c", ".h", ".cu", ".cuh", ".def", ".py", ".build", ".options", ".md",
        ".txt", ".sh", ".in", ".toml", ".json", ".yml", ".map", ""}
CODE = {".c", ".h", ".cu", ".cuh", ".def", ".py", ".build", ".options", ".sh"}
FAMILIES = {"activation", "attention", "gemm", "norm", "page", "quant", "rope",
            "sampling"}
PUBLIC_CORE = {"base.h", "tensor.h", "context.h"}
BANNED = ("malloc calloc realloc free aligned_alloc posix_memalign printf "
          "fprintf vprintf vfprintf puts fputs putchar fputc strcpy strcat "
          "sprintf vsprintf atoi strtok getenv system abort exit").split()


class File:
    def __init__(self, root, path):
        self.path = path  # relative, with slashes
        self.parts = path.split("/")
        self.name = self.parts[-1]
        self.suffix = pathlib.PurePath(path).suffix
        self.text = (root / path).read_text(encoding="utf-8",
                                            errors="surrogateescape")
        self.lines = self.text.split("\n")
        self.is_c = self.suffix in (".c", ".h", ".cu", ".cuh")
        self.bare = strip_c(self.text).split("\n") if self.is_c else []

    def under(self, *folders):
        return any(self.path.startswith(folder + "/") for folder in folders)


def strip_c(text):
    """Comments and strings blanked, lines kept."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"'
                  r"|'(?:\\.|[^'\\\n])*'", blank, text, flags=re.S)


def tree(root):
    """Every file of the tree that is text; what git ignores is not of it."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others",
               "--exclude-standard"]
    if (root / ".git").exists():
        names = subprocess.run(command, capture_output=True, text=True,
                               check=True).stdout.split("\0")
    else:
        names = [str(p.relative_to(root)) for p in root.rglob("*")]
        names = [n for n in names if not re.match(r"build|\.venv|\.git/", n)]
    files = []
    for name in sorted(set(names)):
        path = root / name
        if name and path.is_file() and not path.is_symlink() \
                and path.suffix in TEXT and path.stat().st_size < 1 << 20:
            files.append(File(root, name))
    return files


# --- rules: each yields (file, line from 1, message) ----------------------

def includes(file):
    """(line, "<" or '"', path) of each #include."""
    for number, line in enumerate(file.lines, 1):
        found = re.match(r'\s*#\s*include\s*([<"])([^">]+)', line)
        if found and file.bare[number - 1].strip().startswith("#"):
            yield number, found.group(1), found.group(2)


def layers_of(file):
    """What the file may include: folders of src and kernels, "public" for all
    public headers, "public core" for base.h, tensor.h and context.h."""
    if file.under("src"):
        layer = file.parts[1]
        allowed = {"core", "abi", "ops.def", "public core"}
        if layer in ("device", "plan"):
            allowed |= {layer}
        elif layer == "jit":
            allowed |= {"device", layer, "public"}
        elif layer != "core":
            allowed |= {"device", "jit", "plan", layer, "public"}
        return allowed
    if file.under("kernels/abi"):
        return {"abi"}
    if file.under("kernels"):
        return {"abi", file.parts[1]}
    if file.under("include"):
        return set()
    allowed = {"public", "public core"}
    if file.under("tests/unit", "tests/plan", "tests/gpu"):
        allowed |= FAMILIES | {"core", "device", "jit", "plan", "abi", "ref",
                               "cpu", "ops.def", "flicheck.h", "fakecuda.h",
                               "gpu.h", "unit.h"}
    elif file.under("tests/check"):
        allowed |= {"ops.def", "gpu.h"}
    elif file.under("tests/fakecuda"):
        allowed |= {"device"}  # what a driver must have
    elif file.under("tests/fuzz"):
        allowed |= {"engine.h"}
    elif file.under("tools"):
        allowed |= {"ops.def", "core"}  # tables to print
    return allowed


def layer_rule(root, files):
    """core <- device <- family; plan on core; kernels on kernels only."""
    for file in files:
        if not file.is_c:
            continue
        allowed = layers_of(file)
        for line, quote, path in includes(file):
            first, _, rest = path.partition("/")
            if quote == "<" and first == "flashinfer":
                inside = "public core" if rest in PUBLIC_CORE else "public"
            elif quote == "<":
                inside = None if not file.under("kernels/abi", "include") \
                    or path in ("stddef.h", "stdint.h") else "libc"
            elif path.endswith("ops.def"):
                inside = "ops.def"
            elif rest == "":
                there = root / file.path
                inside = None if (there.parent / first).exists() else path
            elif (root / file.path).parent.joinpath(path).exists() \
                    and not path.startswith(".."):
                inside = None
            else:
                inside = path.rpartition("/")[2] if first == ".." else first
            if inside and inside not in allowed:
                yield file, line, f"{path} may not be included here"


def ops(root):
    """(name, family, kind, stem) of each line of src/ops.def."""
    path = root / "src/ops.def"
    text = path.read_text() if path.exists() else ""
    return [tuple(x.strip() for x in groups) for groups in re.findall(
        r"^FLI_OP\(([^,]+),([^,]+),([^,]+),([^,]+),", text, re.M)]


def stem_rule(root, files):
    """Each op has its stem in every tree, and no tree has a stem of its own."""
    by_path = {file.path: file for file in files}
    table = by_path.get("src/ops.def")
    for name, family, _, stem in ops(root):
        line = next(i for i, text in enumerate(table.lines, 1)
                    if text.startswith(f"FLI_OP({name},"))
        for path in (f"kernels/ref/{stem}.c", f"kernels/cpu/{stem}.c",
                     f"tests/check/{stem}.c", f"tests/cases/{name}.txt",
                     f"include/flashinfer/{family}.h"):
            if path not in by_path:
                yield table, line, f"{name} has no {path}"
        driver = by_path.get(f"tests/check/{stem}.c")
        if driver and not re.search(rf"\b{name}\b", driver.text):
            yield table, line, f"{name} has no driver in tests/check/{stem}.c"
    refs = {f.name for f in files if re.match(r"kernels/ref/\w+\.c$", f.path)}
    cpus = {f.name for f in files if re.match(r"kernels/cpu/\w+\.c$", f.path)}
    for name in sorted(refs ^ cpus):
        folder = "ref" if name in refs else "cpu"
        other = "cpu" if name in refs else "ref"
        yield (by_path[f"kernels/{folder}/{name}"], 1,
               f"kernels/{other} has no {name}")


def banned_rule(_, files):
    """What the library must not call; src/core may."""
    pattern = re.compile(rf"(?<![\w.>])({'|'.join(BANNED)})\s*\(")
    for file in files:
        if not file.is_c or not file.under("src", "kernels") \
                or file.under("src/core"):
            continue
        for number, line in enumerate(file.bare, 1):
            for found in pattern.finditer(line):
                yield file, number, f"{found.group(1)} is banned"


def headerdoc_rule(_, files):
    """Public functions stand under a comment, alone or as a group."""
    for file in files:
        if not file.under("include/flashinfer"):
            continue
        documented = grouped = False
        inside = False  # a declaration that goes on
        for number, line in enumerate(file.lines, 1):
            if line.startswith("/*") and "SPDX" not in line:
                documented = True
            elif line.startswith("FLI_API"):
                if not documented and not grouped:
                    yield file, number, "function without a comment"
                documented, grouped = False, True
                inside = not line.rstrip().endswith(";")
            elif inside:
                inside = not line.rstrip().endswith(";")
            elif not line.strip():
                grouped = False


def spdx_rule(_, files):
    """The licence stands in the first line, after #! in the second."""
    for file in files:
        if file.suffix in CODE or file.text.startswith("#!") \
                or file.name == "Makefile":
            first = file.lines[1:2] if file.text.startswith("#!") \
                else file.lines[:1]
            if not first or "SPDX-License-Identifier: Apache-2.0" not in first[0]:
                yield file, 1, "no SPDX line"


def tabs_rule(_, files):
    """Tabs in Makefiles only."""
    for file in files:
        if file.name != "Makefile":
            for number, line in enumerate(file.lines, 1):
                if "\t" in line:
                    yield file, number, "tab"


def trailing_rule(_, files):
    """No blanks at the end of a line."""
    for file in files:
        for number, line in enumerate(file.lines, 1):
            if line != line.rstrip():
                yield file, number, "blank at the end of the line"


def finalnewline_rule(_, files):
    """A file ends in one newline."""
    for file in files:
        if file.text and (not file.text.endswith("\n")
                          or file.text.endswith("\n\n")):
            yield file, len(file.lines), "the file does not end in one newline"


def is_code(line):
    """Does the line of a comment read like C?"""
    return bool(re.match(r"(?:(?:if|for|while|return|else)\b.*[;{]|"
                         r"[\w\s*>.\[\]-]+(?:[-+*/|&]?=[^=]|\().*;|[{}])$",
                         line))


def deadcode_rule(_, files):
    """No #if 0, no statement inside a comment of nothing else."""
    for file in files:
        if not file.is_c:
            continue
        for number, line in enumerate(file.lines, 1):
            if re.match(r"\s*#\s*if\s+0\b", line):
                yield file, number, "#if 0"
        for found in re.finditer(r"/\*(.*?)\*/|//([^\n]*)", file.text, re.S):
            body = found.group(1) or found.group(2) or ""
            lines = [x.strip(" *\t") for x in body.split("\n")]
            lines = [x for x in lines if x]
            if lines and all(map(is_code, lines)):
                yield (file, file.text.count("\n", 0, found.start()) + 1,
                       "code in a comment")


def paths_rule(_, files):
    """No path of somebody's machine."""
    for file in files:
        for number, line in enumerate(file.lines, 1):
            if re.search(r"(?<![\w.])/(home|root|work|Users)/", line):
                yield file, number, "a path of one machine"


def meson_rule(root, files):
    """Every C file of src, kernels and tests/unit is built."""
    builds = "\n".join(f.text for f in files if f.name == "meson.build")
    stems = re.findall(r"^stems = \[(.*?)\]", builds, re.M | re.S)
    listed = re.findall(r"'(\w+)'", stems[0]) if stems else []
    for file in files:
        if file.under("src") and file.suffix == ".c" \
                and f"'{file.path}'" not in builds:
            yield file, 1, "not in meson.build"
        found = re.match(r"kernels/(ref|cpu)/(\w+)\.c$", file.path)
        if found and found.group(2) not in listed:
            yield file, 1, "not in meson.build's stems"


def format_rule(root, files):
    """clang-format, the version that tools/setup pins."""
    program = root / ".venv/bin/clang-format"
    if not program.exists():
        raise FileNotFoundError("run tools/setup test first")
    by_path = {f.path: f for f in files if f.is_c}
    done = subprocess.run([str(program), "--dry-run", "-Werror",
                           *sorted(by_path)], cwd=root, capture_output=True,
                          text=True)
    seen = set()
    for path, line in re.findall(r"^(\S+):(\d+):\d+: error:", done.stderr, re.M):
        if path not in seen:
            seen.add(path)
            yield by_path[path], int(line), "not as clang-format has it"
    if done.returncode and not seen:
        raise RuntimeError(done.stderr)


RULES = {
    "LAYER": layer_rule,
    "STEM": stem_rule,
    "BANNED": banned_rule,
    "HEADERDOC": headerdoc_rule,
    "SPDX": spdx_rule,
    "TABS": tabs_rule,
    "TRAILING": trailing_rule,
    "FINALNEWLINE": finalnewline_rule,
    "DEADCODE": deadcode_rule,
    "PATHS": paths_rule,
    "MESON": meson_rule,
    "FORMAT": format_rule,
}


# --- silencers ------------------------------------------------------------

def silencers(files):
    """{(path, line it speaks of, rule): line it stands on}"""
    found = {}
    for file in files:
        if file.name in ("checksrc.py", "test_checksrc.py"):
            continue  # they speak about silencers
        for number, line in enumerate(file.lines, 1):
            match = re.search(r"checksrc: off (\w+), because \S", line)
            if match:
                alone = re.match(r"\s*(/\*|#|//)", line)
                found[file.path, number + bool(alone), match.group(1)] = number
    return found


def check(root, files, names):
    """{rule: [text of a finding]}"""
    findings = {name: [] for name in names}
    silenced = silencers(files)
    used = set()
    for name in names:
        for file, line, message in RULES[name](root, files):
            key = (file.path, line, name)
            if key in silenced:
                used.add(key)
            else:
                findings[name].append(f"{file.path}:{line}: {name}: {message}")
    findings["SILENCER"] = [
        f"{path}:{silenced[path, line, rule]}: SILENCER: no {rule} here to turn "
        "off" for path, line, rule in silenced
        if (path, line, rule) not in used and (rule in names
                                               or rule not in RULES)]
    return findings


# --- sizes ----------------------------------------------------------------

def functions(file):
    """(first line, lines, branches): bodies open with { in the first column."""
    start = branches = None
    for number, line in enumerate(file.bare, 1):
        if line.startswith("{"):
            start, branches = number, 1
        elif line.startswith("}") and start:
            yield start, number - start + 1, branches
            start = None
        elif start:
            branches += len(re.findall(r"\b(?:if|for|while|case)\b|&&|\|\||\?",
                                       line))


def name_above(file, line):
    """The name of the function whose body opens at line."""
    for number in range(line - 1, max(0, line - 8), -1):
        found = re.match(r"\w[\w *]*?([\w()]+)\(", file.lines[number - 1])
        if found:
            return found.group(1)
    return "?"


def report(files):
    n_lines = n_functions = 0
    for file in files:
        if not file.is_c:
            continue
        kernel = file.under("kernels")
        n_lines += len(file.lines) - 1
        if len(file.lines) > (800 if kernel else 600):
            print(f"{file.path}: {len(file.lines)} lines")
        for number, line in enumerate(file.lines, 1):
            if len(line) > 80:
                print(f"{file.path}:{number}: {len(line)} columns")
        for start, length, branches in functions(file):
            n_functions += 1
            if length > (150 if kernel else 80):
                print(f"{file.path}:{start}: {name_above(file, start)}: "
                      f"{length} lines")
            if branches > 20:
                print(f"{file.path}:{start}: {name_above(file, start)}: "
                      f"{branches} branches")
    print(f"{n_lines} lines of C, {n_functions} functions")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--fix", action="store_true")
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("root", nargs="?", default=os.path.join(
        os.path.dirname(os.path.abspath(__file__)), ".."))
    options = parser.parse_args()
    root = pathlib.Path(options.root).resolve()
    files = tree(root)
    if options.fix:
        subprocess.run([str(root / ".venv/bin/clang-format"), "-i",
                        *[f.path for f in files if f.is_c]], cwd=root,
                       check=True)
        files = tree(root)
    if options.report:
        report(files)
    findings = check(root, files, options.rules.split(","))
    for lines in findings.values():
        print("\n".join(lines), end="\n" if lines else "")
    failed = sum(bool(lines) for lines in findings.values())
    print(f"{len(findings) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
