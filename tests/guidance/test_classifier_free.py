"""Classifier-free guidance: perp-neg against its definition, and MVDream's rescaling of x̂0."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toys import gaussian_prior, make_step, viewed_step

from psdbench.cameras import Cameras
from psdbench.guidance import guided_noise, noise_pool, one_step_x0
from psdbench.guidance.classifier_free import cfg, perpendicular, repelled, rescaled
from psdbench.guidance.conditions import other_views
from psdbench.streams import Streams, randn


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_perpendicular_part_is_what_remains_beside_the_direction() -> None:
    eps, direction = noise(2, 3, 4, 5, 5), noise(2, 3, 4, 5, 5, seed=1)
    rest = perpendicular(eps, direction)
    along = (rest * direction).sum((-3, -2, -1))
    torch.testing.assert_close(along, torch.zeros(2, 3), rtol=0, atol=1e-4)
    torch.testing.assert_close(perpendicular(eps + 2.5 * direction, direction), rest, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(perpendicular(eps, 0 * direction), eps)


def test_repelling_nothing_is_plain_guidance_to_the_bit() -> None:
    negative, text = noise(2, 1, 3, 4, 8, 8)
    assert torch.equal(repelled(negative, text, [], torch.empty(0), 7.5), cfg(negative, text, 7.5))


def test_only_what_the_prompts_do_not_share_is_repelled() -> None:
    """Another view's direction along the prompt's own leaves no trace; across it, it is subtracted w ω times."""
    negative, text, across = noise(3, 1, 2, 4, 8, 8)
    direction = text - negative
    across = perpendicular(across, direction)
    weights = torch.tensor([[0.0, 2.0]])
    same = repelled(negative, text, [negative + 3 * direction], weights, 7.5)
    torch.testing.assert_close(same, cfg(negative, text, 7.5), rtol=1e-4, atol=1e-4)
    other = repelled(negative, text, [negative + direction + across], weights, 7.5)
    expected = cfg(negative, text, 7.5) - 7.5 * weights[0, :, None, None, None] * across
    torch.testing.assert_close(other, expected, rtol=1e-3, atol=1e-3)


def cameras(*azimuths: float, elevation: float = 10.0) -> Cameras:
    azimuth = torch.tensor(azimuths)
    return Cameras(azimuth, *(torch.full_like(azimuth, x) for x in (elevation, 3.0, 40.0)))


class Names:
    """A prior whose embedding of a prompt is the prompt."""

    def encode_text(self, prompts: list[str]) -> list[str]:
        return prompts


@pytest.mark.parametrize(
    ("azimuth", "repels"),
    [
        (0, {"side": 2.0, "back": 2.0}),
        (90, {"front": 2.0, "back": 2.0}),
        (180, {"side": 2.0, "front": 2.0}),
        (270, {"front": 2.0, "back": 2.0}),
        (45, {"back": 2.0, "side": 0.0}),
        (22.5, {"side": 1.0, "back": 2.0}),
        (337.5, {"side": 1.0, "back": 2.0}),
        (112.5, {"back": 1.0, "front": 2.0}),
    ],
)
def test_a_view_repels_the_others_the_more_the_farther_they_are(
    azimuth: float, repels: dict[str, float]
) -> None:
    found = other_views(Names(), "a fox", cameras(azimuth), 2.0)  # type: ignore[arg-type]
    weights = {text[0]: float(weight) for text, weight in zip(found.texts, found.weights, strict=True)}
    if azimuth == 45:  # front and side fit alike, and either may be the own one
        assert weights.pop("a fox, back view") == 2.0
        assert list(weights.values()) == [0.0]
    else:
        assert weights == pytest.approx({f"a fox, {word} view": w for word, w in repels.items()}, abs=1e-4)


def test_from_above_nothing_is_repelled() -> None:
    assert not other_views(Names(), "a fox", cameras(0, elevation=70.0), 2.0).weights.any()  # type: ignore[arg-type]


def test_perp_neg_costs_two_forwards_more_and_changes_the_prediction(tiny_prior) -> None:
    step = viewed_step(tiny_prior, noise(2, 8, 16, 16), Streams(0))
    x_t, t = noise(1, 2, 8, 16, 16, seed=2), step.timestep[None]
    plain = guided_noise(step, x_t, t, 7.5)
    assert step.counters.denoiser_forwards == 4
    step.text = replace(step.text, others=other_views(tiny_prior, step.prompt, step.cameras, 2.0))
    text, repelling = guided_noise(step, x_t, t, 7.5)
    assert step.counters.denoiser_forwards == 4 + 8
    torch.testing.assert_close(text, plain[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(repelling, plain[1], atol=1e-4)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_x0_is_rescaled_set_by_set(share: float) -> None:
    """Each set's x̂0 loses its share of the contrast that guidance gave it: at ρ = 1 it has the text branch's."""
    prior = gaussian_prior()
    prior.views = 2
    step = make_step(prior, randn((4, 3, 1, 1), Streams(0)["test"]), Streams(1))
    noises = step.noises(2)
    plain, pool = (noise_pool(step, noises, 9.0, x0_rescale=rho) for rho in (0.0, share))
    x0, new = one_step_x0(step, plain), one_step_x0(step, pool)
    x0_text = prior.predict_x0(plain.x_t, plain.eps_text, plain.timesteps)
    for k in range(2):
        for views in (slice(0, 2), slice(2, 4)):
            factor = share * x0_text[k, views].std() / x0[k, views].std() + 1 - share
            torch.testing.assert_close(new[k, views], factor * x0[k, views], rtol=1e-3, atol=1e-3)
    assert torch.equal(pool.eps_text, plain.eps_text)


def test_a_prediction_that_is_not_guided_is_not_rescaled() -> None:
    prior = gaussian_prior()
    x_t, t, eps = noise(1, 4, 3, 2, 2), torch.full((1, 4), 500), noise(1, 4, 3, 2, 2, seed=1)
    torch.testing.assert_close(rescaled(prior, x_t, t, eps, eps, 0.7, 2), eps, rtol=1e-4, atol=1e-5)
