# SPDX-License-Identifier: Apache-2.0
"""Gated activations, from include/flashinfer/activation.h.

The gates are written so that nothing cancels: 1 + erf(z) as erfc(-z), and
1 + tanh(z) as 2 / (1 + exp(-2 z)).  A reference that adds 1 as the header does
loses what is small beside it, so GELU's scale is that of the terms, |x y|."""
import math

import numpy as np

from dump import Real

erfc = np.vectorize(math.erfc, otypes=[np.float64])


def act_and_mul(case, act, cancels=True):
    x = case["x"]
    h = x.shape[-1] // 2
    out = act(x[..., :h]) * x[..., h:]
    scale = np.abs(x[..., :h] * x[..., h:] if cancels else out)
    if "out" in case:
        return {"out": Real(out, scale)}
    # In place: out is the first half of x, the second half stays.
    out, scale = (np.concatenate([part, x[..., h:]], axis=-1)
                  for part in (out, scale))
    return {"x": Real(out, scale, touched=np.arange(2 * h) < h)}


def silu_and_mul(case):
    return act_and_mul(case, lambda x: x / (1 + np.exp(-x)), False)


def gelu_and_mul(case):
    return act_and_mul(case, lambda x: x / 2 * erfc(-x / math.sqrt(2)))


def gelu_tanh_and_mul(case):
    def act(x):
        z = math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)
        return x / (1 + np.exp(-2 * z))
    return act_and_mul(case, act)
