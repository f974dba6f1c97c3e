# SPDX-License-Identifier: Apache-2.0
"""The entry points that src/jit/nvrtc.h declares are those of nvrtc.h."""
import re

import pytest

TYPES = {"nvrtcProgram": "void *", "nvrtcResult": "int32_t", "int": "int32_t"}


@pytest.fixture
def header(root):
    found = sorted(root.glob(
        ".venv/lib/python*/site-packages/nvidia/*/include/nvrtc.h"))
    if not found:
        pytest.skip("nvidia-cuda-nvrtc is not installed")
    return re.sub(r"/\*.*?\*/", "", found[-1].read_text(), flags=re.S)


def normal(parameter):
    """The type of "const char *log" and the like, blanks away; a name is what
    follows a type and the last *."""
    parameter = re.sub(r"\w+$", "", parameter.strip()).strip() \
        if re.search(r"[\w*\s]\b\w+$", parameter.strip()) else parameter
    for name, ours in TYPES.items():
        parameter = re.sub(rf"\b{name}\b", ours, parameter)
    return re.sub(r"\s", "", parameter)


def types_of(parameters):
    return [normal(p) for p in parameters.split(",")]


def declared(root):
    text = (root / "src/jit/nvrtc.h").read_text().replace("\\\n", " ")
    table = re.search(r"#define FLI__NVRTC\(FLI_RTC\)(.*?)\n\n", text, re.S)
    return {name: types_of(parameters) for name, parameters in re.findall(
        r"FLI_RTC\(\s*(\w+),\s*\(([^)]*)\)\)", table.group(1))}


def test_entry_points(root, header):
    ours = declared(root)
    theirs = {name: types_of(parameters) for name, parameters in re.findall(
        r"^nvrtcResult (\w+)\(([^)]*)\);", header, re.M)}
    assert len(ours) == 12
    for name, types in ours.items():
        assert types == theirs[name], name


def test_success_is_zero(header):
    assert re.search(r"\bNVRTC_SUCCESS = 0\b", header)
