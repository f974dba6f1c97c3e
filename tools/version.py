#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the version, whose only source is include/flashinfer/base.h."""
import pathlib
import re

root = pathlib.Path(__file__).resolve().parent.parent
text = (root / "include/flashinfer/base.h").read_text()
print(re.search(r'FLI_VERSION\s+"([^"]+)"', text).group(1))
