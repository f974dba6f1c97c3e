# SPDX-License-Identifier: Apache-2.0
"""Matrix product, from include/flashinfer/gemm.h."""
import numpy as np

from dump import Real


def gemm(case):
    a, b = case["a"], case["b"]
    out, scale = a @ b.T, np.abs(a) @ np.abs(b).T
    terms = ["bias"] * (case.keys["bias"] != "none")
    terms += ["out"] * case.int("add")
    for name in terms:
        out = out + case[name]
        scale = scale + np.abs(case[name])
    return {"out": Real(out, scale)}


def gemm_pack(case):
    """A blob's order is an implementation's own; what is specified is that
    fli_gemm reads the weights from it: the dump has unit times the blob."""
    return {"out": Real(case["unit"] @ case["b"].T)}
