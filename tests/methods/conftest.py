"""Latents for the closed forms, and the option that renews the golden trajectories."""

from __future__ import annotations

import pytest
from torch import Tensor

from psdbench.streams import Streams, randn


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--renew-trajectories",
        action="store_true",
        help="write tests/methods/trajectories.json anew instead of comparing with it",
    )


@pytest.fixture
def latents() -> Tensor:
    return randn((4, 3, 1, 1), Streams(0)["test"])
