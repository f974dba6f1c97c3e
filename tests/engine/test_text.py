# SPDX-License-Identifier: Apache-2.0
"""The text of a request is the same whatever is served beside it."""

import pytest

import harness

REQUESTS = [
    {"id": i, "tokens": harness.bytes_of(p), "seed": i, "max_new_tokens": 40, "temperature": 0.9, "top_p": 0.95}
    for i, p in enumerate(harness.PROMPTS)
]
REQUESTS[3].update(temperature=0)
REQUESTS[5].update(top_k=5, top_p=1)
REQUESTS[7].update(min_p=0.1, top_p=1)


def texts(requests, *options):
    got = harness.serve(requests, "--invariant", *options)
    assert {a["finish"] for a in got.answers.values()} <= {"length", "stop"}
    return {i: a["tokens"] for i, a in got.answers.items()}, got


@pytest.fixture(scope="module")
def alone():
    """Each request in a run of its own."""
    return {r["id"]: texts([r])[0][r["id"]] for r in REQUESTS}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--max-batch", 1),
        ("--max-batch", 5),
        ("--chunk", 16),
        ("--chunk", 16, "--max-batch", 3, "--no-prefix-sharing"),
        ("--no-prefix-sharing",),
        ("--threads", 1),
        ("--page-size", 5),
        ("--pages", 24, "--chunk", 50),
    ],
    ids=lambda o: " ".join(map(str, o)) or "default",
)
def test_same_text(alone, options):
    assert texts(REQUESTS, *options)[0] == alone


def test_same_text_in_any_order(alone):
    assert texts(REQUESTS[::-1], "--chunk", 64)[0] == alone
    assert texts(REQUESTS[1::2] + REQUESTS[::2], "--max-batch", 4)[0] == alone


def test_prefixes_are_shared():
    shared = texts(REQUESTS)[1]
    apart = texts(REQUESTS, "--no-prefix-sharing")[1]
    assert sum(a["cached_tokens"] > 0 for a in shared.answers.values()) >= 7
    assert shared.summary["pages_shared"] > 0
    assert shared.summary["pages_used"] < apart.summary["pages_used"]
    assert all(a["cached_tokens"] == 0 for a in apart.answers.values())
    assert apart.summary["pages_shared"] == apart.summary["cached_tokens"] == 0


@pytest.mark.parametrize("page_size", [1, 16, 64])
def test_cached_tokens_are_whole_pages_of_the_common_prefix(page_size):
    first = harness.bytes_of(harness.PROMPTS[0])
    second = first[:50] + harness.bytes_of("something else")
    requests = [
        {"id": i, "tokens": t, "max_new_tokens": 2} for i, t in enumerate([first, second, first])
    ]
    got = harness.serve(requests, "--page-size", page_size, "--max-batch", 1).answers
    # The last token of a prompt is computed: its logits are needed.
    want = [0, 50 // page_size * page_size, (len(first) - 1) // page_size * page_size]
    assert [got[i]["cached_tokens"] for i in range(3)] == want


def test_seeds_differ():
    requests = [{**REQUESTS[0], "id": seed, "seed": seed} for seed in range(6)]
    assert len({tuple(t) for t in texts(requests)[0].values()}) == 6


def test_greedy_ignores_the_seed():
    requests = [{**REQUESTS[0], "id": seed, "seed": seed, "temperature": 0} for seed in range(3)]
    assert len({tuple(t) for t in texts(requests)[0].values()}) == 1


def test_offset_is_the_index_of_the_token():
    """A request that goes on from its own text draws what it would have drawn,
    only if greedy; a sampled one starts its stream again."""
    r = {**REQUESTS[1], "temperature": 0}
    (whole,) = texts([r])[0].values()
    more = {**r, "tokens": r["tokens"] + whole[:10], "max_new_tokens": 30}
    (rest,) = texts([more])[0].values()
    assert whole[:10] + rest == whole
