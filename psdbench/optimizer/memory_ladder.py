"""The ladder of an optimisation that runs out of memory: the step is done again in another way that needs less.

    rung 0   all views of a step at once
    rung 1   one set of views after the other (a view, or what the prior sees together), in two passes: without a
             graph to the latents that the method needs, then with one, render and encoder each for itself. The
             prior's networks take as many images at a time.
    rung 2   also, the encoder of a KL autoencoder and the denoiser keep no activations of their blocks and compute
             them again on the way back

A step that fails changes nothing: its random streams, counters and the method's state are put back, and the asset
moves only afterwards. A rung changes the order of sums and nothing else, so numbers agree to rounding. A job never
climbs down; its rung is in its checkpoints. Rung 1 renders and encodes twice, which the counter of encodes says, and
rung 2 computes most of the encoder a third time. What a method trains sees its whole batch on every rung.
"""

from __future__ import annotations

import copy
import gc
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from psdbench.errors import OutOfMemory

if TYPE_CHECKING:
    from psdbench.cameras import Cameras
    from psdbench.config import OptimizeConfig
    from psdbench.counters import Counters
    from psdbench.optimizer.loop import Optimisation
    from psdbench.optimizer.particles import Particle
    from psdbench.priors import Prior, PullBack
    from psdbench.representations import Render

RUNGS = ("all views at once", "views one by one", "views one by one, activations computed again")
REMEDY = (
    "set a smaller optimize.size, fewer samples of the representation, --dtype bfloat16 or fewer --workers"
)
SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "alloc_failed")
"""what messages of torch, its libraries and the operating system say where an allocation fails"""

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed, on a GPU or on the CPU (a plain RuntimeError there)."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in SIGNS)


class Pull(NamedTuple):
    """What a step has found before the asset moves, beside the gradients on its parameters."""

    particle: Particle
    loss: Tensor
    rms: float
    """of the method's gradient as it gave it"""
    opacity: float
    timestep: int


@dataclass
class Ladder:
    """On which rung a job is, and since when."""

    rung: int = 0
    since: dict[int, int] = field(default_factory=dict)
    """the step, from 0, at which each rung was reached for want of memory"""
    note: Callable[[str], None] = lambda text: None
    """told of every climb"""

    def climb(self, run: Optimisation, attempt: Callable[[], T]) -> T:
        """What an attempt returns, made again from the same state on the next rung where memory runs out.

        Raises OutOfMemory when it runs out on the last one.
        """
        before = _Before.of(run)
        while True:
            run.prior.save_memory(*self.thrift(run.prior))
            try:
                return attempt()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                shortage = str(error).splitlines()[0] if str(error) else type(error).__name__
            # Out here, where no traceback holds the tensors of the failed attempt any more.
            before.restore(run)
            self._up(run.index, shortage)

    def _up(self, step: int, shortage: str) -> None:
        if self.rung + 1 == len(RUNGS):
            raise OutOfMemory(f"memory ran out at step {step} with {RUNGS[self.rung]}: {shortage}", REMEDY)
        self.rung += 1
        self.since[self.rung] = step
        self.note(f"memory ran out at step {step}; from here on {RUNGS[self.rung]} (rung {self.rung})")

    def thrift(self, prior: Prior) -> tuple[int, bool]:
        """What `Prior.save_memory` is told on this rung."""
        return (prior.views if self.rung else 0), self.rung == 2

    def views(
        self,
        particle: Particle,
        prior: Prior,
        cameras: Cameras,
        background: Tensor,
        progress: float,
        config: OptimizeConfig,
    ) -> Views:
        """The views of a step as this rung renders and encodes them."""
        particle.asset.begin_step(progress)
        kind = Piecewise if self.rung else Whole
        return kind(particle, prior, cameras.to(prior.device), background, progress, config)

    def facts(self) -> dict[str, object]:
        """For checkpoints and cost.json."""
        return {
            "memory_rung": self.rung,
            "memory_rung_since": {str(rung): step for rung, step in self.since.items()},
        }

    def resume(self, facts: dict[str, object]) -> None:
        """Take over `facts` of a checkpoint, of an older version too, which has none."""
        rung, since = facts.get("memory_rung", 0), facts.get("memory_rung_since", {})
        assert isinstance(rung, int)
        assert isinstance(since, dict)
        self.rung, self.since = max(self.rung, rung), {int(key): step for key, step in since.items()}


@dataclass(frozen=True)
class _Before:
    """What an attempt may change before the asset moves."""

    streams: dict[str, Tensor]
    method: dict[str, Tensor] | None
    counters: Counters

    @classmethod
    def of(cls, run: Optimisation) -> _Before:
        state = run.method_state
        # A state gives copies of what it changes in place.
        remembered = None if state is None else state.state_dict()
        return cls(run.streams.state_dict(), remembered, copy.copy(run.prior.counters))

    def restore(self, run: Optimisation) -> None:
        run.streams.load_state_dict(self.streams)
        if self.method is not None:
            run.method_state.load_state_dict(self.method)
        run.prior.counters = copy.copy(self.counters)
        for particle in run.particles:
            particle.adam.zero_grad()
        gc.collect()
        if run.prior.device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass
class Views(ABC):
    """The renders of a step on their way to latents and, with the method's gradient, back to the asset."""

    particle: Particle
    prior: Prior
    cameras: Cameras
    background: Tensor
    """[V, 3]"""
    progress: float
    config: OptimizeConfig
    opacity: float = 0.0
    """mean over all pixels, once rendered"""

    @abstractmethod
    def encode(self, lap: Callable[[str], None]) -> Tensor:
        """The latents [V, C, h, w], without a graph; `lap` is told of what is done, `render` and `encode`."""

    @abstractmethod
    def pull(self, gradient: Tensor) -> Tensor | float:
        """Put the gradient of the loss on the asset's parameters, which have none yet; the sum of the penalties.

        `gradient` G [V, C, h, w] is that on the latents: the loss's is G/V, and the denoiser's Jacobian stays out.
        """

    def _render(self, which: slice = slice(None)) -> Render:
        return self.particle.render(self.cameras[which], self.background[which], self.progress, self.config)

    def _penalty(self, render: Render) -> Tensor | float:
        return sum(self.particle.asset.regularisation(render, self.progress, self.config).values())


@dataclass
class Whole(Views):
    """All views at once: one graph from the asset to the latents."""

    _picture: Tensor | None = None
    _pull_back: PullBack | None = None
    _render_: Render | None = None

    def encode(self, lap: Callable[[str], None]) -> Tensor:
        self._render_ = self._render()
        lap("render")
        self._picture = self._render_.picture(self.config.size)
        latents, self._pull_back = self.prior.encode_for_gradient(self._picture)
        lap("encode")
        return latents

    def pull(self, gradient: Tensor) -> Tensor | float:
        assert self._render_ is not None
        assert self._picture is not None
        assert self._pull_back is not None
        self.opacity = float(self._render_.opacity.detach().mean())
        penalty = self._penalty(self._render_)
        on_picture = self._pull_back(gradient * (1 / len(gradient)))
        ((self._picture * on_picture).sum() + penalty).backward()
        return penalty.detach() if isinstance(penalty, Tensor) else penalty


@dataclass
class Piecewise(Views):
    """One set of views after the other: never more than the graph of one render or one encoder is kept."""

    _pictures: list[Tensor] = field(default_factory=list)

    @property
    def _pieces(self) -> list[slice]:
        size = self.prior.views
        return [slice(first, first + size) for first in range(0, len(self.cameras), size)]

    @torch.no_grad()
    def encode(self, lap: Callable[[str], None]) -> Tensor:
        latents = []
        for piece in self._pieces:
            render = self._render(piece)
            self._pictures.append(render.picture(self.config.size))
            self.opacity += float(render.opacity.mean()) * self._share(piece)
            lap("render")
            latents.append(self.prior.encode(self._pictures[-1]))
            lap("encode")
        return torch.cat(latents)

    def pull(self, gradient: Tensor) -> Tensor | float:
        total: Tensor | float = 0.0
        for piece, picture in zip(self._pieces, self._pictures, strict=True):
            on_picture = self.prior.encode_for_gradient(picture)[1](gradient[piece] * (1 / len(gradient)))
            render = self._render(piece)
            # A penalty is a mean over views, or of the asset alone: in shares it is the same.
            penalty = self._share(piece) * self._penalty(render)
            ((render.picture(self.config.size) * on_picture).sum() + penalty).backward()
            total = total + (penalty.detach() if isinstance(penalty, Tensor) else penalty)
        return total

    def _share(self, piece: slice) -> float:
        return len(self.cameras[piece]) / len(self.cameras)
