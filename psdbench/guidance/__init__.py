"""What a method is given at a step, and the residuals it is built from.

The engine: draw K noises on the V renders of one step; the residual of noise k is ρ_k = ε̂_ω(x_t^k) - ε^k.
A method's gradient on the latents is G = Σ_k w(t_k) c_k ρ_k, the Jacobian of the denoiser dropped; methods
differ in their coefficients c_k. Tensors of the engine are [K, V, C, h, w]: noises first, views second.

Classifier-free guidance has one form here: ε̂_ω = ε̂_neg + ω (ε̂_text - ε̂_neg). Threestudio's SDS, SJC and
IF guidances write ε̂_text + s (ε̂_text - ε̂_neg): their s is ω - 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, dataclass_transform, get_args, get_origin
from typing import get_type_hints as type_hints

import torch
from torch import Tensor

from psdbench import schedules
from psdbench.counters import Counters
from psdbench.errors import UsageError
from psdbench.guidance.classifier_free import cfg, repelled, rescaled
from psdbench.guidance.conditions import TextEmbeddings
from psdbench.guidance.state import RenderScore, RunningMean, State, States
from psdbench.streams import Streams, randn

if TYPE_CHECKING:
    from psdbench.cameras import Cameras
    from psdbench.priors import Prior
    from psdbench.scorers import Scorer

__all__ = [
    "Counters",
    "Method",
    "Pool",
    "RenderScore",
    "RunningMean",
    "Setting",
    "State",
    "States",
    "Step",
    "TextEmbeddings",
    "cfg",
    "combine",
    "denoise",
    "guided_noise",
    "method",
    "noise_pool",
    "one_step_x0",
    "short_ddim",
    "weights",
]


@dataclass(frozen=True)
class Setting:
    """What a method may see when a job starts."""

    prior: Prior
    text: TextEmbeddings
    """of the prompt without view words, V = 1"""
    streams: Streams
    steps: int | None
    """length of the run; None where a budget of compute ends it"""


@dataclass
class Step:
    """All that a method may see at one step of the optimisation."""

    latents: Tensor
    """[V, C, h, w], the encoded renders, without a graph"""
    timestep: Tensor
    """[V] int64, the same for the whole view set"""
    schedule: schedules.TimestepSchedule
    """what `timestep` was drawn from, for methods that need another one"""
    cameras: Cameras
    prompt: str
    """without view words"""
    prompts: list[str]
    """per view, with view words"""
    text: TextEmbeddings
    prior: Prior
    reward: Scorer | None
    index: int
    progress: float
    """[0, 1]"""
    streams: Streams
    counters: Counters
    state: Any = None
    """what `Method.setup` returned"""

    @property
    def set_size(self) -> int:
        """Views that are one picture of the object: those that the prior sees together, else all of the step."""
        return self.prior.views if self.prior.views > 1 else len(self.latents)

    def noise(self, stream: str = "noise") -> Tensor:
        """One standard normal noise on every view, [1, V, C, h, w], from a named stream."""
        return randn(self.latents.shape, self.streams[stream], self.latents.device)[None]

    def noises(self, k: int) -> Tensor:
        """K noises [K, V, C, h, w]: the base draw of all methods, then k - 1 from the stream `pair_noise`."""
        return torch.cat([self.noise(), *(self.noise("pair_noise") for _ in range(k - 1))])

    def rewards(self, x0: Tensor, *, grad: bool = False) -> Tensor:
        """Rewards [K, V] of clean latents [K, V, C, h, w], decoded; higher is better, no graph unless asked.

        Raises UsageError without a reward, or when a gradient is asked of one that has none.
        """
        if self.reward is None:
            raise UsageError("this method ranks images by a reward, and none is set", "add --reward")
        if grad and not self.reward.differentiable:
            raise UsageError(
                f"reward '{self.reward.id}' has no gradient", "choose another reward or method setting"
            )
        k, v = x0.shape[:2]
        prompts = self.prompts if self.reward.view_words else [self.prompt] * v
        with torch.set_grad_enabled(grad):
            images = self.prior.decode(x0.flatten(0, 1))
            scores = self.reward.score(images, prompts * k, self.cameras[torch.arange(v).repeat(k)])
        self.counters.add("reward_forwards", k * v)
        if scores.requires_grad:
            scores.register_hook(lambda _: self.counters.add("reward_backwards", k * v))
        return (scores if self.reward.higher_is_better else -scores).float().view(k, v)


class Method(ABC):
    """How a gradient on the rendered latents is made: a frozen dataclass of hyper-parameters.

    A method never renders, saves, logs or picks a camera: that keeps the optimizer shared.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    needs_reward: ClassVar[bool]
    needs_reward_gradient: ClassVar[bool]

    def __post_init__(self) -> None:
        for field, hint in type_hints(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, field) not in get_args(hint):
                raise UsageError(
                    f"{self.name}.{field} cannot be '{getattr(self, field)}'",
                    f"use one of {', '.join(map(str, get_args(hint)))}",
                )
        if not 0 <= (share := getattr(self, "x0_rescale", 0.0)) <= 1:
            raise UsageError(f"{self.name}.x0_rescale cannot be {share}", "choose a share in [0, 1]")

    @property
    def asks_reward_gradient(self) -> bool:
        """Whether it differentiates its reward as it is set; to be overridden where a parameter decides that."""
        return self.needs_reward_gradient

    def setup(self, setting: Setting) -> State | None:
        """Make what the method trains or remembers, once per job; None for a method without memory."""
        return None

    @abstractmethod
    def gradient(self, step: Step) -> Tensor:
        """G, like `step.latents`: the optimizer injects it as the gradient of the loss on the latents."""


M = TypeVar("M", bound=Method)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def method(
    name: str, *, paper: str, needs_reward: bool = False, needs_reward_gradient: bool = False
) -> Callable[[type[M]], type[M]]:
    """Make a class a method of this name: a frozen dataclass with `name`, `paper` and its needs set.

    `needs_reward_gradient` asks for a differentiable reward, and so for a reward.
    """

    def decorate(cls: type[M]) -> type[M]:
        cls.name, cls.paper = name, paper
        cls.needs_reward = needs_reward or needs_reward_gradient
        cls.needs_reward_gradient = needs_reward_gradient
        return dataclass(frozen=True, kw_only=True)(cls)

    return decorate


def denoise(step: Step, x_t: Tensor, t: Tensor, *texts: Tensor, grad: bool = False) -> tuple[Tensor, ...]:
    """ε̂ of x_t [K, V, C, h, w] at t [K, V] under each text [V or 1, L, D], all in one denoiser call."""
    k, v = t.shape
    n = len(texts)
    eps = step.prior.predict_noise(
        x_t.flatten(0, 1).repeat(n, 1, 1, 1),
        t.flatten().repeat(n),
        torch.cat([text.expand(v, -1, -1).repeat(k, 1, 1) for text in texts]),
        cameras=step.cameras[torch.arange(v).repeat(n * k)],
        grad=grad,
    )
    return eps.unflatten(0, (n, k, v)).unbind(0)


def guided_noise(
    step: Step,
    x_t: Tensor,
    t: Tensor,
    guidance_scale: float,
    negative: Tensor | None = None,
    x0_rescale: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """ε̂_text and ε̂_ω of x_t [K, V, C, h, w]; `negative` [V or 1, L, D] replaces the negative prompt.

    The run's perp-neg and a share `x0_rescale` of MVDream's rescaling are applied. At ω = 1 without perp-neg the
    negative branch has no weight and is not computed.
    """
    text, others = step.text, step.text.others
    if guidance_scale == 1 and others is None:
        (eps_text,) = denoise(step, x_t, t, text.positive)
        return eps_text, eps_text
    texts = (
        text.negative if negative is None else negative,
        text.positive,
        *(others.texts if others else ()),
    )
    eps_negative, eps_text, *eps_others = denoise(step, x_t, t, *texts)
    weights = others.weights if others else torch.empty(0)
    eps = repelled(eps_negative, eps_text, eps_others, weights, guidance_scale)
    if x0_rescale:
        eps = rescaled(step.prior, x_t, t, eps_text, eps, x0_rescale, step.set_size)
    return eps_text, eps


@dataclass(frozen=True)
class Pool:
    """K noises on the same renders and what the prior makes of them: [K, V, C, h, w], timesteps [K, V]."""

    noises: Tensor
    timesteps: Tensor
    x_t: Tensor
    eps_text: Tensor
    """ε̂ of the text branch alone"""
    eps_hat: Tensor
    """ε̂_ω, guided"""

    @property
    def residuals(self) -> Tensor:
        """ρ_k = ε̂_ω(x_t^k) - ε^k."""
        return self.eps_hat - self.noises


def noise_pool(
    step: Step,
    noises: Tensor,
    guidance_scale: float,
    *,
    timesteps: Tensor | None = None,
    negative: Tensor | None = None,
    x0_rescale: float = 0.0,
) -> Pool:
    """Noise the renders with K noises [K, V, C, h, w] and denoise them all in one call.

    `timesteps` [K, V] replace the step's own; `negative` and `x0_rescale` as for `guided_noise`.
    """
    t = step.timestep.expand(len(noises), -1) if timesteps is None else timesteps
    x_t = step.prior.add_noise(step.latents, noises, t)
    return Pool(noises, t, x_t, *guided_noise(step, x_t, t, guidance_scale, negative, x0_rescale))


def one_step_x0(step: Step, pool: Pool) -> Tensor:
    """The clean latents the guided prediction points at, x̂0 = (x_t - σ ε̂_ω)/α, [K, V, C, h, w]."""
    return step.prior.predict_x0(pool.x_t, pool.eps_hat, pool.timesteps)


def weights(step: Step, pool: Pool, name: schedules.Weighting) -> Tensor:
    """w(t) of each noise and view, [K, V, 1, 1, 1]."""
    return schedules.weight(name, *step.prior.alpha_sigma(pool.timesteps))


def combine(residuals: Tensor, weight: Tensor, coefficients: Tensor | None = None) -> Tensor:
    """G = Σ_k w_k c_k ρ_k, [V, C, h, w], of coefficients [K, V] or [K, 1]; all 1 when left out."""
    scaled = weight if coefficients is None else weight * coefficients[..., None, None, None]
    return (scaled * residuals).sum(0)


def short_ddim(
    step: Step, pool: Pool, steps: int, guidance_scale: float, *, negative: Tensor | None = None
) -> Tensor:
    """Clean latents [K, V, C, h, w] at the end of a deterministic DDIM chain of `steps` evaluations.

    The pool's own prediction is the first evaluation, so one step is `one_step_x0`.
    """
    x0, eps = one_step_x0(step, pool), pool.eps_hat
    for remaining in range(steps - 1, 0, -1):
        t = pool.timesteps * remaining // steps
        x_t = step.prior.add_noise(x0, eps, t)
        eps = guided_noise(step, x_t, t, guidance_scale, negative)[1]
        x0 = step.prior.predict_x0(x_t, eps, t)
    return x0
