"""Figures hold what they show: no label is cut at their edge, however long the names of methods are."""

from __future__ import annotations

import re

import pytest

from psdbench.report.hacking import Gain
from psdbench.report.plots import gains_plot
from psdbench.stats import Estimate

LETTER = 5.1
"""width of a letter of this size on average, points"""


@pytest.mark.parametrize(
    "method", ["psd", "sds(weighting=fantasia3d)", "sds+lora(some-finetuned-prior-of-mine)"]
)
def test_the_words_below_the_gains_fit_beside_names_of_any_length(method: str) -> None:
    value = Estimate(n=9, prompts=9, mean=0.1, low=-0.1, high=0.3)
    plot = gains_plot([Gain(method, metric, "held out", value) for metric in ("clip", "image_reward_shapes")])
    assert plot is not None
    width = float(re.findall(r'viewBox="0 0 ([\d.]+) ', plot.svg)[0])
    ((middle, words),) = re.findall(r'x="([\d.]+)"[^>]*>(paired gain[^<]*)<', plot.svg)
    half = len(words) * LETTER / 2
    assert half < float(middle) < width - half
    names = re.findall(r'x="([\d.]+)"[^>]*>([^<]*: [^<]*)<', plot.svg)
    assert len(names) == 2
    for end, name in names:
        assert len(name) * LETTER < float(end) < width
