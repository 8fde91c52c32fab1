"""What a report is made of: the verified results of run folders, by protocol, each with one set of scorers.

A report of ten thousand jobs is to fit into half a gigabyte: words that all jobs have are kept once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from sys import intern
from typing import Any

from psdbench.config import JobSpec, Protocol, identity
from psdbench.errors import CorruptResult, UsageError
from psdbench.store.manifest import Manifest, result_problems
from psdbench.store.run import JOB, existing_run, job_folders, read_job
from psdbench.store.sealed import read_json
from psdbench.store.table import COST, SCORES, SHARE, SNAPSHOTS, UNFINISHED, read_result, read_scores

FINISHED, CORRUPT = "finished", "corrupt"
ACCURACY, MAJORITY = "shape_accuracy", "shape_majority"
ELSEWHERE = "‡"
"""marks the label of a method whose renders were made elsewhere"""


@dataclass(frozen=True, slots=True)
class Score:
    """What one scorer said of the views of one job; None marks a view without a score."""

    sha256: str
    higher_is_better: bool
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """The mean over the views; None unless every view has a score, so that none is left out unseen."""
        known = [value for value in self.values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(self.values) else None


@dataclass(frozen=True)
class Snapshot:
    """A job on its way: the share of its length that was done, what had been spent, and its mean scores by metric."""

    share: float
    cost: dict[str, float]
    means: dict[str, float]


@dataclass(frozen=True)
class Result:
    """A job and what came of it; `label` is its method, with parameters where variants stand side by side."""

    folder: Path
    spec: JobSpec
    status: str
    reason: str = ""
    label: str = ""
    scores: dict[str, Score] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    snapshots: tuple[Snapshot, ...] = ()
    """in their order"""

    @property
    def key(self) -> tuple[str, int]:
        """Prompt and seed: what two methods are paired by."""
        return self.spec.prompt, self.spec.seed

    @property
    def foreign(self) -> bool:
        """Whether the renders were made elsewhere, by an optimizer that the other jobs do not share."""
        return self.spec.foreign is not None


def read_runs(runs: Sequence[Path]) -> list[Result]:
    """All jobs of runs that follow one protocol, each once, sorted by method, prompt and seed.

    Raises UsageError when there is nothing to report, or when jobs cannot stand in one comparison.
    """
    groups = read_protocols(runs)
    if len(groups) > 1:
        protocols = [group[0].spec.protocol for group in groups if not group[0].foreign]
        named = "; ".join(
            f"{key} ({', '.join(sorted(set(map(shown, values))))})"
            for key, values in differing_fields(protocols).items()
        )
        raise UsageError(
            f"the jobs follow {len(protocols)} protocols and cannot be compared; they differ in {named}",
            "name runs of one protocol",
        )
    return groups[0]


def read_protocols(runs: Sequence[Path]) -> list[list[Result]]:
    """All jobs of runs, each once, by protocol in the order of the runs; sorted by method, prompt and seed.

    Renders made elsewhere follow no protocol of ours: they stand beside the jobs of a single one, and in a last
    group of their own where there are several. Raises UsageError when there are no jobs, or where one scorer
    name stands for different weights within a group.
    """
    found: dict[str, Result] = {}
    protocols: dict[str, Protocol] = {}
    for run in runs:
        for folder in job_folders(existing_run(run)):
            result = _read(folder)
            if result and (result.spec.id not in found or result.status == FINISHED):
                found[result.spec.id] = _sharing(result, protocols)
    if not found:
        names = ", ".join(map(str, runs))
        raise UsageError(f"no jobs in {names}", "start them with: psdbench run")
    groups: dict[str, list[Result]] = {}
    for result in found.values():
        groups.setdefault("" if result.foreign else result.spec.protocol.hash, []).append(result)
    foreign = groups.pop("", [])
    parts = [next(iter(groups.values()), []) + foreign] if len(groups) < 2 else [*groups.values(), foreign]
    return [_in_order(part) for part in parts if part]


def _sharing(result: Result, protocols: dict[str, Protocol]) -> Result:
    """The result with one object for all equal protocols: of ten thousand jobs they would be most of the memory."""
    protocol = result.spec.protocol
    shared = protocols.setdefault(protocol.hash, protocol)
    return replace(result, spec=replace(result.spec, protocol=shared)) if shared is not protocol else result


def _in_order(results: Iterable[Result]) -> list[Result]:
    """Results with their labels, by method, prompt and seed; renders made elsewhere come last."""
    methods: dict[tuple[bool, str], list[Result]] = {}
    for result in results:
        methods.setdefault((result.foreign, _name(result)), []).append(result)
    labelled = [result for key in sorted(methods) for result in _variants(key[1], methods[key])]
    _refuse_mixed_scorers(labelled)
    return labelled


def _variants(name: str, results: Sequence[Result]) -> list[Result]:
    """Results of one method, labelled by the settings in which they differ, in the order of these settings' values."""
    settings = [_settings(result.spec) for result in results]
    differing = _differences(settings)
    placed = [
        ([_rank(own.get(key)) for key in differing], result.key, _label(name, own, differing), result)
        for result, own in zip(results, settings, strict=True)
    ]
    placed.sort(key=lambda each: each[:2])
    return [replace(result, label=label) for _, _, label, result in placed]


def _rank(value: Any) -> tuple[bool, float, str]:
    """A key by which numbers are sorted by their size, before everything else."""
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, str(value)


def _read(folder: Path) -> Result | None:
    """One job; None for a folder that is claimed but empty. What does not verify counts as corrupt."""
    if not (folder / JOB).exists():
        return None
    try:
        spec, manifest = read_result(folder)
    except CorruptResult as error:
        return Result(folder, read_job(folder), CORRUPT, str(error))
    if manifest is None:
        return Result(folder, spec, UNFINISHED)
    try:
        cost = _cost(folder, manifest)
        if manifest.status == FINISHED:
            shots = tuple(_snapshots(folder, manifest))
            return Result(
                folder, spec, FINISHED, scores=_scores(folder, manifest), cost=cost, snapshots=shots
            )
    except CorruptResult as error:
        return Result(folder, spec, CORRUPT, str(error))
    step = "" if manifest.step is None else f" (step {manifest.step})"
    return Result(folder, spec, manifest.status, f"{manifest.reason}{step}", cost=cost)


def _scores(folder: Path, manifest: Manifest) -> dict[str, Score]:
    scores = {
        intern(scorer): Score(intern(entry["sha256"]), entry["higher_is_better"], tuple(entry["values"]))
        for scorer, entry in read_scores(folder, manifest).items()
    }
    if ACCURACY in scores:
        scores[MAJORITY] = _majority(scores[ACCURACY])
    return scores


def _majority(accuracy: Score) -> Score:
    """1 for an asset that more than half of its views show rightly, else 0."""
    share = accuracy.mean
    return replace(accuracy, values=(None if share is None else float(share > 0.5),))


def _cost(folder: Path, manifest: Manifest) -> dict[str, float]:
    """The numbers of cost.json: counters, seconds, memory; empty without the file."""
    content = _verified(folder, COST, manifest)
    return {intern(name): value for name, value in content.items() if isinstance(value, int | float)}


def _snapshots(folder: Path, manifest: Manifest) -> Iterator[Snapshot]:
    """The snapshots that the manifest names, with the scores of all views."""
    for name in sorted(name for name in manifest.files if Path(name).match(f"{SNAPSHOTS}/*/{COST}")):
        cost = _verified(folder, name, manifest)
        scores = _verified(folder, str(Path(name).with_name(SCORES)), manifest)
        entries = {id: Score("", True, tuple(entry["values"])).mean for id, entry in scores.items()}
        means = {id: mean for id, mean in entries.items() if mean is not None}
        yield Snapshot(float(cost.pop(SHARE)), cost, means)


def _verified(folder: Path, name: str, manifest: Manifest) -> dict[str, Any]:
    """A JSON file of a job, empty where its manifest has none; CorruptResult where it is not that of the manifest."""
    if wrong := result_problems(folder, manifest, [name]):
        raise CorruptResult(f"{folder / name} {wrong[name]}", "run the same command again: it is redone")
    return (read_json(folder / name) or {}) if name in manifest.files else {}


def _name(result: Result) -> str:
    return f"{result.spec.label}{ELSEWHERE}" if result.foreign else result.spec.label


def _settings(spec: JobSpec) -> dict[str, Any]:
    """What sets variants of one method apart: parameters, its own source, and which LoRA its prior carries."""
    sources = {"plugin": spec.plugin, "lora": spec.lora}
    return {**spec.params, **{name: shown(ref.sha256) for name, ref in sources.items() if ref}}


def _label(name: str, settings: Mapping[str, Any], differing: Mapping[str, list[Any]]) -> str:
    shown = ", ".join(
        f"{key}={_short(settings.get(key, 'default'), values)}" for key, values in differing.items()
    )
    return f"{name}({shown})" if shown else name


def _short(value: Any, among: Iterable[Any]) -> Any:
    """A number with as few digits, at least three, as tell it apart from the others; anything else as it is."""
    numbers = {each for each in among if isinstance(each, float)}
    if not isinstance(value, float):
        return value
    for digits in range(3, 17):
        if len({f"{each:.{digits}g}" for each in numbers}) == len(numbers):
            return float(f"{value:.{digits}g}")
    return value


def _differences(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The keys in which settings differ, each with the values that occur."""
    keys = sorted({key for one in settings for key in one})
    values = {key: [one.get(key) for one in settings] for key in keys}
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted keys: ``optimize.steps``."""
    items: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, Mapping) and bool(value)
        items |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return items


def differing_fields(protocols: Sequence[Protocol]) -> dict[str, list[Any]]:
    """The fields in which protocols differ, by dotted name, each with its values in the order given."""
    return _differences([flat(identity(protocol)) for protocol in protocols])


def shown(value: Any) -> str:
    """The value of a field for people; of a hash its first twelve digits."""
    text = str(value)
    return text[:12] if len(text) == 64 else text  # a hash


def _refuse_mixed_scorers(results: Sequence[Result]) -> None:
    hashes: dict[str, set[str]] = {}
    for result in results:
        for scorer, score in result.scores.items():
            hashes.setdefault(scorer, set()).add(score.sha256)
    mixed = sorted(scorer for scorer, found in hashes.items() if len(found) > 1)
    if mixed:
        raise UsageError(
            f"scores by different weights stand under one name: {', '.join(mixed)}",
            "score the runs again with the same weights: psdbench score RUN",
        )
