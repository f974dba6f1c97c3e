# SPDX-License-Identifier: Apache-2.0
"""Sampling, bit for bit, from docs/sampling.md: its sections are named here.

RN is NumPy's f32 arithmetic; masses are exact integers."""
import math
from fractions import Fraction

import numpy as np

from dump import Bits

ONE = 1 << 41  # the weight of the greatest value
LOG2E = np.float32(float.fromhex("0x1.715476p+23"))
EXP2 = [np.float32(c) for c in
        ("1.5403530e-4", "1.3333558e-3", "9.6181291e-3", "5.5504109e-2",
         "2.4022651e-1", "6.9314718e-1", "1")]
MASK32 = 0xFFFFFFFF


def f32(case, name):
    """A tensor as f32: f16 and bf16 are exact in it."""
    return case[name].astype(np.float32)


# --- 1. parameters ----------------------------------------------------------

def parameter(case, key, tensor, n):
    """The value of each output row (None: not given), and whether a tensor
    gave it."""
    if tensor in case:
        values = f32(case, tensor) if case.dtype[tensor] == "f32" \
            else case[tensor]
        return [values[i] for i in range(n)], True
    word = case.keys[key]
    if word == "none":
        return [None] * n, False
    value = int(word) if key == "top_k" else np.float32(word)
    return [value] * n, False


class Filters:
    """top_k, top_p and min_p of each output row; None: off."""

    def __init__(self, case, n):
        self.joint = case.int("joint") == 1
        self.bad = np.zeros(n, bool)
        self.top_k, _ = parameter(case, "top_k", "top_ks", n)
        self.top_p, of_rows = parameter(case, "top_p", "top_ps", n)
        self.min_p, _ = parameter(case, "min_p", "min_ps", n)
        for i in range(n):
            for values in (self.top_p, self.min_p):
                if values[i] is not None and np.isnan(values[i]):
                    self.bad[i], values[i] = True, None
            p, m = self.top_p[i], self.min_p[i]
            if p is not None and (p >= 1 or (p == 0 and not of_rows)):
                self.top_p[i] = None
            if m is not None and m <= 0:
                self.min_p[i] = None


# --- 2 and 3. values, keys and what a row may be ----------------------------

def keys_of(x):
    """int32 keys in the order of the values, -0 equal to +0."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def significand(x):
    """(E, M) of f32 numbers, all positive or zero."""
    bits = x.view(np.int32).astype(np.int64) & 0x7FFFFFFF
    field, fraction = bits >> 23, bits & 0x7FFFFF
    return np.maximum(field, 1), np.where(field > 0, fraction | 1 << 23,
                                          fraction)


def shifted(m, shift):
    return np.where(shift >= 64, 0, (m << 18) >> np.minimum(shift, 63))


# --- 4 and 5. weights -------------------------------------------------------

def fma(a, b, c):
    """RN(a b + c) in f32: the sum in f64 to odd, then once more."""
    product = a.astype(np.float64) * b.astype(np.float64)  # exact
    c = np.float64(c)
    total = product + c
    back = total - product
    lost = (product - (total - back)) + (c - back)
    bits = total.view(np.int64)
    step = np.where((lost > 0) == (total > 0), 1, -1)
    odd = np.where((lost != 0) & (bits & 1 == 0), bits + step, bits)
    return odd.view(np.float64).astype(np.float32)


class Row:
    """A row: valid, keys, weights w (integers) and q (fp64, exact)."""

    def __init__(self, x, bad):
        self.x, self.keys = x, keys_of(x)
        self.valid = not bad and len(x) > 0 and not np.isnan(x).any()
        if self.valid:
            self.top = int(self.keys.max())
            self.greatest = x[int(np.argmax(self.keys))]

    def share(self, chosen):
        """All of the mass to the chosen elements, alike."""
        self.w = np.where(chosen, ONE, 0)
        self.q = np.where(chosen, 1.0, 0.0)
        self.w_top = ONE


class Probabilities(Row):
    def __init__(self, x, bad):
        super().__init__(x, bad)
        if self.valid and (self.keys.min() < 0 or self.top == 0):
            self.valid = False
        if not self.valid:
            return
        if np.isposinf(self.greatest):
            return self.share(np.isposinf(x))
        e, m = significand(x)
        below = e[int(np.argmax(self.keys))] - e
        self.w = shifted(m, below)
        self.q = np.ldexp(m.astype(np.float64), (-below - 23).astype(np.int32))
        self.w_top = int(self.w[int(np.argmax(self.keys))])


class Logits(Row):
    def __init__(self, x, bad, temperature=None):
        t = np.float32(1 if temperature is None else temperature)
        super().__init__(x, bad or not 0 <= t < np.inf)
        if self.valid and np.isneginf(self.greatest):
            self.valid = False
        if not self.valid:
            return
        if t < 2.0 ** -64:
            return self.share(np.arange(len(x)) == np.argmax(self.keys))
        if np.isposinf(self.greatest):
            return self.share(np.isposinf(x))
        scaled = (x - self.greatest) * (LOG2E / t)
        steps = np.maximum(np.rint(scaled), np.float32(-2.0 ** 29))
        steps = steps.astype(np.int64)
        n = (steps + (1 << 22)) >> 23
        f = ((steps - (n << 23)) * 2.0 ** -23).astype(np.float32)
        p = np.full_like(f, EXP2[0])
        for c in EXP2[1:]:
            p = fma(p, f, c)
        e, m = significand(p)
        finite = ~np.isneginf(x)
        self.w = np.where(finite, shifted(m, 127 - e - n), 0)
        self.q = np.where(finite, np.ldexp(p.astype(np.float64),
                                           n.astype(np.int32)), 0)
        self.w_top = ONE


# --- 6. the kept set --------------------------------------------------------

def part_of(a, mass):
    """C(a, W): a of W, rounded up."""
    a = Fraction(float(min(max(a, 0), 1)))
    return math.ceil(Fraction(math.ceil(a * (1 << 63)) * mass, 1 << 63))


def kept_set(row, filters, i):
    n = len(row.x)
    kept = np.ones(n, bool)
    top_k, top_p, min_p = (f[i] for f in (filters.top_k, filters.top_p,
                                          filters.min_p))
    order = np.argsort(-row.keys, kind="stable")
    # How many elements are greater, and their mass.
    greater = np.searchsorted(-row.keys[order], -row.keys, side="left")
    above = np.concatenate([[0], np.cumsum(row.w[order])])[greater]
    if top_k is not None and 0 < top_k < n:
        kept &= greater < top_k
    if top_p is not None:
        mass = int(row.w.sum() if filters.joint else row.w[kept].sum())
        kept &= above < max(1, part_of(top_p, mass))
    if min_p is not None:
        kept &= row.w >= part_of(min_p, row.w_top)
    return kept


# --- 7. the draw ------------------------------------------------------------

def philox(key, counter):
    """One block of Philox4x32-10."""
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = ((b >> 32) ^ c1 ^ k0, b & MASK32,
                          (a >> 32) ^ c3 ^ k1, a & MASK32)
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return c0, c1, c2, c3


def words(x):
    x &= (1 << 64) - 1
    return x & MASK32, x >> 32


class Draws:
    """seed, offset and stream of each output row."""

    def __init__(self, case, n):
        seeds, shared = self.column(case, "seeds", "rng_seed", n)
        offsets, _ = self.column(case, "offsets", "rng_offset", n)
        self.rows = [(words(seeds[i]), words(offsets[i]), i if shared else 0)
                     for i in range(n)]

    @staticmethod
    def column(case, tensor, key, n):
        values = [int(v) for v in case[tensor]] if tensor in case \
            else [int(case.keys[key])]
        return (values * n, True) if len(values) == 1 else (values, False)

    def token(self, i, w):
        """The least i whose prefix sum of w exceeds r."""
        seed, offset, stream = self.rows[i]
        block = philox(seed, (*offset, stream, 0))
        sums = np.cumsum(w)
        r = ((block[0] | block[1] << 32) * int(sums[-1])) >> 64
        return int(np.searchsorted(sums, r, side="right"))


def sampled(case, make):
    n = case.shape["tokens"][0]
    x, filters, draws = f32(case, "x"), Filters(case, n), Draws(case, n)
    source = case["indices"] if "indices" in case else np.arange(n)
    tokens, valid = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for i in range(n):
        row = make(i, x[source[i]], filters.bad[i])
        if row.valid:
            kept = kept_set(row, filters, i)
            valid[i], tokens[i] = 1, draws.token(i, np.where(kept, row.w, 0))
    return with_valid(case, {"tokens": Bits(tokens)}, valid)


def with_valid(case, wants, valid):
    if case.int("valid"):
        wants["valid"] = Bits(valid)
    return wants


def sample_from_probs(case):
    return sampled(case, lambda i, x, bad: Probabilities(x, bad))


def sample_from_logits(case):
    t, _ = parameter(case, "temperature", "temperatures",
                     case.shape["tokens"][0])
    return sampled(case, lambda i, x, bad: Logits(x, bad, t[i]))


# --- 8. softmax, renorm and mask --------------------------------------------

def shares(row, kept):
    """f32 probabilities of the kept elements."""
    mass = np.int64(row.w[kept].sum()).astype(np.float32)
    r = np.float32(ONE) / mass
    out = (row.q * np.float64(r)).astype(np.float32)
    return np.where(kept & (out >= np.float32(2.0 ** -126)), out,
                    np.float32(0))


def softmax(case):
    x = f32(case, "logits")
    t, _ = parameter(case, "temperature", "temperatures", len(x))
    out, valid = np.zeros(x.shape, np.float32), np.zeros(len(x), np.int64)
    for i in range(len(x)):
        row = Logits(x[i], False, t[i])
        if row.valid:
            valid[i], out[i] = 1, shares(row, np.ones(len(row.x), bool))
    name = "probs" if "probs" in case else "logits"
    return with_valid(case, {name: Bits(out.view(np.uint32))}, valid)


def renorm_probs(case):
    x, filters = f32(case, "x"), Filters(case, case.shape["x"][0])
    out, valid = np.zeros(x.shape, np.float32), np.zeros(len(x), np.int64)
    for i in range(len(x)):
        row = Probabilities(x[i], filters.bad[i])
        if row.valid:
            valid[i], out[i] = 1, shares(row, kept_set(row, filters, i))
    name = "out" if "out" in case else "x"
    return with_valid(case, {name: Bits(out.view(np.uint32))}, valid)


def mask_logits(case):
    x, filters = f32(case, "x"), Filters(case, case.shape["x"][0])
    minus_inf = {"f32": 0xFF800000, "f16": 0xFC00, "bf16": 0xFF80}
    bits = case.bits("x")
    out = np.full_like(bits, minus_inf[case.dtype["x"]])
    valid = np.zeros(len(x), np.int64)
    for i in range(len(x)):
        row = Logits(x[i], filters.bad[i])
        if row.valid:
            kept = kept_set(row, filters, i)
            valid[i], out[i] = 1, np.where(kept, bits[i], out[i])
    name = "out" if "out" in case else "x"
    return with_valid(case, {name: Bits(out)}, valid)
