"""Timestep schedule and w(t)."""

from __future__ import annotations

import pytest
import torch

from psdbench.config import OptimizeConfig
from psdbench.errors import UsageError
from psdbench.schedules import TimestepSchedule, weight

ALPHA, SIGMA = torch.tensor([0.6, 0.8]), torch.tensor([0.8, 0.6])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sds", [0.64, 0.36]),
        ("uniform", [1.0, 1.0]),
        ("fantasia3d", [0.384, 0.288]),
        ("x0", [0.8 / 0.6, 0.6 / 0.8]),
    ],
)
def test_weights(name: str, expected: list[float]) -> None:
    torch.testing.assert_close(weight(name, ALPHA, SIGMA), torch.tensor(expected))


def test_unknown_weighting_is_refused() -> None:
    with pytest.raises(UsageError, match="sdss"):
        weight("sdss", ALPHA, SIGMA)


@pytest.mark.parametrize(("progress", "top"), [(0.0, 980), (0.5, 740), (1.0, 500)])
def test_the_range_is_reached_and_kept(progress: float, top: int) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [TimestepSchedule().sample(progress, generator, 1000) for _ in range(20_000)]
    assert (min(drawn), max(drawn)) == (20, top)
    middle = (20 + top) / 2
    assert abs(sum(drawn) / len(drawn) - middle) < 5 * (top - 20) / 12**0.5 / len(drawn) ** 0.5


def test_a_single_timestep_is_a_range_too() -> None:
    schedule = TimestepSchedule(min=0.3, max_start=0.3, max_end=0.3)
    assert schedule.sample(0.7, torch.Generator(), 1000) == 300


@pytest.mark.parametrize(
    ("progress", "bounds"), [(0.0, (980, 980)), (0.4, (500, 740)), (0.8, (20, 500)), (1.0, (20, 500))]
)
def test_both_bounds_fall_and_stay(progress: float, bounds: tuple[int, int]) -> None:
    """MVDream's: from 0.98 alone to 0.02 .. 0.5 after 80 % of the run."""
    schedule = TimestepSchedule(min_start=0.98, anneal=0.8)
    assert schedule.bounds(progress, 1000) == bounds
    generator = torch.Generator().manual_seed(0)
    drawn = [schedule.sample(progress, generator, 1000) for _ in range(2000)]
    assert bounds[0] <= min(drawn) <= max(drawn) <= bounds[1]


def test_the_schedule_is_that_of_the_protocol() -> None:
    config = OptimizeConfig(timestep_min_start=0.9, timestep_anneal=0.5)
    assert TimestepSchedule.of(config) == TimestepSchedule(0.02, 0.98, 0.7, 0.9, 0.5)


@pytest.mark.parametrize("bad", [{"anneal": 0.0}, {"anneal": 1.5}, {"min_start": 0.99}])
def test_impossible_annealing_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="timestep"):
        TimestepSchedule(**bad)


@pytest.mark.parametrize(
    "bad", [{"min": 0.6}, {"min": -0.1}, {"max_start": 1.0}, {"min": 0.3, "max_end": 0.2}]
)
def test_empty_ranges_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="timestep range"):
        TimestepSchedule(**bad)
