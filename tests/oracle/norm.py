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
    # The sum needs no slack; the norm takes it before it is rounded.
    total = case["residual"] + case["x"]
    return {"residual": Real(total, scale=0.0),
            "x": Real(normalised(case, total))}
