# SPDX-License-Identifier: Apache-2.0
"""A Llama forward pass in NumPy, written from the definition of the model: the
oracle of the engine's tests.  It reads config.json and safetensors by itself and
shares nothing with the engine.

`forward(model, tokens)` is the pass in fp64.  `forward(model, tokens, round)`
rounds what the engine stores between operators, with the caller's function."""

import json
import math
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np

BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def decode(raw, dtype):
    if dtype == "F32":
        return np.frombuffer(raw, "<f4").astype(np.float64)
    if dtype == "F16":
        return np.frombuffer(raw, "<f2").astype(np.float64)
    bits = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
    return bits.view(np.float32).astype(np.float64)


def to_bf16(x):
    """The nearest bf16, ties to even, as fp64 (by way of f32, as the engine's
    accumulators are f32)."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def to_f16(x):
    return np.asarray(x, np.float64).astype(np.float16).astype(np.float64)


def read_safetensors(path):
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = decode(data[begin:end], entry["dtype"]).reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors, dtype="F32"):
    """tensors: name -> array (any float).  dtype F32, F16 or BF16."""
    header, blobs, at = {}, [], 0
    for name, array in tensors.items():
        if dtype == "BF16":
            bits = to_bf16(array).astype(np.float32).view(np.uint32) >> 16
            blob = bits.astype("<u2").tobytes()
        else:
            blob = np.asarray(array).astype("<f4" if dtype == "F32" else "<f2").tobytes()
        shape = list(array.shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def frequencies(config, head_dim):
    """Radians a position, for each pair of a head."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    f = theta ** (-2.0 * np.arange(head_dim // 2) / head_dim)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "llama3":
        turns = rope["original_max_position_embeddings"] * f / (2 * math.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return kept * f + (1 - kept) * f / rope["factor"]
    assert kind == "default", kind
    return f


def read_model(folder):
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(read_safetensors(path))
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    return SimpleNamespace(
        tensors=tensors,
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        eps=config.get("rms_norm_eps", 1e-6),
        frequencies=frequencies(config, head_dim),
        vocab=config["vocab_size"],
    )


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rotate(x, angles):
    """x [tokens, heads, d]: pair i of a head is elements i and i + d / 2."""
    a, b = np.split(x, 2, -1)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def attention(model, q, k, v):
    """Causal attention of q [n, heads, d] over k and v [n, kv_heads, d]."""
    n, group = len(q), model.heads // model.kv_heads
    k, v = (np.repeat(x, group, 1).transpose(1, 0, 2) for x in (k, v))
    scores = q.transpose(1, 0, 2) @ k.transpose(0, 2, 1) / math.sqrt(model.head_dim)
    seen = np.arange(n)[None] <= np.arange(n)[:, None]
    p = softmax(np.where(seen, scores, -np.inf))
    return (p @ v).transpose(1, 0, 2).reshape(n, -1)


def forward(model, tokens, round=lambda x: x):
    """Logits [n, vocab] of every position."""
    t, n = model.tensors, len(tokens)
    angles = np.arange(n)[:, None] * model.frequencies

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + model.eps) * round(t[name + ".weight"])

    def linear(x, name):
        return x @ t[name + ".weight"].T + t.get(name + ".bias", 0.0)

    def heads(x):
        return x.reshape(n, -1, model.head_dim)

    x = round(t["model.embed_tokens.weight"][list(tokens)])
    for i in range(model.layers):
        layer = f"model.layers.{i}."
        h = round(norm(x, layer + "input_layernorm"))
        q, k, v = (heads(round(linear(h, f"{layer}self_attn.{p}_proj"))) for p in "qkv")
        q, k = round(rotate(q, angles)), round(rotate(k, angles))
        h = round(attention(model, q, k, v))
        total = x + round(linear(h, layer + "self_attn.o_proj"))
        # The fused norm takes the sum before it is rounded.
        x, h = round(total), round(norm(total, layer + "post_attention_layernorm"))
        gate, up = (round(linear(h, f"{layer}mlp.{p}_proj")) for p in ("gate", "up"))
        h = round(gate / (1 + np.exp(-gate)) * up)
        x = round(x + linear(h, layer + "mlp.down_proj"))
    head = "lm_head" if "lm_head.weight" in t else "model.embed_tokens"
    return linear(round(norm(x, "model.norm")), head)
