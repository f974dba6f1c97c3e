# SPDX-License-Identifier: Apache-2.0
"""RMS norms, from include/flashinfer/norm.h."""
import numpy as np

from dump import Real

EPS = float(np.float32(1e-6))


def normalised(case, x):
    mean = (x * x).sum(axis=-1, keepdims=True) / max(x.shape[-1], 1)
    return x / np.sqrt(mean + case.float("eps", EPS)) * case["weight"]


def rmsnorm(case):
    out = "out" if "out" in case else "x"
    return {out: Real(normalised(case, case["x"]))}


def fused_add_rmsnorm(case):
    # The norm takes the sum before it is rounded.
    x, residual = case["x"], case["residual"]
    return {"residual": Real(residual + x),
            "x": Real(normalised(case, residual + x))}
