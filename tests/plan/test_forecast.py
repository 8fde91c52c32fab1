"""What a plan says of time: from counted passes, for any method, as cheaply as a plan should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from psdbench import registry
from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.plan.forecast import EVALUATE_SECONDS, START_SECONDS, Forecast, forecast

STEPS = 100


def of(method: str, out: Path, prior: str = "shapes", **optimize: Any) -> Forecast:
    """The forecast of one job of a method with its defaults."""
    protocol = Protocol(PriorRef(prior, "0" * 64), optimize=OptimizeConfig(**{"steps": STEPS} | optimize))
    spec = JobSpec("a red cube", method, {}, 0, protocol, registry.plugin_ref(method))
    return forecast([spec], out, workers=1)


def step_seconds(method: str, out: Path, **optimize: Any) -> float:
    """Seconds of a step."""
    total = of(method, out, **optimize).seconds
    assert total is not None
    return (total - START_SECONDS - EVALUATE_SECONDS) / STEPS


@pytest.mark.parametrize(("name", "seconds"), [("sds", 0.065), ("psd", 0.1), ("vsd", 0.12)])
def test_measured_methods_are_forecast_as_measured(name: str, seconds: float, tmp_path: Path) -> None:
    assert step_seconds(name, tmp_path) == pytest.approx(seconds, rel=0.02)


def test_costly_methods_are_forecast_as_costly(tmp_path: Path) -> None:
    seconds = {name: step_seconds(name, tmp_path) for name in ("sds", "ism", "sdi", "rewardsds", "rewardvsd")}
    assert list(seconds) == sorted(seconds, key=lambda name: seconds[name])
    assert seconds["sdi"] > 2 * seconds["sds"]


def test_views_and_pixels_multiply(tmp_path: Path) -> None:
    one = step_seconds("sds", tmp_path)
    assert step_seconds("sds", tmp_path, views=4, size=32) == pytest.approx(one)
    assert step_seconds("sds", tmp_path, size=128) == pytest.approx(4 * one)


PLUGINS = '''
import torch
from psdbench.guidance import Method, denoise, method

@method("twice", paper="none")
class Twice(Method):
    """Denoises the render twice."""

    def gradient(self, step):
        (eps,) = denoise(step, step.latents[None], step.timestep[None], step.text.positive)
        return denoise(step, eps, step.timestep[None], step.text.positive)[0][0]

@method("inward", paper="none")
class Inward(Method):
    """Wants the UNet itself."""

    def gradient(self, step):
        return step.prior.unet(step.latents)
'''


@pytest.fixture
def plugins(tmp_path: Path) -> Any:
    """Two methods of a file."""
    file = tmp_path / "plugins.py"
    file.write_text(PLUGINS)
    registry.use_plugins([str(file)])
    yield
    registry.use_plugins([])


@pytest.mark.usefixtures("plugins")
def test_a_method_from_outside_is_forecast_without_a_table(tmp_path: Path) -> None:
    assert step_seconds("twice", tmp_path) == pytest.approx(step_seconds("sds", tmp_path))
    assert of("twice", tmp_path, nfe=60).steps == {"twice": 30}


@pytest.mark.usefixtures("plugins")
def test_a_method_that_cannot_be_counted_has_no_forecast(tmp_path: Path) -> None:
    assert of("inward", tmp_path).seconds is None
    assert of("inward", tmp_path, nfe=60).steps == {"inward": None}


def test_another_prior_has_no_time_but_a_number_of_steps(tmp_path: Path) -> None:
    assert of("sds", tmp_path, prior="other").seconds is None
    assert of("sds", tmp_path, prior="other", nfe=60).steps == {"sds": 30}
