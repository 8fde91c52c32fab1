"""Scorers by name."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import torch

from psdbench.errors import UsageError
from psdbench.scorers import json_values, load_scorer
from psdbench.scorers.catalogue import SCORERS
from psdbench.scorers.official import OFFICIAL, SHORT
from psdbench.weights import catalogue


@pytest.mark.parametrize("id", SCORERS)
def test_every_listing_leads_to_a_scorer(id: str) -> None:
    module, name = SCORERS[id].target.split(":")
    kind = getattr(import_module(f"psdbench.scorers.{module}"), name)
    assert kind.higher_is_better is not SCORERS[id].lower_is_better
    assert kind.differentiable in (True, False)


def test_official_scorers_have_settings_and_weights() -> None:
    official = {id: listing.weights for id, listing in SCORERS.items() if listing.weights}
    assert official.keys() == OFFICIAL.keys()
    assert set(SHORT.values()) <= official.keys()
    assert {entry.name for entry in catalogue().values() if entry.kind == "metric"} == set(official.values())


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
