"""PSD: identities with SDS and VSD, invariances, and what it asks of prior and reward."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toys import (
    DIRECTION,
    FirstIsBetter,
    LinearReward,
    gaussian_gradient,
    gaussian_prior,
    make_step,
    set_up,
    viewed_step,
)

from psdbench.errors import UsageError
from psdbench.guidance import combine, denoise, noise_pool, weights
from psdbench.methods.csd import CSD
from psdbench.methods.psd import PSD
from psdbench.methods.sds import SDS
from psdbench.methods.vsd import VSD
from psdbench.streams import Streams, randn

SCALES = ("one", "linear", "ema", "bt", "gate")


# Identities with the base method.


@pytest.mark.parametrize("schedule", ["const", "linear", "cosine", "t_gate"])
def test_without_preference_it_is_sds_bit_for_bit(tiny_prior, schedule: str) -> None:
    psd, sds = PSD(preference_scale=0.0, preference_schedule=schedule), SDS()
    streams, reference = Streams(0), Streams(0)
    state = set_up(psd, tiny_prior, streams)
    for index in range(3):
        latents = randn((2, 8, 16, 16), Streams(index)["test"])
        kwargs = {"index": index, "progress": index / 2}
        g = psd.gradient(viewed_step(tiny_prior, latents, streams, state=state, reward=None, **kwargs))
        assert torch.equal(g, sds.gradient(viewed_step(tiny_prior, latents, reference, **kwargs)))
    assert tiny_prior.counters.reward_forwards == 0


def test_preference_leaves_the_draws_of_the_base_alone(tiny_prior) -> None:
    """With a preference the noise stream stands where SDS leaves it, and a tiny λ changes little."""
    latents, reward = randn((2, 8, 16, 16), Streams(0)["test"]), LinearReward()
    ends = {}
    for method in (SDS(), PSD(preference_scale=1e-6), PSD(preference_scale=2.0)):
        streams = Streams(0)
        state = set_up(method, tiny_prior, streams)
        g = method.gradient(viewed_step(tiny_prior, latents, streams, state=state, reward=reward))
        ends[method] = g, streams["noise"].get_state()
    (sds, noise), (tiny, tiny_noise), (full, full_noise) = ends.values()
    assert torch.equal(noise, tiny_noise)
    assert torch.equal(noise, full_noise)
    torch.testing.assert_close(tiny, sds, rtol=1e-3, atol=1e-4)
    assert (full - sds).abs().max() > 0.1


def test_vsd_base_without_preference_is_vsd_bit_for_bit(tiny_prior) -> None:
    latents, ends = randn((2, 8, 16, 16), Streams(0)["test"]), []
    for method in (VSD(), PSD(base="vsd", preference_scale=0.0)):
        streams = Streams(0)
        state = set_up(method, tiny_prior, streams)
        step = [viewed_step(tiny_prior, latents, streams, state=state, index=i) for i in range(3)]
        ends.append([method.gradient(s) for s in step])
        state.close()
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_csd_base_without_preference_is_csd_bit_for_bit(tiny_prior) -> None:
    latents, ends = randn((2, 8, 16, 16), Streams(0)["test"]), []
    for method in (CSD(weighting="sds"), PSD(base="csd", preference_scale=0.0)):
        streams = Streams(0)
        state = set_up(method, tiny_prior, streams)
        step = [viewed_step(tiny_prior, latents, streams, state=state, index=i) for i in range(3)]
        ends.append([method.gradient(s) for s in step])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("base_at", ["first", "mean", "win"])
def test_csd_base_replaces_the_base_term_alone(base_at: str, tiny_prior) -> None:
    """ε̂_text - ε̂_∅ of the noises that carry the base; the pair is still measured from its noises."""
    latents, reward, found = randn((2, 8, 16, 16), Streams(0)["test"]), FirstIsBetter(), {}
    for base in ("sds", "csd"):
        psd, streams = PSD(base=base, base_at=base_at, scale="one", preference_scale=2.0), Streams(0)
        state = set_up(psd, tiny_prior, streams)
        found[base] = psd.gradient(viewed_step(tiny_prior, latents, streams, state=state, reward=reward))
    step = viewed_step(tiny_prior, latents, Streams(0))
    pool = noise_pool(step, step.noises(2), 7.5)
    (eps_null,) = denoise(step, pool.x_t, pool.timesteps, step.text.null)
    share = {"first": (1.0, 0.0), "mean": (0.5, 0.5), "win": (1.0, 0.0)}[base_at]
    weight, coefficients = weights(step, pool, "sds"), torch.tensor(share)[:, None]
    csd, sds = (combine(base, weight, coefficients) for base in (pool.eps_text - eps_null, pool.residuals))
    torch.testing.assert_close(found["csd"] - csd, found["sds"] - sds, rtol=1e-3, atol=1e-4)
    assert (csd - sds).abs().max() > 0.1


@pytest.mark.parametrize("scale", SCALES)
def test_equal_rewards_leave_the_base(scale: str, latents: Tensor) -> None:
    reward = LinearReward(torch.zeros(3))
    for per_view in (False, True):
        psd = PSD(scale=scale, per_view=per_view, temperature=1e-3)
        assert torch.equal(gaussian_gradient(psd, latents, reward=reward), gaussian_gradient(SDS(), latents))


@pytest.mark.parametrize("cfg_pair", ["same", "text"])
@pytest.mark.parametrize("pair", ["two_noise", "two_t"])
def test_a_pair_of_equals_has_no_preference_term(pair: str, cfg_pair: str, latents: Tensor) -> None:
    """Even when the reward, for a reason of its own, calls one of them better."""
    streams = Streams(1)
    streams["pair_noise"].set_state(streams["noise"].get_state())
    psd, kwargs = PSD(pair=pair, cfg_pair=cfg_pair, preference_scale=5.0, scale="one"), {}
    if pair == "two_t":  # the second timestep is drawn from a range of one
        kwargs["timestep"] = 300
    step = make_step(gaussian_prior(), latents, streams, reward=FirstIsBetter(), **kwargs)
    step.state = set_up(psd, step.prior, streams)
    if pair == "two_t":
        step.schedule = replace(step.schedule, min=0.3, max_start=0.3, max_end=0.3)
    torch.testing.assert_close(
        psd.gradient(step), gaussian_gradient(SDS(), latents, **kwargs), rtol=1e-5, atol=1e-5
    )


# Invariances.


@pytest.mark.parametrize("base_at", ["mean", "win"])
@pytest.mark.parametrize("per_view", [False, True])
def test_swapping_the_noises_changes_nothing(base_at: str, per_view: bool, latents: Tensor) -> None:
    psd = PSD(base_at=base_at, per_view=per_view, preference_scale=2.0)
    one = gaussian_gradient(psd, latents, reward=LinearReward())
    two = gaussian_gradient(psd, latents, reward=LinearReward(), streams=swap(Streams(1)))
    torch.testing.assert_close(one, two)
    base_at_first = [
        gaussian_gradient(replace(psd, base_at="first"), latents, reward=LinearReward(), streams=streams)
        for streams in (None, swap(Streams(1)))
    ]
    assert not torch.allclose(*base_at_first), "the base at the first noise does depend on the order"


def swap(streams: Streams) -> Streams:
    """The same streams with the two noises exchanged."""
    first, second = (streams[name].get_state() for name in ("noise", "pair_noise"))
    streams["noise"].set_state(second)
    streams["pair_noise"].set_state(first)
    return streams


def test_linear_in_the_preference_scale(latents: Tensor) -> None:
    g = [
        gaussian_gradient(PSD(preference_scale=scale, weighting="uniform"), latents, reward=LinearReward())
        for scale in (0.0, 1.0, 4.0)
    ]
    torch.testing.assert_close(g[2] - g[0], 4 * (g[1] - g[0]), rtol=1e-4, atol=1e-4)
    assert (g[1] - g[0]).abs().max() > 0.1


def test_winner_and_sign_are_right(latents: Tensor) -> None:
    """By hand: R = ρ_1 + λ (ρ_w - ρ_l), w the noise whose x̂0 has the larger reward summed over the set."""
    prior, noises = gaussian_prior(), Streams(1)
    pair = [randn(latents.shape, noises["noise"]), randn(latents.shape, noises["pair_noise"])]
    alpha, sigma = prior.alpha_sigma(torch.tensor([450]))
    text = {name: prior.encode_text([name] * 4) for name in "yn"}
    rho, reward = [], []
    for noise in pair:
        x_t, t = alpha * latents + sigma * noise, torch.full((4,), 450)
        eps = {name: prior.predict_noise(x_t, t, text[name]) for name in "yn"}
        guided = eps["n"] + 7.5 * (eps["y"] - eps["n"])
        rho.append(guided - noise)
        x0 = (x_t - sigma * guided) / alpha
        reward.append(torch.einsum("nchw,c->", x0, DIRECTION))
    win, lose = (0, 1) if reward[0] > reward[1] else (1, 0)
    expected = sigma**2 * (rho[0] + 2.0 * (rho[win] - rho[lose]))
    g = gaussian_gradient(PSD(preference_scale=2.0, scale="one"), latents, reward=LinearReward())
    torch.testing.assert_close(g, expected, rtol=1e-4, atol=1e-4)
    best_of_two = gaussian_gradient(PSD(preference_scale=0.0, base_at="win"), latents, reward=LinearReward())
    torch.testing.assert_close(best_of_two, sigma**2 * rho[win], rtol=1e-4, atol=1e-4)
    mean = gaussian_gradient(PSD(preference_scale=0.0, base_at="mean"), latents, reward=LinearReward())
    torch.testing.assert_close(mean, sigma**2 * (rho[0] + rho[1]) / 2, rtol=1e-4, atol=1e-4)


def test_per_view_ranks_each_view_by_itself(latents: Tensor) -> None:
    psd = PSD(scale="one", per_view=True, preference_scale=3.0)
    together = gaussian_gradient(psd, latents, reward=LinearReward())
    sets = gaussian_gradient(replace(psd, per_view=False), latents, reward=LinearReward())
    base = gaussian_gradient(SDS(), latents)
    signs = ((together - base) / (sets - base)).flatten(1)
    torch.testing.assert_close(signs.abs(), torch.ones_like(signs), rtol=1e-2, atol=0)
    assert {-1, 1} == set(signs.sign().flatten().int().tolist()), "some views rank the other way than the set"


def test_pair_without_guidance_takes_the_text_branch_alone(tiny_prior) -> None:
    """Not on Gaussians: where all share one spread, guidance cancels in ρ_w - ρ_l."""
    latents, terms = randn((1, 8, 16, 16), Streams(0)["test"]), {}
    base = SDS().gradient(viewed_step(tiny_prior, latents, Streams(0)))
    for cfg_pair in ("same", "text"):
        psd, streams = PSD(cfg_pair=cfg_pair, scale="one"), Streams(0)
        state = set_up(psd, tiny_prior, streams)
        step = viewed_step(tiny_prior, latents, streams, state=state, reward=FirstIsBetter())
        terms[cfg_pair] = psd.gradient(step) - base
    streams = Streams(0)
    step = viewed_step(tiny_prior, latents, streams)
    pool = noise_pool(step, torch.cat([step.noise(), step.noise("pair_noise")]), 7.5)
    weight = weights(step, pool, "sds")[0]
    rho = {"same": pool.residuals, "text": pool.eps_text - pool.noises}
    for cfg_pair, term in terms.items():
        expected = weight * (rho[cfg_pair][0] - rho[cfg_pair][1])
        torch.testing.assert_close(term, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(terms["same"], terms["text"], atol=1e-2)


def test_pair_of_two_timesteps_shares_a_noise_and_weighs_each_by_its_own_t(latents: Tensor) -> None:
    g = gaussian_gradient(
        PSD(pair="two_t", scale="one", preference_scale=2.0), latents, reward=FirstIsBetter()
    )
    streams = Streams(1)
    step = make_step(gaussian_prior(), latents, streams)
    other = step.schedule.sample(0.0, streams["pair_noise"], 1000)
    assert other != 450
    noise, rho = step.noise(), []
    for t in (450, other):
        pool = noise_pool(step, noise, 7.5, timesteps=torch.full((1, 4), t))
        rho.append(step.prior.sigmas[t] ** 2 * pool.residuals[0])
    torch.testing.assert_close(g, rho[0] + 2.0 * (rho[0] - rho[1]), rtol=1e-4, atol=1e-4)


def test_rank_on_a_ddim_chain_costs_its_steps(tiny_prior) -> None:
    latents, reward, costs = randn((1, 8, 16, 16), Streams(0)["test"]), LinearReward(), []
    for rank_on in (1, 4):
        psd, streams, before = PSD(rank_on=rank_on), Streams(0), tiny_prior.counters.denoiser_forwards
        psd.gradient(
            viewed_step(tiny_prior, latents, streams, state=set_up(psd, tiny_prior, streams), reward=reward)
        )
        costs.append(tiny_prior.counters.denoiser_forwards - before)
    assert costs == [4, 4 + 3 * 4]


def test_reward_is_asked_without_a_graph_and_gets_no_gradient(tiny_prior) -> None:
    psd, streams, reward = PSD(), Streams(0), LinearReward()
    state = set_up(psd, tiny_prior, streams)
    latents = torch.randn(2, 8, 16, 16, requires_grad=True)
    g = psd.gradient(viewed_step(tiny_prior, latents, streams, state=state, reward=reward))
    assert reward.graphs_built == [False]
    assert not g.requires_grad
    assert reward.direction.grad is None
    counters = vars(tiny_prior.counters)
    assert counters == counters | {"denoiser_forwards": 8, "decodes": 4, "reward_forwards": 4}
    assert counters["denoiser_backwards"] == counters["reward_backwards"] == counters["encodes"] == 0


@pytest.mark.parametrize(
    ("base", "more"),
    [("csd", {"denoiser_forwards": 6}), ("vsd", {"denoiser_forwards": 7, "denoiser_backwards": 1})],
)
def test_cost_on_other_bases(tiny_prior, base: str, more: dict[str, int]) -> None:
    psd, streams = PSD(base=base), Streams(0)
    state = set_up(psd, tiny_prior, streams)
    latents = torch.randn(2, 8, 16, 16)
    psd.gradient(viewed_step(tiny_prior, latents, streams, state=state, reward=LinearReward()))
    state.close()
    one = {"decodes": 2, "reward_forwards": 2} | more
    counters = vars(tiny_prior.counters)
    assert counters == {name: one.get(name, 0) * 2 for name in counters}


def test_a_reward_that_is_nan_shows_in_the_gradient(latents: Tensor) -> None:
    """Not a number must not pass for a tie: the optimizer's guard has to see it."""
    for scale in SCALES:
        g = gaussian_gradient(PSD(scale=scale), latents, reward=LinearReward(torch.full((3,), float("nan"))))
        assert g.isnan().all()


def test_without_a_reward_it_says_so(latents: Tensor) -> None:
    with pytest.raises(UsageError, match="reward"):
        gaussian_gradient(PSD(), latents)
