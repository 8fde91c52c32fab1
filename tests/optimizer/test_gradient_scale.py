"""The shared scale of gradients: what each switch does to G, and that the trace keeps the raw size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.errors import UsageError
from psdbench.guidance import Method, Step, method
from psdbench.methods.sds import SDS
from psdbench.optimizer.gradient_scale import scale_gradient
from psdbench.optimizer.loop import OptimizeResult, optimize
from psdbench.priors.gaussian import GaussianPrior
from psdbench.settings import resolve
from psdbench.strict import build

SIZE = 8


@method("loud", paper="none")
class Loud(Method):
    """SDS, times a factor."""

    factor: float = 4.0
    """of G"""

    def gradient(self, step: Step) -> Tensor:
        return self.factor * SDS(guidance_scale=1.0).gradient(step)


def run(folder: Path, factor: float = 1.0, steps: int = 6, **fields: object) -> OptimizeResult:
    target = torch.tensor([0.9, 0.1, 0.2])[:, None, None].expand(3, SIZE, SIZE)
    config = OptimizeConfig(steps=steps, size=SIZE, opacity_weight=0.0, **fields)  # type: ignore[arg-type]
    protocol = Protocol(PriorRef("g", ""), representation_params={"resolution": 6}, optimize=config)
    spec = JobSpec("a red cube", "loud", {"factor": factor}, 0, protocol)
    return optimize(
        spec, GaussianPrior({"a red cube": target, "": target}, 0.3), Loud(factor=factor), None, folder
    )


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


@given(st.floats(1e-30, 1e15), st.integers(0, 99))
def test_unit_makes_the_root_mean_square_one_and_keeps_the_direction(size: float, seed: int) -> None:
    gradient = size * torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    scaled = scale_gradient(gradient, rms(gradient.double()), OptimizeConfig(grad_norm="unit"))
    assert rms(scaled) == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(scaled * rms(gradient.double()), gradient, rtol=1e-5, atol=0)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_clip_touches_only_what_is_larger(size: float, limit: float) -> None:
    gradient = size * torch.tensor([[1.0, -1.0]])
    scaled = scale_gradient(gradient, size, OptimizeConfig(grad_norm="clip", grad_clip=limit))
    assert rms(scaled) == pytest.approx(min(size, limit), rel=1e-5)
    if size <= limit:
        assert scaled is gradient


def test_none_returns_the_very_gradient_and_zero_stays_zero() -> None:
    gradient = torch.randn(3)
    assert scale_gradient(gradient, rms(gradient), OptimizeConfig()) is gradient
    zero = torch.zeros(3)
    for mode in ("unit", "clip"):
        assert torch.equal(scale_gradient(zero, 0.0, OptimizeConfig(grad_norm=mode)), zero)  # type: ignore[arg-type]


def test_under_unit_a_louder_method_gives_the_same_bits(tmp_path: Path) -> None:
    quiet, loud = (run(tmp_path / str(f), f, grad_norm="unit") for f in (1.0, 4.0))
    assert all(
        torch.equal(a, b) for a, b in zip(quiet.asset.parameters(), loud.asset.parameters(), strict=True)
    )
    assert [row.loss for row in quiet.trace] == [row.loss for row in loud.trace]
    assert [4 * row.gradient_rms for row in quiet.trace] == [row.gradient_rms for row in loud.trace]


def test_the_loss_is_that_of_the_scaled_gradient_and_the_trace_keeps_the_raw_size(tmp_path: Path) -> None:
    raw = run(tmp_path / "none", 4.0, steps=1).trace[0]
    for mode, size in (("unit", 1.0), ("clip", 0.25)):
        row = run(tmp_path / mode, 4.0, steps=1, grad_norm=mode, grad_clip=0.25).trace[0]
        assert row.gradient_rms == raw.gradient_rms > 0.25
        assert row.loss == pytest.approx(0.5 * size**2 * 3 * SIZE**2, rel=1e-5)


def test_it_is_part_of_the_protocol_and_strictly_read() -> None:
    base = Protocol(PriorRef("g", ""))
    for fields in ({"grad_norm": "unit"}, {"grad_norm": "clip"}, {"grad_norm": "clip", "grad_clip": 2.0}):
        changed = Protocol(PriorRef("g", ""), optimize=build(OptimizeConfig, fields, "optimize"))
        assert changed.hash != base.hash
    with pytest.raises(UsageError, match=r"unknown value 'units' in optimize.grad_norm"):
        resolve({}, None, ["optimize.grad_norm=units"])
    with pytest.raises(ValueError, match="grad_clip must be positive"):
        OptimizeConfig(grad_clip=0.0)
