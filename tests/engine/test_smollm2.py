# SPDX-License-Identifier: Apache-2.0
"""The longer tier: SmolLM2-135M-Instruct, as `make chat` uses it."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import harness
import llama

pytestmark = pytest.mark.slow

NEEDED = ("gguf", "tokenizers", "jinja2")
TEXT = "The library keeps the keys and values of every token in pages of sixteen."


@pytest.fixture(scope="module")
def folder():
    missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip("needs the Python packages " + ", ".join(missing))
    out = harness.BUILD / "smollm2"
    done = subprocess.run(
        [sys.executable, harness.ROOT / "tools" / "get_smollm2.py", out], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def tokens(folder):
    import tokenizers

    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT).ids


def worst(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


def test_tokens_give_the_text_back(folder, tokens):
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "Ünïcode 漢字, 2024 +  17\n\tdef f(x): return x"
    assert tokenizer.decode(tokens) == TEXT
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    # Numbers are split into digits, the markers of the chat template are one token.
    assert len(tokenizer.encode("2024").ids) == 4
    assert len(tokenizer.encode("<|im_start|>").ids) == 1


def test_logits_against_numpy(folder, tokens, tmp_path):
    model = llama.read_model(folder)
    want = llama.forward(model, tokens)
    rounded = llama.forward(model, tokens, llama.to_bf16)
    (f32,) = harness.logits([tokens], tmp_path / "l", "--dtype", "f32", model=folder, vocab=model.vocab)
    (bf16,) = harness.logits([tokens], tmp_path / "l", model=folder, vocab=model.vocab)
    assert worst(f32, want) < 1e-4
    assert worst(bf16, want) < 2 * worst(rounded, want)


def test_logits_against_transformers(folder, tokens, tmp_path):
    torch = pytest.importorskip("torch", reason="needs the Python package torch")
    transformers = pytest.importorskip("transformers", reason="needs the Python package transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    with torch.no_grad():
        want = model(torch.tensor([tokens])).logits[0].double().numpy()
    (got,) = harness.logits([tokens], tmp_path / "l", "--dtype", "f32", model=folder, vocab=want.shape[1])
    assert worst(got, want) < 1e-4


def chat(folder, *arguments, text=""):
    return subprocess.run(
        [sys.executable, harness.ROOT / "examples" / "chat.py", "--engine", harness.ENGINE,
         "--model", folder, *arguments],
        input=text, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_the_capital_of_france(folder):
    done = chat(folder, "What is the capital of France?")
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout


def test_a_conversation_is_remembered(folder):
    done = chat(folder, text="What is the capital of France?\nSay that again.\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Paris") >= 2


def test_an_error_is_a_sentence(folder):
    done = chat(folder, "--max-new-tokens", "100000", "Hello")
    assert done.returncode == 1 and done.stderr.startswith("chat: ")
    assert "8192 positions" in done.stderr and done.stderr.count("\n") == 1
