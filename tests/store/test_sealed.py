"""Records: every change is found, what older versions wrote is read, what later ones wrote is left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from finished_jobs import SCORES, SPEC

from psdbench.config import digest
from psdbench.errors import CorruptResult, EnvironmentProblem
from psdbench.store.manifest import MANIFEST, problems, read_manifest
from psdbench.store.recover import recover
from psdbench.store.run import JOB, job_folder, read_job
from psdbench.store.sealed import SCHEMA_VERSION
from psdbench.store.table import load_table, read_scores

GOLDEN = Path(__file__).parent / "golden"
ORDER = ("optimize", "render", "score")


def test_there_is_a_golden_folder_of_every_version() -> None:
    assert sorted(p.name for p in GOLDEN.iterdir()) == [f"schema-{n + 1}" for n in range(SCHEMA_VERSION)]


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_results_of_every_version_are_read_and_continued(tmp_path: Path, version: int) -> None:
    """These folders were written by the program of their time and never change."""
    run = shutil.copytree(GOLDEN / f"schema-{version}", tmp_path / "run")
    table, job = load_table(run), job_folder(run, SPEC)
    assert table["status"].tolist() == ["finished"] * 4 + ["diverged"]
    assert table["value"].tolist()[2:4] == SCORES["hps_shapes"]["values"]
    manifest = read_manifest(job)
    assert manifest is not None
    assert read_scores(job, manifest) == SCORES
    assert problems(job, manifest.files) == {}
    notes: list[str] = []
    files, recovered = recover(job, SPEC, ORDER, notes.append)
    assert (files, recovered, notes) == (manifest.files, manifest, [])


def test_old_stages_of_an_unknown_job_do_not_count(tmp_path: Path) -> None:
    """Version 1 did not say whose they are: they need the job.json that belongs to them."""
    job = job_folder(shutil.copytree(GOLDEN / "schema-1", tmp_path / "run"), SPEC)
    (job / MANIFEST).unlink()
    assert len(recover(job, SPEC, ORDER, lambda note: None)[0]) == 3
    (job / JOB).write_text("{}")
    assert recover(job, SPEC, ORDER, lambda note: None) == ({}, None)


@pytest.mark.parametrize("name", [MANIFEST, JOB, "stages.json"])
def test_every_value_of_a_record_is_sealed(job: Path, name: str) -> None:
    """Also those that are no part of a job's identity, such as where its prior lies."""
    content = (job / name).read_text()
    read = read_job if name == JOB else lambda folder: recover(folder, SPEC, ORDER, _refuse)
    changed = content.replace('"folder": ""', '"folder": "x"').replace('"size": 500', '"size": 501')
    changed = changed.replace('"reason": ""', '"reason": "x"')
    assert changed != content
    (job / name).write_text(changed)
    with pytest.raises(CorruptResult, match="seal"):
        read(job)


def test_a_record_of_a_later_version_is_not_touched(job: Path) -> None:
    data = json.loads((job / MANIFEST).read_text()) | {"schema_version": SCHEMA_VERSION + 1}
    data.pop("seal")
    content = json.dumps({**data, "seal": digest(data)})
    (job / MANIFEST).write_text(content)
    with pytest.raises(EnvironmentProblem, match="later psdbench") as caught:
        recover(job, SPEC, ORDER, _refuse)
    assert "update psdbench" in caught.value.remedy
    assert (job / MANIFEST).read_text() == content


def _refuse(note: str) -> None:
    raise CorruptResult(note)
