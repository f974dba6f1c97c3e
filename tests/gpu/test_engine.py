#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The engine on a GPU beside the same engine on the CPU:

    tests/gpu/test_engine.py [WORD]

Needs python3 with numpy; FLI_BUILD names the build folder (build-gpu).  WORD picks
the tests whose name has it.  The last line is the total.
"""
import os
import pathlib
import sys
import tempfile
import time
import traceback

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
os.environ.setdefault("FLI_BUILD", "build-gpu")
sys.path.insert(0, str(ROOT / "tests/engine"))

import harness

CUDA = ("--device", "cuda")
CPU = ("--device", "cpu")
TEXTS = [harness.bytes_of(p) for p in harness.PROMPTS]
TEXTS.append(harness.bytes_of(" ".join(harness.PROMPTS)[:700]))
TEXTS.append([0])
F32 = 1e-4  # of the largest |logit|

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

# Models beyond the demo's.
SHAPES = {
    "as it is": {},
    "llama3 rope": {"rope_scaling": LLAMA3},
    "heads of 24, one of kv": {"num_key_value_heads": 1, "head_dim": 24},
    "group of 3": {"num_attention_heads": 6, "num_key_value_heads": 2},
    "untied, weights in bf16": {"tie_word_embeddings": False, "stored": "BF16"},
    "bias": {"attention_bias": True, "mlp_bias": True},
    "qwen2, shards": {"architectures": ["Qwen2ForCausalLM"], "shards": 3},
    "odd sizes": {"hidden_size": 45, "intermediate_size": 77, "vocab_size": 103},
}


def worst(got, want):
    """The greatest difference over the greatest |logit|."""
    return max(np.abs(g - w).max() / np.abs(w).max() for g, w in zip(got, want))


class Bench:
    """What several tests need, computed once."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.known = {}

    def logits(self, *options, tokens=TEXTS, **where):
        return harness.logits(tokens, self.folder / "logits", *options, **where)

    def once(self, key, compute):
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]

    def on_cpu(self, dtype):
        return self.once(dtype, lambda: self.logits("--dtype", dtype, *CPU))

    def tolerance(self, dtype):
        """Of the largest |logit|."""
        if dtype == "f32":
            return F32
        return 2 * worst(self.on_cpu(dtype), self.on_cpu("f32"))


# --- the tests: name, function ----------------------------------------------

def demo(_bench):
    done = harness.run("--bytes", *CUDA)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    print("\n".join(lines[:1] + lines[-2:]))
    assert "decode graph" in lines[-2] and "first token after" in lines[-1]
    words = set(" ".join(harness.PROMPTS).lower().replace(",", "").split())
    words |= set("the of to and a in that was her it not he be she his".split())
    grown = [line for line in lines if "##########" in line]
    assert len(grown) == len(harness.PROMPTS)
    for number, prompt in enumerate(harness.PROMPTS, 1):
        (line,) = (x for x in grown if x.split()[0] == str(number))
        new = line.split(prompt)[1].lower().split()
        assert sum(w.strip(".,;:\"") in words for w in new) > len(new) / 4, line


def logits_f32(*options):
    def test(bench):
        got = bench.logits("--dtype", "f32", *CUDA, *options)
        error = worst(got, bench.on_cpu("f32"))
        print(f"error {error:.1e} of the largest logit")
        assert error < F32, error
    return test


def logits_rounded(dtype, *options):
    def test(bench):
        got = bench.logits("--dtype", dtype, *CUDA, *options)
        error, most = worst(got, bench.on_cpu("f32")), bench.tolerance(dtype)
        print(f"error {error:.1e} of the largest logit, at most {most:.1e}")
        assert error < most, (error, most)
    return test


def logits_of_shape(name):
    def test(bench):
        changes = SHAPES[name]
        vocab = changes.get("vocab_size", 101)
        rng = np.random.default_rng(3)
        tokens = [rng.integers(0, vocab, n) for n in (150, 1, 33)]
        model = harness.make_model(bench.folder / name, **changes)
        cpu, cuda = (
            bench.logits("--dtype", "f32", "--chunk", 40, *device,
                         tokens=tokens, model=model, vocab=vocab)
            for device in (CPU, CUDA)
        )
        assert worst(cuda, cpu) < F32, worst(cuda, cpu)
    return test


def texts(requests, *options):
    got = harness.serve(requests, *options)
    finishes = {a["finish"] for a in got.answers.values()}
    assert finishes <= {"length", "stop"}, got.answers
    return {i: a["tokens"] for i, a in got.answers.items()}


def greedy(dtype):
    """Equal up to the first token that the CPU's logits leave open."""
    def test(bench):
        requests = [{"id": i, "tokens": t, "max_new_tokens": 100, "temperature": 0}
                    for i, t in enumerate(TEXTS)]
        cpu = texts(requests, "--dtype", dtype, *CPU)
        cuda = texts(requests, "--dtype", dtype, *CUDA)
        whole = [t + cpu[i] for i, t in enumerate(TEXTS)]
        logits = bench.logits("--dtype", dtype, *CPU, tokens=whole)
        most, n_equal = bench.tolerance(dtype), 0
        for i, prompt in enumerate(TEXTS):
            pairs = list(zip(cpu[i], cuda[i]))
            at = next((j for j, (a, b) in enumerate(pairs) if a != b), None)
            if at is None:
                assert len(cpu[i]) == len(cuda[i])
                n_equal += 1
                continue
            row = logits[i][len(prompt) - 1 + at]
            first, second = np.sort(row)[:-3:-1]
            margin = (first - second) / np.abs(logits[i]).max()
            print(f"text {i} parts at token {at}, margin {margin:.1e}")
            assert margin < most, (i, at, margin, most)
        print(f"{n_equal} of {len(TEXTS)} texts are equal")
    return test


def invariant(bench):
    """The text of a request is the same whatever is served beside it."""
    requests = [{"id": i, "tokens": t, "seed": i, "max_new_tokens": 40,
                 "temperature": 0.9, "top_p": 0.95}
                for i, t in enumerate(TEXTS)]
    requests[3].update(temperature=0)
    requests[5].update(top_k=5, top_p=1)
    requests[7].update(min_p=0.1, top_p=1)
    alone = texts(requests, "--invariant", "--max-batch", 1, *CUDA)
    for options in ((), ("--max-batch", 5), ("--chunk", 16), ("--page-size", 5),
                    ("--chunk", 16, "--max-batch", 3, "--no-prefix-sharing"),
                    ("--pages", 60, "--chunk", 50, "--max-batch", 256)):
        got = texts(requests, "--invariant", *CUDA, *options)
        parted = [i for i in alone if got[i] != alone[i]]
        assert not parted, f"with {options} texts {parted} differ"
    assert texts(requests[::-1], "--invariant", *CUDA) == alone


def every_graph(bench):
    """300 requests of all lengths drain through all batch sizes."""
    requests = [{"id": i, "tokens": TEXTS[i % len(TEXTS)][:1 + i % 40],
                 "max_new_tokens": 1 + i % 30, "seed": i} for i in range(300)]
    got = texts(requests, "--max-batch", 256, "--pages", 4096, *CUDA)
    for i in range(300):
        assert 0 < len(got[i]) <= 1 + i % 30 or not got[i], i
        assert all(0 <= token < 256 for token in got[i])
    # Not wedged by a batch size that is no power of two.
    assert texts(requests[:20], "--max-batch", 11, *CUDA).keys() == set(range(20))


TESTS = {
    "demo": demo,
    "logits f32": logits_f32(),
    "logits f32, chunks of 16": logits_f32("--chunk", 16),
    "logits f32, single rows": logits_f32("--chunk", 1, "--max-batch", 4),
    "logits f32, invariant, pages of 7":
        logits_f32("--chunk", 100, "--page-size", 7, "--invariant"),
    "logits f32, pages of 1": logits_f32("--page-size", 1),
    "logits bf16": logits_rounded("bf16"),
    "logits bf16, invariant": logits_rounded("bf16", "--chunk", 16, "--invariant"),
    "logits f16": logits_rounded("f16"),
    **{f"logits of a small model: {name}": logits_of_shape(name) for name in SHAPES},
    "greedy f32": greedy("f32"),
    "greedy bf16": greedy("bf16"),
    "greedy f16": greedy("f16"),
    "invariant": invariant,
    "every graph": every_graph,
}


def why_not():
    """Why there is no GPU, or ""."""
    done = harness.run("--json", *CUDA)
    text = done.stderr.strip().split("\n")[-1]
    return text if "device is cuda:0" in text and done.returncode else ""


def main():
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = {name: test for name, test in TESTS.items() if word in name}
    reason = why_not()
    if reason:
        for name in chosen:
            print(f"SKIP  {name}: {reason}")
        print(f"0 passed, 0 failed, {len(chosen)} skipped")
        return 0
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder)
        for name, test in chosen.items():
            begin = time.monotonic()
            try:
                test(bench)
                result = "ok  "
            except Exception:
                traceback.print_exc(file=sys.stdout)
                result = "FAIL"
                failed += 1
            print(f"{result}  {name}  {time.monotonic() - begin:.1f} s", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
