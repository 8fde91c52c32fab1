"""Proof of a run: its files are those of its manifests, its scores are those of its renders, its report follows.

Nothing is believed that can be computed again without optimising or rendering: every score is made anew by the
scorer with the same weights, and every table of the report from the scores. All that is needed is on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench.errors import CorruptResult, EnvironmentProblem, UsageError
from psdbench.foreign.ratings import stored_ratings
from psdbench.optimizer.snapshots import taken
from psdbench.store.manifest import read_stages, result_problems
from psdbench.store.run import existing_run, job_folders, read_run
from psdbench.store.sealed import read_json
from psdbench.store.table import SCORES, read_result, read_scores
from psdbench.validity import CONTROLS, controls_anew, read_controls

if TYPE_CHECKING:
    from psdbench.config import JobSpec
    from psdbench.job import Models
    from psdbench.scorers import Scorer

REPORT = "report"
TOLERANCE = 1e-4
"""largest difference of a score made anew, as a share of 1 or of the score where that is larger: another machine
rounds sums differently; the same one on the same number of threads gives the same bits"""
Values = list[float | None]


@dataclass
class Proof:
    """What was checked, and what was found wrong or could not be checked."""

    jobs: int = 0
    """finished ones"""
    files: int = 0
    scores: int = 0
    """values that were made anew, one per scorer and view"""
    deviation: float = 0.0
    """the largest difference, as `TOLERANCE` counts it"""
    tables: int = 0
    """files of the report that are what the scores give"""
    wrong: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    """scorers whose weights are not here, each told once"""


def verify(
    run: Path,
    models: Models,
    tell: Callable[[str], None] = lambda job: None,
    votes: Sequence[Path] = (),
) -> Proof:
    """Check a run folder; `tell` hears of each job before it is scored. UsageError when it is none.

    `votes` are the files that its report was made with.
    """
    proof = Proof()
    for folder in job_folders(existing_run(run)):
        try:
            _verify_job(folder, models, proof, tell)
        except CorruptResult as error:
            proof.wrong.append(str(error))
    proof.wrong += record_problems(run)
    _verify_controls(run, models, proof)
    if not proof.wrong and (run / REPORT).is_dir():
        from psdbench.report.proof import check_report

        proof.tables, wrong = check_report(run, votes)
        proof.wrong += wrong
    return proof


def record_problems(run: Path) -> list[str]:
    """What of the records beside the jobs is not as it was written; empty when all is well."""
    found, readers = list[str](), list[Callable[[Path], object]]([read_run, read_controls, stored_ratings])
    if (run / "study" / "key.json").exists():
        from psdbench.study.votes import read_key

        readers.append(read_key)
    for read in readers:
        try:
            read(run)
        except CorruptResult as error:
            found.append(str(error))
    return found


def file_problems(folder: Path) -> list[str]:
    """What of a job's records and committed files is not as it was written; empty when all is well."""
    try:
        spec, manifest = read_result(folder)
        owner, _ = read_stages(folder)
    except CorruptResult as error:
        return [str(error)]
    wrong = result_problems(folder, manifest) if manifest else {}
    found = [f"{folder / name} {what}" for name, what in wrong.items()]
    if folder.name != spec.folder_name or owner not in ("", spec.id):
        found.append(f"{folder} holds what belongs to another job")
    return found


def _verify_job(folder: Path, models: Models, proof: Proof, tell: Callable[[str], None]) -> None:
    if not any((folder / name).exists() for name in ("job.json", "manifest.json")):
        return  # claimed, but nothing written yet
    if wrong := file_problems(folder):
        proof.wrong += wrong
        return
    spec, manifest = read_result(folder)
    proof.files += len(manifest.files) if manifest else 0
    if manifest is None or manifest.status != "finished":
        return
    proof.jobs += 1
    tell(folder.name)
    for scorer, entry in read_scores(folder, manifest).items():
        _verify_score(folder, folder.name, spec, scorer, entry, models, proof)
    for place in taken(folder):  # their files are in the manifest, too, and were checked with it
        for scorer, entry in (read_json(place / SCORES) or {}).items():
            _verify_score(place, f"{folder.name}, step {place.name}", spec, scorer, entry, models, proof)


def _verify_score(
    place: Path, what: str, spec: JobSpec, scorer: str, entry: Any, models: Models, proof: Proof
) -> None:
    """Compare the scores of a job, or of a snapshot in it, to what its renders give."""
    anew = _score_anew(place, spec, scorer, entry["sha256"], models, proof)
    if anew is not None:
        _compare(f"{what}: {scorer}", entry["values"], anew, proof)


def _score_anew(
    folder: Path, spec: JobSpec, name: str, sha256: str, models: Models, proof: Proof
) -> Values | None:
    """What the scorer says of the stored renders; None when these weights are not here."""
    from psdbench.foreign import rig
    from psdbench.job.evaluate import read_asset_views
    from psdbench.scorers.asset import score_views

    scorer = _same_scorer(name, sha256, models, proof)
    if scorer is None:
        return None
    return score_views(scorer, read_asset_views(folder, spec.prompt, rig(spec)))


def _same_scorer(name: str, sha256: str, models: Models, proof: Proof) -> Scorer | None:
    """The scorer with these weights; None, told once, when they are not here."""
    try:
        scorer = models.scorer(name)
        if scorer.sha256 == sha256:
            return scorer
        reason = f"{name}: the weights here have sha256 {scorer.sha256[:12]}, the scores {sha256[:12]}"
    except (EnvironmentProblem, UsageError) as error:
        reason = f"{name}: {error}"
    if reason not in proof.unproven:
        proof.unproven.append(reason)
    return None


def _verify_controls(run: Path, models: Models, proof: Proof) -> None:
    """Let the metrics see their controls again."""
    if proof.wrong:
        return
    stored = read_controls(run)
    known = {name: _same_scorer(name, sha256, models, proof) for name, (sha256, _) in stored.items()}
    for name, anew in controls_anew(run, [scorer for scorer in known.values() if scorer]).items():
        old = stored[name][1]
        if old.means.keys() != anew.means.keys() or old.missed != anew.missed:
            proof.wrong.append(f"{run / CONTROLS}: {name} ranks its controls otherwise")
            continue
        faults = sorted(anew.means)
        before, after = ([each.means[fault] for fault in faults] for each in (old, anew))
        _compare(f"{CONTROLS}: {name}", before, after, proof)


def _compare(what: str, stored: Values, anew: Values, proof: Proof) -> None:
    proof.scores += len(anew)
    if len(stored) != len(anew):
        proof.wrong.append(f"{what} has {len(stored)} values for {len(anew)} views")
        return
    for view, (old, new) in enumerate(zip(stored, anew, strict=True)):
        if old is None or new is None:
            off = 0.0 if old is new else float("inf")
        else:
            off = abs(old - new) / max(1.0, abs(new))
        proof.deviation = max(proof.deviation, off if off < float("inf") else 0.0)
        if off > TOLERANCE:
            proof.wrong.append(f"{what}, view {view}: {old} is stored, its render gives {new}")
