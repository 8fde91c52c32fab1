"""A tuner on a tiny random UNet."""

from __future__ import annotations

import pytest
from toys import LinearReward

from psdbench.finetune.algorithm import Tuner
from psdbench.finetune.lora import LoraAdapter
from psdbench.guidance.state import SideOptimizer
from psdbench.streams import Streams


@pytest.fixture
def tiny_tuner(tiny_prior) -> Tuner:
    """A fresh LoRA of rank 2 on the tiny prior, with a linear reward."""
    adapter = LoraAdapter(tiny_prior, 2, Streams(0)["lora"])
    optimizer = SideOptimizer(adapter.parameters, 1e-2)
    captions = ["a red cube", "a blue cone"]
    return Tuner(tiny_prior, adapter, LinearReward(), captions, (8, 16, 16), Streams(0), optimizer)
