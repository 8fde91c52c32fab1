"""VSD: exact scores in closed form, and the LoRA on a real UNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from toys import MEAN, STD, gaussian_prior, make_step, set_up, viewed_step

from psdbench.guidance import Step, TextEmbeddings, noise_pool
from psdbench.methods.sds import SDS
from psdbench.methods.vsd import VSD
from psdbench.priors.diffusers import DiffusersPrior
from psdbench.streams import Streams, randn


def lora_setting(prior: Any, streams: Streams, method: VSD) -> Any:
    return set_up(method, prior, streams, "a red cube", "blurry")


def run(method: Any, prior: Any, streams: Streams, state: Any, indices: range) -> list[Tensor]:
    latents = randn((2, 8, 16, 16), Streams(5)["test"])
    return [method.gradient(viewed_step(prior, latents, streams, state=state, index=i)) for i in indices]


def test_exact_score_of_a_point_is_sds_sample_by_sample() -> None:
    """q of a point mass at the render predicts the noise itself: nothing but SDS is left."""
    prior, latents = gaussian_prior(), torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)
    vsd = VSD()
    state = set_up(vsd, prior, Streams(3))
    make_exact(state, latents, prior)
    for timestep in (50, 450, 900):
        step = make_step(prior, latents, Streams(timestep), timestep=timestep, state=state)
        reference = make_step(prior, latents, Streams(timestep), timestep=timestep)
        torch.testing.assert_close(vsd.gradient(step), SDS().gradient(reference), rtol=1e-4, atol=1e-5)


def make_exact(state: Any, particles: Tensor, prior: Any) -> None:
    t = torch.zeros(len(particles), dtype=torch.int64)
    text = torch.zeros(len(particles), 1, 3)
    state.score.update(particles, t, torch.zeros_like(particles), text, torch.zeros(len(particles), 16))


def test_particles_keep_the_spread_that_sds_loses() -> None:
    prior = gaussian_prior()
    start = 3 + 0.1 * randn((1000, 3, 1, 1), Streams(0)["test"])
    ends = {}
    for method in (
        SDS(guidance_scale=1.0, weighting="uniform"),
        VSD(guidance_scale=1.0, weighting="uniform"),
    ):
        streams, particles = Streams(1), start
        state = set_up(method, prior, streams)
        for i in range(800):
            step = make_step(prior, particles, streams, timestep=450, state=state, index=i)
            particles = particles - 0.05 * method.gradient(step)
        ends[method.name] = particles
    for particles in ends.values():
        torch.testing.assert_close(particles.mean(0), MEAN, rtol=0, atol=0.1)
    torch.testing.assert_close(ends["vsd"].std(0).flatten(), torch.full((3,), STD), rtol=0.05, atol=0)
    assert ends["sds"].std(0).max() < 0.15


def test_starts_at_the_prior_bit_for_bit(tiny_prior) -> None:
    """With ω = 1 and no view words ε̂_p and ε̂_ψ are one network at the first step: G = 0."""
    streams, method = Streams(0), VSD(guidance_scale=1.0)
    state = lora_setting(tiny_prior, streams, method)
    step = viewed_step(tiny_prior, torch.randn(2, 8, 16, 16), streams, state=state)
    step.text = TextEmbeddings.encode(tiny_prior, ["a red cube"] * 2, "a red cube", "blurry")
    assert not method.gradient(step).any()
    second = method.gradient(step)
    assert second.any(), "after one update of the LoRA they are two"
    state.close()


def test_cost_is_four_forwards_and_one_backward(tiny_prior) -> None:
    streams, method = Streams(0), VSD()
    state = lora_setting(tiny_prior, streams, method)
    run(method, tiny_prior, streams, state, range(3))
    assert tiny_prior.counters.denoiser_forwards == 3 * 2 * 4
    assert tiny_prior.counters.denoiser_backwards == 3 * 2
    state.close()


def test_prior_is_untouched_during_and_restored_after(tiny_prior) -> None:
    latents, t = torch.randn(2, 8, 16, 16), torch.tensor([100, 700])
    text = tiny_prior.encode_text(["a", "b"])
    weights = {k: v.clone() for k, v in tiny_prior.unet.state_dict().items()}
    before = tiny_prior.predict_noise(latents, t, text)
    global_generator = torch.get_rng_state()

    streams, method = Streams(0), VSD(lora_learning_rate=1e-2)
    state = lora_setting(tiny_prior, streams, method)
    run(method, tiny_prior, streams, state, range(3))
    assert torch.equal(tiny_prior.predict_noise(latents, t, text), before), "the adapter acts for q alone"
    assert torch.equal(torch.get_rng_state(), global_generator), "no number from the global generator"
    frozen = [p for n, p in tiny_prior.unet.named_parameters() if "lora_" not in n]
    assert all(p.grad is None and not p.requires_grad for p in frozen)

    state.close()
    after = tiny_prior.unet.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[k], weights[k]) for k in weights)
    assert torch.equal(tiny_prior.predict_noise(latents, t, text), before)
    assert not any(p.requires_grad for p in tiny_prior.unet.parameters())
    assert not tiny_prior.unet.time_embedding._forward_hooks


def test_no_gradient_reaches_the_renders(tiny_prior) -> None:
    streams, method = Streams(0), VSD()
    state = lora_setting(tiny_prior, streams, method)
    latents = torch.randn(2, 8, 16, 16, requires_grad=True)
    gradient = method.gradient(viewed_step(tiny_prior, latents, streams, state=state))
    assert not gradient.requires_grad
    assert latents.grad is None
    state.close()


def test_resumed_job_continues_bit_by_bit(tiny_prior, tiny_prior_folder) -> None:
    method, streams = VSD(lora_learning_rate=1e-3), Streams(0)
    state = lora_setting(tiny_prior, streams, method)
    run(method, tiny_prior, streams, state, range(2))
    stored = {k: v.clone() for k, v in state.state_dict().items()}
    stored_streams = streams.state_dict()
    expected = run(method, tiny_prior, streams, state, range(2, 4))

    other_prior, other_streams = DiffusersPrior.load(tiny_prior_folder), Streams(1)
    resumed = lora_setting(other_prior, other_streams, method)
    resumed.load_state_dict(stored)
    other_streams.load_state_dict(stored_streams)
    for a, b in zip(expected, run(method, other_prior, other_streams, resumed, range(2, 4)), strict=True):
        assert torch.equal(a, b)
    end, other_end = state.state_dict(), resumed.state_dict()
    assert all(torch.equal(end[k], other_end[k]) for k in end)
    assert all(v.is_contiguous() and not v.requires_grad for v in stored.values())
    state.close()


def test_camera_matters_once_trained_and_is_dropped_at_random(tiny_prior) -> None:
    """With dropout 1 the camera network never sees a camera, so its first layer gets no gradient."""
    latents = torch.randn(2, 8, 16, 16)
    first_layers = {}
    for dropout in (0.0, 1.0):
        streams, method = Streams(0), VSD(lora_learning_rate=1e-2, camera_dropout=dropout)
        state = lora_setting(tiny_prior, streams, method)
        before = state.state_dict()["camera.0.weight"]
        run(method, tiny_prior, streams, state, range(3))
        decayed = before * (1 - 1e-2 * 0.01) ** 3
        first_layers[dropout] = (state.state_dict()["camera.0.weight"] - decayed).abs().max().item()
        if dropout == 0.0:
            step: Step = viewed_step(tiny_prior, latents, streams)
            ask = (step.latents, step.timestep, step.text.plain)
            seen = state.score.predict_noise(*ask, step.cameras.extrinsics())
            assert not torch.allclose(seen, state.score.predict_noise(*ask, torch.zeros(2, 16)))
        state.close()
    assert first_layers[0.0] > 1e-3
    assert first_layers[1.0] < 1e-6


def test_every_noise_and_view_keeps_its_camera(tiny_prior) -> None:
    streams, method = Streams(0), VSD(lora_learning_rate=1e-2, camera_dropout=0.0)
    state = lora_setting(tiny_prior, streams, method)
    run(method, tiny_prior, streams, state, range(3))
    step = viewed_step(tiny_prior, torch.randn(2, 8, 16, 16), streams)
    pool = noise_pool(step, torch.cat([step.noise(), step.noise()]), 7.5)
    eps = state.predict_noise(step, pool)
    for k in range(2):
        ask = (pool.x_t[k], pool.timesteps[k], step.text.plain, step.cameras.extrinsics())
        torch.testing.assert_close(eps[k], state.score.predict_noise(*ask), rtol=1e-3, atol=1e-4)
    state.close()


def test_lora_trains_in_float32_on_a_prior_of_lower_precision(tiny_prior_folder) -> None:
    prior = DiffusersPrior.load(tiny_prior_folder, dtype=torch.bfloat16)
    streams, method = Streams(0), VSD(lora_learning_rate=1e-2)
    state = lora_setting(prior, streams, method)
    gradients = run(method, prior, streams, state, range(3))
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)
    assert all(v.dtype == torch.float32 for v in state.state_dict().values())
    assert any(v.any() for k, v in state.state_dict().items() if k.endswith("lora_B.q.weight"))
    state.close()


def test_first_weights_follow_the_seed_of_the_job_alone(tiny_prior) -> None:
    states = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(global_seed)
            state = lora_setting(tiny_prior, Streams(seed), VSD())
        states.append(state.state_dict())
        state.close()
    first, again, other = states
    assert all(torch.equal(first[k], again[k]) for k in first)
    changed = {k for k in first if not torch.equal(first[k], other[k])}
    assert changed == {k for k in first if "lora_A" in k} | {"camera.0.weight"}


def test_one_lora_at_a_time(tiny_prior) -> None:
    state = lora_setting(tiny_prior, Streams(0), VSD())
    with pytest.raises(RuntimeError, match="close"):
        lora_setting(tiny_prior, Streams(0), VSD())
    state.close()
    lora_setting(tiny_prior, Streams(0), VSD()).close()
