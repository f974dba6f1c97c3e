# SPDX-License-Identifier: Apache-2.0
"""What the Python tests share."""
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: for make test-full only")


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def build():
    """The build folder that make test made; FLI_BUILD names another."""
    return ROOT / os.environ.get("FLI_BUILD", "build")


@pytest.fixture(scope="session")
def run():
    """Runs a command and returns its output; fails with it."""
    def run(*command, **options):
        done = subprocess.run([str(c) for c in command], text=True,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, **options)
        assert done.returncode == 0, \
            f"{' '.join(map(str, command))}\n{done.stdout}"
        return done.stdout
    return run
