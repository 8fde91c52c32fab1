"""The controls of a run: `controls.json` in its folder says which of its metrics rank known faults as they must.

It is made after the jobs, from the weights that made the scores, and made again when these change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench import registry
from psdbench.errors import CorruptResult
from psdbench.scorers import load_scorer
from psdbench.scorers.declared import VERSION, Outcome, sees
from psdbench.store.run import job_folders
from psdbench.store.sealed import corrupt, read_record, remedied, write_record
from psdbench.store.table import read_result, read_scores

if TYPE_CHECKING:
    from psdbench.config import JobSpec
    from psdbench.scorers import Scorer
    from psdbench.scorers.asset import AssetViews

CONTROLS = "controls.json"
UNRELATED = "a photograph of a crowded street at night"
"""the wrong prompt of a run with a single one"""
_done: dict[str, dict[str, Any]] = {}
"""what the scorers of this process, by their hash, made of the embedded world's controls, which never change"""


def check_metrics(
    run: Path, metrics: Iterable[str], scorer_of: Callable[[str], Scorer] = load_scorer
) -> None:
    """Try the metrics of a run on its controls and write `controls.json`; what is there and current stays.

    `scorer_of` brings the scorer of an id; one that has loaded them already saves reading the weights again.
    Nothing is written for a run without a finished job. Raises EnvironmentProblem when weights are missing.
    """
    asked = [name for name in dict.fromkeys(metrics) if sees(name)]
    finished = list(_finished(run)) if asked else []
    if not finished:
        return
    source = _source(finished)
    stored = _stored(run)
    if (stored.get("version"), stored.get("good")) != (VERSION, source):
        stored = {}
    entries: dict[str, Any] = dict(stored.get("metrics", {}))
    controls: list[dict[str, AssetViews]] = []
    for name in asked:
        scorer = scorer_of(name)
        if entries.get(name, {}).get("sha256") != scorer.sha256:
            controls = controls or _controls(source, finished)
            entries[name] = _entry(scorer, controls, source)
    content = {"version": VERSION, "good": source, "metrics": entries}
    if content != stored:
        write_record(run / CONTROLS, content)


def controls_anew(run: Path, scorers: Iterable[Scorer]) -> dict[str, Outcome]:
    """What scorers make of the controls that `controls.json` was made from; nothing is written."""
    scorers, finished, stored = list(scorers), list(_finished(run)), _stored(run)
    if not (scorers and finished and stored):
        return {}
    source = stored["good"]
    controls = _controls(source, finished)
    return {scorer.id: _outcome(_entry(scorer, controls, source)) for scorer in scorers}


def read_controls(run: Path) -> dict[str, tuple[str, Outcome]]:
    """By metric the hash of its weights and what it made of the controls; empty where none were made.

    Raises CorruptResult for a file that is not what was written.
    """
    with remedied("run: psdbench score RUN"):
        content = read_record(run / CONTROLS, {}) or {}
        try:
            entries = content["metrics"].items() if content else ()
            return {str(name): (str(entry["sha256"]), _outcome(entry)) for name, entry in entries}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise corrupt(run / CONTROLS, str(error)) from error


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    means = {str(k): None if value is None else float(value) for k, value in entry["means"].items()}
    return Outcome(bool(entry["higher_is_better"]), means, tuple(map(str, entry["missed"])))


def _stored(run: Path) -> dict[str, Any]:
    """What is there; a damaged file is made again."""
    try:
        read_controls(run)
        return read_record(run / CONTROLS, {}) or {}
    except CorruptResult:
        return {}


def _entry(scorer: Scorer, controls: list[dict[str, AssetViews]], source: str) -> dict[str, Any]:
    from psdbench.scorers.controls import judge

    if source == registry.WORLD and scorer.sha256 in _done:
        return _done[scorer.sha256]
    outcome = judge(scorer, controls)
    entry = {
        "sha256": scorer.sha256,
        "higher_is_better": scorer.higher_is_better,
        "means": outcome.means,
        "missed": list(outcome.missed),
    }
    if source == registry.WORLD:
        _done[scorer.sha256] = entry
    return entry


def _finished(run: Path) -> Iterable[tuple[Path, JobSpec, Mapping[str, Any]]]:
    """Folder, job and scores of every finished job that verifies."""
    for folder in job_folders(run):
        try:
            spec, manifest = read_result(folder)
            if manifest and manifest.status == "finished":
                yield folder, spec, read_scores(folder, manifest)
        except CorruptResult:
            continue  # the report names it


def _source(finished: list[tuple[Path, JobSpec, Mapping[str, Any]]]) -> str:
    """Where the good asset comes from: the world, where it knows all prompts, else the best-known job by name.

    That is the one with the best mean rank over all metrics; an asset can be chosen by them and yet be told by
    them from its own faults, or not.
    """
    from psdbench.world.grammar import in_vocabulary

    if all(in_vocabulary(spec.prompt) for _, spec, _ in finished):
        return registry.WORLD
    ranks: dict[str, list[float]] = {folder.name: [] for folder, _, _ in finished}
    for metric in sorted({name for _, _, scores in finished for name in scores}):
        means = {
            folder.name: sum(values) / len(values) * (1 if entry["higher_is_better"] else -1)
            for folder, _, scores in finished
            if (entry := scores.get(metric)) and None not in (values := entry["values"])
        }
        for rank, name in enumerate(sorted(means, key=lambda name: (-means[name], name))):
            ranks[name].append(rank / len(means))
    best = {name: sum(each) / len(each) if each else 1.0 for name, each in ranks.items()}
    return min(best, key=lambda name: (best[name], name))


def _controls(
    source: str, finished: list[tuple[Path, JobSpec, Mapping[str, Any]]]
) -> list[dict[str, AssetViews]]:
    from psdbench.foreign import rig
    from psdbench.job.evaluate import read_asset_views
    from psdbench.scorers.controls import controls_of, world_controls

    if source == registry.WORLD:
        return list(world_controls())
    folder, spec = next((folder, spec) for folder, spec, _ in finished if folder.name == source)
    others = sorted({other.prompt for _, other, _ in finished} - {spec.prompt})
    good = read_asset_views(folder, spec.prompt, rig(spec))
    return [controls_of(good, others[0] if others else UNRELATED)]
