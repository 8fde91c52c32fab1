"""Pruning removes what was set aside, whatever that is, and nothing that lies elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from psdbench.store.manifest import problems, quarantine, read_manifest
from psdbench.store.prune import prune


def test_a_folder_that_was_set_aside_goes(job: Path) -> None:
    """As one is that stood in the place of a file, even with another such place in it."""
    bad = job / "renders" / "view_01.png"
    (bad / "quarantine").mkdir(parents=True)
    (bad / "quarantine" / "inner").write_bytes(b"bad")
    (bad / "link").symlink_to(job / "scores.json")
    quarantine(bad)
    found = prune(job, dry_run=True) or []
    assert sorted(waste.path.name for waste in found) == ["inner", "link"]
    prune(job, dry_run=False)
    assert not (job / "renders" / "quarantine").exists()
    manifest = read_manifest(job)
    assert manifest is not None
    assert problems(job, manifest.files) == {}


@pytest.mark.parametrize("place", [".", "renders"])
def test_nothing_is_removed_through_a_link(job: Path, tmp_path: Path, place: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (job / place / "quarantine").symlink_to(elsewhere)
    assert prune(job, dry_run=False) == []
    assert (elsewhere / "precious").read_text() == "x"
