# SPDX-License-Identifier: Apache-2.0
"""The demo: on a terminal its lines grow in place, in a pipe they come once."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

import harness

DEMO = ["--bytes", "--prompts", harness.TINY / "prompts.txt", "--max-new-tokens", "160"]


def watch(rows, columns):
    """What the demo writes to a terminal of that size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    child = subprocess.Popen(
        [harness.ENGINE, "--model", harness.TINY, *DEMO], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    data = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            piece = b""
        if not piece:
            break
        data += piece
    os.close(ours)
    assert child.wait() == 0
    return data.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [40, 100, 400])
def test_lines_grow_in_place(columns):
    text = watch(40, columns)
    head, *frames = re.split(r"\033\[14A\033\[J", text)
    assert len(frames) >= 2  # it was drawn more than once, always over itself
    lines = re.sub(r"\033\[[0-9]*[mK]", "", frames[-1]).splitlines()
    for number, line in enumerate(lines[:12], 1):
        assert line.startswith(f"{number:2}  ##########  ")
        assert len(line) < columns
    bars = [sum(line[4:14].count("#") for line in frame.splitlines()[:12]) for frame in frames]
    assert bars == sorted(bars) and bars[-1] == 120 > bars[0]
    assert lines[12].startswith("prefill ")


def test_a_terminal_too_small_for_the_requests():
    text = watch(10, 100)
    assert "\033" not in text and text.count("##########") == 12


def test_demo_text_is_english():
    done = harness.run(*DEMO)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split("/")[-1].startswith("tiny_llama  4.5 M parameters  bf16  cpu (")
    assert lines[-2].startswith("prefill ") and "imbalance" in lines[-2]
    grown = [line for line in lines if "##########" in line]
    assert len(grown) == len(harness.PROMPTS) and "\033" not in done.stdout
    words = set(" ".join(harness.PROMPTS).lower().replace(",", "").split())
    words |= set("the of to and a in that was her it not he be she his".split())
    for number, prompt in enumerate(harness.PROMPTS, 1):
        (line,) = (x for x in grown if x.split()[0] == str(number))
        assert prompt in line
        new = line.split(prompt)[1].lower().split()
        assert sum(w.strip(".,;:") in words for w in new) >= 2, line


def test_prompts_that_cannot_be_served(tmp_path):
    """They have an error in their line; the others are served."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Emma\n" + "x" * 3000 + "\n\nEmma was\n")
    done = harness.run("--bytes", "--prompts", prompts, "--max-new-tokens", 5)
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if "##########" in line]
    assert len(lines) == 4
    assert sum("exceed the model's 2048 positions" in line for line in lines) == 1
