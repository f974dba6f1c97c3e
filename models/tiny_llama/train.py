# SPDX-License-Identifier: Apache-2.0
"""Trains tiny_llama, the byte-level Llama that `make demo` serves.

    python train.py CORPUS OUT [--seconds 240] [--steps 6000]

CORPUS is a file of bytes: documents of ASCII text, a zero byte after each.  The
model in this folder was trained on two of them, 8.2 MB in all: the novels of Jane
Austen, beginning with Emma, and the King James Bible.  Both are in the public
domain; they are not included here, any plain text of them will do.

A token is a byte; token 0 begins a document and ends one.  The last 40,000 bytes
of each document are held out.  Needs torch, transformers and a GPU.
"""

import argparse
import math
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

LENGTH = 1024  # tokens of a training row
BATCH = 48
PEAK_RATE = 2e-3
WARM_UP = 200  # steps
HELD_OUT = 40_000  # bytes at the end of each document
DEVICE = "cuda"


def read_corpus(path):
    """The training and the held-out tokens."""
    with open(path, "rb") as file:
        data = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).long()
    train, held_out, begin = [], [], 0
    for end in (data == 0).nonzero().flatten().tolist():
        train.append(data[begin : end - HELD_OUT])
        held_out.append(data[end - HELD_OUT : end])
        begin = end
    return torch.cat(train).to(DEVICE), torch.cat(held_out).to(DEVICE)


def make_model():
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256,
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            max_position_embeddings=2048,
            rms_norm_eps=1e-5,
            rope_theta=10000.0,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            attention_dropout=0.0,
            dtype="bfloat16",
        )
    ).to(DEVICE)


def draw_batch(data):
    begin = torch.randint(0, len(data) - LENGTH - 1, (BATCH, 1), device=DEVICE)
    return data[begin + torch.arange(LENGTH, device=DEVICE)]


def noised(x):
    """5 % of the inputs replaced, the labels kept: token dropout."""
    drop = torch.rand_like(x, dtype=torch.float) < 0.05
    return torch.where(drop, torch.randint_like(x, 1, 127), x)


def rate(progress, step):
    warm_up = min(1.0, (step + 1) / WARM_UP)
    return PEAK_RATE * warm_up * (0.5 + 0.5 * math.cos(math.pi * progress)) + 2e-5


@torch.no_grad()
def bits_per_byte(model, data):
    """Over the whole windows of LENGTH tokens of data."""
    model.eval()
    rows = data[: len(data) // LENGTH * LENGTH].view(-1, LENGTH)
    with torch.autocast(DEVICE, torch.bfloat16):
        losses = [
            model(x, labels=x, use_cache=False).loss.item() * len(x)
            for x in rows.split(16)
        ]
    model.train()
    return sum(losses) / len(rows) / math.log(2)


def train(model, data, held_out, seconds, steps):
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    forward = torch.compile(model)
    begin = time.monotonic()
    for step in range(steps):
        elapsed = time.monotonic() - begin
        if elapsed >= seconds:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate(max(elapsed / seconds, step / steps), step)
        x = draw_batch(data)
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = forward(noised(x), labels=x, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 500 == 499:
            bits = bits_per_byte(model, held_out)
            print(f"step {step + 1}  {elapsed:.0f} s  held out {bits:.3f} bits a byte", flush=True)


def show(model, prompt):
    x = torch.tensor([[0, *prompt.encode()]], device=DEVICE)
    y = model.generate(x, max_new_tokens=200, do_sample=True, top_p=0.9, temperature=0.8, pad_token_id=0)
    print("---", bytes(y[0, 1:].tolist()).decode("latin-1"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("out", help="folder for config.json and model.safetensors")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--steps", type=int, default=6000)
    args = parser.parse_args()
    torch.manual_seed(1)
    data, held_out = read_corpus(args.corpus)
    model = make_model()
    train(model, data, held_out, args.seconds, args.steps)
    model = model.to(torch.bfloat16)
    print(f"bf16: held out {bits_per_byte(model, held_out):.4f} bits a byte")
    model.save_pretrained(args.out)
    for prompt in ["It is a truth universally acknowledged", "And the LORD said unto Moses,"]:
        show(model, prompt)


if __name__ == "__main__":
    main()
