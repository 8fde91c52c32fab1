"""The table: one row per job, scorer and view; failures are rows; corrupt scores are never numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from finished_jobs import SPEC, commit

from psdbench.errors import CorruptResult, UsageError
from psdbench.store.manifest import Manifest, write_manifest
from psdbench.store.run import job_folder, write_job
from psdbench.store.table import COLUMNS, load_table


def test_rows_per_scorer_and_view(run: Path) -> None:
    commit(run)
    table = load_table(run)
    assert tuple(table.columns) == COLUMNS
    assert table[["scorer", "view"]].to_numpy().tolist() == [
        ["clip_shapes", 0],
        ["clip_shapes", 1],
        ["hps_shapes", 0],
        ["hps_shapes", 1],
    ]
    assert table["value"].tolist()[0] == 1.5
    assert table["value"].isna().tolist() == [False, True, False, False]
    assert set(table["status"]) == {"finished"}
    assert set(table["job"]) == {SPEC.id}


def test_jobs_without_scores_are_rows(run: Path) -> None:
    commit(run)
    diverged = dataclasses.replace(SPEC, seed=1)
    write_job(job_folder(run, diverged), diverged)
    write_manifest(
        job_folder(run, diverged), Manifest("diverged", diverged.id, diverged.protocol.hash, {}, "NaN", 3)
    )
    started = dataclasses.replace(SPEC, seed=2)
    write_job(job_folder(run, started), started)
    (run / "jobs" / "claimed").mkdir()
    table = load_table(run)
    rest = table[table["scorer"].isna()]
    assert rest[["seed", "status"]].to_numpy().tolist() == [[1, "diverged"], [2, "unfinished"]]
    assert rest["value"].isna().all()


def test_order_does_not_depend_on_the_order_of_work(run: Path, tmp_path: Path) -> None:
    specs = [dataclasses.replace(SPEC, seed=seed, prompt=prompt) for seed in (1, 0) for prompt in "ba"]
    for spec in specs:
        commit(run, spec)
    other = tmp_path / "other"
    for spec in reversed(specs):
        commit(other, spec)
    assert load_table(run).to_csv() == load_table(other).to_csv()


@pytest.mark.parametrize("name", ["scores.json", "manifest.json", "job.json"])
def test_damage_is_not_a_number(run: Path, name: str) -> None:
    job = commit(run)
    (job / name).write_text('{"clip_shapes": {"values": [9.0]}}')
    with pytest.raises(CorruptResult):
        load_table(run)


def test_empty_runs_and_foreign_folders(run: Path, tmp_path: Path) -> None:
    assert load_table(run).empty
    with pytest.raises(UsageError, match="is not a run folder"):
        load_table(tmp_path)
