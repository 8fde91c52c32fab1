"""Scorers by name."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import torch

from psdbench.errors import UsageError
from psdbench.scorers import SCORERS, json_values, load_scorer


@pytest.mark.parametrize("id", SCORERS)
def test_every_listing_leads_to_a_scorer(id: str) -> None:
    module, name = SCORERS[id].target.split(":")
    kind = getattr(import_module(module), name)
    assert kind.higher_is_better in (True, False)
    assert kind.differentiable in (True, False)


def test_an_unknown_name_gets_a_near_one() -> None:
    with pytest.raises(UsageError) as caught:
        load_scorer("clip_shape")
    assert "did you mean 'clip_shapes'" in caught.value.remedy


def test_listing_scorers_imports_no_torch() -> None:
    code = "import sys, psdbench.scorers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scores_that_are_no_numbers_are_null() -> None:
    scores = torch.tensor([1.5, float("nan"), float("inf")], requires_grad=True)
    assert json_values(scores) == [1.5, None, None]
