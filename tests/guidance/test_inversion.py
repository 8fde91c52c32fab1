"""DDIM inversion against its closed form on the Gaussian prior."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from gaussian_chain import growth, level, path
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toys import MEAN, assert_mean_is, gaussian_prior, make_step

from psdbench.errors import UsageError
from psdbench.guidance import Step, denoise
from psdbench.guidance.inversion import Prediction, ddim_step, invert, strides
from psdbench.priors.ddim import posterior_std
from psdbench.streams import Streams, randn


def step_of(views: int, streams: Streams) -> Step:
    return make_step(gaussian_prior(), randn((views, 3, 1, 1), Streams(0)["test"]), streams)


def on_text(step: Step) -> Prediction:
    return lambda x_t, t: denoise(step, x_t, t, step.text.positive)[0]


@given(start=st.integers(0, 400), way=st.integers(0, 599), stride=st.integers(1, 300))
def test_strides_go_from_start_to_end_in_equal_steps(start: int, way: int, stride: int) -> None:
    times = torch.stack(strides(torch.tensor(start), torch.tensor(start + way), stride))
    assert times.tolist() == (path(start, start + way, stride) if way else [start])
    assert times.dtype == torch.int64


def test_elements_wait_where_they_arrive() -> None:
    times = strides(torch.tensor([[0, 100]]), torch.tensor([[50, 310]]), 100)
    assert [t.tolist() for t in times] == [[[0, 100]], [[50, 200]], [[50, 300]], [[50, 310]]]


def test_a_stride_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="strides of 0"):
        strides(torch.tensor(0), torch.tensor(5), 0)


def test_every_noise_and_view_follows_its_own_chain() -> None:
    """K = 2, V = 3, six different starts and ends, exactly the product of the steps' factors."""
    step, x = step_of(3, Streams(1)), randn((2, 3, 3, 1, 1), Streams(2)["test"])
    start, end = torch.tensor([[0, 10, 300], [0, 0, 500]]), torch.tensor([[450, 980, 300], [7, 200, 701]])
    ends = invert(step, x, strides(start, end, 90), on_text(step))
    for k in range(2):
        for v in range(3):
            first, last = int(start[k, v]), int(end[k, v])
            factor = growth(path(first, last, 90))
            expected = level(last).alpha * MEAN + factor * (x[k, v] - level(first).alpha * MEAN)
            torch.testing.assert_close(ends[k, v], expected, rtol=1e-4, atol=1e-4)


def test_small_strides_follow_the_probability_flow() -> None:
    """x_t - αμ grows as √v; the error is of first order in the stride."""
    step = step_of(4, Streams(1))
    zero, end = torch.zeros(1, 4, dtype=torch.int64), torch.full((1, 4), 640)
    start = step.prior.add_noise(step.latents, torch.zeros_like(step.latents), zero)
    limit = (level(640).variance / level(0).variance) ** 0.5 * (start - level(0).alpha * MEAN)
    errors = []
    for stride in (160, 80, 40, 20):
        x_t = invert(step, start, strides(zero, end, stride), on_text(step))
        errors.append((x_t - level(640).alpha * MEAN - limit).abs().max().item())
    for coarse, fine in pairwise(errors):
        assert 1.6 < coarse / fine < 2.4
    assert errors[-1] < 0.04 * limit.abs().max()


def test_one_forward_per_view_and_stride() -> None:
    step = step_of(3, Streams(1))
    end = torch.full((1, 3), 450)
    invert(step, step.latents[None], strides(torch.zeros_like(end), end, 100), on_text(step))
    assert step.counters.denoiser_forwards == 3 * 5


def test_a_step_up_and_the_same_step_down_are_the_identity() -> None:
    step = step_of(4, Streams(1))
    x_t, eps = randn((1, 4, 3, 1, 1), Streams(3)["test"]), randn((1, 4, 3, 1, 1), Streams(4)["test"])
    low, high = torch.full((1, 4), 120), torch.full((1, 4), 870)
    above = ddim_step(step.prior, x_t, eps, low, high)
    assert not torch.allclose(above, x_t, atol=0.1)
    torch.testing.assert_close(ddim_step(step.prior, above, eps, high, low), x_t, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("t", "to"), [(0, 100), (100, 101), (450, 900)])
def test_posterior_spread_is_that_of_bayes(t: int, to: int) -> None:
    """x_to = a x_t + √b n and x_t = α x_0 + σ n': precisions add up."""
    low, high = level(t), level(to)
    a = high.alpha / low.alpha
    b = high.sigma**2 - a**2 * low.sigma**2
    expected = torch.tensor((1 / (1 / low.sigma**2 + a**2 / b)) ** 0.5)
    spread = posterior_std(gaussian_prior(), torch.tensor(t), torch.tensor(to))
    torch.testing.assert_close(spread.flatten()[0], expected, rtol=1e-3, atol=0)


def test_eta_adds_its_share_of_the_posterior_spread_and_no_bias() -> None:
    views = 40_000
    streams = Streams(1)
    prior = gaussian_prior()
    step = make_step(prior, MEAN.expand(views, -1, -1, -1), streams)
    t = torch.full((1, views), 200)
    noisy, quiet = (
        invert(step, step.latents[None], [t, t + 100], on_text(step), eta)[0] for eta in (0.3, 0.0)
    )
    added: Tensor = noisy - quiet
    assert_mean_is(added, 0.0)
    expected = 0.3 * posterior_std(prior, t[:, :1], t[:, :1] + 100).item()
    torch.testing.assert_close(added.std(0).flatten(), torch.full((3,), expected), rtol=0.02, atol=0)
    assert list(streams.state_dict()) == ["method"]


def test_without_eta_nothing_is_drawn() -> None:
    streams = Streams(1)
    step = step_of(2, streams)
    end = torch.full((1, 2), 300)
    invert(step, step.latents[None], strides(torch.zeros_like(end), end, 100), on_text(step))
    assert streams.state_dict() == {}
