"""The option that renews the golden trajectories."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--renew-trajectories",
        action="store_true",
        help="write tests/methods/trajectories.json anew instead of comparing with it",
    )
