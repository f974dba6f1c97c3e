# SPDX-License-Identifier: Apache-2.0
"""A case that `flicheck --dump` wrote, and what an op should have made of it.

The head of tests/check/npy.c is the format.  An op's oracle is a function from
a Case to {name: Bits or Real} of every tensor that the op may write.

The tolerance is here and nowhere else.  The reference computes in double and
rounds once to the dtype of its output, so a Real passes iff it is the rounding
of some number within SLACK * scale + extra of the oracle's: half an ulp and
what two computations in double may differ by.  scale is the sum of the
magnitudes that an element is made of (an op gives it; else the element's own
magnitude); extra is for ill-conditioned inputs, and the op says why.
"""
import math

import numpy as np

SLACK = 1e-12

WORDS = {"f32": "<u4", "f16": "<u2", "bf16": "<u2", "i32": "<u4",
         "i64": "<u8", "u8": "|u1", "bool": "|u1"}
FLOATS = ("f32", "f16", "bf16")


def decode(bits, dtype):
    """Numbers (fp64, int64 for integers) of the words of a tensor."""
    if dtype == "f32":
        return bits.view(np.float32).astype(np.float64)
    if dtype == "f16":
        return bits.view(np.float16).astype(np.float64)
    if dtype == "bf16":
        wide = bits.astype(np.uint32) << 16
        return wide.view(np.float32).astype(np.float64)
    if dtype in ("i32", "i64"):
        return bits.view(f"<i{bits.itemsize}").astype(np.int64)
    return bits.astype(np.int64)


def encode(x, dtype):
    """Words of fp64 numbers rounded once to dtype, to nearest even."""
    x = np.asarray(x, np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype == "f16":
            return x.astype(np.float16).view(np.uint16)
        single = np.asarray(x.astype(np.float32))
        bits = single.view(np.uint32)
        if dtype == "f32":
            return bits
        # To odd at 24 bits, so that the second rounding sees what was cut.
        back = single.astype(np.float64)
        even = (back != x) & np.isfinite(single) & (bits & 1 == 0)
        step = np.where(np.abs(back) < np.abs(x), 1, -1)
        wide = bits.astype(np.int64) + np.where(even, step, 0)
        wide = np.where(np.isnan(x), 0x7FC00000,
                        wide + 0x7FFF + (wide >> 16 & 1))
        return (wide >> 16).astype(np.uint16)


def poison(words, dtype):
    """What an output holds before the call: npy.c has the words."""
    word = {"f32": 0xFFE5FFE5, "f16": 0xFFE5, "bf16": 0xFFE5}.get(dtype)
    if word is None:
        word = int.from_bytes(b"\xa5" * words.itemsize, "little")
    return np.full_like(words, word)


class Case:
    """keys: the case's line; dtype, role: of each tensor by name."""

    def __init__(self, folder):
        self.folder = folder
        line = (folder / "case.txt").read_text().split()
        self.keys = dict(word.split("=", 1) for word in line)
        self.op, self.id = self.keys["op"], self.keys["id"]
        self.dtype, self.role, self.shape = {}, {}, {}
        for line in (folder / "tensors.txt").read_text().splitlines():
            name, role, dtype, shape = (line + " ").split(" ")[:4]
            self.dtype[name], self.role[name] = dtype, role
            self.shape[name] = tuple(int(n) for n in shape.split(",") if n)

    def __contains__(self, name):
        return name in self.dtype

    def load(self, name, suffix):
        array = np.load(self.folder / (name + suffix))
        if array.shape != self.shape[name]:
            raise ValueError(f"{name}{suffix} is {array.shape}, "
                             f"tensors.txt says {self.shape[name]}")
        return np.ascontiguousarray(array).view(WORDS[self.dtype[name]])

    def bits(self, name):
        """The words of a tensor as it is before the call."""
        if self.role[name] == "out":
            return poison(self.load(name, ".ref.npy"), self.dtype[name])
        return self.load(name, ".npy")

    def result(self, name):
        return self.load(name, ".ref.npy")

    def __getitem__(self, name):
        """The numbers of a tensor as it is before the call."""
        return decode(self.bits(name), self.dtype[name])

    def written(self):
        return {name for name, role in self.role.items() if role != "in"}

    def int(self, key, default=0):
        """A key's integer; default where it is 0."""
        return int(self.keys[key]) or default

    def float(self, key, default=0.0):
        """A key's number as the float member that holds it."""
        return float(np.float32(self.keys[key])) or default

    def ints(self, key, separator=","):
        words = self.keys[key].split(separator)
        return [int(word) for word in words if word]


class Bits:
    """Exact words.  touched: a mask; the other elements keep their words."""

    def __init__(self, words, touched=True):
        self.words, self.touched = words, touched

    def faults(self, case, name):
        got = case.result(name)
        want = np.broadcast_to(self.words, got.shape).astype(got.dtype)
        touched = np.broadcast_to(self.touched, got.shape)
        if not touched.all():
            want = np.where(touched, want, case.bits(name))
        return got != want, decode(want, case.dtype[name])


class Real:
    """Numbers, right to within the tolerance; NaN only for NaN."""

    def __init__(self, numbers, scale=None, extra=0.0, touched=True):
        self.numbers = np.asarray(numbers, np.float64)
        self.scale = np.abs(self.numbers) if scale is None else scale
        self.extra, self.touched = extra, touched

    def faults(self, case, name):
        dtype, words = case.dtype[name], case.result(name)
        got = decode(words, dtype)
        want = np.broadcast_to(self.numbers, got.shape)
        scale = np.where(np.isfinite(self.scale), self.scale, 0)
        slack = SLACK * scale + self.extra
        low = decode(encode(want - slack, dtype), dtype)
        high = decode(encode(want + slack, dtype), dtype)
        wrong = ~((low <= got) & (got <= high))
        wrong &= ~(np.isnan(want) & np.isnan(got))
        touched = np.broadcast_to(self.touched, got.shape)
        if not touched.all():
            before = case.bits(name)
            wrong = np.where(touched, wrong, words != before)
            want = np.where(touched, want, decode(before, dtype))
        return wrong, want


def check(case, wants):
    """Lines on what differs, at most one a tensor."""
    lines = []
    for name in sorted(case.written() ^ set(wants)):
        by = "oracle" if name in wants else "dump"
        lines.append(f"{name}: only the {by} has it")
    for name in sorted(case.written() & set(wants)):
        wrong, want = wants[name].faults(case, name)
        if not wrong.any():
            continue
        at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        got = decode(case.result(name), case.dtype[name])[at]
        index = ",".join(str(int(n)) for n in at)
        lines.append(f"{name} [{index}] got {got:.9g} want {want[at]:.17g}, "
                     f"{int(wrong.sum())} of {math.prod(wrong.shape)} differ")
    return lines
