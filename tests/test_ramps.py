"""Points over a run: straight lines between factors, steps between sides, and text that is refused."""

from __future__ import annotations

import pytest

from psdbench.config import OptimizeConfig, canonical_json
from psdbench.ramps import factor, side

POINTS = ("fog@0.5:1", "fog@0.25:0", "other@0:7")


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.0), (0.25, 0.0), (0.375, 0.5), (0.5, 1.0), (1.0, 1.0)]
)
def test_factors_lie_on_straight_lines(progress: float, expected: float) -> None:
    assert factor(POINTS, "fog", progress) == expected


def test_a_name_without_points_keeps_its_weight() -> None:
    assert factor(POINTS, "nothing", 0.3) == 1.0
    assert factor(POINTS, "other", 0.3) == 7.0


def test_two_points_at_one_place_are_a_jump() -> None:
    points = ("fog@0.5:0", "fog@0.5:3", "fog@0:0")
    assert [factor(points, "fog", p) for p in (0.49, 0.5, 0.9)] == [0.0, 3.0, 3.0]


def test_sides_step_at_their_progress() -> None:
    points = ("0.6:64", "0:16", "0.3:32")
    assert [side(points, 64, p) for p in (0.0, 0.29, 0.3, 0.59, 0.6, 1.0)] == [16, 16, 32, 32, 64, 64]
    assert side((), 64, 0.5) == 64
    assert side(("0.3:32",), 64, 0.1) == 64


def test_a_side_is_never_larger_than_what_the_prior_takes() -> None:
    assert [side(("0:32", "0.5:256"), 64, p) for p in (0.2, 0.7)] == [32, 64]


@pytest.mark.parametrize(
    "fields",
    [
        {"penalty_schedule": ("orientation",)},
        {"penalty_schedule": ("orientation@2:1",)},
        {"penalty_schedule": ("orientation@0.5:-1",)},
        {"penalty_schedule": ("orientation@0.5:nan",)},
        {"penalty_schedule": ("nonsense@0:1",)},
        {"size_schedule": ("32",)},
        {"size_schedule": ("0:0",)},
        {"size_schedule": ("0:3.5",)},
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match=r"_schedule|is not"):
        OptimizeConfig(**fields)  # type: ignore[arg-type]


def test_results_without_schedules_keep_their_ids() -> None:
    text = canonical_json(OptimizeConfig())
    assert not any(word in text for word in ("schedule", "orientation", "depth_variance"))
    assert "size_schedule" in canonical_json(OptimizeConfig(size_schedule=("0:32",)))
