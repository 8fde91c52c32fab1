"""`verify` finds any number that the renders do not give; `prune` takes nothing that anybody needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from psdbench.store import atomic
from psdbench.store.manifest import read_manifest, record, write_manifest
from psdbench.store.table import load_table


def change_scores(job: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change scores.json and commit it as if it had come out so."""
    manifest, scores = read_manifest(job), json.loads((job / "scores.json").read_text())
    change(scores["true_preference"])
    atomic.write_json(job / "scores.json", scores)
    assert manifest is not None
    write_manifest(job, replace(manifest, files=manifest.files | record(job, ["scores.json"], "score")))


def test_every_number_is_proven_or_found_wrong(
    program: Callable, small: list[object], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    program("run", *small)
    program("report", run)
    done = program("verify", run)
    assert done.code == 0, done.err
    assert "2 finished jobs" in done.out
    assert "53 scores made anew (largest difference 0), 10 files of the report: proven" in done.out
    assert "psdbench verify: not run on these results" in (run / "report" / "report.md").read_text()
    program("report", run)
    assert "psdbench verify: proven: 2 jobs, " in (run / "report" / "report.md").read_text()
    assert "psdbench verify: proven: 2 jobs, " in (run / "report" / "report.html").read_text()
    assert "10 files of the report: proven" in program("verify", run).out
    for name, old in [("scores.csv", "."), ("table.tex", "."), ("report.html", "true_preference")]:
        path = run / "report" / name
        content = path.read_text()
        path.write_text(content.replace(old, "7", 1))
        done = program("verify", run, "--json")
        assert (done.code, len(json.loads(done.out)["wrong"])) == (5, 1)
        assert f"{name} is not what the scores give" in done.err
        path.write_text(content)
    program("report", run, "--format", "md", "--output", run / "report")
    assert "psdbench verify: 1 wrong, " in (run / "report" / "report.md").read_text()
    job = next((run / "jobs").iterdir())
    change_scores(job, lambda entry: entry["values"].__setitem__(3, entry["values"][3] + 0.01))
    done = program("verify", run)
    assert done.code == 5
    assert f"error: {job.name}: true_preference, view 3: " in done.err
    (job / "renders" / "view_00.png").write_bytes(b"no picture")
    done = program("verify", run)
    assert done.code == 5
    assert "view_00.png has 10 bytes instead of" in done.err


def test_what_cannot_be_made_anew_is_not_proven(
    program: Callable, small: list[object], tmp_path: Path
) -> None:
    program("run", *small)
    for job in (tmp_path / "run" / "jobs").iterdir():
        change_scores(job, lambda entry: entry.update(sha256="0" * 64))
    done = program("verify", tmp_path / "run")
    assert done.code == 4
    assert done.err.count("not proven: true_preference: the weights here have sha256 ") == 1
    assert "35 scores made anew" in done.out, "ground_truth's, and the controls of both"


def test_prune_takes_waste_only(program: Callable, small: list[object], tmp_path: Path) -> None:
    program("run", *small, "--keep-checkpoints")
    run = tmp_path / "run"
    job, other = sorted((run / "jobs").iterdir())
    (other / "manifest.json").unlink()  # as if it had been killed before
    (job / "renders" / "quarantine").mkdir()
    (job / "renders" / "quarantine" / "view_00.png.0").write_bytes(b"bad" * 1000)
    (job / "renders" / ".view_00.x1.tmp.png").write_bytes(b"half")
    before = {p for p in run.rglob("*") if p.is_file()}
    done = program("prune", run, "--dry-run", "--json")
    expected = {
        job / "checkpoint-000003.safetensors": "checkpoint of a job that has ended",
        job / "renders" / "quarantine" / "view_00.png.0": "set aside as damaged",
        job / "renders" / ".view_00.x1.tmp.png": "left by a killed writer",
    }
    assert {Path(f["path"]): f["why"] for f in json.loads(done.out)["files"]} == expected
    assert "3 files, " in done.err
    assert {p for p in run.rglob("*") if p.is_file()} == before
    assert program("prune", run).code == 0
    assert before - {p for p in run.rglob("*") if p.is_file()} == set(expected)
    assert not (job / "renders" / "quarantine").exists()
    assert program("prune", run).err == "0 files, 0.0 MB removed\n"
    table = load_table(run)
    assert set(table["status"]) == {"finished", "unfinished"}
    assert "started" in program("run", *small).err, "the other one is continued"
    assert load_table(run)["value"].notna().all()
