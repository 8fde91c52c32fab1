"""The closed-form prior is the Gaussian that it says it is."""

from __future__ import annotations

import pytest
import torch
from toys import MEAN, STD, assert_mean_is, gaussian_prior

from psdbench.errors import UsageError
from psdbench.streams import Streams, randn


def test_prediction_minimises_the_denoising_error() -> None:
    """E[ε | x_t] is the least-squares predictor: its error is unbiased and not correlated with it."""
    prior, n = gaussian_prior(), 100_000
    streams = Streams(0)
    clean = MEAN + STD * randn((n, 3, 1, 1), streams["clean"])
    noise, t = randn(clean.shape, streams["noise"]), torch.full((n,), 600)
    x_t = prior.add_noise(clean, noise, t)
    eps = prior.predict_noise(x_t, t, prior.encode_text(["y"]).expand(n, -1, -1))
    assert_mean_is(eps - noise, 0.0)
    assert_mean_is((eps - noise) * eps, 0.0)


def test_score_is_the_gradient_of_the_log_density() -> None:
    prior = gaussian_prior()
    x_t, t = torch.randn(5, 3, 1, 1, requires_grad=True), torch.full((5,), 300)
    alpha, sigma = prior.alpha_sigma(t)
    log_density = -((x_t - alpha * MEAN) ** 2 / (2 * (alpha**2 * STD**2 + sigma**2))).sum()
    (score,) = torch.autograd.grad(log_density, x_t)
    eps = prior.predict_noise(x_t.detach(), t, prior.encode_text(["y"] * 5))
    torch.testing.assert_close(-eps / sigma, score)


def test_prompts_with_view_words_fall_back_and_others_are_refused() -> None:
    prior = gaussian_prior()
    assert torch.equal(prior.encode_text(["y, front view"]), prior.encode_text(["y"]))
    with pytest.raises(UsageError, match="z"):
        prior.encode_text(["z"])


def test_fitted_score_starts_as_the_prior_and_fits_the_particles() -> None:
    prior = gaussian_prior()
    score, t = prior.tunable_score(4, 1e-4, Streams(0)), torch.full((2000,), 500)
    x_t, text = torch.randn(2000, 3, 1, 1), prior.encode_text(["y"]).expand(2000, -1, -1)
    condition = torch.zeros(2000, 16)
    assert torch.equal(score.predict_noise(x_t, t, text, condition), prior.predict_noise(x_t, t, text))
    assert score.state_dict() == {}
    particles = 4 + 0.3 * randn((2000, 3, 1, 1), Streams(0)["test"])
    score.update(particles, t, torch.randn_like(particles), text, condition)
    torch.testing.assert_close(score.mean.flatten(), torch.full((3,), 4.0), rtol=0, atol=0.05)
    torch.testing.assert_close(score.variance.flatten().sqrt(), torch.full((3,), 0.3), rtol=0.1, atol=0)
    other = prior.tunable_score(4, 1e-4, Streams(0))
    other.load_state_dict(score.state_dict())
    ask = (x_t, t, text, condition)
    assert torch.equal(score.predict_noise(*ask), other.predict_noise(*ask))
