#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An oracle of every op: NumPy in fp64, written from the specification (the
public headers, docs/sampling.md), never from the C.

    tests/oracle/oracle.py DUMPDIR [-k WORD]

DUMPDIR is what `flicheck --dump DUMPDIR` wrote: inputs, and the outputs of the
reference.  Every case whose <op>/<id> has WORD in it is computed again
and compared; dump.py says how closely.  A line for each failing case; the last
line alone is the total.  1 if something failed, or if nothing was checked.
"""
import argparse
import pathlib
import re
import sys

import numpy as np

import activation
import attention
import dump
import gemm
import norm
import page
import quant
import rope
import sampling

ROOT = pathlib.Path(__file__).resolve().parents[2]

OPS = {
    "attention": attention.attention,
    "merge_states": attention.merge_states,
    "append": page.append,
    "page_copy": page.page_copy,
    "get_batch_indices_positions": page.get_batch_indices_positions,
    "rope": rope.rope,
    "rmsnorm": norm.rmsnorm,
    "fused_add_rmsnorm": norm.fused_add_rmsnorm,
    "silu_and_mul": activation.silu_and_mul,
    "gelu_and_mul": activation.gelu_and_mul,
    "gelu_tanh_and_mul": activation.gelu_tanh_and_mul,
    "gemm": gemm.gemm,
    "gemm_pack": gemm.gemm_pack,
    "packbits": quant.packbits,
    "segment_packbits": quant.segment_packbits,
    "softmax": sampling.softmax,
    "sample_from_logits": sampling.sample_from_logits,
    "sample_from_probs": sampling.sample_from_probs,
    "renorm_probs": sampling.renorm_probs,
    "mask_logits": sampling.mask_logits,
}


def listed():
    """The ops of src/ops.def."""
    text = (ROOT / "src/ops.def").read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return set(re.findall(r"FLI_OP\((\w+),", text))


def failures(folder):
    """Lines on one case; none when it passed."""
    op = folder.parent.name
    if op not in OPS:
        return ["the op has no oracle"]
    try:
        case = dump.Case(folder)
        if (case.op, case.id) != (op, folder.name):
            return [f"case.txt is of {case.op} {case.id}"]
        with np.errstate(all="ignore"):
            return dump.check(case, OPS[op](case))
    except (OSError, LookupError, ValueError, TypeError) as error:
        return [f"{type(error).__name__}: {error}"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dump", metavar="DUMPDIR", type=pathlib.Path)
    parser.add_argument("-k", metavar="WORD", default="")
    options = parser.parse_args()

    passed = failed = 0
    for op in sorted(listed() - set(OPS)):
        print(f"FAIL {op}: src/ops.def has it, the oracle has not")
        failed += 1
    for folder in sorted(options.dump.glob("*/*/")):
        if options.k not in f"{folder.parent.name}/{folder.name}":
            continue
        lines = failures(folder)
        passed += not lines
        failed += bool(lines)
        if lines:
            print(f"FAIL {folder.parent.name} {folder.name}:",
                  "; ".join(lines))
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
