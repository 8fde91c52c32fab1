"""What `psdbench verify` last found, kept in the run folder for its reports; void once any manifest has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from psdbench.store.manifest import MANIFEST
from psdbench.store.run import job_folders
from psdbench.store.sealed import read_record, write_record

if TYPE_CHECKING:
    from psdbench.verify import Proof

VERIFIED = "verified.json"


def keep(run: Path, proof: Proof) -> None:
    """Write RUN/verified.json; OSError where the folder cannot be written to."""
    found = {"jobs": proof.jobs, "files": proof.files, "scores": proof.scores}
    ended = {"wrong": len(proof.wrong), "unproven": len(proof.unproven)}
    write_record(run / VERIFIED, {"manifests": _state(run), **found, **ended})


def told(run: Path) -> str:
    """``proven: 4 jobs, 120 files, 900 scores anew``, or why not; CorruptResult for a damaged record."""
    found = read_record(run / VERIFIED, {})
    if found is None or found.get("manifests") != _state(run):
        return "not run on these results"
    if found["wrong"] or found["unproven"]:
        return f"{found['wrong']} wrong, {found['unproven']} scorers not here"
    return f"proven: {found['jobs']} jobs, {found['files']} files, {found['scores']} scores anew"


def _state(run: Path) -> str:
    """The hash of all manifests, which hold those of all files; it costs a read of each."""
    state = hashlib.sha256()
    for folder in job_folders(run):
        if (path := folder / MANIFEST).is_file():
            state.update(f"{folder.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return state.hexdigest()
