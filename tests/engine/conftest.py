# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: for make test-full only")


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A small random model in f32, not to be changed."""
    import harness

    return harness.make_model(tmp_path_factory.mktemp("small"))
