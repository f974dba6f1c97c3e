# SPDX-License-Identifier: Apache-2.0
"""JSON Lines: what is answered, and what is refused with a sentence."""

import json
import re
import subprocess

import pytest

import harness

GOOD = {"id": "good", "tokens": harness.bytes_of("Emma was "), "max_new_tokens": 8, "temperature": 0}

BAD = {
    "no json": "nonsense",
    "half": '{"id": 1, "tokens": [1',
    "two": '{"id": 1, "tokens": [1]} {}',
    "array": "[1, 2]",
    "number": "17",
    "no id": '{"tokens": [1]}',
    "id null": '{"id": null, "tokens": [1]}',
    "id object": '{"id": {}, "tokens": [1]}',
    "id infinite": '{"id": 1e999, "tokens": [1]}',
    "no tokens": '{"id": 1}',
    "tokens a string": '{"id": 1, "tokens": "abc"}',
    "tokens a number": '{"id": 1, "tokens": 7}',
    "tokens empty": '{"id": 1, "tokens": []}',
    "token negative": '{"id": 1, "tokens": [1, -1]}',
    "token too great": '{"id": 1, "tokens": [256]}',
    "token huge": '{"id": 1, "tokens": [1e300]}',
    "token a fraction": '{"id": 1, "tokens": [1.5]}',
    "token a string": '{"id": 1, "tokens": ["a"]}',
    "token null": '{"id": 1, "tokens": [null]}',
    "max_new 0": '{"id": 1, "tokens": [1], "max_new_tokens": 0}',
    "max_new negative": '{"id": 1, "tokens": [1], "max_new_tokens": -5}',
    "max_new a string": '{"id": 1, "tokens": [1], "max_new_tokens": "5"}',
    "max_new too great": '{"id": 1, "tokens": [1], "max_new_tokens": 2048}',
    "prompt too long": json.dumps({"id": 1, "tokens": [1] * 2048, "max_new_tokens": 1}),
    "temperature": '{"id": 1, "tokens": [1], "temperature": -0.1}',
    "temperature a string": '{"id": 1, "tokens": [1], "temperature": "warm"}',
    "top_k": '{"id": 1, "tokens": [1], "top_k": -1}',
    "top_k a fraction": '{"id": 1, "tokens": [1], "top_k": 2.5}',
    "top_p": '{"id": 1, "tokens": [1], "top_p": 1.5}',
    "min_p": '{"id": 1, "tokens": [1], "min_p": -1}',
    "seed": '{"id": 1, "tokens": [1], "seed": -1}',
    "seed huge": '{"id": 1, "tokens": [1], "seed": 1e30}',
    "stop a string": '{"id": 1, "tokens": [1], "stop": "x"}',
    "stop out of range": '{"id": 1, "tokens": [1], "stop": [256]}',
    "stream": '{"id": 1, "tokens": [1], "stream": 1}',
    "deep": '{"id": 1, "tokens": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "zero byte": '{"id": 1, "tokens": [1]}\0 ',
}


@pytest.mark.parametrize("name", BAD)
def test_bad_line(name):
    """It is answered with a sentence, and the lines around it are served."""
    got = harness.serve([GOOD, BAD[name], {**GOOD, "id": "after"}])
    (bad,) = (a for a in got.lines if a.get("finish") == "error")
    assert bad["error"] and "\n" not in bad["error"]
    assert bad["tokens"] == [] and bad["seconds"] >= 0
    assert got.answers["good"]["finish"] == got.answers["after"]["finish"] == "length"
    assert got.answers["good"]["tokens"] == got.answers["after"]["tokens"]
    assert got.summary["requests"] == 3


def test_many_bad_lines():
    got = harness.serve([*BAD.values(), GOOD])
    assert sum(a["finish"] == "error" for a in got.lines) == len(BAD)
    assert len(got.answers["good"]["tokens"]) == 8


def test_ids_come_back():
    ids = ["", "a", "ünï \"quoted\" \\ \t", 0, -1, 7, 2.5, 9007199254740991, 1e20]
    got = harness.serve([{**GOOD, "id": i, "max_new_tokens": 1} for i in ids])
    assert sorted(map(repr, (a["id"] for a in got.lines))) == sorted(
        repr(json.loads(json.dumps(i))) if not isinstance(i, float) or i != 1e20 else repr(1e20) for i in ids
    )


def test_answer_has_the_members():
    got = harness.serve([GOOD])
    assert list(got.answers["good"]) == ["id", "tokens", "finish", "prompt_tokens", "cached_tokens", "seconds"]
    assert got.answers["good"]["prompt_tokens"] == len(GOOD["tokens"])
    assert got.answers["good"]["seconds"] > 0
    bad = harness.serve(['{"id": 5, "tokens": [-1]}']).answers[5]
    assert list(bad) == ["id", "tokens", "finish", "error", "prompt_tokens", "cached_tokens", "seconds"]
    assert bad["error"] == "tokens[0] is not a token id of 0 to 255"


def test_defaults_are_the_options():
    plain = {"id": 1, "tokens": GOOD["tokens"]}
    got = harness.serve([plain], "--max-new-tokens", 5, "--temperature", 0)
    assert got.answers[1]["tokens"] == harness.serve([GOOD]).answers["good"]["tokens"][:5]


def test_stream():
    got = harness.serve([{**GOOD, "stream": True}, {**GOOD, "id": "quiet"}])
    streamed = [a["token"] for a in got.lines if "token" in a]
    assert all(a["id"] == "good" for a in got.lines if "token" in a)
    assert streamed == got.answers["good"]["tokens"] == got.answers["quiet"]["tokens"]
    assert [list(a) for a in got.lines if "token" in a] == [["id", "token"]] * 8


def test_stop_ids():
    (free,) = harness.serve([{**GOOD, "max_new_tokens": 30}]).answers.values()
    at = 12
    stop = free["tokens"][at]
    end = free["tokens"].index(stop)
    got = harness.serve([{**GOOD, "max_new_tokens": 30, "stop": [1, stop], "stream": True}])
    answer = got.answers["good"]
    assert answer["finish"] == "stop" and answer["tokens"] == free["tokens"][:end]
    assert stop not in [a["token"] for a in got.lines if "token" in a]


def test_eos(tmp_path, small):
    """eos_token_id of config.json, a number or a list, ends a request."""
    r = {"id": 0, "tokens": [5, 6, 7], "max_new_tokens": 40, "temperature": 0}
    free = harness.serve([r], model=harness.make_model(tmp_path / "a", eos_token_id=None)).answers[0]
    assert free["finish"] == "length"
    stop = free["tokens"][6]
    for number, eos in enumerate([stop, [1, stop]]):
        folder = harness.make_model(tmp_path / str(number), eos_token_id=eos)
        answer = harness.serve([r], model=folder).answers[0]
        assert answer["finish"] == "stop"
        assert answer["tokens"] == free["tokens"][: free["tokens"].index(stop)]


def test_end_of_input():
    assert harness.serve([]).summary["requests"] == 0
    done = harness.run("--json", text=json.dumps(GOOD))  # no newline at the end
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[0])["finish"] == "length"
    blank = harness.run("--json", text="\n  \n\r\n" + json.dumps(GOOD) + "\r\n\n")
    assert blank.stdout.count('"finish"') == 1 and '"error"' not in blank.stdout


def test_long_line():
    tokens = harness.bytes_of("word " * 380)
    text = json.dumps({**GOOD, "tokens": tokens}) + " " * 300_000
    assert harness.serve([text]).answers["good"]["prompt_tokens"] == len(tokens)


def test_dialogue():
    """Answers come while stdin is open, and later requests find the cache."""
    child = subprocess.Popen(
        [harness.ENGINE, "--json", "--model", harness.TINY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def ask(tokens, pieces=1):
        text = json.dumps({**GOOD, "tokens": tokens, "stream": True}) + "\n"
        step = -(-len(text) // pieces)
        for i in range(0, len(text), step):
            child.stdin.write(text[i : i + step])
            child.stdin.flush()
        answers = [json.loads(child.stdout.readline()) for _ in range(9)]
        assert [list(a)[1] for a in answers] == ["token"] * 8 + ["tokens"]
        return answers[-1]

    prompt = harness.bytes_of(harness.PROMPTS[0])
    first = ask(prompt)
    assert first["cached_tokens"] == 0
    again = ask(prompt + first["tokens"] + prompt[1:], pieces=3)
    # Pages of what was generated are found too.
    assert again["cached_tokens"] >= len(prompt) // 16 * 16
    rest, _ = child.communicate(timeout=60)
    assert list(json.loads(rest)) == ["summary"] and child.returncode == 0


def test_requests_join_a_running_batch():
    requests = [{**GOOD, "id": i, "max_new_tokens": 5 + 3 * i} for i in range(12)]
    got = harness.serve(requests, "--max-batch", 3)
    assert [a["id"] for a in got.lines] == list(range(12))
    longest = harness.serve([requests[-1]]).summary["steps"]
    assert got.summary["steps"] < sum(5 + 3 * i for i in range(12))
    assert got.summary["steps"] >= longest


@pytest.mark.parametrize(
    "options, sentence",
    [
        (("--nonsense",), "engine: --nonsense is not an option, see --help"),
        (("file",), "engine: file is not an option, see --help"),
        (("--chunk",), "engine: chunk is not a number"),
        (("--chunk", "0"), "engine: chunk is 0, expected a number of 1 to 1048576"),
        (("--chunk", "x"), "engine: chunk is not a number"),
        (("--top-p", "2"), "engine: top_p is 2, expected a number of 0 to 1"),
        (("--page-size", "1.5"), "engine: page_size is 1.5, expected an integer"),
        (("--dtype", "f64"), "engine: dtype is f64, expected f32, f16 or bf16"),
        (("--device", "tpu"), "engine: device is tpu, expected cpu or cuda"),
        (("--model", "/nowhere"), "engine: /nowhere/config.json: No such file or directory"),
        (("--bytes", "--prompts", "/nowhere"), "engine: /nowhere: No such file or directory"),
        (("--json", "--logits", "/nowhere/x"), "engine: /nowhere/x: cannot be written"),
        ((), "engine: --prompts needs --bytes and a model of bytes: give token ids with --json"),
    ],
)
def test_bad_options(options, sentence):
    done = harness.run(*options)
    assert (done.returncode, done.stderr) == (1, sentence + "\n")


def test_cuda_gives_the_librarys_answer(monkeypatch):
    """Without a driver, whatever this machine has."""
    monkeypatch.setenv("FLI_LIBCUDA", "/nowhere/libcuda.so.1")
    done = harness.run("--device", "cuda", "--bytes")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("engine: context create: device is cuda:0, and the driver cannot be opened")
    assert "/nowhere/libcuda.so.1" in done.stderr and done.stderr.count("\n") == 1


def test_summary():
    """What the two ways of serving tell in the end."""
    got = harness.serve([GOOD]).summary
    assert got["steps"] == got["generated_tokens"] == 8
    assert got["imbalance"] >= 1 and 0 < got["plan_seconds"] < got["seconds"] < got["first_token"] + got["seconds"]
    lines = harness.run("--bytes", "--max-new-tokens", 2).stdout.splitlines()
    assert re.match(r"prefill \d+ tok/s   decode \d+ tok/s   plan \d+ us a step, imbalance \d\.\d\d   ", lines[-2])
    assert re.match(r"first token after \d+\.\d s   ", lines[-1])


def test_help():
    done = harness.run("--help")
    assert done.returncode == 0 and not done.stderr
    for option in "model prompts bytes json max-new-tokens temperature top-k top-p min-p seed chunk".split():
        assert f"--{option} " in done.stdout
    for option in "page-size pages max-batch no-prefix-sharing invariant threads device logits".split():
        assert f"--{option}" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
