"""The example in methods/README.md works as printed."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
from toys import MEAN, STD, gaussian_prior, make_step

import psdbench.methods
from psdbench.streams import Streams


def test_example_is_classifier_score_distillation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CSD of two Gaussians of one spread is the same for every noise: σα(μ_∅ - μ_y)/v."""
    text = (Path(psdbench.methods.__file__).parent / "README.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "readme_example.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("readme_example")
    prior = gaussian_prior()
    gradient = module.CSD().gradient(make_step(prior, torch.randn(2, 3, 1, 1), Streams(0)))
    alpha, sigma = prior.alpha_sigma(torch.tensor([450, 450]))
    expected = sigma * alpha * (0 - MEAN) / (alpha**2 * STD**2 + sigma**2)
    torch.testing.assert_close(gradient, expected)
