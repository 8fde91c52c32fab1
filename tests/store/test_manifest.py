"""Manifests: what was written is read back, every alteration is found, nothing bad is deleted."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from psdbench.config import digest
from psdbench.errors import CorruptResult
from psdbench.store.manifest import (
    MANIFEST,
    STATUSES,
    Manifest,
    problems,
    quarantine,
    read_manifest,
    read_stages,
    write_manifest,
)
from psdbench.store.sealed import SCHEMA_VERSION


def test_round_trip(job: Path) -> None:
    manifest = read_manifest(job)
    assert manifest is not None
    assert manifest.status == "finished"
    assert problems(job, manifest.files) == {}
    assert read_stages(job) == (manifest.job, manifest.files)


def test_no_manifest_is_not_an_error(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    assert read_stages(tmp_path) == ("", {})


@pytest.mark.parametrize("status", STATUSES)
def test_reason_and_step_are_kept(tmp_path: Path, status: str) -> None:
    write_manifest(tmp_path, Manifest(status, "a", "b", {}, "NaN in the loss", 7))  # type: ignore[arg-type]
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert (manifest.status, manifest.reason, manifest.step) == (status, "NaN in the loss", 7)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "\0\0\0",
        '{"schema_version": 1}',
        '{"schema_version": "2"}',
        '{"schema_version": 1, "status": "won", "job": "a", "protocol": "b", "files": {}}',
        '{"schema_version": 1, "status": "finished", "job": 3, "protocol": "b", "files": {}}',
        '{"schema_version": 1, "status": "finished", "job": "a", "protocol": "b", "files": []}',
        '{"schema_version": 1, "status": "finished", "job": "a", "protocol": "b", "files": {"x": 1}}',
        '{"schema_version": 1, "status": "finished", "job": "a", "protocol": "b", "files": {"../x": '
        '{"sha256": "", "size": 0, "stage": "score"}}}',
        '{"schema_version": 1, "status": "finished", "job": "a", "protocol": "b", "files": {}, "step": NaN}',
        '{"schema_version": 1, "status": "finished", "job": "a", "protocol": "b", "files": {}, "more": 1}',
        "[" * 100_000,
    ],
)
def test_what_is_not_a_manifest_is_refused(tmp_path: Path, content: str) -> None:
    """Also with a good seal, so that it is the form that is refused."""
    (tmp_path / MANIFEST).write_text(content)
    try:
        data = json.loads(content)
        (tmp_path / MANIFEST).write_text(json.dumps({**data, "seal": digest(data)}))
    except (TypeError, ValueError, RecursionError):
        pass
    with pytest.raises(CorruptResult, match="corrupt"):
        read_manifest(tmp_path)


def test_every_truncation_and_many_bit_flips_are_found(job: Path) -> None:
    """500 mutations: none is taken for a good manifest with other content."""
    original = (job / MANIFEST).read_bytes()
    good = read_manifest(job)
    rng = random.Random(0)
    cuts = [original[: rng.randrange(len(original) - 1)] for _ in range(250)]
    flips = []
    for _ in range(250):
        flipped = bytearray(original)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        flips.append(bytes(flipped))
    for content in cuts + flips:
        (job / MANIFEST).write_bytes(content)
        try:
            manifest = read_manifest(job)
        except CorruptResult:
            continue
        assert manifest == good


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("asset.safetensors", lambda p: p.write_bytes(b"x"), "has 1 bytes instead of 500"),
        ("asset.safetensors", lambda p: p.write_bytes(b"asseT" * 100), "another content"),
        ("asset.safetensors", lambda p: p.write_bytes(b""), "has 0 bytes"),
        ("scores.json", lambda p: p.unlink(), "is missing"),
        ("renders/view_00.png", lambda p: (p.unlink(), p.symlink_to("/etc/passwd")), "symbolic link"),
        ("renders/view_00.png", lambda p: (p.unlink(), p.mkdir()), "has"),
        ("renders/view_00.png", lambda p: linked(p.parent), "symbolic link"),
    ],
)
def test_altered_files_are_found(job: Path, name: str, change: object, problem: str) -> None:
    manifest = read_manifest(job)
    change(job / name)  # type: ignore[operator]
    found = problems(job, manifest.files)  # type: ignore[union-attr]
    assert list(found) == [name]
    assert problem in found[name]


def linked(folder: Path) -> None:
    """The folder elsewhere, with a link in its place."""
    elsewhere = folder.rename(folder.parent.parent / "elsewhere")
    folder.symlink_to(elsewhere)


def test_a_linked_manifest_is_refused(job: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.json"
    (job / MANIFEST).rename(target)
    (job / MANIFEST).symlink_to(target)
    with pytest.raises(CorruptResult, match="symbolic link"):
        read_manifest(job)


def test_quarantine_keeps_every_bad_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert quarantine(path) is None
    for content in ("one", "two"):
        path.write_text(content)
        quarantine(path)
    assert not path.exists()
    assert sorted(p.read_text() for p in (tmp_path / "quarantine").iterdir()) == ["one", "two"]


def test_manifest_is_readable_json(job: Path) -> None:
    data = json.loads((job / MANIFEST).read_text())
    assert data["schema_version"] == SCHEMA_VERSION
    assert data["files"]["scores.json"]["stage"] == "score"
