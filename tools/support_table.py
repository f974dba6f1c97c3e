#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The support table, in Markdown, from src/ops.def and the kernels at hand.

    tools/support_table.py [--list FILE] [--bench FILE] [--write|--check FILE]

fast: kernels/<backend> has a file of the op's stem; slow: served by the
reference in kernels/ref; -: neither.  --list takes what `flicheck --list`
printed and adds the share of cases that the kernel took where it did not take
all; --bench takes what `flicheck --bench --tsv FILE` wrote and adds the op's
best share of the machine's ceiling.  Without --write or --check the table goes
to stdout; --check exits with 1 when the file (README.md) holds another one.
"""
import argparse
import collections
import csv
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN = "<!-- support table: tools/support_table.py -->\n"
END = "<!-- end of support table -->"
BACKENDS = {"CPU": ("cpu", "*.c"), "CUDA": ("cuda", "*.cu")}

# What a backend refuses although it has kernels of the stem: weights stay [n, k]
# on CUDA.
REFUSED = {("gemm_pack", "CUDA")}

Op = collections.namedtuple("Op", "name family kind stem summary")


def ops():
    text = (ROOT / "src/ops.def").read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    found = re.findall(r'FLI_OP\((\w+),\s*(\w+),\s*(\w+),\s*(\w+),\s*'
                       r'"([^"]*)"\)', text)
    if len(found) != text.count("FLI_OP("):
        sys.exit("support_table: a line of src/ops.def is not understood")
    return [Op(*fields) for fields in found]


def kernel_of(op, folder, pattern):
    """True if a kernel has the op's stem, or the stem and _<something>."""
    stems = {path.stem for path in (ROOT / "kernels" / folder).glob(pattern)}
    return any(stem == op.stem or stem.startswith(op.stem + "_")
               for stem in stems)


def taken(path):
    """{op: share of cases that a CPU kernel took}."""
    counts = collections.defaultdict(lambda: [0, 0])
    for line in open(path):
        fields = line.rstrip("\n").split("\t")
        if len(fields) == 5 and fields[2].startswith("cpu"):
            counts[fields[0]][0] += fields[3] == "yes"
            counts[fields[0]][1] += 1
    return {op: yes / n for op, (yes, n) in counts.items()}


def measured(path):
    """{op: (percent, ceiling)} of its best CPU row."""
    best = {}
    with open(path, newline="") as rows:
        for row in csv.DictReader(rows, delimiter="\t"):
            if row["impl"] != "cpu":
                continue
            found = (float(row["percent"]), row["ceiling"])
            best[row["op"]] = max(best.get(row["op"], (0, "")), found)
    return best


def mark(op, backend, shares, rates):
    folder, pattern = BACKENDS[backend]
    if (op.name, backend) in REFUSED:
        return "-"
    if not kernel_of(op, folder, pattern):
        # the reference is C for the host
        has_reference = backend == "CPU" and kernel_of(op, "ref", "*.c")
        return "slow" if has_reference else "-"
    if backend != "CPU":
        return "fast"
    notes = []
    if shares.get(op.name, 1) < 1:
        notes.append(f"{100 * shares[op.name]:.0f} % of cases")
    if op.name in rates:
        percent, ceiling = rates[op.name]
        notes.append(f"{percent:.0f} % of {ceiling}")
    return "fast" + (f" ({', '.join(notes)})" if notes else "")


def table(shares, rates):
    rows = [("op", "what it does", *BACKENDS)]
    rows += [(f"`{op.name}`", op.summary,
              *(mark(op, backend, shares, rates) for backend in BACKENDS))
             for op in ops()]
    lines = ["| " + " | ".join(row) + " |\n" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]) + "\n")
    return "".join(lines)


def replaced(path, text):
    old = path.read_text()
    begin, end = old.find(BEGIN), old.find(END)
    if begin < 0 or end < begin:
        sys.exit(f"support_table: {path} has no place for the table")
    return old, old[:begin + len(BEGIN)] + "\n" + text + "\n" + old[end:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--list", metavar="FILE")
    parser.add_argument("--bench", metavar="FILE")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--write", metavar="FILE", type=pathlib.Path)
    where.add_argument("--check", metavar="FILE", type=pathlib.Path)
    options = parser.parse_args()
    text = table(taken(options.list) if options.list else {},
                 measured(options.bench) if options.bench else {})
    if options.write:
        options.write.write_text(replaced(options.write, text)[1])
    elif options.check:
        old, new = replaced(options.check, text)
        if old != new:
            sys.exit(f"support_table: the table of {options.check} is old; "
                     "tools/support_table.py --write makes it new")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
