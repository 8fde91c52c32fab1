"""The closed-form test bed: Gaussian priors, linear rewards, and steps as the optimizer would make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from psdbench.camera_config import CameraConfig
from psdbench.cameras import Cameras, sample_cameras, with_view_words
from psdbench.guidance import Method, Setting, Step, TextEmbeddings
from psdbench.priors.gaussian import GaussianPrior
from psdbench.schedules import TimestepSchedule
from psdbench.streams import Streams

MEAN = torch.tensor([0.5, -1.0, 2.0]).view(3, 1, 1)
MEAN_NEGATIVE = torch.tensor([0.3, -0.7, 1.5]).view(3, 1, 1)
STD = 0.8
DIRECTION = torch.tensor([0.3, 0.4, 0.0])
UNIT = (DIRECTION / DIRECTION.norm()).view(3, 1, 1)
"""gradient of the linear reward; its length is 0.5"""


def gaussian_prior(std: float = STD) -> GaussianPrior:
    """N(MEAN, std²) under the prompt "y", N(MEAN_NEGATIVE, std²) under the negative prompt "n"."""
    return GaussianPrior({"y": MEAN, "n": MEAN_NEGATIVE, "": torch.zeros_like(MEAN)}, std)


class LinearReward:
    """r(x) = b·x of an image's channels, all pixels summed; remembers whether it was asked under no_grad."""

    id = "linear"
    sha256 = ""
    higher_is_better = True
    differentiable = True
    view_words = False

    def __init__(self, direction: Tensor = DIRECTION) -> None:
        self.direction = direction.clone().requires_grad_()
        self.graphs_built: list[bool] = []

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        assert len(images) == len(prompts) == len(cameras or ())
        scores = torch.einsum("nchw,c->n", images, self.direction)
        self.graphs_built.append(scores.requires_grad)
        return scores


class FirstIsBetter(LinearReward):
    """Prefers images by their place in the batch alone, so that even equal images have a winner."""

    def score(self, images: Tensor, prompts: Sequence[str], cameras: Cameras | None = None) -> Tensor:
        return torch.arange(len(images), 0, -1).float()


def make_step(
    prior: Any,
    latents: Tensor,
    streams: Streams,
    *,
    timestep: int = 450,
    negative: str = "n",
    prompt: str = "y",
    reward: Any = None,
    state: Any = None,
    index: int = 0,
    progress: float = 0.0,
) -> Step:
    """A step on latents [V, C, h, w], all views under one prompt without view words."""
    views = len(latents)
    one = TextEmbeddings.encode(prior, [prompt], prompt, negative)
    text = TextEmbeddings(
        *(getattr(one, f).expand(views, -1, -1) for f in ("positive", "negative", "null", "plain"))
    )
    return Step(
        latents=latents,
        timestep=torch.full((views,), timestep),
        schedule=TimestepSchedule(),
        cameras=sample_cameras(torch.Generator().manual_seed(index), views, CameraConfig()),
        prompt=prompt,
        prompts=[prompt] * views,
        text=text,
        prior=prior,
        reward=reward,
        index=index,
        progress=progress,
        streams=streams,
        counters=prior.counters,
        state=state,
    )


def viewed_step(prior: Any, latents: Tensor, streams: Streams, **kwargs: Any) -> Step:
    """The same with each view's words in its prompt, as on a real prior."""
    step = make_step(prior, latents, streams, prompt="a red cube", negative="blurry", **kwargs)
    step.prompts = with_view_words(step.prompt, step.cameras)
    step.text = TextEmbeddings.encode(prior, step.prompts, step.prompt, "blurry")
    return step


def set_up(method: Method, prior: Any, streams: Streams, prompt: str = "y", negative: str = "n") -> Any:
    """The method's state at the start of a job."""
    text = TextEmbeddings.encode(prior, [prompt], prompt, negative)
    return method.setup(Setting(prior, text, streams, steps=100))


def gaussian_gradient(
    method: Method, latents: Tensor, *, seed: int = 1, reward: Any = None, **kwargs: Any
) -> Tensor:
    """One step of a method on a fresh Gaussian prior."""
    prior, streams = gaussian_prior(), kwargs.pop("streams", None) or Streams(seed)
    state = set_up(method, prior, streams)
    return method.gradient(make_step(prior, latents, streams, reward=reward, state=state, **kwargs))


def assert_mean_is(samples: Tensor, expected: Tensor | float, errors: float = 5.0) -> None:
    """The mean over the first dimension equals `expected` within so many standard errors, per coordinate."""
    mean, error = samples.mean(0), samples.std(0) / len(samples) ** 0.5
    deviation = ((mean - expected).abs() / error.clamp_min(1e-7)).max().item()
    assert deviation < errors, f"off by {deviation:.1f} standard errors: {mean.flatten()} against {expected}"
