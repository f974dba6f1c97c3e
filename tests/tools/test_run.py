# SPDX-License-Identifier: Apache-2.0
"""tests/run.py counts what suites say, and does not believe silence."""
import importlib.util
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
spec = importlib.util.spec_from_file_location("suites", ROOT / "tests/run.py")
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)

SUITE = runner.Suite("a suite", "program")
BUILD = runner.Suite("a build", "python tools/build build")

TAP = "1..3\nok 1 - a\nnot ok 2 - b\nno ISA\nnot ok 3 # SKIP c\n"

CASES = [
    # (output, exit status, passed, failed, skips)
    (TAP, 1, 1, 1, ["c: no ISA"]),
    ("1..2\nok 1 - a\nok 2 - b\n", 0, 2, 0, []),
    ("1..2\nok 1 - a\n", 139, 1, 1, []),  # died in the second
    ("1..2\nok 1 - a\nok 2 - b\n", 1, 2, 1, []),  # a leak at exit
    ("SKIP x: no\n5 passed, 0 failed, 1 skipped\n", 0, 5, 0, ["x: no"]),
    ("5 passed, 2 failed, 0 skipped\n", 1, 5, 2, []),
    ("5 passed, 0 failed\n", 0, 5, 0, []),
    ("5 passed, 0 failed, 1 skipped\n", 0, 5, 0, ["(no reason)"]),
    ("0 passed, 0 failed, 0 skipped\n", 0, 0, 1, []),  # ran nothing
    ("5 passed, 0 failed, 0 skipped\n", 1, 5, 1, []),
    ("....\n4 passed in 0.10s\n", 0, 4, 0, []),
    ("F\n1 failed, 3 passed, 2 errors in 0.1s\n", 1, 3, 3, []),
    ("SKIPPED [2] a.py:1: no torch\n1 passed, 2 skipped in 1.00s\n", 0, 1, 0,
     ["a.py:1: no torch"] * 2),
    ("4 passed, 3 deselected in 0.10s\n", 0, 4, 0, []),
    ("no tests ran in 0.01s\n", 5, 0, 1, []),
    ("3 deselected in 0.01s\n", 5, 0, 1, []),
    ("", 0, 0, 1, []),
    ("Segmentation fault\n", -11, 0, 1, []),
]


@pytest.mark.parametrize("text, status, passed, failed, skips", CASES)
def test_read(text, status, passed, failed, skips):
    assert runner.read(SUITE, text, status) == (passed, failed, skips)


def test_a_build_is_one_test():
    assert runner.read(BUILD, "", 0) == (1, 0, [])
    assert runner.read(BUILD, "error: x\n", 1) == (0, 1, [])


@pytest.mark.parametrize("code, status", [
    ("print('3 passed, 0 failed')", 0),
    ("import sys; sys.exit(7)", 7),
    ("import time; print('early', flush=True); time.sleep(60)", -1),
])
def test_execute(tmp_path, monkeypatch, code, status):
    monkeypatch.setattr(runner, "LOGS", tmp_path)
    suite = runner.Suite("x", f'{sys.executable} -c "{code}"', timeout=2)
    assert runner.execute(suite)[1] == status


def test_a_missing_program_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "LOGS", tmp_path)
    suite = runner.Suite("x", "./no-such-program")
    text, status = runner.execute(suite)
    assert runner.read(suite, text, status) == (0, 1, [])


def test_table():
    suites = runner.suites()
    assert len({s.name for s in suites}) == len(suites)
    assert {s.tier for s in suites} == {"test", "full"}
    for path in (ROOT / "tests/unit").glob("test_*.c"):
        assert any(path.stem in s.command for s in suites), path.stem
