"""Recovery: of a damaged job folder exactly the sound part is used, the rest is set aside and named."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_jobs import SPEC, commit

from psdbench.config import JobSpec
from psdbench.store.manifest import MANIFEST, STAGES, Manifest, read_manifest, read_stages, write_stages
from psdbench.store.recover import recover
from psdbench.store.run import JOB, job_folder, read_job

ORDER = ("optimize", "render", "score")


def examine(job: Path, spec: JobSpec = SPEC) -> tuple[set[str], Manifest | None, list[str]]:
    notes: list[str] = []
    files, manifest = recover(job, spec, ORDER, notes.append)
    return {entry.stage for entry in files.values()}, manifest, notes


def test_a_sound_job_is_left_alone(job: Path) -> None:
    stages, manifest, notes = examine(job)
    assert stages == set(ORDER)
    assert manifest is not None
    assert notes == []
    assert not (job / "quarantine").exists()


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("asset.safetensors", set()),
        ("renders/view_00.png", {"optimize"}),
        ("scores.json", {"optimize", "render"}),
    ],
)
def test_a_bad_file_costs_its_stage_and_the_later_ones(job: Path, name: str, left: set[str]) -> None:
    (job / name).write_bytes(b"damaged")
    stages, manifest, notes = examine(job)
    assert stages == left
    assert manifest is None
    assert len(notes) == 1
    assert name in notes[0]
    assert "quarantine" in notes[0]
    assert ((job / name).parent / "quarantine" / f"{Path(name).name}.0").read_bytes() == b"damaged"


@pytest.mark.parametrize("name", [MANIFEST, STAGES])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}'])
def test_one_lost_record_loses_no_stage(job: Path, name: str, content: bytes) -> None:
    (job / name).write_bytes(content)
    stages, manifest, notes = examine(job)
    assert stages == set(ORDER)
    assert (manifest is None) == (name == MANIFEST)
    assert len(notes) == 1
    assert (job / "quarantine" / f"{name}.0").read_bytes() == content


def test_an_old_record_does_not_condemn_a_good_file(job: Path) -> None:
    """A run killed between two writes: one record is newer than the other, both are honest."""
    owner, staged = read_stages(job)
    asset = staged["asset.safetensors"]
    write_stages(job, owner, {**staged, "asset.safetensors": dataclasses.replace(asset, size=501)})
    stages, manifest, notes = examine(job)
    assert stages == set(ORDER)
    assert manifest is not None
    assert notes == []


def test_a_foreign_manifest_does_not_count(run: Path) -> None:
    other = JobSpec("a blue cube", "sds", {}, 0, SPEC.protocol)
    job = commit(run)
    (job / MANIFEST).write_bytes((commit(run, other) / MANIFEST).read_bytes())
    _, manifest, notes = examine(job)
    assert manifest is None
    assert "another job" in notes[0]


def test_a_folder_under_the_name_of_another_gives_it_nothing(run: Path) -> None:
    """Two job folders swapped by hand: every file verifies, and none is that of the job."""
    other = dataclasses.replace(SPEC, seed=1)
    commit(run, other).rename(job_folder(run, SPEC))
    stages, manifest, notes = examine(job_folder(run, SPEC))
    assert (stages, manifest) == (set(), None)
    assert [note.split(" is that of another job")[0].split("/")[-1] for note in notes] == [
        JOB,
        MANIFEST,
        STAGES,
    ]
    assert read_job(job_folder(run, SPEC)) == SPEC


@pytest.mark.parametrize("content", [b"", b"{}", b'{"id": "x"}'])
def test_job_json_is_written_anew(job: Path, content: bytes) -> None:
    (job / JOB).write_bytes(content)
    _, manifest, notes = examine(job)
    assert manifest is not None
    assert "quarantine" in notes[0]
    assert read_job(job) == SPEC


def test_links_are_not_followed(job: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"png" * 100)
    (job / "renders" / "view_00.png").unlink()
    (job / "renders" / "view_00.png").symlink_to(victim)
    stages, _, notes = examine(job)
    assert stages == {"optimize"}
    assert "symbolic link" in notes[0]
    assert victim.read_bytes() == b"png" * 100


@pytest.mark.parametrize("name", ["renders", "quarantine", "log.txt"])
def test_links_in_a_job_folder_are_removed(job: Path, tmp_path: Path, name: str) -> None:
    """Nothing is ever written through one."""
    elsewhere = tmp_path / "elsewhere"
    shutil.rmtree(job / "renders") if name == "renders" else None
    elsewhere.mkdir()
    (job / name).symlink_to(elsewhere)
    _, _, notes = examine(job)
    assert "is a symbolic link" in notes[0]
    assert not (job / name).is_symlink()
    assert list(elsewhere.iterdir()) == []


MUTATIONS: list[Callable[[Path, random.Random], None]] = [
    lambda path, rng: path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)]),
    lambda path, rng: path.write_bytes(b""),
    lambda path, rng: path.write_bytes(flip(path.read_bytes(), rng)),
    lambda path, rng: path.write_bytes(b"[1, 2]"),
    lambda path, rng: path.unlink(),
]


def flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_thirty_mutations_never_yield_a_wrong_result(run: Path) -> None:
    """Whatever happens to any file: no exception, and what is trusted afterwards is what was written."""
    rng = random.Random(1)
    original = {p.relative_to(j): p.read_bytes() for j in [commit(run)] for p in j.rglob("*") if p.is_file()}
    for _ in range(30):
        job = commit(run)
        name = rng.choice(sorted(original))
        rng.choice(MUTATIONS)(job / name, rng)
        notes: list[str] = []
        files, manifest = recover(job, SPEC, ORDER, notes.append)
        assert all((job / trusted).read_bytes() == original[Path(trusted)] for trusted in files)
        if manifest is not None and manifest.status == "finished":
            assert set(files) == set(read_manifest(job).files)  # type: ignore[union-attr]
