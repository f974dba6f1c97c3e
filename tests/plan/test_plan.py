# SPDX-License-Identifier: Apache-2.0
"""Properties of every schedule, over random lengths, classes, policies, segments
and capacities.  Coverage is checked with intervals, so lengths may be huge."""
import ctypes
import os
import pathlib

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BUILD = pathlib.Path(os.environ.get(
    "FLI_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build"))
LIB = ctypes.CDLL(str(BUILD / "tests/plan/libplan_core.so"))
LIB.plan_size.restype = ctypes.c_size_t
GRAPH, INVARIANT = 1, 2
NO_CUT = 2**31 - 1
BIG = 1 << 24  # a capacity that never runs out
I32, U32, I64, U64 = (ctypes.c_int32, ctypes.c_uint32, ctypes.c_int64,
                      ctypes.c_uint64)


def struct(name, *fields):
    """fields: (type, names in one string)."""
    members = [(n, t) for t, names in fields for n in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": members})


TileClass = struct("TileClass", (I32, "rows kv_tile cut heads first_worker "
                                      "n_workers longest_first"),
                   (U32, "cost_item cost_row cost_tile cost_cell cost_merge"))
Policy = struct("Policy", (U32, "flags"), (I32, "snap chunk"),
                (I64, "l2_bytes token_bytes"))
POINTER = ctypes.c_void_p
Input = struct("Input", (POINTER, "q_indptr kv_len segment_indptr segment_len "
                                  "segment_group"),
               (I32, "n_requests n_kv_heads group causal window max_items "
                     "max_merges max_sources max_partial_rows n_classes "
                     "n_workers reserved"),
               (TileClass * 4, "tile_class"), (Policy, "policy"))
Item = struct("Item", (I32, "tile_class next request n_requests row_begin "
                            "row_end kv_head n_kv_heads segment segment_begin "
                            "kv_begin kv_end partial merge n_merges reserved"))
Merge = struct("Merge", (I32, "row_begin row_end kv_head n_kv_heads source "
                              "n_sources counter reserved"))
Strip = struct("Strip", (I32, "request n_requests row_begin row_end kv_begin "
                              "kv_end see_begin see_end tile_class segment "
                              "segment_begin parent member n_pieces "
                              "piece_tokens partial bucket reserved"),
               (U64, "cost"))
Sum = struct("Sum", (U64 * 4, "n"))
Border = struct("Border", (U64, "cost"), (I32, "tile at strip block"))
Turn = struct("Turn", (U64, "load"), (I32, "worker tail"))
Need = struct("Need", (I64, "strips tiles merges sources partial_rows"))
Summary = struct("Summary", (I32, "overflow"), (U32, "classes"),
                 (I32, "n_workers n_pieces n_items n_merges n_sources "
                       "n_partial_rows n_strips n_grouped n_busy"),
                 (U64, "total_cost max_cost"))
Output = struct("Output", (POINTER, "items merges sources counters summary "
                                    "used"),
                (I32, "max_strips"),
                (POINTER, "strips order buckets request_sums strip_sums "
                          "worker_sums lane_sums borders turns load lengths"))
Config = struct("Config", (I32, "max_requests max_rows n_kv_heads group levels "
                                "n_classes"),
                (TileClass * 4, "tile_class"), (Policy, "policy"))
Bounds = struct("Bounds", (I32, "n_workers largest_range max_items max_merges max_sources "
                                "max_partial_rows max_strips"),
                (ctypes.c_size_t, "schedule_bytes scratch_bytes"))


def test_structs():
    for i, s in enumerate([TileClass, Policy, Input, Item, Merge, Strip, Sum,
                           Border, Turn, Need, Summary, Output, Config,
                           Bounds]):
        assert LIB.plan_size(i) == ctypes.sizeof(s), s.__name__


# --- one planned step ---------------------------------------------------------


class Step:
    """Lengths, segments, heads, classes and policy, before planning."""

    def __init__(self, q_len, kv_len, n_kv_heads, group, classes, policy,
                 segments=None, causal=0, window=0):
        self.q_len, self.kv_len = q_len, kv_len
        self.n_kv_heads, self.group = n_kv_heads, group
        self.classes, self.policy = classes, policy
        self.segments = segments  # per request [(group id, tokens)]
        self.causal, self.window = causal, window
        self.q_indptr = np.concatenate([[0], np.cumsum(q_len)]).astype(np.int32)
        self.n_workers = max(c["first_worker"] + c["n_workers"]
                             for c in classes)

    def invariant(self):
        return bool(self.policy["flags"] & INVARIANT)

    def tiles(self):
        """Uncut tiles, at most, without groups."""
        return sum((-(-q * self.group // self.classes[0]["rows"]))
                   * self.n_kv_heads for q in self.q_len)


def array_of(type_, n):
    """n elements with a canary behind them, filled with garbage."""
    memory = np.full(max(n, 0) * ctypes.sizeof(type_) + 64, 0xA5, np.uint8)
    return memory


class Plan:
    def __init__(self, step, items=BIG, merges=BIG, sources=BIG, partial=BIG,
                 strips=None, lanes=0):
        """Capacities; the memory behind each is exactly that large (BIG: as
        large as this step can use).  lanes: planned as on a device."""
        self.step = s = step
        n = len(s.q_len)
        levels = max([len(x) for x in s.segments] or [0]) if s.segments else 0
        tiles = s.tiles() + (levels + 1) * n * s.n_kv_heads
        if strips is None:
            strips = tiles + n + levels * n
        most = tiles + 4096 * (s.n_workers + 1)
        room = {"items": min(items, most), "merges": min(merges, most),
                "sources": min(sources, 8 * most)}
        self.capacity = dict(room, partial=partial)
        types = {"items": Item, "merges": Merge, "sources": I32}
        self.memory = {k: array_of(types[k], room[k]) for k in room}
        self.memory["counters"] = array_of(I32, room["merges"])
        self.memory["summary"] = array_of(Summary, 1)
        self.memory["strips"] = array_of(Strip, strips)
        self.memory["order"] = array_of(I32, strips)
        self.memory["buckets"] = array_of(I32, 512)
        self.memory["used"] = array_of(Need, 1)
        range_ = max(c["n_workers"] for c in s.classes)
        for name, size in (("request", n + 1), ("strip", strips + 1),
                           ("worker", range_ + 1), ("lane", 128 + 8)):
            self.memory[name + "_sums"] = array_of(Sum, size)
        self.memory["borders"] = array_of(Border, range_ + 1)
        self.memory["turns"] = array_of(Turn, range_ + 3)
        self.memory["load"] = array_of(U64, s.n_workers)
        self.lengths = [s.q_indptr, np.array(s.kv_len, np.int32)]
        if s.segments:
            indptr = np.cumsum([0] + [len(x) for x in s.segments])
            flat = [y for x in s.segments for y in x]
            self.lengths += [indptr.astype(np.int32),
                             np.array([t for _, t in flat], np.int32),
                             np.array([g for g, _ in flat], np.int32)]
        pointers = [a.ctypes.data for a in self.lengths]
        pointers += [None] * (5 - len(pointers))
        in_ = Input(*pointers, n, s.n_kv_heads, s.group, s.causal, s.window,
                    room["items"], room["merges"], room["sources"], partial,
                    len(s.classes), s.n_workers)
        for i, c in enumerate(s.classes):
            in_.tile_class[i] = TileClass(**c)
        in_.policy = Policy(**s.policy)
        out = Output(max_strips=strips,
                     **{k: v.ctypes.data for k, v in self.memory.items()})
        if lanes:
            LIB.plan_core_lanes(ctypes.byref(in_), ctypes.byref(out), lanes)
        else:
            LIB.plan_core(ctypes.byref(in_), ctypes.byref(out))
        for name, memory in self.memory.items():
            assert (memory[-64:] == 0xA5).all(), f"{name}: written past its end"
        self.summary = Summary.from_buffer(self.memory["summary"])
        if self.summary.overflow:
            return
        self.items = self._list(Item, "items", self.summary.n_items)
        self.merges = self._list(Merge, "merges", self.summary.n_merges)
        self.sources = self._list(I32, "sources", self.summary.n_sources)
        self.counters = self._list(I32, "counters", room["merges"])
        assert self.summary.n_items <= room["items"]
        assert self.summary.n_merges <= room["merges"]
        assert self.summary.n_sources <= room["sources"]
        assert self.summary.n_partial_rows <= partial

    def _list(self, type_, name, n):
        return list((type_ * n).from_buffer(self.memory[name]))

    def worker_items(self, w):
        i, seen = w, 0
        while i >= 0:
            if self.items[i].tile_class >= 0:
                yield self.items[i]
            i = self.items[i].next
            seen += 1
            assert seen <= len(self.items), "a worker's list has a cycle"

    def pieces(self):
        return [i for i in self.items if i.tile_class >= 0]

    def bytes(self):
        return (bytes(self.memory["items"][:self.summary.n_items * 64]),
                bytes(self.memory["merges"][:self.summary.n_merges * 32]),
                list(map(int, self.sources)), bytes(self.memory["counters"]))


# --- what must hold -----------------------------------------------------------


def check_lists(plan):
    """Each item is on one worker's list, in the range of its class."""
    found = 0
    for w in range(plan.step.n_workers):
        for item in plan.worker_items(w):
            c = plan.step.classes[item.tile_class]
            assert c["first_worker"] <= w < c["first_worker"] + c["n_workers"]
            assert item.n_kv_heads == c["heads"]
            assert 0 < item.row_end - item.row_begin <= c["rows"]
            found += 1
    assert found == len(plan.pieces()) == plan.summary.n_pieces


def pieces_of(plan, request):
    """Per (first row, end row, head) of a request: its pieces by kv."""
    s = plan.step
    begin = int(s.q_indptr[request]) * s.group
    end = int(s.q_indptr[request + 1]) * s.group
    mine = [i for i in plan.by_request[request]]
    for i in mine:
        if i.n_requests == 1:
            assert begin <= i.row_begin < i.row_end <= end
        else:
            assert i.row_begin <= begin and end <= i.row_end
    edges = sorted({begin, end} | {min(max(e, begin), end) for i in mine
                                   for e in (i.row_begin, i.row_end)})
    for a, b in zip(edges, edges[1:]):
        for head in range(s.n_kv_heads):
            yield a, b, head, sorted(
                (i for i in mine if i.row_begin <= a and b <= i.row_end
                 and i.kv_head <= head < i.kv_head + i.n_kv_heads),
                key=lambda i: (i.kv_begin, i.kv_end))


def check_coverage(plan):
    """Each (row, kv, head) once; merges list each row's pieces in order."""
    s = plan.step
    plan.by_request = [[] for _ in s.q_len]
    for i in plan.pieces():
        for r in range(i.request, i.request + i.n_requests):
            plan.by_request[r].append(i)
    arrivals = [0] * len(plan.merges)
    for i in plan.pieces():
        assert (i.partial >= 0) == (i.merge >= 0) == (i.n_merges > 0)
        for m in range(i.merge, i.merge + i.n_merges):
            arrivals[m] += 1
    assert arrivals == [m.n_sources for m in plan.merges]
    assert sorted(m.counter for m in plan.merges) == list(
        range(len(plan.merges)))
    for r, (q_len, kv_len) in enumerate(zip(s.q_len, s.kv_len)):
        if q_len == 0:
            assert not plan.by_request[r]
        for a, b, head, pieces in pieces_of(plan, r):
            at = 0
            for p in pieces:
                assert p.kv_begin == at, "a gap or an overlap in kv"
                assert p.kv_end > at or kv_len == 0
                at = p.kv_end
            assert at == kv_len and pieces
            if len(pieces) == 1:
                assert pieces[0].partial == -1
                continue
            merge = merge_of(plan, pieces[0], a, b, head)
            rows = merge.row_end - merge.row_begin
            for k, p in enumerate(pieces):
                assert merge_of(plan, p, a, b, head) is merge
                want = (p.partial + (head - p.kv_head)
                        * (p.row_end - p.row_begin) + a - p.row_begin)
                first = plan.sources[merge.source + k]
                assert want == (first + (head - merge.kv_head) * rows
                                + a - merge.row_begin)
            assert merge.n_sources == len(pieces)


def merge_of(plan, piece, a, b, head):
    found = [m for m in plan.merges[piece.merge:piece.merge + piece.n_merges]
             if m.row_begin <= a and b <= m.row_end
             and m.kv_head <= head < m.kv_head + m.n_kv_heads]
    assert len(found) == 1
    return found[0]


def check_partials(plan):
    """No partial row belongs to two pieces."""
    spans = sorted((p.partial, p.partial
                    + (p.row_end - p.row_begin) * p.n_kv_heads)
                   for p in plan.pieces() if p.partial >= 0)
    at = 0
    for begin, end in spans:
        assert begin >= at
        at = end
    assert at <= plan.summary.n_partial_rows
    listed = [(m.source, m.source + m.n_sources) for m in plan.merges]
    at = 0
    for begin, end in sorted(listed):
        assert begin == at
        at = end
    assert at == plan.summary.n_sources


def check_segments(plan):
    """A piece begins in its segment; a group's stays in it and is its members'."""
    s = plan.step
    if not s.segments:
        for p in plan.pieces():
            assert (p.segment, p.segment_begin, p.n_requests) == (p.request, 0,
                                                                  1)
        return
    first = np.cumsum([0] + [len(x) for x in s.segments])
    for p in plan.pieces():
        for r in range(p.request, p.request + p.n_requests):
            level = p.segment - first[p.request]
            begin = sum(t for _, t in s.segments[r][:level])
            assert p.segment_begin == begin <= p.kv_begin
            group, tokens = s.segments[r][level]
            if p.n_requests > 1:
                assert group == s.segments[p.request][level][0] >= 0
                assert p.kv_end <= begin + tokens <= s.kv_len[r] - s.q_len[r]
            elif tokens and p.kv_end > p.kv_begin:
                assert p.kv_begin < begin + tokens


def check_cuts(plan):
    s = plan.step
    borders = [set() for _ in s.q_len]
    for r, segments in enumerate(s.segments or []):
        borders[r] = set(np.cumsum([t for _, t in segments]).tolist())
    for p in plan.pieces():
        if s.invariant():
            chunk = s.policy["chunk"]
            assert p.kv_begin % chunk == 0
            if p.n_requests > 1:
                assert p.kv_end % chunk == 0
            if p.kv_begin > 0:
                assert p.kv_end == min(p.kv_begin + chunk, s.kv_len[p.request])
            elif p.kv_end < s.kv_len[p.request]:
                assert p.kv_end % chunk == 0
        else:
            cut = s.classes[p.tile_class]["cut"]
            assert p.kv_begin % cut == 0 or p.kv_begin in borders[p.request]


def check_class(plan):
    s = plan.step
    for p in plan.pieces():
        if p.n_requests > 1:
            continue
        if p.partial >= 0 and s.segments:
            continue  # may be a group that was left with one member
        rows = s.q_len[p.request] * s.group
        want = next((i for i, c in enumerate(s.classes) if c["rows"] >= rows),
                    len(s.classes) - 1)
        if s.invariant():
            want = len(s.classes) - 1
        assert p.tile_class == want


def check(plan):
    assert not plan.summary.overflow
    check_lists(plan)
    check_coverage(plan)
    check_partials(plan)
    check_segments(plan)
    check_cuts(plan)
    check_class(plan)
    assert not any(plan.counters)


# --- random steps -------------------------------------------------------------

LENGTH = st.one_of(st.integers(0, 3), st.integers(0, 300),
                   st.integers(1000, 20000), st.just(2**30))


@st.composite
def classes_of(draw, n_kv_heads, one_range=False, grouping=False):
    n = draw(st.integers(1, 3))
    some = [8, 16, 64, 100] if grouping else [1, 3, 8, 16, 64, 100]
    rows = sorted(draw(st.sets(st.sampled_from(some), min_size=n, max_size=n)))
    separate = not one_range and draw(st.booleans())
    same_heads = draw(st.integers(0, 7)) > 0 if grouping else draw(st.booleans())
    heads = draw(st.sampled_from([1, n_kv_heads]))
    first, made = 0, []
    n_workers = draw(st.integers(1, 9))
    longest_first = draw(st.integers(0, 1))
    for r in rows:
        kv_tile = draw(st.sampled_from([1, 16, 64]))
        if separate:
            n_workers = draw(st.integers(1, 9))
            longest_first = draw(st.integers(0, 1))
        if not same_heads:
            heads = draw(st.sampled_from([1, n_kv_heads]))
        made.append(dict(
            rows=r, kv_tile=kv_tile,
            cut=kv_tile * draw(st.sampled_from([1, 2, 4])), heads=heads,
            first_worker=first, n_workers=n_workers,
            longest_first=longest_first,
            cost_item=draw(st.integers(0, 500)),
            cost_row=draw(st.integers(0, 20)),
            cost_tile=draw(st.integers(1, 100)),
            cost_cell=draw(st.integers(0, 20)),
            cost_merge=draw(st.integers(0, 20))))
        if separate:
            first += n_workers
    return made


@st.composite
def steps(draw, max_requests=12, lengths=LENGTH, segments=False,
          flags=st.sampled_from([0, 1, 2, 3]), **kwargs):
    n_kv_heads = draw(st.sampled_from([1, 2, 3, 8]))
    group = draw(st.sampled_from([1, 2, 4, 7]))
    n = draw(st.integers(3 if segments else 0, max_requests))
    some = st.one_of(st.just(1), st.integers(0, 5), st.integers(0, 90))
    if segments:  # groups are of short requests
        some = draw(st.sampled_from([some, st.just(1), st.integers(1, 4)]))
    q_len = [draw(some) for _ in range(n)]
    kv_len = [draw(lengths) for _ in range(n)]
    flag = draw(flags)
    classes = draw(classes_of(n_kv_heads, grouping=segments, **kwargs))
    chunk = max(c["cut"] for c in classes) * draw(st.sampled_from([1, 3]))
    policy = dict(flags=flag, snap=draw(st.sampled_from([0, 20, 100, 1024])),
                  chunk=chunk,
                  l2_bytes=draw(st.sampled_from([0, 1, 1 << 20])),
                  token_bytes=512)
    if flag & INVARIANT:  # a piece a chunk: keep the lists short
        kv_len = [min(k, 40 * chunk) for k in kv_len]
    made = None
    if segments:
        made, kv_len = draw(segments_of(n, kv_len))
    return Step(q_len, kv_len, n_kv_heads, group, classes, policy, made,
                causal=draw(st.integers(0, 1)),
                window=draw(st.sampled_from([0, 1, 100])))


@st.composite
def segments_of(draw, n, kv_len):
    """Requests in runs that share up to three leading segments; now and then one
    differs in a group id or a length."""
    made = []
    while len(made) < n:
        members = draw(st.integers(1, 12))
        levels = [(draw(st.sampled_from([0, 1, 2, 3, -1])),
                   draw(st.sampled_from([100, 1, 16, 384, 5000, 0])))
                  for _ in range(draw(st.integers(0, 3)))]
        for _ in range(min(members, n - len(made))):
            depth = draw(st.integers(0, 2 * len(levels)))
            shared = levels[:depth]  # half of them share all
            odd = draw(st.integers(0, 9))
            if shared and odd > 7:
                group, tokens = shared[-1]
                shared[-1] = (group + odd - 8, tokens + 9 - odd)
            own = (-1, min(kv_len[len(made)], 1 << 20))
            made.append(list(shared) + [own])
    return made, [sum(t for _, t in s) for s in made]


SETTINGS = settings(max_examples=int(os.environ.get("FLI_EXAMPLES", 300)),
                    deadline=None, derandomize=True,
                    suppress_health_check=list(HealthCheck))


@SETTINGS
@given(steps())
def test_private(step):
    check(Plan(step))


@SETTINGS
@given(steps(segments=True))
def test_groups(step):
    check(Plan(step))


@SETTINGS
@given(st.data())
def test_capacity(data):
    """Whatever the capacities, they hold and the plan is right, or it says that
    not even uncut work fits."""
    step = data.draw(steps(segments=data.draw(st.booleans())))
    uncut = step.tiles() + step.n_workers
    few = {"items": st.integers(0, 2 * uncut), "merges": st.integers(0, 6),
           "sources": st.integers(0, 20), "partial": st.integers(0, 500),
           "strips": st.integers(0, uncut)}
    short = data.draw(st.sets(st.sampled_from(sorted(few))))
    plan = Plan(step, **{name: data.draw(few[name])
                         for name in sorted(short)})
    if not plan.summary.overflow:
        check(plan)
        return
    # every request alone, uncut: what the planner falls back to
    least = Plan(step, merges=0, sources=0, partial=0)
    n = least.summary
    assert (n.n_strips > plan_strips(plan)
            or n.n_pieces + step.n_workers > plan.capacity["items"])


@SETTINGS
@given(steps(segments=True))
def test_groups_leave_room(step):
    """Room for private uncut work is room enough: no group takes it away."""
    least = Plan(step, merges=0, sources=0, partial=0).summary
    check(Plan(step, items=least.n_pieces + step.n_workers,
               strips=least.n_strips))


def plan_strips(plan):
    return (len(plan.memory["strips"]) - 64) // ctypes.sizeof(Strip)


@SETTINGS
@given(steps(flags=st.just(INVARIANT), max_requests=4), st.integers(0, 9))
def test_few_items_for_chunks(step, spare):
    """INVARIANT cuts leave many pieces: not more than there are items for."""
    pieces = Plan(step, partial=0).summary.n_pieces
    check(Plan(step, items=step.n_workers + pieces + spare))


@SETTINGS
@given(steps(segments=True))
def test_no_capacity_is_private(step):
    """Without room for partial results nothing is cut or grouped."""
    plan = Plan(step, merges=0, sources=0, partial=0)
    check(plan)
    assert all(p.partial == -1 and p.n_requests == 1 for p in plan.pieces())


@SETTINGS
@given(steps(segments=True))
def test_same_input_same_bytes(step):
    assert Plan(step).bytes() == Plan(step).bytes()


@SETTINGS
@given(steps(segments=True), st.sampled_from([2, 3, 40]))
def test_same_bytes_by_lanes(step, lanes):
    """A device gives the host's schedule."""
    assert Plan(step).bytes() == Plan(step, lanes=lanes).bytes()


@SETTINGS
@given(st.data())
def test_bounds_suffice(data):
    """With the capacities of fli__plan_bound a plan is the one that unlimited
    capacities give (under INVARIANT, cuts may be fewer: only right)."""
    step = data.draw(steps())
    config = Config(max(len(step.q_len), 1), max(int(step.q_indptr[-1]), 1),
                    step.n_kv_heads, step.group, 0, len(step.classes))
    for i, c in enumerate(step.classes):
        config.tile_class[i] = TileClass(**c)
    config.policy = Policy(**step.policy)
    bounds = Bounds()
    assert LIB.plan_bound(ctypes.byref(config), ctypes.byref(bounds)) == 0
    assert bounds.n_workers == step.n_workers
    plan = Plan(step, bounds.max_items, bounds.max_merges, bounds.max_sources,
                bounds.max_partial_rows, bounds.max_strips)
    check(plan)
    if not step.invariant():
        assert plan.bytes()[:3] == Plan(step).bytes()[:3]


# --- balance ------------------------------------------------------------------


def visible(step, p):
    """The kv that the expected mask leaves a piece of one request."""
    offset = step.kv_len[p.request] - step.q_len[p.request]
    first = p.row_begin // step.group - int(step.q_indptr[p.request])
    last = (p.row_end - 1) // step.group - int(step.q_indptr[p.request])
    begin, end = p.kv_begin, p.kv_end
    if step.causal:
        end = min(end, offset + last + 1)
    if step.window:
        begin = max(begin, offset + first - step.window + 1)
    return begin, end


def cost(step, p):
    c = step.classes[p.tile_class]
    rows = (p.row_end - p.row_begin) * p.n_kv_heads
    begin, end = visible(step, p)
    tiles = 0 if begin >= end else -(-end // c["kv_tile"]) - (
        begin // c["kv_tile"])
    return (c["cost_item"] + rows * c["cost_row"]
            + tiles * (p.n_kv_heads * c["cost_tile"] + rows * c["cost_cell"])
            + (rows * c["cost_merge"] if p.partial >= 0 else 0))


@SETTINGS
@given(steps(flags=st.sampled_from([0, 1]), one_range=True))
def test_balance(step):
    """max <= total / W + 2 E + C, where C is the greatest cost of a cut (a start
    and two partial results) and E = max(C + a grain of kv, snap x total / W).

    In the order of the batch: a border is put within E of its place, since a tile
    that reaches across it by more than the slack max(C, snap) is cut at the
    nearest grain, half a grain off at most.  A worker has two borders, and two
    cut pieces with costs that borders do not count: at most C.
    Longest first: a tile goes to the least load, which is at most total / W; it
    is taken whole only where that exceeds the share total / W + C by at most the
    slack, else cut at the next grain above.  The shares hold the work and W cuts,
    so there is always one that is not full."""
    plan = Plan(step)
    pieces = plan.pieces()
    loads = [sum(cost(step, p) for p in plan.worker_items(w))
             for w in range(step.n_workers)]
    assert plan.summary.total_cost == sum(loads)
    assert plan.summary.max_cost == max(loads)
    cut = grain = 0
    for p in pieces:
        c = step.classes[p.tile_class]
        rows = (p.row_end - p.row_begin) * p.n_kv_heads
        cut = max(cut, c["cost_item"]
                  + rows * (c["cost_row"] + 2 * c["cost_merge"]))
        per_tile = p.n_kv_heads * c["cost_tile"] + rows * c["cost_cell"]
        grain = max(grain, per_tile * (c["cut"] // c["kv_tile"]))
    share = sum(loads) // step.n_workers + 1
    slack = max(cut + grain, share * step.policy["snap"] // 1024)
    assert max(loads) <= share + 2 * slack + cut


def example_step(q_len, kv_len, longest_first, **kwargs):
    one = dict(rows=16, kv_tile=16, cut=256, heads=1, first_worker=0,
               n_workers=132, longest_first=longest_first, cost_item=100,
               cost_row=1, cost_tile=16, cost_cell=1, cost_merge=4)
    return Step(q_len, kv_len, 8, 4, [one, dict(one, rows=64, kv_tile=64)],
                dict(flags=0, snap=50, chunk=256, l2_bytes=0, token_bytes=512),
                **kwargs)


def imbalance(plan):
    return (plan.summary.max_cost * plan.summary.n_busy
            / plan.summary.total_cost)


def test_balance_of_real_steps():
    """132 workers: one long request, an uneven batch, a causal prefill."""
    rng = np.random.default_rng(1)
    for longest in 0, 1:
        for q, kv in [([1], [100000]),
                      ([1] * 64, rng.integers(1, 20000, 64).tolist()),
                      ([2048, 100, 1, 1], [2048, 9000, 70000, 5])]:
            plan = Plan(example_step(q, kv, longest, causal=1))
            check(plan)
            assert imbalance(plan) < 1.15, (longest, q)


def test_heads_are_walked_as_the_l2_holds_them():
    """Longest first, every worker goes through the heads in groups whose K and V
    fit the L2: here 2 x 2048 tokens x 512 bytes; inside a group longest first."""
    step = example_step([2048], [2048], 1, causal=1)
    step.policy["l2_bytes"] = 2 << 20
    plan = Plan(step)
    check(plan)
    for w in range(step.n_workers):
        order = [(p.kv_head // 2, cost(step, p))
                 for p in plan.worker_items(w) if p.partial < 0]
        groups = [group for group, _ in order]
        assert groups == sorted(groups)
        for (a, cost_a), (b, cost_b) in zip(order, order[1:]):
            assert a != b or cost_b <= 1.125 * cost_a  # an eighth of an octave
    step.policy["l2_bytes"] = 0
    heads = [p.kv_head for p in Plan(step).worker_items(0)]
    assert heads != sorted(heads)


def test_shared_prefix_is_read_once():
    """16 requests of one prefix: its pieces hold all members."""
    step = example_step([1] * 16, [65536 + 100] * 16, 0,
                        segments=[[(7, 65536), (-1, 100)]] * 16)
    plan = Plan(step)
    check(plan)
    shared = [p for p in plan.pieces() if p.kv_begin < 65536]
    assert all(p.n_requests == 16 for p in shared)
    assert len(shared) > 8  # and cut for balance
    assert imbalance(plan) < 1.4  # pieces are a quarter of a share


def test_empty_batch():
    for longest in 0, 1:
        plan = Plan(example_step([], [], longest))
        check(plan)
        assert plan.summary.n_pieces == 0 and plan.summary.total_cost == 0


@SETTINGS
@given(steps(segments=True))
def test_stale_memory_does_not_matter(step):
    """GRAPH: every slot that a captured launch reads is rewritten: the memory was
    garbage, so idle workers and counters are the plan's own work."""
    plan = Plan(step)
    for w in range(step.n_workers):
        first = plan.items[w]
        assert first.tile_class >= 0 or (first.tile_class == -1
                                         and first.next == -1)
    assert len(plan.counters) == plan.capacity["merges"]
    assert not any(plan.counters)


@SETTINGS
@given(steps(flags=st.just(INVARIANT)), st.integers(0, 6), st.integers(0, 20))
def test_invariant_folds_are_chunks(step, merges, sources):
    """However it is cut, a row's fold over kv is the same chunks in the same
    order: the first piece holds the chunks from 0 on, every other one chunk."""
    plans = [Plan(step), Plan(step, merges=merges, sources=sources)]
    for plan in plans:
        check(plan)
        chunk = step.policy["chunk"]
        for r in range(len(step.q_len)):
            for a, b, head, pieces in pieces_of(plan, r):
                ends = []
                for p in pieces:
                    ends += list(range(p.kv_begin + chunk, p.kv_end, chunk))
                    ends.append(p.kv_end)
                want = list(range(chunk, step.kv_len[r], chunk))
                assert ends == want + [step.kv_len[r]]
