"""The learned negative embedding: direction of each objective, trust region, and what it must leave alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from toys import DIRECTION, MEAN, MEAN_NEGATIVE, LinearReward, gaussian_prior, make_step, set_up, viewed_step

from psdbench.errors import CorruptResult
from psdbench.guidance import Step
from psdbench.guidance.negative import choose
from psdbench.methods.psd import PSD
from psdbench.methods.sds import SDS
from psdbench.streams import Streams, randn

OBJECTIVES = ("dpo_x0", "pull_win", "refl")
OMEGA = 7.5


def learning(objective: str, **kwargs: Any) -> PSD:
    defaults = {"negative_start": 0.0, "negative_every": 1, "negative_learning_rate": 1e-3}
    return PSD(negative=objective, **{"guidance_scale": OMEGA, "per_view": True, **defaults, **kwargs})


def run(method: PSD, prior: Any, views: int, steps: int) -> tuple[Any, list[Step]]:
    """Some steps at the fixed point of SDS under guidance, where only the reward can move anything."""
    streams, reward = Streams(1), LinearReward()
    state = set_up(method, prior, streams)
    latents = (MEAN_NEGATIVE + OMEGA * (MEAN - MEAN_NEGATIVE)).expand(views, -1, -1, -1)
    made = []
    for i in range(steps):
        made.append(
            make_step(prior, latents, streams, reward=reward, state=state, index=i, progress=i / steps)
        )
        method.gradient(made[-1])
    return state, made


def shift(state: Any) -> Tensor:
    """How the learned n has moved the guided mean μ_n + ω (μ_y - μ_n), [3]."""
    return -(OMEGA - 1) * state["negative"].offset.detach().flatten()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_moves_the_guided_prior_along_the_reward(objective: str) -> None:
    state, _ = run(learning(objective), gaussian_prior(), views=4096, steps=5)
    moved = shift(state)
    assert moved @ DIRECTION > 0
    assert moved[:2].min() > 0, "both coordinates that the reward likes"
    assert moved[:2].min() > 3 * moved[2].abs() or objective == "pull_win"


def test_the_opposite_reward_moves_it_the_opposite_way() -> None:
    for objective in OBJECTIVES:
        method, prior, streams = learning(objective), gaussian_prior(), Streams(1)
        state = set_up(method, prior, streams)
        latents = MEAN.expand(4096, -1, -1, -1)
        step = make_step(prior, latents, streams, reward=LinearReward(-DIRECTION), state=state)
        method.gradient(step)
        assert shift(state) @ DIRECTION < 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_trust_region_holds(objective: str) -> None:
    state, _ = run(
        learning(objective, negative_learning_rate=0.5, negative_radius=0.1), gaussian_prior(), 64, 10
    )
    radius = 0.1 * MEAN_NEGATIVE.norm()
    torch.testing.assert_close(state["negative"].offset.norm().detach(), radius)


def test_first_update_moves_by_the_learning_rate_relative_to_the_embedding() -> None:
    state, _ = run(learning("refl", negative_learning_rate=1e-3), gaussian_prior(), 64, 1)
    offset = state["negative"].offset.detach().flatten()
    size = 1e-3 * MEAN_NEGATIVE.square().mean().sqrt()
    torch.testing.assert_close(offset[:2].abs(), size.expand(2), rtol=1e-3, atol=0)


def test_start_and_every_are_kept() -> None:
    prior = gaussian_prior()
    _, steps = run(learning("pull_win", negative_start=0.5, negative_every=3), prior, views=2, steps=12)
    assert prior.counters.denoiser_backwards == 2 * 2, "at steps 6 and 9 of 12, two views each"
    assert len(steps) == 12


def test_without_it_the_negative_prompt_keeps_its_bits() -> None:
    prior = gaussian_prior()
    before = prior.encode_text(["n"]).clone()
    for method in (PSD(), learning("dpo_x0", negative_learning_rate=0.1)):
        _, steps = run(method, prior, views=4, steps=3)
        assert all(torch.equal(s.text.negative, before.expand(4, -1, -1)) for s in steps)
    state, _ = run(PSD(), prior, views=4, steps=3)
    assert state.get("negative") is None
    assert prior.counters.denoiser_backwards == 3 * 2 * 4, "dpo_x0 alone: a pair of four views, three times"


def test_until_it_starts_it_is_the_base_bit_for_bit(tiny_prior) -> None:
    psd, sds = PSD(preference_scale=0.0, negative="pull_win", negative_start=0.9), SDS()
    streams, latents = Streams(0), randn((2, 8, 16, 16), Streams(0)["test"])
    state = set_up(psd, tiny_prior, streams, negative="blurry")
    step = viewed_step(tiny_prior, latents, streams, state=state, progress=0.5)
    reference = viewed_step(tiny_prior, latents, Streams(0), progress=0.5)
    assert torch.equal(psd.gradient(step), sds.gradient(reference))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_only_the_embedding_learns_on_a_real_denoiser(objective: str, tiny_prior) -> None:
    method, streams, reward = learning(objective), Streams(0), LinearReward()
    state = set_up(method, tiny_prior, streams)
    latents = torch.randn(2, 8, 16, 16, requires_grad=True)
    g = method.gradient(viewed_step(tiny_prior, latents, streams, state=state, reward=reward))
    assert state["negative"].offset.abs().max() > 0
    assert not g.requires_grad
    assert latents.grad is None
    assert reward.direction.grad is None
    models = (tiny_prior.unet, tiny_prior.vae, tiny_prior.text_encoder)
    assert all(p.grad is None and not p.requires_grad for model in models for p in model.parameters())
    assert tiny_prior.counters.denoiser_backwards == {"dpo_x0": 4, "pull_win": 2, "refl": 2}[objective]
    assert tiny_prior.counters.reward_backwards == (2 if objective == "refl" else 0)


def test_resumed_learning_continues_bit_by_bit() -> None:
    method, prior = learning("dpo_x0"), gaussian_prior()
    reward, latents = LinearReward(), MEAN.expand(8, -1, -1, -1)
    streams = Streams(1)
    state = set_up(method, prior, streams)

    def go(state: Any, streams: Streams, indices: range) -> list[Tensor]:
        return [
            method.gradient(make_step(prior, latents, streams, reward=reward, state=state, index=i))
            for i in indices
        ]

    go(state, streams, range(3))
    stored, stored_streams = state.state_dict(), streams.state_dict()
    expected = go(state, streams, range(3, 6))
    resumed, other = set_up(method, prior, Streams(9)), Streams(9)
    resumed.load_state_dict(stored)
    other.load_state_dict(stored_streams)
    assert all(torch.equal(a, b) for a, b in zip(expected, go(resumed, other, range(3, 6)), strict=True))
    assert {k: v.tolist() for k, v in state.state_dict().items()} == {
        k: v.tolist() for k, v in resumed.state_dict().items()
    }


def test_a_state_that_does_not_fit_is_refused() -> None:
    state, _ = run(learning("refl"), gaussian_prior(), 2, 2)
    stored = state.state_dict()
    with pytest.raises(CorruptResult, match="offset"):
        state.load_state_dict({k: v for k, v in stored.items() if k != "negative.offset"})


def test_choose_takes_views_one_by_one_or_the_set() -> None:
    pair = torch.arange(2 * 3 * 2).view(2, 3, 2, 1, 1)
    picked = choose(torch.tensor([True, False, True]), pair)
    assert torch.equal(picked, torch.stack([pair[0, 0], pair[1, 1], pair[0, 2]]))
    assert torch.equal(choose(torch.tensor([False]), pair), pair[1])
