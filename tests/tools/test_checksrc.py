# SPDX-License-Identifier: Apache-2.0
"""Each rule of tools/checksrc.py finds its fault, at its line, and nothing in a
tree that has none."""
import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
spec = importlib.util.spec_from_file_location("checksrc",
                                              ROOT / "tools/checksrc.py")
checksrc = importlib.util.module_from_spec(spec)
spec.loader.exec_module(checksrc)

SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"

GOOD = {
    "src/ops.def": SPDX + 'FLI_OP(norm, norm, stateless, norm, "a norm")\n',
    "src/core/status.h": SPDX + "#include <flashinfer/base.h>\n",
    "src/device/device.h": SPDX + '#include "core/status.h"\n'
                                  '#include "ops.def"\n',
    "src/norm/norm.c": SPDX + "#include <flashinfer/norm.h>\n\n"
                              '#include "abi/norm.h"\n'
                              '#include "device/device.h"\n'
                              "/* free (words) in a comment are no calls */\n",
    "include/flashinfer/base.h": SPDX + "#include <stddef.h>\n",
    "include/flashinfer/norm.h": SPDX + '#include "base.h"\n\n'
                                        "/* A norm. */\nFLI_API int a(int);\n"
                                        "FLI_API int b(int x,\n"
                                        "              int y);\n",
    "kernels/abi/norm.h": SPDX + "#include <stdint.h>\n",
    "kernels/ref/norm.c": SPDX + '#include "abi/norm.h"\n',
    "kernels/cpu/norm.c": SPDX + '#include "abi/norm.h"\n',
    "tests/check/norm.c": SPDX + "#include <flashinfer/norm.h>\n"
                                 'const driver norm = { .op = "norm" };\n',
    "tests/cases/norm.txt": "id=one rows=1\n",
    "tests/unit/test_norm.c": SPDX + '#include "device/device.h"\n',
    "meson.build": "# SPDX-License-Identifier: Apache-2.0\n"
                   "stems = ['norm']\nsources = files('src/norm/norm.c')\n",
    "Makefile": "# SPDX-License-Identifier: Apache-2.0\nall:\n\ttrue\n",
}


def findings(tmp_path, changes, rules):
    for path, text in {**GOOD, **changes}.items():
        if text is not None:
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return checksrc.check(tmp_path, checksrc.tree(tmp_path), rules)


RULES = [rule for rule in checksrc.RULES if rule != "FORMAT"]


def test_good_tree(tmp_path):
    assert not any(findings(tmp_path, {}, RULES).values())


FAULTS = [
    ("LAYER", "src/core/status.h", 2, SPDX + '#include "device/device.h"\n'),
    ("LAYER", "src/core/status.h", 2, SPDX + "#include <flashinfer/norm.h>\n"),
    ("LAYER", "src/device/device.h", 2, SPDX + '#include "norm/norm.h"\n'),
    ("LAYER", "src/plan/plan.h", 2, SPDX + '#include "device/device.h"\n'),
    ("LAYER", "src/norm/norm.c", 2, SPDX + '#include "gemm/gemm.h"\n'),
    ("LAYER", "src/norm/norm.c", 2, SPDX + '#include "cpu/lib/vec.h"\n'),
    ("LAYER", "kernels/cpu/norm.c", 2, SPDX + "#include <flashinfer/base.h>\n"),
    ("LAYER", "kernels/cpu/norm.c", 2, SPDX + '#include "core/status.h"\n'),
    ("LAYER", "kernels/cpu/norm.c", 2, SPDX + '#include "ref/real.h"\n'),
    ("LAYER", "kernels/abi/norm.h", 2, SPDX + "#include <stdio.h>\n"),
    ("LAYER", "include/flashinfer/base.h", 2, SPDX + "#include <stdio.h>\n"),
    ("LAYER", "tests/check/norm.c", 2, SPDX + '#include "core/status.h"\n'),
    ("LAYER", "examples/x.c", 2, SPDX + '#include "core/status.h"\n'),
    ("STEM", "src/ops.def", 2, SPDX + 'FLI_OP(softmax, norm, x, norm, "")\n'),
    ("STEM", "src/ops.def", 2, SPDX + 'FLI_OP(norm, norm, x, other, "")\n'),
    ("STEM", "src/ops.def", 2, SPDX + 'FLI_OP(norm, other, x, norm, "")\n'),
    ("STEM", "kernels/cpu/other.c", 1, SPDX),
    ("BANNED", "src/norm/norm.c", 3, SPDX + "\nint x = malloc(3);\n"),
    ("BANNED", "kernels/ref/norm.c", 2, SPDX + 'printf ("");\n'),
    ("HEADERDOC", "include/flashinfer/norm.h", 2, SPDX + "FLI_API int a(int);\n"),
    ("HEADERDOC", "include/flashinfer/norm.h", 5,
     SPDX + "/* One. */\nFLI_API int a(int);\n\nFLI_API int b(int);\n"),
    ("SPDX", "kernels/ref/norm.c", 1, "\n" + SPDX),
    ("SPDX", "tools/x", 1, "#!/bin/sh\ntrue\n"),
    ("TABS", "kernels/ref/norm.c", 2, SPDX + "\tint x;\n"),
    ("TRAILING", "README.md", 1, "word \nword\n"),
    ("FINALNEWLINE", "README.md", 1, "word"),
    ("FINALNEWLINE", "README.md", 3, "word\n\n"),
    ("DEADCODE", "kernels/ref/norm.c", 2, SPDX + "#if 0\n#endif\n"),
    ("DEADCODE", "kernels/ref/norm.c", 2, SPDX + "/* x = y + f(2); */\n"),
    ("DEADCODE", "kernels/ref/norm.c", 3,
     SPDX + "\n/* for (i = 0; i < n; i++) {\n *     f(i);\n * } */\n"),
    ("DEADCODE", "kernels/ref/norm.c", 2, SPDX + "// return f(x);\n"),
    ("PATHS", "README.md", 1, "in /ho" + "me/me/x\n"),
    ("MESON", "src/norm/other.c", 1, SPDX),
    ("MESON", "kernels/ref/other.c", 1, SPDX),
]


@pytest.mark.parametrize("rule, path, line, text", FAULTS)
def test_fault_is_found(tmp_path, rule, path, line, text):
    found = findings(tmp_path, {path: text}, RULES)[rule]
    assert any(f.startswith(f"{path}:{line}: {rule}: ") for f in found), found


def test_format(tmp_path):
    """With the tree's clang-format and settings."""
    (tmp_path / ".clang-format").write_text(
        (ROOT / ".clang-format").read_text())
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    joined = GOOD["include/flashinfer/norm.h"].replace("x,\n              int",
                                                       "x, int")
    good = {"include/flashinfer/norm.h": joined}
    assert not findings(tmp_path, good, ["FORMAT"])["FORMAT"]
    bad = {**good, "kernels/ref/norm.c": SPDX + "int  x;\n"}
    assert findings(tmp_path, bad, ["FORMAT"])["FORMAT"] == [
        "kernels/ref/norm.c:2: FORMAT: not as clang-format has it"]


def test_silencer(tmp_path):
    text = (SPDX + "/* checksrc: off BANNED, because of this test */\n"
            "int x = malloc(3);\n"
            "int y = malloc(3); /* checksrc: off BANNED, because here too */\n")
    found = findings(tmp_path, {"src/norm/norm.c": text}, RULES)
    assert not found["BANNED"] and not found["SILENCER"]


@pytest.mark.parametrize("text, line", [
    ("/* checksrc: off BANNED, because nothing */\nint x;\n", 2),
    ("/* checksrc: off TABS, because another */\nint x = malloc(3);\n", 2),
    ("/* checksrc: off NONSENSE, because unknown */\nint x;\n", 2),
])
def test_unused_silencer(tmp_path, text, line):
    found = findings(tmp_path, {"src/norm/norm.c": SPDX + text}, RULES)
    assert [f.split(" ")[0] for f in found["SILENCER"]] == [
        f"src/norm/norm.c:{line}:"]


def test_silencer_needs_a_reason(tmp_path):
    text = SPDX + "int y = malloc(3); /* checksrc: off BANNED */\n"
    assert findings(tmp_path, {"src/norm/norm.c": text}, RULES)["BANNED"]
