# SPDX-License-Identifier: Apache-2.0
"""The paged KV cache, from include/flashinfer/page.h."""
import numpy as np

from dump import Bits, decode, encode


def append(case):
    request, position = case["batch_indices"], case["positions"]
    rows = np.flatnonzero((request >= 0) & (position >= 0))
    request, position = request[rows], position[rows]
    page_size = case.int("page")
    slot = case["page_indptr"][request] + position // page_size
    page, token = case["page_indices"][slot], position % page_size

    wants = {}
    for name in ("k", "v"):
        cache = case.bits(f"cache.{name}").copy()
        tokens = cache if case.keys["layout"] == "NHD" else cache.swapaxes(1, 2)
        x = case.bits(name)[rows]
        if case.dtype[name] != case.dtype[f"cache.{name}"]:
            x = encode(decode(x, case.dtype[name]),
                       case.dtype[f"cache.{name}"])
        tokens[page, token] = x
        wants[f"cache.{name}"] = Bits(cache)
    return wants


def page_copy(case):
    wants = {}
    for name in ("k", "v"):
        pages = case.bits(name).copy()
        pages[case["to"]] = case.bits(name)[case["from"]]
        wants[name] = Bits(pages)
    return wants


def get_batch_indices_positions(case):
    indptr, seq_lens = case["append_indptr"], case["seq_lens"]
    n_rows, count = case.shape["positions"][0], np.diff(indptr)
    batch_indices = np.full(n_rows, -1)
    positions = np.full(n_rows, -1)
    n = indptr[-1]
    batch_indices[:n] = np.repeat(np.arange(len(count)), count)
    positions[:n] = np.arange(n) + np.repeat(seq_lens - indptr[1:], count)
    return {"batch_indices": Bits(batch_indices), "positions": Bits(positions)}
