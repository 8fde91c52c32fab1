"""Invariant trajectories: the first twenty steps of every method on the embedded prior stay what they were.

All methods run once through the real command line; loss, size of the raw gradient and coarse pictures are
compared with `trajectories.json`. That is made anew, on purpose, by

    python -m pytest tests/methods/test_trajectories.py --renew-trajectories

after the embedded weights, a default or a formula has changed: only what was meant to change may differ in it.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from trajectories import differences, read_golden, read_trajectory, run_program, weights_of, write_golden

from psdbench import registry
from psdbench.store.run import read_job

GOLDEN = Path(__file__).with_name("trajectories.json")
METHODS = registry.shipped_methods()

FASTER = {f"{name}.lora_learning_rate": 1e-2 for name in ("vsd", "esd", "rewardvsd")}
"""so that twenty steps are enough for a learned score to matter: with the default rate ESD is hardly told from VSD"""

CHANGED = '''
"""SDS with a guidance scale that is three percent off."""
from psdbench.guidance import Method, combine, method, noise_pool, weights
from psdbench.methods.sds import SDS

@method("changed", paper="none")
class Changed(Method):
    """A slip."""

    def gradient(self, step):
        pool = noise_pool(step, step.noise(), 1.03 * SDS().guidance_scale)
        return combine(pool.residuals, weights(step, pool, SDS().weighting))
'''


def run_all(folder: Path) -> dict[str, Any]:
    """The trajectories of all methods, and the weights that they belong to."""
    (folder / "changed.py").write_text(CHANGED)
    names = ",".join([*METHODS, "changed"])
    plugin = ("--plugin", folder / "changed.py")
    jobs = run_program(folder, "--methods", names, *plugin, "--workers", 2, settings=FASTER)
    found = {name: read_trajectory(jobs[name]) for name in sorted(jobs)}
    return {**weights_of(read_job(jobs["sds"])), "methods": found}


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Any]:
    """As they are now; under --renew-trajectories they become the golden ones."""
    found = run_all(tmp_path_factory.mktemp("trajectories"))
    if request.config.getoption("--renew-trajectories"):
        shipped = {name: found["methods"][name] for name in METHODS}
        write_golden(GOLDEN, {**found, "methods": shipped})
    return found


@pytest.fixture(scope="module")
def golden(trajectories: dict[str, Any]) -> dict[str, Any]:
    """As they were."""
    return read_golden(GOLDEN, trajectories)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_goes_the_way_it_went(
    name: str, trajectories: dict[str, Any], golden: dict[str, Any]
) -> None:
    assert name in golden["methods"], "a new method: renew the trajectories"
    assert differences(trajectories["methods"][name], golden["methods"][name]) == []


def test_the_golden_file_has_no_method_that_is_gone(golden: dict[str, Any]) -> None:
    assert sorted(golden["methods"]) == METHODS


def test_a_formula_that_is_three_percent_off_is_noticed(
    trajectories: dict[str, Any], golden: dict[str, Any]
) -> None:
    assert differences(trajectories["methods"]["changed"], golden["methods"]["sds"])


def test_no_method_passes_for_another(trajectories: dict[str, Any]) -> None:
    methods = {name: trajectories["methods"][name] for name in METHODS}
    assert [pair for pair in permutations(METHODS, 2) if not differences(*map(methods.get, pair))] == []  # type: ignore[arg-type]
