#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes case lines in which every pair of values occurs.

    covering.py VALUES OUT

VALUES (tests/cases/values/<op>.txt) has a key and its values a line, and

    forbid key=value key=value ...

for values that must not meet; a value may be a* (anything that begins with
a), !a or !a* (anything else).  OUT (<op>.gen.txt, in the build folder) gets the
pairs as tier smoke and the triples that are not covered by them as tier full.
The same values give the same lines.
"""
import itertools
import sys

from allpairspy import AllPairs


def parse(path):
    keys, forbidden = {}, []
    for number, line in enumerate(open(path), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0] == "forbid":
            rule = [tuple(word.partition("=")[::2]) for word in words[1:]]
            for key, pattern in rule:
                if key not in keys:
                    sys.exit(f"{path}:{number}: key {key} is unknown")
                if not any(matches(pattern, v) for v in keys[key]):
                    sys.exit(f"{path}:{number}: no value is {key}={pattern}")
            forbidden.append(dict(rule))
        elif words[0] in keys or len(words) == 1:
            sys.exit(f"{path}:{number}: {words[0]} twice or without values")
        else:
            keys[words[0]] = words[1:]
    return keys, forbidden


def matches(pattern, value):
    if pattern.startswith("!"):
        return not matches(pattern[1:], value)
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value == pattern


def is_allowed(forbidden, given):
    """given may be some of the keys only."""
    return not any(all(key in given and matches(pattern, given[key])
                       for key, pattern in rule.items())
                   for rule in forbidden)


def pairs(keys, forbidden):
    # AllPairs drops pairs when a filter leaves it no way on: the caller adds
    # what is missing
    names = list(keys)
    if len(names) < 2:
        return [(value,) for value in keys[names[0]]]
    return [tuple(row) for row in
            AllPairs(list(keys.values()), filter_func=lambda row: is_allowed(
                forbidden, dict(zip(names, row))))]


def combinations(row, n):
    return itertools.combinations(enumerate(row), n)


def complete(keys, forbidden, part):
    """A whole row that has the (index, value) pairs of part; None if there is
    none."""
    given = {list(keys)[i]: value for i, value in part}
    # begins at another value for each part, so that the rest varies too
    turn = sum((i + 1) * keys[name].index(given[name])
               for i, name in enumerate(keys) if name in given)

    def extend(given, free):
        if not is_allowed(forbidden, given):
            return None
        if not free:
            return tuple(given[name] for name in keys)
        name = free[0]
        at = (turn + len(free)) % len(keys[name])
        for value in keys[name][at:] + keys[name][:at]:
            found = extend({**given, name: value}, free[1:])
            if found:
                return found
        return None

    return extend(given, [name for name in keys if name not in given])


def cover(keys, forbidden, n, rows):
    """Rows for the allowed combinations of n values that rows lacks."""
    names = list(keys)
    seen = {part for row in rows for part in combinations(row, n)}
    added = []
    for indices in itertools.combinations(range(len(names)), n):
        for values in itertools.product(*(keys[names[i]] for i in indices)):
            part = tuple(zip(indices, values))
            if part in seen:
                continue
            row = complete(keys, forbidden, part)
            if row:
                added.append(row)
                seen.update(combinations(row, n))
    return added


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: covering.py VALUES OUT")
    keys, forbidden = parse(sys.argv[1])
    smoke = pairs(keys, forbidden)
    smoke += cover(keys, forbidden, min(2, len(keys)), smoke)
    full = cover(keys, forbidden, 3, smoke) if len(keys) > 2 else []
    with open(sys.argv[2], "w") as out:
        for tier, rows in ("smoke", smoke), ("full", full):
            for i, row in enumerate(rows):
                line = " ".join(f"{k}={v}" for k, v in zip(keys, row))
                out.write(f"id={tier}{i} tier={tier} {line}\n")


if __name__ == "__main__":
    main()
