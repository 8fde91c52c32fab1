"""One look at pure noise tells an ε-prediction from others, on the trained embedded prior."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from psdbench.errors import EnvironmentProblem
from psdbench.priors.diffusers import DiffusersPrior
from psdbench.priors.probe import check_prediction, correlation
from psdbench.world import weights_folder

SIDE = 16


@pytest.fixture
def prior() -> DiffusersPrior:
    return DiffusersPrior.load(weights_folder() / "prior")


def as_v(prior: DiffusersPrior) -> Callable[..., Tensor]:
    """The same network, trained as it were to predict v = (ε̂ - σ x_t)/α."""
    noise = prior._denoise

    def velocity(x_t: Tensor, t: Tensor, text: Tensor, poses: Tensor | None) -> Tensor:
        alpha, sigma = prior.alpha_sigma(t)
        return (noise(x_t, t, text, poses) - sigma * x_t) / alpha

    return velocity


def test_the_embedded_prior_is_what_it_says(prior: DiffusersPrior) -> None:
    check_prediction(prior, SIDE)


@pytest.mark.parametrize("announced", ["v_prediction", "sample"])
def test_noise_under_another_name_is_found(prior: DiffusersPrior, announced: str) -> None:
    prior.prediction = announced
    with pytest.raises(EnvironmentProblem, match=f"does not predict '{announced}' as its scheduler says"):
        check_prediction(prior, SIDE)


def test_a_v_prediction_is_known_and_does_not_pass_for_noise(
    prior: DiffusersPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prior, "_denoise", as_v(prior))
    prior.prediction = "v_prediction"
    check_prediction(prior, SIDE)
    prior.prediction = "epsilon"
    with pytest.raises(EnvironmentProblem, match="does not predict 'epsilon'"):
        check_prediction(prior, SIDE)


def test_nothing_is_said_of_flows(prior: DiffusersPrior) -> None:
    prior.prediction = "flow"
    check_prediction(prior, SIDE)


def test_correlation() -> None:
    a = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    assert correlation(a, 3 * a - 7) == pytest.approx(1.0)
    assert correlation(a, -a) == pytest.approx(-1.0)
