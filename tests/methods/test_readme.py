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


def test_example_has_the_mean_of_sds_and_a_kth_of_its_variance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On N(μ, s²): E[ρ] = σα(x - μ)/v and Var[ρ] = (α²s²/v)², at guidance 1."""
    text = (Path(psdbench.methods.__file__).parent / "README.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "readme_example.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("readme_example")
    prior = gaussian_prior()
    step = make_step(prior, torch.zeros(1, 3, 200, 200), Streams(0))
    alpha, sigma = (float(a) for a in prior.alpha_sigma(step.timestep[:1]))
    v = alpha**2 * STD**2 + sigma**2
    for k in (1, 16):
        gradient = module.MeanSDS(guidance_scale=1.0, weighting="uniform", noises=k).gradient(step)
        spread = alpha**2 * STD**2 / v / k**0.5
        mean = -sigma * alpha / v * MEAN.flatten()
        torch.testing.assert_close(gradient.mean((0, 2, 3)), mean, atol=5 * spread / 200, rtol=0)
        torch.testing.assert_close(gradient.std((0, 2, 3)), torch.full((3,), spread), atol=0, rtol=0.02)
