"""What several particles are for: under VSD they keep the prior's spread, through the whole optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from psdbench import registry
from psdbench.cameras import Cameras
from psdbench.config import JobSpec, OptimizeConfig, PriorRef, Protocol
from psdbench.optimizer.loop import optimize
from psdbench.priors.gaussian import GaussianPrior, GaussianScore
from psdbench.registry import RepresentationEntry
from psdbench.representations import Render, Representation
from psdbench.representations.shape import Shape
from psdbench.streams import Streams

SIZE = 8
STD = 0.3
PROMPT = "a red cube"


@dataclass(frozen=True)
class CanvasConfig:
    """Nothing to set."""


class Canvas(Representation):
    """The picture itself, from all sides the same: on it the closed forms of the Gaussian prior hold exactly."""

    def __init__(self, config: CanvasConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.picture = nn.Parameter(0.05 * torch.randn(3, SIZE, SIZE, generator=generator))

    def render(self, cameras: Cameras, size: int, background: Tensor, surface: bool = False) -> Render:
        views = len(cameras)
        opacity = torch.ones(views, 1, size, size)
        return Render(self.picture.expand(views, -1, -1, -1), opacity, 0 * opacity)

    def sample(self, points: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("a picture is nowhere in space")

    def start_from(self, shape: Shape, generator: torch.Generator) -> None:
        raise NotImplementedError("a picture takes over no shape")

    def parameter_groups(self, config: OptimizeConfig) -> list[dict[str, Any]]:
        return [{"params": [self.picture], "lr": config.colour_learning_rate}]

    def variation(self) -> Tensor:
        return torch.zeros(())


class RememberedScore(GaussianScore):
    """q fitted to the renders of the last steps: it knows the particles together, as the weights of a LoRA do."""

    def __init__(self, prior: GaussianPrior) -> None:
        super().__init__(prior)
        self.recent: list[Tensor] = []

    def update(self, latents: Tensor, t: Tensor, noise: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        self.recent = [*self.recent, latents][-16:]
        n = len(self.recent)
        return super().update(torch.cat(self.recent), t.repeat(n), noise.repeat(n, 1, 1, 1), text, condition)


class RememberingPrior(GaussianPrior):
    """The Gaussian prior with that score."""

    def tunable_score(self, rank: int, learning_rate: float, streams: Streams) -> GaussianScore:
        return RememberedScore(self)


@pytest.mark.parametrize(("name", "spread"), [("vsd", STD), ("sds", 0.0)])
def test_two_particles_keep_the_priors_spread_under_vsd_and_lose_it_under_sds(
    name: str, spread: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two points m ± d are at rest under VSD where m = μ and d = s, coordinate by coordinate; under SDS d = 0."""
    entry = RepresentationEntry(__name__, "Canvas", "CanvasConfig", "the picture itself")
    monkeypatch.setitem(registry.REPRESENTATIONS, "canvas", entry)
    mean = torch.linspace(-1, 1, 3 * SIZE * SIZE).view(3, SIZE, SIZE)
    rates = {"colour_learning_rate": 0.1, "learning_rate_end": 0.02, "opacity_weight": 0.0}
    config = OptimizeConfig(steps=600, particles=2, size=SIZE, checkpoint_every=1000, **rates)  # type: ignore[arg-type]
    protocol = Protocol(PriorRef("gaussian", ""), representation="canvas", optimize=config)
    spec = JobSpec(PROMPT, name, {"guidance_scale": 1.0, "weighting": "uniform"}, 0, protocol)
    prior = RememberingPrior({PROMPT: mean, "": mean}, STD)
    ends = optimize(spec, prior, registry.method_class(name)(**spec.params), None, tmp_path).assets
    pictures = torch.stack([asset.state_dict()["picture"] for asset in ends])
    error = (pictures.mean(0) - mean).abs().mean()
    deviation = pictures.std(0, correction=0)
    assert error < 0.1 * STD
    assert (deviation - spread).abs().mean() < 0.1 * STD
