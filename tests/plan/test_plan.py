"""Plans: options to jobs with every parameter filled in; wrong options are refused before work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from psdbench.errors import UsageError
from psdbench.plan import make_plan
from psdbench.plan.forecast import forecast
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
    base = make_plan(resolve({**options, "seeds": 1}, None))
    other = make_plan(resolve({**options, "seeds": 1}, None, ["vsd.guidance_scale=9"]))
    same = [a.id == b.id for a, b in zip(base.jobs, other.jobs, strict=True)]
    assert same == [True, False, True, False]


def test_a_shared_parameter_changes_all(options: dict[str, Any]) -> None:
    base = {spec.id for spec in make_plan(resolve(options, None)).jobs}
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
        ({"budget": "nfe=9", "tables": {"optimize": {"steps": 3}}}, "a budget takes the place of the steps"),
        ({"steps": 9, "tables": {"optimize": {"nfe": 3}}}, "a budget takes the place of the steps"),
        ({"grad_norm": "units"}, "unknown value 'units' in optimize.grad_norm"),
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


STEERED = '''
from psdbench.guidance import Method, method

@method("steered", paper="none", needs_reward_gradient=True)
class Steered(Method):
    """Follows the gradient of a reward."""

    def gradient(self, step):
        return step.latents
'''


def test_a_method_that_follows_a_gradient_needs_a_reward_that_has_one(
    options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "steered.py").write_text(STEERED)
    options |= {"methods": ("steered",), "seeds": 1, "plugin": [str(tmp_path / "steered.py")]}
    with pytest.raises(UsageError, match="'steered' ranks images by a reward, and none is set"):
        make_plan(resolve(options, None))
    with pytest.raises(UsageError, match="gradient of its reward, and 'true_preference' has none") as caught:
        make_plan(resolve({**options, "reward": "true_preference"}, None))
    assert "--reward hps" in caught.value.remedy
    reward = make_plan(resolve({**options, "reward": "clip_shapes"}, None)).protocol.reward
    assert reward is not None
    assert reward.id == "clip_shapes"


def test_a_parameter_that_asks_for_a_gradient_is_refused_by_name(options: dict[str, Any]) -> None:
    """PSD only ranks by its reward, except where its negative embedding follows it."""
    options |= {"methods": ("psd",), "seeds": 1, "reward": "true_preference"}
    asking = ["psd.negative=refl", "psd.negative_every=2"]
    with pytest.raises(UsageError, match=r"'psd' with .*negative=refl, negative_every=2 follows") as caught:
        make_plan(resolve(options, None, asking))
    assert caught.value.exit_code == 2
    assert make_plan(resolve(options, None, ["psd.negative=pull_win"])).jobs
    assert make_plan(resolve({**options, "reward": "clip_shapes"}, None, asking)).jobs


def test_a_budget_is_planned_as_part_of_the_protocol(options: dict[str, Any]) -> None:
    plain = make_plan(resolve(options, None)).protocol
    bought = make_plan(resolve({**options, "budget": "nfe=600", "grad_norm": "unit"}, None)).protocol
    assert (bought.optimize.nfe, bought.optimize.steps, bought.optimize.grad_norm) == (600, 300, "unit")
    assert bought.hash != plain.hash
    assert (
        make_plan(resolve(options, None, ["optimize.nfe=600", "optimize.grad_norm=unit"])).protocol == bought
    )


def test_a_budget_is_forecast_as_steps_of_each_method(options: dict[str, Any], tmp_path: Path) -> None:
    plan = make_plan(RunConfig(**options, seeds=1, budget="nfe=601", tables={"optimize": {"views": 2}}))
    assert forecast(plan.jobs, tmp_path / "run", workers=1).steps == {"sds": 151, "vsd": 76}
    cost = {"seconds": 50.0, "steps": 100, "denoiser_forwards": 500}
    atomic.write_json(job_folder(tmp_path / "run", plan.jobs[0]) / "cost.json", cost)
    after = forecast(plan.jobs, tmp_path / "run", workers=1)
    assert after.steps == {"sds": 121, "vsd": 76}
    assert after.seconds is None


def test_a_budget_of_seconds_needs_no_measurement_to_be_forecast(
    options: dict[str, Any], tmp_path: Path
) -> None:
    plan = make_plan(RunConfig(**options, seeds=1, budget="seconds=60"))
    need = forecast(plan.jobs, tmp_path / "run", workers=2)
    assert need.seconds == pytest.approx(15 + 4 * (60 + 3) / 2)
    assert need.steps == {"sds": None, "vsd": None}


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


def test_what_a_representation_has_no_use_for_is_refused(options: dict[str, Any]) -> None:
    refused = {
        "optimize.density_learning_rate=0.1": "rates of its own",
        "optimize.colour_learning_rate=0.1": "rates of its own",
        "optimize.smoothness_weight=1": "means nothing for 'gaussians'",
        "optimize.orientation_weight=1": "means nothing for 'gaussians'",
    }
    for setting, reason in refused.items():
        with pytest.raises(UsageError, match=reason):
            make_plan(resolve({**options, "representation": "gaussians"}, None, [setting]))
        make_plan(resolve(options, None, [setting]))
    plan = make_plan(resolve({**options, "representation": "hashgrid"}, None, ["hashgrid.levels=3"]))
    assert plan.protocol.representation_params["levels"] == 3
