"""Proof of a run: its files are those of its manifests, its scores are those of its renders, its report follows.

Nothing is believed that can be computed again without optimising or rendering: every score is made anew by the
scorer with the same weights, and every table of the report from the scores. All that is needed is on the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from psdbench.errors import CorruptResult, EnvironmentProblem, UsageError
from psdbench.store.manifest import problems, read_stages
from psdbench.store.run import existing_run, job_folders
from psdbench.store.sealed import read_json
from psdbench.store.table import read_result, read_scores

if TYPE_CHECKING:
    from psdbench.config import JobSpec
    from psdbench.job import Models

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


def verify(run: Path, models: Models, tell: Callable[[str], None] = lambda job: None) -> Proof:
    """Check a run folder; `tell` hears of each job before it is scored. UsageError when it is none."""
    proof = Proof()
    for folder in job_folders(existing_run(run)):
        try:
            _verify_job(folder, models, proof, tell)
        except CorruptResult as error:
            proof.wrong.append(str(error))
    try:
        if not proof.wrong and (run / "report" / "table.json").is_file():
            _verify_report(run, proof)
    except (CorruptResult, UsageError) as error:
        proof.wrong.append(f"{run / 'report'}: {error}")
    return proof


def file_problems(folder: Path) -> list[str]:
    """What of a job's records and committed files is not as it was written; empty when all is well."""
    try:
        spec, manifest = read_result(folder)
        owner, _ = read_stages(folder)
    except CorruptResult as error:
        return [str(error)]
    wrong = problems(folder, manifest.files) if manifest else {}
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
        anew = _score_anew(folder, spec, scorer, entry["sha256"], models, proof)
        if anew is not None:
            _compare(f"{folder.name}: {scorer}", entry["values"], anew, proof)


def _score_anew(
    folder: Path, spec: JobSpec, name: str, sha256: str, models: Models, proof: Proof
) -> Values | None:
    """What the scorer says of the stored renders; None when these weights are not here."""
    from psdbench.evaluate import read_asset_views
    from psdbench.foreign import rig
    from psdbench.scorers.asset import score_views

    try:
        scorer = models.scorer(name)
        if scorer.sha256 == sha256:
            return score_views(scorer, read_asset_views(folder, spec.prompt, rig(spec)))
        reason = f"{name}: the weights here have sha256 {scorer.sha256[:12]}, the scores {sha256[:12]}"
    except (EnvironmentProblem, UsageError) as error:
        reason = f"{name}: {error}"
    if reason not in proof.unproven:
        proof.unproven.append(reason)
    return None


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


def _verify_report(run: Path, proof: Proof) -> None:
    """Make the tables again, with the baseline of those that are there, and compare them byte by byte."""
    from psdbench.report import FOLDER, build_report
    from psdbench.report.tables import cost_csv

    folder = run / FOLDER
    baseline = (read_json(folder / "table.json") or {}).get("baseline")
    made = build_report([run], baseline)
    texts = {
        "table.json": made.text("json"),
        "table.csv": made.text("csv"),
        "cost.csv": cost_csv(made.results),
    }
    document = _read(folder / "report.md")
    missing = [block for block in made.text("md").strip().split("\n\n") if block not in document]
    wrong = [name for name, text in texts.items() if _read(folder / name) != text]
    wrong += ["report.md"] if missing else []
    proof.tables += len(texts) + 1 - len(wrong)
    proof.wrong += [
        f"{folder / name} is not what the scores give; make it anew: psdbench report {run}" for name in wrong
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
