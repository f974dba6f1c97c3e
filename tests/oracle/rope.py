# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding, from include/flashinfer/rope.h."""
import math

import numpy as np

from dump import Real


def frequencies(case, rotary_dim):
    """Radians a position, for each pair."""
    pair = np.arange(rotary_dim // 2)
    scale = case.float("scale", 1.0)
    g = case.float("theta", 1e4) ** (-2.0 * pair / max(rotary_dim, 1))
    if not case.int("llama31"):
        return g / scale
    low, high = case.float("low", 1.0), case.float("high", 4.0)
    turns = case.float("context", 8192.0) * g / (2 * math.pi)
    s = np.clip((turns - low) / (high - low), 0, 1)
    return (1 - s) * g / scale + s * g


def turns(case, rotary_dim):
    """cos, sin and the uncertainty of the angle, [n_rows, pairs]."""
    positions = case["positions"]
    if "cos_sin_cache" in case:
        rows = case["cos_sin_cache"][positions]
        cos, sin = rows[:, :rotary_dim // 2], rows[:, rotary_dim // 2:]
        return cos, sin, np.zeros_like(cos)
    f = frequencies(case, rotary_dim)
    angle = positions[:, None] * f
    # An f64 frequency is known to two units of its last place, unless it is
    # 1, and the angle is that much times the position.
    return np.cos(angle), np.sin(angle), np.abs(angle) * 2.0 ** -51 * (f != 1)


def rotate(case, x):
    """Of x [n_rows, n_heads, head_dim]: numbers, scale and extra of Real."""
    rotary_dim = case.int("rotary", x.shape[-1])
    half = rotary_dim // 2
    if case.int("interleaved"):
        first, second = slice(0, rotary_dim, 2), slice(1, rotary_dim, 2)
    else:
        first, second = slice(0, half), slice(half, rotary_dim)

    cos, sin, unsure = (t[:, None] for t in turns(case, rotary_dim))
    a, b = x[..., first], x[..., second]
    out, scale, extra = x.copy(), np.zeros_like(x), np.zeros_like(x)
    out[..., first] = a * cos - b * sin
    out[..., second] = a * sin + b * cos
    for part in (first, second):
        scale[..., part] = np.abs(a) + np.abs(b)
        extra[..., part] = (np.abs(a) + np.abs(b)) * unsure
    return out, scale, extra


def rope(case):
    if "qkv" not in case:
        wants = {}
        for name in ("q", "k"):
            if name in case:
                out = f"{name}_out" if f"{name}_out" in case else name
                wants[out] = Real(*rotate(case, case[name]))
        return wants

    # place=fused: q, k and v of a row beside each other, v not the op's.
    n_qo_heads, n_kv_heads = case.ints("heads")
    n_heads, d, qkv = n_qo_heads + n_kv_heads, case.int("d"), case["qkv"]
    heads = qkv.reshape(len(qkv), n_heads + n_kv_heads, d)
    whole = [heads.copy(), np.zeros_like(heads), np.zeros_like(heads)]
    for part, turned in zip(whole, rotate(case, heads[:, :n_heads])):
        part[:, :n_heads] = turned
    whole = [part.reshape(qkv.shape) for part in whole]
    touched = np.arange(qkv.shape[1]) < n_heads * d
    return {"qkv": Real(*whole, touched=touched)}
