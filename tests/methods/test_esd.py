"""ESD: VSD at one end, the marginal over cameras at the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from toys import MEAN, STD, gaussian_prior, make_step, set_up, viewed_step

from psdbench.errors import UsageError
from psdbench.guidance import noise_pool
from psdbench.guidance.state import RenderScore
from psdbench.methods.esd import ESD
from psdbench.methods.sds import SDS
from psdbench.methods.vsd import VSD
from psdbench.priors.gaussian import GaussianPrior, GaussianScore
from psdbench.streams import Streams, randn


def run(method: Any, prior: Any, steps: int = 3) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The gradients of a few steps and the state after them."""
    latents, streams = randn((2, 8, 16, 16), Streams(5)["test"]), Streams(0)
    state = set_up(method, prior, streams, "a red cube", "blurry")
    gradients = [
        method.gradient(viewed_step(prior, latents, streams, state=state, index=i)) for i in range(steps)
    ]
    stored = {name: tensor.clone() for name, tensor in state.state_dict().items()}
    state.close()
    return gradients, stored


def test_at_full_camera_guidance_it_is_vsd_bit_for_bit(tiny_prior) -> None:
    (esd, esd_state), (vsd, vsd_state) = (
        run(method, tiny_prior)
        for method in (ESD(camera_guidance=1.0, lora_learning_rate=1e-2), VSD(lora_learning_rate=1e-2))
    )
    assert all(torch.equal(a, b) for a, b in zip(esd, vsd, strict=True))
    assert all(torch.equal(esd_state[k], vsd_state[k]) for k in vsd_state)


def test_the_switch_changes_the_gradient_and_not_the_training_of_the_score(tiny_prior) -> None:
    """The renders are the same here, so the score learns the same; what it is asked differs once it knows cameras."""
    (esd, esd_state), (vsd, vsd_state) = (
        run(method, tiny_prior) for method in (ESD(lora_learning_rate=1e-2), VSD(lora_learning_rate=1e-2))
    )
    assert all(torch.equal(esd_state[k], vsd_state[k]) for k in vsd_state)
    torch.testing.assert_close(esd[0], vsd[0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(esd[2], vsd[2], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("camera_guidance", "forwards"), [(0.0, 4), (0.5, 5), (1.0, 4)])
def test_cost_is_five_forwards_and_one_backward(tiny_prior, camera_guidance: float, forwards: int) -> None:
    run(ESD(camera_guidance=camera_guidance), tiny_prior)
    assert tiny_prior.counters.denoiser_forwards == 3 * 2 * forwards
    assert tiny_prior.counters.denoiser_backwards == 3 * 2


class ScoreByCamera(GaussianScore):
    """q in closed form: of one camera its render alone, of no camera the Gaussian with all renders' moments."""

    def __init__(self, prior: GaussianPrior, renders: Tensor, cameras: Tensor) -> None:
        super().__init__(prior)
        self.renders, self.cameras = renders, cameras
        self.mean, self.variance = (
            renders.mean(0, keepdim=True),
            renders.var(0, correction=0, keepdim=True),
        )

    def predict_noise(self, x_t: Tensor, t: Tensor, text: Tensor, condition: Tensor) -> Tensor:
        whose = torch.cdist(condition, self.cameras).argmin(1)
        of_camera = self._prior.exact_noise(x_t, t, self.renders[whose], 0.0)
        of_all = super().predict_noise(x_t, t, text, condition)
        return torch.where(condition.any(1)[:, None, None, None], of_camera, of_all)


@pytest.mark.parametrize("camera_guidance", [0.0, 0.25, 0.5, 1.0])
def test_two_views_that_spread_as_the_prior_does_are_at_rest_for_the_marginal(camera_guidance: float) -> None:
    """Renders at μ ± s have the prior's moments together, and each is a point by itself.

    The marginal then is the prior and asks for nothing; the camera's score asks for what SDS does, which is to
    put both views at the mode. In between ESD does g times that.
    """
    prior, views = gaussian_prior(), torch.stack([MEAN + STD, MEAN - STD])
    step = make_step(prior, views, Streams(1))
    step.state = RenderScore(ScoreByCamera(prior, views, step.cameras.extrinsics()))
    esd = ESD(guidance_scale=1.0, camera_guidance=camera_guidance).gradient(step)
    sds = SDS(guidance_scale=1.0).gradient(make_step(gaussian_prior(), views, Streams(1)))
    assert sds.abs().max() > 0.05
    torch.testing.assert_close(esd, camera_guidance * sds, rtol=1e-3, atol=1e-5)


def test_every_noise_and_view_keeps_its_camera_in_both_branches(tiny_prior) -> None:
    streams, method = Streams(0), VSD(lora_learning_rate=1e-2, camera_dropout=0.0)
    state = set_up(method, tiny_prior, streams, "a red cube", "blurry")
    for index in range(3):
        step = viewed_step(tiny_prior, torch.randn(2, 8, 16, 16), streams, state=state, index=index)
        method.gradient(step)
    pool = noise_pool(step, torch.cat([step.noise(), step.noise()]), 7.5)
    eps = state.predict_noise(step, pool, 0.3)
    seen, unseen = (step.cameras.extrinsics() * known for known in (1, 0))
    for k in range(2):
        ask = (pool.x_t[k], pool.timesteps[k], step.text.plain)
        with_camera, without = (state.score.predict_noise(*ask, c) for c in (seen, unseen))
        assert not torch.allclose(with_camera, without, atol=1e-3)
        torch.testing.assert_close(eps[k], 0.7 * without + 0.3 * with_camera, rtol=1e-3, atol=1e-4)
    state.close()


def test_a_marginal_that_is_never_trained_is_refused() -> None:
    with pytest.raises(UsageError, match="camera_dropout"):
        ESD(camera_dropout=0.0)
    assert ESD(camera_dropout=0.0, camera_guidance=1.0).camera_dropout == 0
