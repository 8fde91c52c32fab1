"""Tuning: search the parameters of methods by ordinary runs, on prompts whose results nobody reports.

A trial is a set of parameters, and its value the mean of a metric over the same prompts and seeds. The first
trial of a method has the defaults, the others come from optuna's TPE. Trials go in rounds, the n-th of every
method and then the next, so that all methods have had the same chance whenever a tuning ends.

`tuning.json` holds what was asked for and every finished trial; nothing else is kept between two processes. A
trial's draws follow from its number and the trials before it, and its jobs are jobs like any others: a tuning
that was killed proposes the same trial again, finds its finished jobs and ends as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from psdbench import registry
from psdbench.budget import Budget
from psdbench.config import JobSpec, ScorerRef, digest, identity
from psdbench.defaults.spaces import Space, search_spaces
from psdbench.errors import CorruptResult, UsageError
from psdbench.job import Task
from psdbench.metrics import scorer_ref
from psdbench.plan import Plan, make_plan, resolve_params
from psdbench.prompts import read_prompts, shipped_sets
from psdbench.report.results import Score
from psdbench.scorers import load_scorer
from psdbench.scorers.catalogue import scale
from psdbench.settings import RunConfig
from psdbench.stats import Estimate, estimate
from psdbench.store.run import claim, job_folder, open_run
from psdbench.store.sealed import read_json, read_record, write_record
from psdbench.store.table import COST, read_result, read_scores
from psdbench.strict import build
from psdbench.tuning import tpe

FILE = "tuning.json"
OBJECTIVE = "true_preference"
"""what is tuned for on the embedded world"""
OTHER_PROMPTS = "tune on others, such as prompts/shapes-tuning.txt"


@dataclass(frozen=True)
class Trial:
    """One set of parameters and what it came to; without a `result`, `reason` says why it has none."""

    number: int
    """from 1 on"""
    params: dict[str, Any]
    """those that are searched"""
    result: Estimate | None = None
    """mean of the objective over the prompts, with its interval"""
    reason: str = ""
    seconds: float = 0.0
    """of optimisation, mean over the jobs"""
    denoiser_forwards: float = 0.0
    """mean over the jobs"""

    @property
    def value(self) -> float | None:
        """The mean of the objective."""
        return self.result.mean if self.result else None


@dataclass
class Study:
    """The search of one method: its space as text, all parameters of its first trial, and the trials so far."""

    space: dict[str, str]
    defaults: dict[str, Any]
    plugin: str = ""
    """sha256 of the source of a method from outside"""
    trials: list[Trial] = field(default_factory=list)

    def best(self, higher_is_better: bool) -> Trial | None:
        """The first trial with the best value; None where none has one."""
        sign = 1 if higher_is_better else -1
        known = [trial for trial in self.trials if trial.value is not None]
        return max(known, key=lambda trial: sign * (trial.value or 0.0), default=None)


@dataclass(frozen=True)
class Setup:
    """What all trials of all methods share; a folder holds one."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    objective: ScorerRef
    higher_is_better: bool
    protocol: str
    """hash"""
    length: str
    """of a job, for people"""
    lora: str = ""
    """sha256 of the LoRA of a finetuned prior"""


@dataclass
class Tuning:
    """A search, from the plan of its first trials on."""

    plan: Plan
    setup: Setup
    count: int
    """trials of each method"""
    spaces: dict[str, Space]
    studies: dict[str, Study]
    """of the methods of this tuning, and of others that were tuned into the same folder"""

    def run(self, execute: Callable[[list[Task]], object], say: Callable[[str], None]) -> None:
        """Do all trials that are left; `execute` brings jobs to their end, or raises Interrupted."""
        tpe.load_optuna()
        with claim(open_run(self.plan.out)) as mine:
            if not mine:
                raise UsageError(f"another process is tuning into {self.plan.out}", "wait for it")
            self._take_over(read_tuning(self.plan.out))
            for number in range(self.count):
                self._round(number, execute, say)
            self.save()

    def _round(
        self, number: int, execute: Callable[[list[Task]], object], say: Callable[[str], None]
    ) -> None:
        """The trial of that number, from 0 on, of every method that has not done it."""
        waiting = [name for name in self.spaces if len(self.studies[name].trials) == number]
        asked = {name: self._propose(name) for name in waiting}
        specs, refused = dict[str, list[JobSpec]](), dict[str, str]()
        for name, params in asked.items():
            say(f"{name}, trial {number + 1} of {self.count}: {shown(params)}")
            try:
                specs[name] = self.jobs(name, params)
            except UsageError as error:  # not every combination of a space is one that the method takes
                specs[name], refused[name] = [], str(error)
        if tasks := [self._task(spec) for name in waiting for spec in specs[name]]:
            execute(tasks)
        for name in waiting:
            trial = judge(self.plan.out, specs[name], self.setup.objective.id, refused.get(name, ""))
            trial = replace(trial, number=number + 1, params=asked[name])
            self.studies[name].trials.append(trial)
            outcome = trial.reason if trial.value is None else f"{trial.value:.6g}"
            say(f"{name}, trial {number + 1}: {self.setup.objective.id} {outcome}")
        if waiting:
            self.save()

    def jobs(self, method: str, params: dict[str, Any]) -> list[JobSpec]:
        """The jobs of a trial; UsageError when the method refuses the parameters."""
        resolved = resolve_params(method, self.studies[method].defaults | params)
        return [replace(spec, params=resolved) for spec in self.plan.jobs if spec.method == method]

    def _task(self, spec: JobSpec) -> Task:
        return Task(spec, job_folder(self.plan.out, spec), self.plan.metrics)

    def _propose(self, method: str) -> dict[str, Any]:
        """The parameters of a method's next trial: first its defaults, if they lie in the space."""
        study, space = self.studies[method], self.spaces[method]
        first = {key: study.defaults[key] for key in space}
        if not study.trials and all(value in space[key] for key, value in first.items()):
            return first
        seed = int(digest([method, study.space, len(study.trials)])[:8], 16)
        history = [(trial.params, trial.value) for trial in study.trials]
        return tpe.propose(space, history, seed, self.setup.higher_is_better)

    def _take_over(self, stored: dict[str, Any]) -> None:
        """Continue what the folder holds; UsageError where that is another tuning."""
        if not stored:
            return
        setup, studies = _read(stored, self.plan.out / FILE)
        _refuse_other(identity(setup), identity(self.setup), self.plan.out)
        for name, study in studies.items():
            if name in self.spaces:
                _refuse_other(_subject(study), _subject(self.studies[name]), self.plan.out, f"{name}'s ")
            done = len(study.trials)
            if done > self.count or (name not in self.spaces and done != self.count):
                raise UsageError(
                    f"{self.plan.out} has {done} trials of '{name}', which is not {self.count} for every method",
                    "give all its methods, and as many --trials as any of them has",
                )
        self.studies = studies | {k: v for k, v in self.studies.items() if k not in studies}

    def save(self) -> None:
        """Write tuning.json."""
        content = {
            "sampler": tpe.version(),
            "setup": asdict(self.setup),
            "methods": {name: asdict(study) for name, study in self.studies.items()},
        }
        write_record(self.plan.out / FILE, content)


def make_tuning(
    config: RunConfig, count: int, spaces: Sequence[str] = (), fixed: Iterable[tuple[str, str]] = ()
) -> Tuning:
    """Plan a tuning; the objective is the one metric of `config`. UsageError names what is wrong.

    `spaces` are ``TABLE.KEY=RANGE`` texts; `fixed` names parameters, by table and key, that are not searched.
    """
    if count < 1:
        raise UsageError(f"{count} trials are none", "for example --trials 20")
    if not config.metrics:
        config = replace(config, metrics=(_default_objective(config.prior),))
    plan = make_plan(config)
    if len(plan.metrics) != 1:
        raise UsageError("a tuning has one objective", f"for example --objective {OBJECTIVE}")
    prompts, seeds = dict.fromkeys(s.prompt for s in plan.jobs), dict.fromkeys(s.seed for s in plan.jobs)
    refuse_reported(prompts)
    first = {spec.method: spec for spec in plan.jobs}
    searched = search_spaces(list(first), spaces, fixed)
    studies = {
        name: Study(
            {key: str(dimension) for key, dimension in searched[name].items()},
            spec.params,
            spec.plugin.sha256 if spec.plugin else "",
        )
        for name, spec in first.items()
    }
    objective, length = scorer_ref(plan.metrics[0]), str(Budget.of(plan.protocol.optimize))
    higher = load_scorer(objective.id).higher_is_better
    lora = plan.jobs[0].lora.sha256 if plan.jobs[0].lora else ""
    setup = Setup(tuple(prompts), tuple(seeds), objective, higher, plan.protocol.hash, length, lora)
    return Tuning(plan, setup, count, searched, studies)


def refuse_reported(prompts: Iterable[str]) -> None:
    """Raise UsageError for a prompt of a set whose results are reported: all but those named -tuning and smoke.

    The prompts count, not the name of their file: a copy of a reported set is one, too.
    """
    reported = dict[str, str]()
    for name, path in shipped_sets().items():
        if not name.endswith("-tuning") and name != "smoke":
            reported |= {text.casefold(): name for text in read_prompts([str(path)]).texts}
    for prompt in prompts:
        if found := reported.get(prompt.casefold()):
            raise UsageError(f"'{prompt}' is in the set '{found}', which is for reporting", OTHER_PROMPTS)


def judge(out: Path, specs: Sequence[JobSpec], objective: str, refused: str = "") -> Trial:
    """What the jobs of a trial came to: no value unless every view of every job has a score."""
    scores, costs = dict[tuple[str, int], float](), list[dict[str, Any]]()
    reasons = [refused] if refused else []
    for spec in specs:
        folder = job_folder(out, spec)
        manifest = read_result(folder)[1]
        costs.append(read_json(folder / COST) or {})
        if manifest is None or manifest.status != "finished":
            reasons.append(f"{folder.name} {manifest.status}: {manifest.reason}" if manifest else folder.name)
            continue
        entry = read_scores(folder, manifest)[objective]
        mean = Score(entry["sha256"], entry["higher_is_better"], tuple(entry["values"])).mean
        if mean is None:
            reasons.append(f"{folder.name}: {objective} gave no score for some views")
        else:
            scores[spec.prompt, spec.seed] = mean
    seconds, forwards = (
        fmean([cost.get(name, 0) for cost in costs] or [0.0]) for name in ("seconds", "denoiser_forwards")
    )
    result = None if reasons else estimate(scores, scale(objective))
    return Trial(0, {}, result, next(iter(reasons), ""), round(seconds, 3), forwards)


def shown(params: dict[str, Any]) -> str:
    """``guidance_scale 7.5, weighting sds``."""
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in params.items())


def _default_objective(prior: str) -> str:
    if registry.split_prior(prior)[0] == registry.WORLD:
        return OBJECTIVE
    raise UsageError("this prior has no objective by default", "give a metric: --objective METRIC")


def _subject(study: Study) -> dict[str, Any]:
    """What must agree for a study to be continued."""
    return identity({"space": study.space, "defaults": study.defaults, "plugin": study.plugin})  # type: ignore[no-any-return]


def _refuse_other(stored: dict[str, Any], asked: dict[str, Any], out: Path, whose: str = "") -> None:
    """Raise UsageError with the names of what differs."""
    if names := [key for key in asked if stored[key] != asked[key]]:
        raise UsageError(
            f"{out} holds another tuning: {whose}{', '.join(names)} differ",
            "choose another folder with --out",
        )


def read_tuning(folder: Path) -> dict[str, Any]:
    """What tuning.json holds, empty without one; CorruptResult when it is not what was written."""
    return read_record(folder / FILE, {}) or {}


def _read(stored: dict[str, Any], path: Path) -> tuple[Setup, dict[str, Study]]:
    """The parts of a stored tuning.json; CorruptResult when it has another form."""
    try:
        studies = {name: build(Study, study, FILE) for name, study in stored["methods"].items()}
        return build(Setup, stored["setup"], FILE), studies
    except (KeyError, AttributeError, TypeError, UsageError) as error:
        raise CorruptResult(f"{path} is corrupt: {error}", "move it away; the jobs beside it stay") from error
