# SPDX-License-Identifier: Apache-2.0
"""Attention, and the merge of its states: include/flashinfer/attention.h."""
import math

import numpy as np

from dump import Real, decode


def tokens(case, name):
    """A function from a request and its kv_len to its keys (or values),
    [kv_len, n_kv_heads, dim]."""
    paged = case.int("page") > 0
    if name in case:
        words, dtype = case.bits(name), case.dtype[name]
    else:
        # stride=pair: keys and values are views of one tensor.
        both, dtype = case.bits("kv"), case.dtype["kv"]
        part = "kv".index(name)
        words = both[:, part] if paged else both[part]
    if case.keys["layout"] == "HND":
        words = words.swapaxes(-3, -2)
    if not paged:
        indptr = case["kv_indptr"]
        return lambda i, n: decode(np.ascontiguousarray(
            words[indptr[i]:indptr[i] + n]), dtype)

    page_size = words.shape[1]
    indptr, indices = case["page_indptr"], case["page_indices"]

    def gather(i, n):
        j = np.arange(n)
        page = indices[indptr[i] + j // page_size]
        return decode(words[page, j % page_size], dtype)
    return gather


def seen(case, q_len, kv_len):
    """Which tokens a row may see, [q_len, kv_len]."""
    p = kv_len - q_len + np.arange(q_len)[:, None]
    j = np.arange(kv_len)
    mask = np.ones((q_len, kv_len), bool)
    if case.keys["mask"] == "causal":
        mask &= j <= p
    window = case.int("window")
    if window > 0:
        mask &= j > p - window
    return mask


def attend(case, q, k, v, mask):
    """out, the sum of its magnitudes, and lse of one head: q [rows, d]."""
    # A default is the float that its member would hold.
    x = case.float("sm_scale", float(np.float32(1 / math.sqrt(q.shape[-1]))))
    x = x * case.float("k_scale", 1.0) * (q @ k.T)
    cap = case.float("cap")
    if cap > 0:
        x = cap * np.tanh(x / cap)
    x = np.where(mask, x, -np.inf)
    top = x.max(axis=1, initial=-np.inf, keepdims=True)
    e = np.exp(x - np.where(np.isneginf(top), 0, top))
    total = e.sum(axis=1, keepdims=True)
    lse = (np.log2(total) + top / math.log(2))[:, 0]
    p = e / np.where(total > 0, total, 1)
    v_scale = case.float("v_scale", 1.0)
    return v_scale * (p @ v), abs(v_scale) * (p @ np.abs(v)), lse


def attention(case):
    q_len, kv_len = case.ints("q_len"), case.ints("kv_len")
    n_qo_heads, n_kv_heads = case.ints("heads", "/")
    group = n_qo_heads // n_kv_heads
    q, keys, values = case["q"], tokens(case, "k"), tokens(case, "v")
    out, scale = np.zeros((2, *case.shape["out"]))
    lse = np.zeros(out.shape[:2])

    at = 0
    for i, (n, kv_n) in enumerate(zip(q_len, kv_len)):
        rows = slice(at, at + n)
        at += n
        k, v, mask = keys(i, kv_n), values(i, kv_n), seen(case, n, kv_n)
        mask = np.repeat(mask, group, axis=0)
        for h in range(n_kv_heads):
            heads = slice(h * group, (h + 1) * group)
            packed = q[rows, heads].reshape(n * group, q.shape[2])
            o, s, l = attend(case, packed, k[:, h], v[:, h], mask)
            out[rows, heads] = o.reshape(n, group, out.shape[2])
            scale[rows, heads] = s.reshape(n, group, out.shape[2])
            lse[rows, heads] = l.reshape(n, group)

    touched = np.arange(len(out)) < at
    wants = {"out": Real(out, scale, touched=touched[:, None, None])}
    if case.int("lse"):
        wants["lse"] = Real(lse, 1 + np.abs(lse), touched=touched[:, None])
    return wants


def merge_states(case):
    v, lse = case["v"], case["lse"]
    top = lse.max(axis=1, initial=-np.inf)
    base = np.where(np.isneginf(top), 0, top)[:, None]
    weights = np.exp2(lse - base)
    total = weights.sum(axis=1)
    weights = (weights / np.where(total > 0, total, 1)[:, None])[..., None]
    # The values of empty states are not read.
    v_read = np.where(np.isneginf(lse)[..., None], 0, v)
    out = (weights * v_read).sum(axis=1)
    scale = (weights * np.abs(v_read)).sum(axis=1)
    lse_out = np.log2(total) + base[:, 0]

    wants = {}
    if "v_out" in case:
        wants["v_out"] = Real(out, scale)
    else:
        # In place: v_out is v[:, 0].
        whole, scales = v.copy(), np.zeros_like(v)
        whole[:, 0], scales[:, 0] = out, scale
        first = np.arange(v.shape[1]) < 1
        wants["v"] = Real(whole, scales, touched=first[:, None, None])
    if case.int("lse_out"):
        wants["lse_out"] = Real(lse_out, 1 + np.abs(lse_out))
    return wants
