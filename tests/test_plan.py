"""Plans: options to jobs with every parameter filled in; wrong options are refused before work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from psdbench.errors import UsageError
from psdbench.forecast import forecast
from psdbench.plan import make_plan
from psdbench.settings import RunConfig, resolve
from psdbench.store import atomic
from psdbench.store.run import job_folder


@pytest.fixture
def options(tiny_prior_folder: Path, tmp_path: Path) -> dict[str, Any]:
    prompts = tmp_path / "p.txt"
    prompts.write_text("a red cube\na blue sphere\n")
    return {"methods": ("sds", "vsd"), "prompts": (str(prompts),), "prior": str(tiny_prior_folder)}


def test_jobs_are_the_product_in_a_comparable_order(options: dict[str, Any]) -> None:
    plan = make_plan(RunConfig(**options, seeds=2))
    triples = [(spec.seed, spec.prompt, spec.method) for spec in plan.jobs]
    assert triples[:4] == [
        (0, "a red cube", "sds"),
        (0, "a red cube", "vsd"),
        (0, "a blue sphere", "sds"),
        (0, "a blue sphere", "vsd"),
    ]
    assert len({spec.id for spec in plan.jobs}) == 8
    assert len({spec.protocol.hash for spec in plan.jobs}) == 1
    assert plan.jobs[0].params["guidance_scale"] == 7.5
    assert plan.protocol.representation_params["resolution"] == 48


def test_the_same_options_give_the_same_jobs_and_folder(options: dict[str, Any]) -> None:
    first, second = make_plan(RunConfig(**options)), make_plan(RunConfig(**options))
    assert [spec.id for spec in first.jobs] == [spec.id for spec in second.jobs]
    assert first.out == second.out == Path("results") / f"p-{first.protocol.hash[:8]}"


def test_a_method_parameter_changes_only_that_method(options: dict[str, Any]) -> None:
    base = make_plan(RunConfig(**options, seeds=1))
    other = make_plan(resolve({**options, "seeds": 1}, None, ["vsd.guidance_scale=9"]))
    same = [a.id == b.id for a, b in zip(base.jobs, other.jobs, strict=True)]
    assert same == [True, False, True, False]


def test_a_shared_parameter_changes_all(options: dict[str, Any]) -> None:
    base = {spec.id for spec in make_plan(RunConfig(**options)).jobs}
    for change in (["optimize.steps=9"], ["voxels.resolution=16"], ["cameras.fov=50"]):
        assert not base & {spec.id for spec in make_plan(resolve(options, None, change)).jobs}
    assert base == {
        spec.id for spec in make_plan(resolve(options, None, ["optimize.checkpoint_every=3"])).jobs
    }


def test_metrics_are_not_part_of_a_job(options: dict[str, Any]) -> None:
    scored = make_plan(RunConfig(**options, metrics=("clip_shapes", "true_preference")))
    assert scored.metrics == ("clip_shapes", "true_preference")
    assert [s.id for s in scored.jobs] == [s.id for s in make_plan(RunConfig(**options)).jobs]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("sds", "pds")}, "unknown method 'pds'"),
        ({"methods": ()}, "no methods given"),
        ({"representation": "voxel"}, "unknown representation 'voxel'"),
        ({"prior": "nowhere"}, "unknown prior 'nowhere'"),
        ({"metrics": ("claip",)}, "unknown metric 'claip'"),
        ({"methods": ("psd",)}, "method 'psd' ranks images by a reward"),
        ({"prompts": ()}, "no prompts given"),
        ({"seeds": 0}, "seeds must be"),
        ({"tables": {"optimize": {"size": 63}}}, "optimize: size must be a positive multiple of 8"),
    ],
)
def test_refusals(options: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_plan(RunConfig(**{**options, **change}))


def test_ten_thousand_jobs_take_two_seconds(options: dict[str, Any], tmp_path: Path) -> None:
    many = tmp_path / "many.txt"
    many.write_text("\n".join(f"prompt {i}" for i in range(1000)))
    make_plan(RunConfig(**options))
    start = time.process_time()
    plan = make_plan(RunConfig(**{**options, "prompts": (str(many),), "seeds": 5}))
    assert len({spec.folder_name for spec in plan.jobs}) == 10_000
    assert time.process_time() - start < 2


def test_forecast_learns_from_finished_jobs(options: dict[str, Any], tmp_path: Path) -> None:
    plan = make_plan(RunConfig(**options, seeds=1, steps=100))
    before = forecast(plan.jobs, tmp_path / "run", workers=1)
    assert (before.jobs, before.left, before.seconds) == (4, 4, None)
    assert before.disk_mb > 4 * 1.6
    for spec in plan.jobs[:2]:
        atomic.write_json(job_folder(tmp_path / "run", spec) / "cost.json", {"seconds": 50.0, "steps": 100})
    after = forecast(plan.jobs, tmp_path / "run", workers=1)
    assert after.seconds is not None
    assert 200 < after.seconds < 250
    assert forecast(plan.jobs, tmp_path / "run", workers=2).seconds == pytest.approx(
        15 + (after.seconds - 15) / 2
    )
