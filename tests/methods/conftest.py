"""Latents for the closed forms."""

from __future__ import annotations

import pytest
from torch import Tensor

from psdbench.streams import Streams, randn


@pytest.fixture
def latents() -> Tensor:
    return randn((4, 3, 1, 1), Streams(0)["test"])
