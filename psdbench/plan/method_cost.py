"""What a step of a method costs, measured: a short run of it on a prior in closed form.

Passes through networks are counted as in a job, so the figures hold for any prior and reward. They are means
over a run, since some methods do more at its start, at its end or every few steps.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from psdbench.camera_config import CameraConfig
from psdbench.cameras import Cameras, sample_cameras
from psdbench.config import OptimizeConfig
from psdbench.guidance import Method, Setting, Step, TextEmbeddings
from psdbench.plan.memory import Calls
from psdbench.priors.gaussian import GaussianPrior, GaussianScore
from psdbench.schedules import TimestepSchedule
from psdbench.streams import Streams

STEPS = 20
"""of the measured run: every twentieth of a schedule is seen once"""
SIZE = 8
"""side of its renders, pixels"""
PROMPT = "a red cube"
"""no prompt changes what a step costs"""
PASSES = ("denoiser_forwards", "denoiser_backwards", "decodes", "reward_forwards", "reward_backwards")
"""what is counted; the one encoding of a view is the optimizer's own"""


class _Score(GaussianScore):
    """Its fit in closed form stands for a training step, and counts as one."""

    _prior: _Prior

    def update(self, latents: Tensor, t: Tensor, noise: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        self._prior.counters.add("denoiser_backwards", len(latents))
        self._prior.note("denoised", len(latents), True)
        return super().update(latents, t, noise, text, condition)


class _Prior(GaussianPrior):
    """A Gaussian for every prompt there may be, its mean a grey drawn from the prompt's bytes."""

    def __init__(self) -> None:
        super().__init__({"": torch.zeros(3, SIZE, SIZE)}, std=0.5)
        self.largest = {field.name: 0 for field in fields(Calls)}
        """so far"""

    def note(self, kind: str, images: int, graph: bool) -> None:
        """Remember how large a call was."""
        name = f"{kind}_with_graph" if graph else kind
        self.largest[name] = max(self.largest[name], images)

    def predict_noise(
        self, x_t: Tensor, t: Tensor, text: Tensor, cameras: Cameras | None = None, *, grad: bool = False
    ) -> Tensor:
        self.note("denoised", len(x_t), grad)
        return super().predict_noise(x_t, t, text, cameras, grad=grad)

    def decode(self, latents: Tensor) -> Tensor:
        self.note("decoded", len(latents), latents.requires_grad and torch.is_grad_enabled())
        return super().decode(latents)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        greys = torch.tensor([zlib.crc32(prompt.encode()) / 2**32 for prompt in prompts])
        return greys[:, None, None].expand(-1, 1, 3 * SIZE * SIZE)

    def tunable_score(self, rank: int, learning_rate: float, streams: Streams) -> GaussianScore:
        self.largest["own_scores"] += 1
        return _Score(self)


class _Brightness:
    """A differentiable reward."""

    id, sha256 = "brightness", ""
    higher_is_better = differentiable = True
    view_words = False

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        return images.mean((1, 2, 3))


def cost_per_view(method: Method) -> dict[str, float]:
    """Passes through networks per step and view, by the names in PASSES.

    The steps are those of the optimizer, without the optimizer around them: to import torch's optimizers takes as
    long as all else that a plan does.
    """
    counters = _tried(method).counters
    return {name: getattr(counters, name) / STEPS for name in PASSES}


def largest_batches(method: Method) -> Calls:
    """The largest calls that a method makes, in images per view."""
    return Calls(**_tried(method).largest)


def _tried(method: Method) -> _Prior:
    """The prior of a short run of a method."""
    prior, streams = _Prior(), Streams(0)
    text = TextEmbeddings.encode(prior, [PROMPT], PROMPT)
    state = method.setup(Setting(prior, text, streams, STEPS))
    about = {"text": text, "prior": prior, "reward": _Brightness(), "streams": streams, "state": state}
    try:
        for index in range(STEPS):
            method.gradient(_step(index, about))
    finally:
        if state is not None:
            state.close()
    return prior


def _step(index: int, about: dict[str, Any]) -> Step:
    """A step on one grey render, its timestep and camera drawn as in a job."""
    config, prior, streams, progress = OptimizeConfig(), about["prior"], about["streams"], index / (STEPS - 1)
    schedule = TimestepSchedule.of(config)
    return Step(
        latents=torch.full((1, 3, SIZE, SIZE), 0.5),
        timestep=torch.tensor([schedule.sample(progress, streams["timesteps"], prior.num_timesteps)]),
        schedule=schedule,
        cameras=sample_cameras(streams["cameras"], 1, CameraConfig()),
        prompt=PROMPT,
        prompts=[PROMPT],
        index=index,
        progress=progress,
        counters=prior.counters,
        **about,
    )
