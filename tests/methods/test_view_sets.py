"""Every method on a prior that denoises four views together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toys import DIRECTION, LinearReward, gaussian_prior, make_step, set_up

from psdbench import registry
from psdbench.guidance import noise_pool, one_step_x0
from psdbench.methods.dreamdpo import DreamDPO
from psdbench.methods.psd import PSD
from psdbench.priors.mvdream import MVDreamPrior
from psdbench.streams import Streams, randn


@pytest.fixture(scope="module")
def mvdream(mvdream_folder: Path) -> MVDreamPrior:
    return MVDreamPrior.load(mvdream_folder)


@pytest.mark.parametrize("name", registry.shipped_methods())
def test_a_step_on_two_sets(name: str, mvdream: MVDreamPrior) -> None:
    method, streams = registry.method_class(name)(), Streams(0)
    state = set_up(method, mvdream, streams, "a fox", "blurry")
    latents = randn((8, 4, 8, 8), Streams(1)["test"])
    step = make_step(
        mvdream,
        latents,
        streams,
        prompt="a fox",
        negative="blurry",
        reward=LinearReward(),
        state=state,
        progress=0.5,
        timestep=200,
    )
    gradient = method.gradient(step)
    if state is not None:
        state.close()
    assert gradient.shape == latents.shape
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).std(1) > 0).all()


@pytest.mark.parametrize(
    ("method", "lead"), [(DreamDPO(threshold=0.0), 1.0), (PSD(preference_scale=0.7, scale="one"), 0.7)]
)
def test_each_set_has_a_winner_of_its_own(method: DreamDPO | PSD, lead: float) -> None:
    """Of two noises, by the mean reward of its views: a set is never mixed from two draws."""
    prior, streams = gaussian_prior(), Streams(3)
    prior.views = 4
    latents = randn((8, 3, 1, 1), Streams(0)["test"])
    gradient = method.gradient(
        make_step(prior, latents, streams, reward=LinearReward(), state=set_up(method, prior, streams))
    )
    step = make_step(prior, latents, Streams(3), reward=LinearReward())
    pool = noise_pool(step, step.noises(2), method.guidance_scale)
    rewards = torch.einsum("kvchw,c->kv", one_step_x0(step, pool), DIRECTION)
    weight, expected = prior.sigmas[450] ** 2, []
    for views in (slice(0, 4), slice(4, 8)):
        win = int(rewards[1, views].mean() > rewards[0, views].mean())
        pair = pool.residuals[win, views] - pool.residuals[1 - win, views]
        base = 0 if isinstance(method, DreamDPO) else pool.residuals[0, views]
        expected.append(weight * (base + lead * pair))
    winners = [int(rewards[1, v].mean() > rewards[0, v].mean()) for v in (slice(0, 4), slice(4, 8))]
    assert winners[0] != winners[1], "another seed, please: this one tests nothing"
    torch.testing.assert_close(gradient, torch.cat(expected), rtol=1e-4, atol=1e-4)
