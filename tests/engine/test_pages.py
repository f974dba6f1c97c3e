# SPDX-License-Identifier: Apache-2.0
"""What happens when the pages of the cache run out."""

import harness


def request(name, text, new=8):
    return {"id": name, "tokens": harness.bytes_of(text), "max_new_tokens": new, "temperature": 0}


def test_a_request_that_can_never_fit_is_refused():
    big = request("big", "x" * 200)  # 201 + 8 - 1 tokens: 13 pages
    got = harness.serve([big, request("small", "x")], "--pages", 12)
    assert got.answers["big"]["finish"] == "error"
    assert got.answers["big"]["error"] == "needs 13 pages of 16 tokens, there are 12"
    assert got.answers["small"]["finish"] == "length"
    assert harness.serve([big], "--pages", 13).answers["big"]["finish"] == "length"


def test_requests_wait_for_pages():
    """Six requests of 5 pages each, pages for two of them at a time."""
    requests = [request(i, f"{i}" * 70) for i in range(6)]
    plenty = harness.serve(requests, "--invariant")
    scarce = harness.serve(requests, "--invariant", "--pages", 10)
    assert plenty.summary["pages_used"] == 30
    assert scarce.summary["pages_used"] == 10
    for i in range(6):
        assert scarce.answers[i]["tokens"] == plenty.answers[i]["tokens"]


def test_the_least_recently_used_prefix_goes_first():
    a, b, c = ("a" * 63, "b" * 63, "c" * 63)  # 4 full pages each, 5 with the answer
    order = [a, b, a, c, a, b]
    got = harness.serve(
        [request(i, text, 2) for i, text in enumerate(order)], "--pages", 11, "--max-batch", 1
    )
    cached = [got.answers[i]["cached_tokens"] for i in range(len(order))]
    # c takes the place of b, which was used before a was used again.
    assert cached[:3] == [0, 0, 48] and cached[3] == 0 and cached[4] == 48
    assert cached[5] < 48


def test_eviction_keeps_the_beginning_of_a_prefix():
    """The end of a cached prefix is let go before its beginning."""
    got = harness.serve(
        [request(0, "a" * 95, 2), request(1, "b" * 63, 2), request(2, "a" * 95, 2)],
        "--pages",
        9,
        "--max-batch",
        1,
    )
    assert 0 < got.answers[2]["cached_tokens"] < 80


def test_long_run_in_a_small_cache():
    """Hundreds of requests over few prefixes: nothing leaks, texts stay right."""
    prefixes = [p[:60] for p in harness.PROMPTS[::3]]
    requests = [request(i, prefixes[i * 7 % 4] + "abcdef"[i % 6] * (i % 40), 3 + i % 5) for i in range(150)]
    got = harness.serve(requests, "--invariant", "--pages", 30, "--chunk", 48, "--max-batch", 6)
    assert all(a["finish"] in ("length", "stop") for a in got.answers.values())
    assert got.summary["pages_used"] <= 30
    apart = harness.serve(requests, "--invariant", "--no-prefix-sharing", "--chunk", 256)
    assert {i: a["tokens"] for i, a in got.answers.items()} == {
        i: a["tokens"] for i, a in apart.answers.items()
    }
    assert got.summary["cached_tokens"] > 1000
