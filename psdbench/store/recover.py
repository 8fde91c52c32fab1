"""What of a job folder can be trusted: everything else is moved to `quarantine/` and named in a note."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from psdbench.config import JobSpec
from psdbench.errors import CorruptResult
from psdbench.store.manifest import (
    MANIFEST,
    STAGES,
    FileRecord,
    Manifest,
    problems,
    quarantine,
    read_manifest,
    read_stages,
)
from psdbench.store.run import JOB, read_job, write_job

Note = Callable[[str], None]


def recover(
    folder: Path, spec: JobSpec, order: Sequence[str], note: Note
) -> tuple[dict[str, FileRecord], Manifest | None]:
    """The verified files of complete stages, and the manifest when it is valid and says the same.

    `order` names the stages: when a file of one is bad, the later ones are not trusted either, for they were
    made from it. Call it only while holding the folder's claim.
    """
    _remove_links(folder, note)
    ours = _ensure_job_file(folder, spec, note)
    manifest, staged = None, dict[str, FileRecord]()
    with _quarantined(folder / MANIFEST, note):
        found = read_manifest(folder)
        if found and found.job != spec.id:
            raise CorruptResult(f"{folder / MANIFEST} is that of another job")
        manifest = found
    with _quarantined(folder / STAGES, note):
        job, found_files = read_stages(folder)
        if found_files and job != spec.id and (job or not ours):
            raise CorruptResult(f"{folder / STAGES} is that of another job")
        staged = found_files
    committed = manifest.files if manifest else {}
    files, broken = _trusted(folder, staged, committed, note)
    first = min((order.index(stage) for stage in broken if stage in order), default=len(order))
    files = {name: entry for name, entry in files.items() if entry.stage in order[:first]}
    return files, manifest if files == committed else None


def _trusted(
    folder: Path, staged: dict[str, FileRecord], committed: dict[str, FileRecord], note: Note
) -> tuple[dict[str, FileRecord], set[str]]:
    """Files as one of the two records says they are (`staged` is the newer), and the stages of the others."""
    files, broken = dict[str, FileRecord](), set[str]()
    for name in {**committed, **staged}:
        candidates = [records[name] for records in (staged, committed) if name in records]
        wrong = [problems(folder, {name: entry}).get(name) for entry in candidates]
        if None in wrong:
            files[name] = candidates[wrong.index(None)]
            continue
        moved = quarantine(_link_above(folder, name) or folder / name)
        note(f"{folder / name} {wrong[0]}{_place(moved)}; it is made again")
        broken |= {entry.stage for entry in candidates}
    return files, broken


def _remove_links(folder: Path, note: Note) -> None:
    """No symbolic link in a job folder is ours, and through one we would write elsewhere."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            note(f"{path} is a symbolic link to {path.readlink()}, removed")
            path.unlink()


def _link_above(folder: Path, name: str) -> Path | None:
    """The first symbolic link on the way from the job folder to a file of it."""
    parts = Path(name).parts
    ways = (folder.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1))
    return next((way for way in ways if way.is_symlink()), None)


def _ensure_job_file(folder: Path, spec: JobSpec, note: Note) -> bool:
    """Make sure that job.json is there and tells of this job; False when another one was in its place."""
    path, ours = folder / JOB, False
    with _quarantined(path, note):
        if path.exists() and read_job(folder).id != spec.id:
            raise CorruptResult(f"{path} is that of another job")
        ours = path.exists()
    if not path.exists():
        write_job(folder, spec)
    return ours


@contextmanager
def _quarantined(path: Path, note: Note) -> Iterator[None]:
    """Read `path` in the block; when that finds it corrupt, move it away and say so."""
    try:
        yield
    except CorruptResult as error:
        note(f"{error}{_place(quarantine(path))}; only what is missing is redone")


def _place(moved: Path | None) -> str:
    return f", moved to {moved.parent}" if moved else ""
