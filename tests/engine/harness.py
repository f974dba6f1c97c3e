# SPDX-License-Identifier: Apache-2.0
"""Runs the engine for the tests, and makes small models for it."""

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import llama

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("FLI_BUILD", "build")
ENGINE = BUILD / "examples" / "engine"
TINY = ROOT / "models" / "tiny_llama"
PROMPTS = (TINY / "prompts.txt").read_text().splitlines()


def run(*options, text="", model=TINY, timeout=300):
    """The engine's exit code, stdout and stderr."""
    command = [str(ENGINE), "--model", str(model), *map(str, options)]
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=timeout, cwd=ROOT
    )


def serve(requests, *options, **where):
    """Sends requests (dicts, or strings as they are) as JSON Lines.

    Returns the final answers by id, the list of all lines and the summary."""
    text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in requests)
    done = run("--json", *options, text=text, **where)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(lines[-1]) == ["summary"]
    answers = {a["id"]: a for a in lines if "finish" in a}
    return SimpleNamespace(answers=answers, lines=lines[:-1], summary=lines[-1]["summary"])


def bytes_of(prompt):
    return [0, *prompt.encode()]


def logits(tokens, path, *options, model=TINY, vocab=256):
    """Teacher-forced logits of several sequences, as the engine computes them."""
    requests = [{"id": i, "tokens": [int(t) for t in ids]} for i, ids in enumerate(tokens)]
    got = serve(requests, "--logits", path, *options, model=model)
    assert all(a["finish"] == "length" for a in got.answers.values()), got.answers
    rows = np.fromfile(path, np.float32).reshape(-1, vocab).astype(np.float64)
    return np.split(rows, np.cumsum([len(ids) for ids in tokens])[:-1])


SMALL = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 101,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}


def small_tensors(config, seed=0):
    """Random weights of the right names and shapes, scaled to keep logits near 1."""
    rng = np.random.default_rng(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    d = config.get("head_dim") or hidden // heads
    q, kv = heads * d, (config.get("num_key_value_heads") or heads) * d
    qwen = config["architectures"] == ["Qwen2ForCausalLM"]
    bias = config.get("attention_bias", False)
    tensors = {}

    def linear(name, n, k, with_bias=False):
        tensors[name + ".weight"] = rng.normal(0, k**-0.5, (n, k))
        if with_bias:
            tensors[name + ".bias"] = rng.normal(0, 0.3, n)

    def norm(name):
        tensors[name + ".weight"] = rng.uniform(0.5, 1.5, hidden)

    tensors["model.embed_tokens.weight"] = rng.normal(0, 1, (config["vocab_size"], hidden))
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        norm(layer + "input_layernorm")
        norm(layer + "post_attention_layernorm")
        for name, n in (("q", q), ("k", kv), ("v", kv)):
            linear(f"{layer}self_attn.{name}_proj", n, hidden, bias or qwen)
        linear(layer + "self_attn.o_proj", hidden, q, bias)
        for name, n, k in (("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)):
            linear(f"{layer}mlp.{name}_proj", n, k, config.get("mlp_bias", False))
    norm("model.norm")
    if not config.get("tie_word_embeddings"):
        linear("lm_head", config["vocab_size"], hidden)
    return tensors


def make_model(folder, stored="F32", shards=1, seed=0, without=(), **changes):
    """Writes a small random model whose weights are stored as F32, F16 or BF16;
    changes go over SMALL, without takes out."""
    config = {k: v for k, v in {**SMALL, **changes}.items() if k not in without}
    tensors = small_tensors(config, seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        llama.write_safetensors(folder / "model.safetensors", tensors, stored)
        return folder
    names, weight_map = list(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        mine = names[i::shards]
        llama.write_safetensors(folder / file, {n: tensors[n] for n in mine}, stored)
        weight_map.update(dict.fromkeys(mine, file))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
