#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fuzzes for a while from a corpus of seeds: run.py PROGRAM SECONDS.

The seeds are made here; what the fuzzer finds beyond them stays in the build
folder, so that later runs start from there.  A finding is printed with the bytes
that lead to it.
"""
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import sys

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
          "hidden_size": 16, "intermediate_size": 8, "vocab_size": 8,
          "num_hidden_layers": 1, "num_attention_heads": 2,
          "num_key_value_heads": 1, "head_dim": 8, "hidden_act": "silu",
          "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
          "bos_token_id": 1, "eos_token_id": [2, 3],
          "tie_word_embeddings": True, "attention_bias": False,
          "mlp_bias": False}
OLD = {"rope_theta": 10000.0, "torch_dtype": "float32", "rope_scaling": {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32}}
NEW = {"dtype": "float32", "rope_parameters": {
    "rope_type": "default", "rope_theta": 10000.0}}
SHAPES = {"model.embed_tokens.weight": [8, 16], "model.norm.weight": [16],
          "model.layers.0.input_layernorm.weight": [16],
          "model.layers.0.post_attention_layernorm.weight": [16],
          "model.layers.0.self_attn.q_proj.weight": [16, 16],
          "model.layers.0.self_attn.k_proj.weight": [8, 16],
          "model.layers.0.self_attn.v_proj.weight": [8, 16],
          "model.layers.0.self_attn.o_proj.weight": [16, 16],
          "model.layers.0.mlp.gate_proj.weight": [8, 16],
          "model.layers.0.mlp.up_proj.weight": [8, 16],
          "model.layers.0.mlp.down_proj.weight": [16, 8]}


def safetensors():
    header, data = {}, b""
    for name, shape in SHAPES.items():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [len(data), len(data) + 4 * n]}
        data += struct.pack(f"<{n}f", *[0.01 * (i % 7) for i in range(n)])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def model_files():
    index = {"metadata": {"total_size": 1}, "weight_map": {
        name: "model-00001-of-00001.safetensors" for name in SHAPES}}
    return {"config.json": json.dumps({**CONFIG, **NEW}).encode(),
            "model.safetensors": safetensors(),
            "model.safetensors.index.json": json.dumps(index).encode()}


def seeds(name, folder):
    """Files of the first corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "fuzz_model":
        good = model_files()
        inputs = [bytes([i]) + data for i, data in enumerate(good.values())]
        inputs.append(b"\0" + json.dumps({**CONFIG, **OLD}).encode())
    else:
        source = random.Random(1)
        inputs = [bytes([op % 2, op % 13]) + source.randbytes(200)
                  for op in range(52)]
        inputs += [bytes([0, op]) + bytes(200) for op in range(13)]
    for i, data in enumerate(inputs):
        (folder / f"seed{i:03}").write_bytes(data)


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    seconds = int(sys.argv[2])
    work = program.parent / f"{program.name}.work"
    seeds(program.name, work / "seeds")
    (work / "corpus").mkdir(exist_ok=True)
    environment = {"UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
                   **os.environ}
    if program.name == "fuzz_model":
        model = work / "model"
        model.mkdir(exist_ok=True)
        for file, data in model_files().items():
            (model / file).write_bytes(data)
        environment["FLI_FUZZ_MODEL"] = str(model)
    done = subprocess.run(
        [program, f"-max_total_time={seconds}", "-timeout=20",
         "-rss_limit_mb=4096", "-max_len=8192", "-print_final_stats=1",
         f"-artifact_prefix={work}/", work / "corpus", work / "seeds"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace")
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stdout)
    n = int(runs.group(1)) if runs else 0
    finding = re.search(r"^(?:[^\n]*runtime error|==\d+==\s*ERROR).*",
                        done.stdout, re.M | re.S)
    if finding:
        print("\n".join(finding.group(0).splitlines()[:30]))
        print("\n".join(re.findall(r".*Test unit written to.*", done.stdout)))
        print(f"again: {program} FILE")
    failed = finding or done.returncode != 0 or n < 100
    print(f"{program.name}: {n} inputs in {seconds} s")
    print("0 passed, 1 failed, 0 skipped" if failed
          else "1 passed, 0 failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
