# SPDX-License-Identifier: Apache-2.0
"""Booleans to bits, from include/flashinfer/quant.h."""
import numpy as np

from dump import Bits


def packbits(case):
    x = case["x"] != 0
    return {"out": Bits(np.packbits(x, bitorder=case.keys["order"]))}


def segment_packbits(case):
    x, indptr = case["x"] != 0, case["indptr"]
    out_indptr = np.zeros(len(indptr), np.int64)
    np.cumsum(-(-np.diff(indptr) // 8), out=out_indptr[1:])

    # Each segment's bits stand from a whole byte on, zeros behind them.
    wide = np.zeros(8 * out_indptr[-1], bool)
    used = x[:indptr[-1]]
    shift = np.repeat(8 * out_indptr[:-1] - indptr[:-1], np.diff(indptr))
    wide[np.arange(len(used)) + shift] = used

    out = np.zeros(case.shape["out"], np.uint8)
    out[:out_indptr[-1]] = np.packbits(wide, bitorder=case.keys["order"])
    return {"out": Bits(out, np.arange(len(out)) < out_indptr[-1]),
            "out_indptr": Bits(out_indptr)}
