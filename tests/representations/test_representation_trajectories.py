"""Invariant trajectories: the first twenty steps of SDS with each representation stay what they were.

As for the methods, which are compared with voxels; the golden values are made anew by

    python -m pytest tests/representations/test_representation_trajectories.py --renew-trajectories
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trajectories import (
    Trajectory,
    differences,
    read_golden,
    read_trajectory,
    run_program,
    weights_of,
    write_golden,
)

from psdbench.store.run import read_job

GOLDEN = Path(__file__).with_name("trajectories.json")

OFTEN: dict[str, dict[str, object]] = {
    "hashgrid": {"hashgrid.occupancy_every": 4, "hashgrid.background": "learned"},
    "gaussians": {"gaussians.densify_every": 4},
}
"""so that what happens now and then in a run happens in these twenty steps, in its default measure"""

SLIPS = {"hashgrid": "hashgrid.density_scale", "gaussians": "gaussians.first_scale"}
"""what is three percent off in a run that must not pass"""


def run_one(name: str, folder: Path, **settings: object) -> tuple[dict[str, str], Trajectory]:
    """SDS with that representation: the weights and the trajectory."""
    options = ("--methods", "sds", "--representation", name, "--workers", 1)
    (job,) = run_program(folder, *options, settings=OFTEN[name] | settings).values()
    return weights_of(read_job(job)), read_trajectory(job)


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Any]:
    """As they are now; under --renew-trajectories they become the golden ones."""
    content: dict[str, Any] = {"representations": {}}
    for name in OFTEN:
        weights, found = run_one(name, tmp_path_factory.mktemp(name))
        content = weights | content
        content["representations"][name] = found
    if request.config.getoption("--renew-trajectories"):
        write_golden(GOLDEN, content)
    return content


@pytest.fixture(scope="module")
def golden(trajectories: dict[str, Any]) -> dict[str, Any]:
    """As they were."""
    return read_golden(GOLDEN, trajectories)


@pytest.mark.parametrize("name", OFTEN)
def test_a_representation_goes_the_way_it_went(
    name: str, trajectories: dict[str, Any], golden: dict[str, Any]
) -> None:
    assert differences(trajectories["representations"][name], golden["representations"][name]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", OFTEN)
def test_a_number_that_is_three_percent_off_is_noticed(
    name: str, trajectories: dict[str, Any], tmp_path: Path
) -> None:
    from psdbench.registry import representation_config

    table, _, field = SLIPS[name].partition(".")
    off = 1.03 * getattr(representation_config(table)(), field)
    slipped = run_one(name, tmp_path, **{SLIPS[name]: off})[1]
    assert differences(slipped, trajectories["representations"][name])
