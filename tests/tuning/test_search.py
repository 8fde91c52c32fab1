"""Tuning: what it refuses, that it finds what can be found, and that a killed one ends as if it had not been.

The jobs of these tests are real folders with scores in closed form, written by the function that stands where
the launcher stands: the value of SDS at guidance scale ω is -(ln ω/10)², best at ω = 10.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import asdict
from math import log
from pathlib import Path
from typing import Any

import pytest

from psdbench.errors import CorruptResult, EnvironmentProblem, Interrupted, UsageError
from psdbench.job import Task
from psdbench.plan import make_plan
from psdbench.prompts import shipped_sets
from psdbench.settings import resolve
from psdbench.store.manifest import Manifest, record, write_manifest
from psdbench.store.run import write_job
from psdbench.tuning.results import config, document, sentence, write_results
from psdbench.tuning.search import FILE, Trial, Tuning, make_tuning, refuse_reported

OBJECTIVE = "true_preference"
PROMPTS = ("a fox", "a brass bell", "an old boot")
Value = Callable[[dict[str, Any]], float | None]


def quadratic(params: dict[str, Any]) -> float:
    """Best at ω = 10, where it is 0."""
    return -(log(params["guidance_scale"] / 10) ** 2)


class Jobs:
    """Brings jobs to their end: scores by a formula of their parameters; None for a job that diverges."""

    def __init__(self, value: Value = quadratic, interrupt_after: int | None = None) -> None:
        self.value, self.left, self.done = value, interrupt_after, list[str]()

    def __call__(self, tasks: list[Task]) -> None:
        for task in tasks:
            if (task.folder / "manifest.json").exists():
                continue
            if self.left is not None and len(self.done) == self.left:
                raise Interrupted(15)
            self.done.append(task.folder.name)
            self.finish(task)

    def finish(self, task: Task) -> None:
        spec, folder = task.spec, task.folder
        folder.mkdir(parents=True)
        write_job(folder, spec)
        value = self.value(spec.params)
        (folder / "cost.json").write_text(json.dumps({"seconds": 2.0, "denoiser_forwards": 600}))
        if value is None:
            write_manifest(
                folder, Manifest("diverged", spec.id, spec.protocol.hash, {}, "the loss is not finite", 3)
            )
            return
        base = value + len(spec.prompt) / 1000 + spec.seed / 100
        entry = {"sha256": "a" * 64, "higher_is_better": True, "values": self.scores(base)}
        (folder / "scores.json").write_text(json.dumps(dict.fromkeys(task.metrics, entry)))
        files = record(folder, ["scores.json", "cost.json"], "score")
        write_manifest(folder, Manifest("finished", spec.id, spec.protocol.hash, files))

    def scores(self, base: float) -> list[float | None]:
        """Those of two views."""
        return [base - 0.5, base + 0.5]


class HalfScored(Jobs):
    """Finishes jobs one of whose two views has no score."""

    def scores(self, base: float) -> list[float | None]:
        return [base, None]


def silent(text: str) -> None:
    """Nobody listens."""


@pytest.fixture
def tuning(tmp_path: Path, sd_folder: Path) -> Callable[..., Tuning]:
    """Makes a tuning of three prompts and two seeds with a prior of Stable Diffusion's shape."""
    (tmp_path / "p.txt").write_text("\n".join(PROMPTS))

    def make(
        count: int = 3,
        *,
        methods: str = "sds",
        spaces: Iterable[str] = ("sds.guidance_scale=2..200:log",),
        sets: Iterable[str] = (),
        out: str = "out",
        **flags: Any,
    ) -> Tuning:
        given = {"methods": [methods], "prompts": [str(tmp_path / "p.txt")], "seeds": 2, "steps": 9}
        given |= {"prior": str(sd_folder), "metrics": [OBJECTIVE], "out": str(tmp_path / out)}
        fixed = [tuple(text.partition("=")[0].split(".")) for text in sets]
        return make_tuning(resolve(given | flags, None, list(sets)), count, list(spaces), fixed)

    return make


@pytest.mark.parametrize("text", ["a red cube", "A Red CUBE", "a  red cube"])
def test_a_reported_prompt_is_refused_whatever_file_it_comes_from(
    tuning: Callable[..., Tuning], tmp_path: Path, text: str
) -> None:
    (tmp_path / "mine-tuning.txt").write_text(f"a fox\n{text}\n")
    with pytest.raises(UsageError, match=r"is in the set '(shapes|demo)', which is for reporting") as caught:
        tuning(prompts=[str(tmp_path / "mine-tuning.txt")])
    assert "prompts/shapes-tuning.txt" in caught.value.remedy


def test_every_shipped_set_but_those_for_tuning_is_refused() -> None:
    from psdbench.prompts import read_prompts

    refused = set()
    for name, path in shipped_sets().items():
        try:
            refuse_reported(read_prompts([str(path)]).texts)
        except UsageError:
            refused.add(name)
    assert refused == {name for name in shipped_sets() if not name.endswith("-tuning")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "0 trials are none"),
        ({"metrics": []}, "this prior has no objective by default"),
        ({"metrics": ["none"]}, "a tuning has one objective"),
        ({"metrics": [OBJECTIVE, "ground_truth"]}, "a tuning has one objective"),
        ({"metrics": ["nonsense"]}, "unknown metric 'nonsense'"),
        ({"sets": ["sds.guidance_scale=3"]}, "sds.guidance_scale is set and searched at once"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    tuning: Callable[..., Tuning], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        tuning(**change)


STRANGE = '''
from psdbench.guidance import Method, method

@method("strange", paper="none")
class Strange(Method):
    """Goes nowhere."""

    pull: float = 1.0
    """how hard"""

    def gradient(self, step):
        return self.pull * step.latents
'''


def test_a_method_without_a_space_of_its_own_needs_one(tuning: Callable[..., Tuning], tmp_path: Path) -> None:
    (tmp_path / "strange.py").write_text(STRANGE)
    given = {"methods": "strange", "plugin": [str(tmp_path / "strange.py")]}
    with pytest.raises(UsageError, match="method 'strange' has no search space") as caught:
        tuning(**given, spaces=())
    assert "--space strange.KEY=LOW..HIGH" in caught.value.remedy
    made = tuning(**given, spaces=["strange.pull=0..2"])
    assert made.studies["strange"].plugin == made.plan.jobs[0].plugin.sha256


def test_without_optuna_nothing_is_begun(
    tuning: Callable[..., Tuning], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)  # what an import finds when there is none
    with pytest.raises(EnvironmentProblem, match="tuning needs optuna") as caught:
        tuning().run(Jobs(), silent)
    assert caught.value.remedy == "pip install 'optuna>=4'"
    assert not (tmp_path / "out").exists()


def test_the_first_trial_has_the_defaults_and_its_jobs_are_those_of_a_run(
    tuning: Callable[..., Tuning],
) -> None:
    pytest.importorskip("optuna")
    made, jobs = tuning(1), Jobs()
    made.run(jobs, silent)
    assert made.studies["sds"].trials[0].params == {"guidance_scale": 101.0}  # of a Stable-Diffusion prior
    assert sorted(jobs.done) == sorted(spec.folder_name for spec in made.plan.jobs)


def test_a_value_is_the_mean_over_prompts_and_seeds_with_its_interval(tuning: Callable[..., Tuning]) -> None:
    pytest.importorskip("optuna")
    made = tuning(1, spaces=["sds.weighting=sds,uniform"], sets=["sds.guidance_scale=10"])
    made.run(Jobs(), silent)
    (trial,) = made.studies["sds"].trials
    mean = sum(len(prompt) / 1000 for prompt in PROMPTS) / 3 + 0.005
    assert trial.value == pytest.approx(mean, abs=1e-12)
    assert trial.result is not None
    assert (trial.result.n, trial.result.prompts) == (6, 3)
    assert trial.result.low < mean < trial.result.high  # type: ignore[operator]
    assert (trial.seconds, trial.denoiser_forwards) == (2.0, 600)


def test_the_search_closes_in_on_the_optimum(tuning: Callable[..., Tuning]) -> None:
    pytest.importorskip("optuna")
    made = tuning(30)
    made.run(Jobs(), silent)
    off = [abs(log(t.params["guidance_scale"] / 10)) for t in made.studies["sds"].trials]
    assert sum(off[20:]) < sum(off[1:11]) / 2
    best = made.studies["sds"].best(higher_is_better=True)
    assert best is not None
    assert 8 < best.params["guidance_scale"] < 12.5
    assert len(json.loads((made.plan.out / FILE).read_text())["methods"]["sds"]["trials"]) == 30


def test_where_less_is_better_the_least_is_best() -> None:
    from psdbench.stats import Estimate
    from psdbench.tuning.search import Study

    trials = [Trial(n, {}, Estimate(1, 1, value)) for n, value in ((1, 2.0), (2, 1.0), (3, 1.0))]
    study = Study({}, {}, trials=[*trials, Trial(4, {}, None, "diverged")])
    assert (study.best(True), study.best(False)) == (trials[0], trials[1])
    assert Study({}, {}, trials=[Trial(1, {}, None, "diverged")]).best(True) is None


@pytest.mark.parametrize("left", [0, 3, 6, 7, 29])
def test_a_killed_tuning_ends_as_if_it_had_not_been(tuning: Callable[..., Tuning], left: int) -> None:
    """Two methods of three trials and six jobs each are 36 jobs; kills come before, between and within trials."""
    pytest.importorskip("optuna")
    spaces = ["sds.guidance_scale=2..200:log", "vsd.guidance_scale=2..200:log", "vsd.lora_rank=1..8"]
    both = {"methods": "sds,vsd", "spaces": spaces}
    whole, undisturbed = tuning(**both, out="whole"), Jobs()
    whole.run(undisturbed, silent)
    first = Jobs(interrupt_after=left)
    with pytest.raises(Interrupted):
        tuning(**both).run(first, silent)
    second = Jobs()
    again = tuning(**both)
    again.run(second, silent)
    assert (again.plan.out / FILE).read_bytes() == (whole.plan.out / FILE).read_bytes()
    assert first.done + second.done == undisturbed.done
    assert len(undisturbed.done) == 36


def test_more_trials_only_add(tuning: Callable[..., Tuning]) -> None:
    pytest.importorskip("optuna")
    tuning(2).run(Jobs(), silent)
    jobs, longer = Jobs(), tuning(4)
    longer.run(jobs, silent)
    assert len(jobs.done) == 2 * 6
    at_once = tuning(4, out="other")
    at_once.run(Jobs(), silent)
    assert longer.studies == at_once.studies


def test_methods_are_interrupted_in_step(tuning: Callable[..., Tuning]) -> None:
    """Whenever a tuning ends, no method has had more than one trial more than another."""
    pytest.importorskip("optuna")
    spaces = ["sds.guidance_scale=2..200", "vsd.guidance_scale=2..200"]
    with pytest.raises(Interrupted):
        tuning(4, methods="sds,vsd", spaces=spaces).run(Jobs(interrupt_after=31), silent)
    made = tuning(4, methods="sds,vsd", spaces=spaces)
    stored = json.loads((made.plan.out / FILE).read_text())["methods"]
    assert [len(study["trials"]) for study in stored.values()] == [2, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spaces": ["sds.guidance_scale=2..50:log"]}, "holds another tuning: sds's space differ"),
        ({"sets": ["sds.weighting=uniform"]}, "holds another tuning: sds's defaults differ"),
        ({"steps": 10}, "holds another tuning: protocol, length differ"),
        ({"seeds": 1}, "holds another tuning: seeds differ"),
        ({"metrics": ["ground_truth"]}, "holds another tuning: objective differ"),
        ({"count": 1}, "has 2 trials of 'sds', which is not 1 for every method"),
        ({"methods": "vsd", "spaces": ()}, None),
        (
            {"methods": "vsd", "spaces": (), "count": 3},
            "has 2 trials of 'sds', which is not 3 for every method",
        ),
    ],
)
def test_a_folder_holds_one_tuning_with_as_many_trials_for_all(
    tuning: Callable[..., Tuning], change: dict[str, Any], message: str | None
) -> None:
    pytest.importorskip("optuna")
    tuning(2).run(Jobs(), silent)
    other = tuning(**{"count": 2, **change})
    if message is None:
        other.run(Jobs(), silent)
        assert {name: len(study.trials) for name, study in other.studies.items()} == {"sds": 2, "vsd": 2}
        return
    with pytest.raises(UsageError, match=message):
        other.run(Jobs(), silent)


def test_a_trial_with_a_diverged_job_has_no_value_and_is_avoided(tuning: Callable[..., Tuning]) -> None:
    pytest.importorskip("optuna")
    made = tuning(24, spaces=["sds.weighting=sds,uniform"])
    made.run(Jobs(lambda params: 1.0 if params["weighting"] == "uniform" else None), silent)
    trials = made.studies["sds"].trials
    assert trials[0].value is None
    assert "diverged: the loss is not finite" in trials[0].reason
    assert sum(trial.params["weighting"] == "uniform" for trial in trials[12:]) >= 9
    assert "had no value" in sentence("sds", made.studies["sds"], made.setup)
    assert f"- Trial 1: {trials[0].reason}" in document(made.setup, made.studies).replace("\\", "")


def test_parameters_that_the_method_refuses_are_a_trial_without_a_value(
    tuning: Callable[..., Tuning],
) -> None:
    pytest.importorskip("optuna")
    made, jobs = tuning(6, methods="csd", spaces=["csd.negative_anneal=0.5,2,3"]), Jobs(lambda params: 1.0)
    made.run(jobs, silent)
    first, *others = made.studies["csd"].trials
    assert first.value is not None
    refused = [trial for trial in others if trial.params["negative_anneal"] > 1]
    assert all("csd.negative_anneal cannot be" in trial.reason for trial in refused)
    assert refused


def test_a_view_without_a_score_leaves_a_trial_without_a_value(tuning: Callable[..., Tuning]) -> None:
    pytest.importorskip("optuna")
    made = tuning(1)
    made.run(HalfScored(), silent)
    assert made.studies["sds"].trials[0].reason.endswith("true_preference gave no score for some views")


def test_a_tuning_file_of_another_form_is_corrupt(tuning: Callable[..., Tuning], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / FILE).write_text('{"methods": {"sds": 3}, "setup": {}}')
    with pytest.raises(CorruptResult, match=r"tuning\.json is corrupt"):
        tuning().run(Jobs(), silent)


def test_the_best_parameters_are_a_config_file_of_a_run(tuning: Callable[..., Tuning]) -> None:
    pytest.importorskip("optuna")
    made = tuning(12, methods="sds,vsd", spaces=["sds.guidance_scale=2..200:log", "vsd.guidance_scale=2,10"])
    made.run(Jobs(), silent)
    write_results(made)
    file = made.plan.out / "best.toml"
    flags = {
        "methods": ["sds,vsd"],
        "prompts": ["dreamfusion"],
        "prior": str(made.plan.protocol.prior.folder),
    }
    planned = {spec.method: spec.params for spec in make_plan(resolve(flags, file)).jobs}
    for name, study in made.studies.items():
        best = study.best(True)
        assert best is not None
        assert planned[name] == study.defaults | best.params
        assert f"# {sentence(name, study, made.setup)}" in file.read_text()
    assert tomllib.loads(file.read_text())["vsd"]["guidance_scale"] == 10.0


def test_the_report_says_how_much_was_tried(tuning: Callable[..., Tuning]) -> None:
    pytest.importorskip("optuna")
    made = tuning(3)
    made.run(Jobs(), silent)
    said = sentence("sds", made.studies["sds"], made.setup)
    assert said.startswith("sds was tuned in 3 trials of 3 prompts x 2 seeds, 9 steps a job; trial ")
    assert ", with the defaults -5.3" in said
    text = document(made.setup, made.studies)
    assert text.count("\n| ") == 2 + 3
    best = made.studies["sds"].best(True)
    assert best is not None
    assert f"| **{best.number}**" in text
    assert "[sds]" in config(made.setup, made.studies)
    assert asdict(made.setup)["objective"]["id"] == OBJECTIVE
