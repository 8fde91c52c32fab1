"""Particles: the N assets of a job that are optimised side by side, each with an Adam of its own.

Some methods learn the score of the renders and want those of a distribution of assets, not of one; as in
ProlificDreamer (arXiv 2305.16213) each step moves one particle, and what the method remembers and trains is
shared by all. Cameras, timesteps and noises come from the same streams in the same order whatever N is: a job
of N particles costs what its steps cost, and gives each of them an N-th of these.

Particle 0 is the one that is rendered and scored. It begins as the only asset of a job with N = 1 does, and it
stands for the others because it was named before anything was known of it; the best of N would be a selection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from psdbench import registry
from psdbench.errors import CorruptResult
from psdbench.ramps import side
from psdbench.streams import Streams

if TYPE_CHECKING:
    from pathlib import Path

    from psdbench.cameras import Cameras
    from psdbench.config import JobSpec, OptimizeConfig, Protocol
    from psdbench.optimizer.checkpoint import Checkpoint
    from psdbench.representations import Render, Representation

ASSET = "asset.safetensors"
"""of particle 0; the others' are `asset-1.safetensors` and so on"""


@dataclass(frozen=True)
class Particle:
    """An asset, and the Adam that moves it."""

    number: int
    asset: Representation
    adam: torch.optim.Adam

    @classmethod
    def draw(
        cls, number: int, protocol: Protocol, generator: torch.Generator, device: torch.device
    ) -> Particle:
        """A particle before its first step; `generator` draws its first content."""
        config = protocol.optimize
        asset = registry.make_representation(
            protocol.representation, protocol.representation_params, generator
        )
        if protocol.init:
            from psdbench.export.read_shape import read_init

            asset.start_from(read_init(protocol.init), generator)
        asset = asset.to(device)
        betas = (config.adam_beta1, config.adam_beta2)
        adam = torch.optim.Adam(asset.parameter_groups(config), betas=betas, fused=True)
        for group in adam.param_groups:
            group["initial_lr"] = group["lr"]
        return cls(number, asset, adam)

    @property
    def file(self) -> str:
        """The name of its asset in the job folder."""
        return f"{self._label('asset')}.safetensors"

    @property
    def learning_rate(self) -> float:
        """Of the first parameter group, as last set."""
        return float(self.adam.param_groups[0]["lr"])

    def render(self, cameras: Cameras, background: Tensor, progress: float, config: OptimizeConfig) -> Render:
        """The training render of this moment: of the side that it has then, with what its penalties need."""
        size = side(config.size_schedule, config.size, progress)
        return self.asset.render(cameras, size, background, self.asset.needs_surface(progress, config))

    def set_learning_rates(self, progress: float, end: float) -> None:
        """Every group's rate by a cosine from its first value down to the share `end` of it, over the whole job.

        Large steps find the shape, small ones clean it.
        """
        share = end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2
        for group in self.adam.param_groups:
            group["lr"] = group["initial_lr"] * share

    def tensors(self) -> dict[str, Tensor]:
        """Asset and moments for a checkpoint; those of particle 0 are named as in a job without others."""
        asset, adam = self._label("asset"), self._label("adam")
        tensors = {f"{asset}.{name}": tensor for name, tensor in self.asset.state_dict().items()}
        for name, parameter in self.asset.named_parameters():
            tensors |= {f"{adam}.{name}.{key}": value for key, value in self.adam.state[parameter].items()}
        return tensors

    def resume(self, stored: Checkpoint) -> None:
        """Take over what `tensors` gave; a particle that had no step yet has no moments."""
        self.asset.load_state_dict(stored.part(self._label("asset")))
        for name, parameter in self.asset.named_parameters():
            moments = stored.part(f"{self._label('adam')}.{name}")
            self.adam.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}

    def _label(self, word: str) -> str:
        return f"{word}-{self.number}" if self.number else word


def next_particle(particles: Sequence[Particle], turns: Sequence[int], streams: Streams) -> Particle:
    """Whose turn it is after those in `turns`: in every N steps each has one, in an order that is drawn.

    ProlificDreamer draws each time afresh, which gives some particles more steps than others; a fixed order
    would beat in time with methods that do something every few steps.
    """
    had = set(turns[len(turns) - len(turns) % len(particles) :])
    waiting = [particle for particle in particles if particle.number not in had]
    if len(waiting) == 1:
        return waiting[0]
    return waiting[int(torch.randint(len(waiting), (1,), generator=streams["particles"]))]


def load_asset(spec: JobSpec, path: Path, device: torch.device | str = "cpu") -> Representation:
    """An asset of a finished optimisation from its `asset.safetensors`; CorruptResult if it does not fit."""
    protocol = spec.protocol
    first = Streams(spec.seed)["init"]
    asset = registry.make_representation(protocol.representation, protocol.representation_params, first)
    try:
        asset.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise CorruptResult(f"{path} is not this job's asset: {error}", "remove it and run again") from error
    return asset.to(device).eval()
