# SPDX-License-Identifier: Apache-2.0
"""Teacher-forced logits of the engine against the NumPy pass of llama.py."""

import functools
import json

import numpy as np
import pytest

import harness
import llama

LONG = (" ".join(harness.PROMPTS) * 2)[:900]
TEXTS = [harness.bytes_of(t) for t in (harness.PROMPTS[0], "E", LONG, harness.PROMPTS[5])]

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

# Every dialect of config.json and every form of weights that the engine reads.
DIALECTS = {
    "plain": {},
    "rope_parameters": {
        "without": ("rope_theta", "torch_dtype"),
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        "dtype": "bfloat16",
        "stored": "BF16",
    },
    "llama3": {"rope_scaling": LLAMA3},
    "llama3_rope_parameters": {
        "without": ("rope_theta",),
        "rope_parameters": {**LLAMA3, "rope_theta": 2000.0},
    },
    "null_scaling": {"rope_scaling": None, "sliding_window": None},
    "no_head_dim": {"without": ("head_dim",), "hidden_size": 64},
    "no_kv_heads": {"without": ("num_key_value_heads",)},
    "null_head_dim": {"head_dim": None, "hidden_size": 96},
    "group_3": {"num_attention_heads": 6, "num_key_value_heads": 2},
    "one_kv_head": {"num_key_value_heads": 1, "head_dim": 24},
    "untied": {"tie_word_embeddings": False},
    "untied_by_default": {"without": ("tie_word_embeddings",)},
    "bias": {"attention_bias": True, "mlp_bias": True},
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"],
        "sliding_window": 7,
        "use_sliding_window": False,
        "max_window_layers": 1,
    },
    "eos_list": {"eos_token_id": [2, 5]},
    "no_eps": {"without": ("rms_norm_eps",)},
    "f16": {"stored": "F16"},
    "bf16_untied": {"stored": "BF16", "tie_word_embeddings": False},
    "shards": {"shards": 3},
    "shards_bf16": {"shards": 2, "stored": "BF16", "attention_bias": True},
}


def worst(got, want):
    """The greatest difference over the greatest |logit|."""
    return max(
        np.abs(g - w).max() / np.abs(w).max() for g, w in zip(got, want, strict=True)
    )


@pytest.fixture(scope="module")
def tiny():
    model = llama.read_model(harness.TINY)
    return [llama.forward(model, text) for text in TEXTS]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--chunk", 16),
        ("--chunk", 1, "--max-batch", 4),  # every token a decode step
        ("--chunk", 100, "--page-size", 7, "--invariant"),
        ("--page-size", 1, "--threads", 1),
    ],
    ids=lambda o: " ".join(map(str, o)) or "default",
)
def test_f32(tiny, tmp_path, options):
    got = harness.logits(TEXTS, tmp_path / "l", "--dtype", "f32", *options)
    assert worst(got, tiny) < 1e-4


@functools.cache
def rounded_pass(dtype):
    model = llama.read_model(harness.TINY)
    rounding = {"bf16": llama.to_bf16, "f16": llama.to_f16}[dtype]
    return [llama.forward(model, text, rounding) for text in TEXTS]


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("options", [(), ("--chunk", 16, "--invariant")], ids=["default", "chunked"])
def test_rounded(tiny, tmp_path, dtype, options):
    """Within twice the error of the NumPy pass that rounds where the engine does."""
    want, rounded = tiny, rounded_pass(dtype)
    got = harness.logits(TEXTS, tmp_path / "l", "--dtype", dtype, *options)
    assert worst(rounded, want) > 1e-4  # the comparison means something
    assert worst(got, want) < 2 * worst(rounded, want)
    for g, r, w in zip(got, rounded, want, strict=True):
        assert np.abs(g - w).mean() < 2 * np.abs(r - w).mean()


def test_default_dtype_is_the_checkpoints(tmp_path):
    got = harness.logits(TEXTS[:1], tmp_path / "l")
    same = harness.logits(TEXTS[:1], tmp_path / "m", "--dtype", "bf16")
    assert np.array_equal(got[0], same[0])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialect(tmp_path, dialect):
    folder = harness.make_model(tmp_path / "m", **DIALECTS[dialect])
    rng = np.random.default_rng(3)
    tokens = [rng.integers(0, 101, n) for n in (150, 1, 33)]
    model = llama.read_model(folder)
    got = harness.logits(
        tokens, tmp_path / "l", "--dtype", "f32", "--chunk", 40, model=folder, vocab=101
    )
    assert worst(got, [llama.forward(model, t) for t in tokens]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_oracle_is_transformers(tmp_path, dialect):
    """llama.py reads every dialect as transformers does."""
    torch = pytest.importorskip("torch", reason="needs the Python package torch")
    transformers = pytest.importorskip("transformers", reason="needs the Python package transformers")
    folder = harness.make_model(tmp_path / "m", **DIALECTS[dialect])
    config = json.loads((folder / "config.json").read_text())
    kind = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2"}
    config["model_type"] = kind[config["architectures"][0]]
    (folder / "config.json").write_text(json.dumps(config))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float64, attn_implementation="eager"
    )
    tokens = np.random.default_rng(3).integers(0, 101, 150)
    with torch.no_grad():
        want = model(torch.tensor([tokens.tolist()])).logits[0].numpy()
    # Its cosines are f32.
    assert worst([llama.forward(llama.read_model(folder), tokens)], [want]) < 1e-5
