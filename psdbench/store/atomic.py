"""Files that are there completely or not at all, also after a crash or a loss of power.

Pattern: write a temporary file in the same folder, flush it to the disk, rename it over the target, flush the
folder. Readers therefore see the old content or the new, never a part. A killed writer leaves at most a file
`.name.*.tmp`, which `sweep` removes. A target that is a symbolic link is replaced, not followed. Whatever the
disk refuses becomes an EnvironmentProblem ``stopped: disk``: the file that was there stays, the run ends and
continues once there is room. Cost: two fsyncs a file, a few milliseconds on a local disk.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench.errors import EnvironmentProblem

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when the block ends well it becomes `path`, else vanishes.

    For writers that want a file name, such as an mp4 encoder or PIL; the temporary name keeps the suffix. They
    must fail when the disk is full. Raises EnvironmentProblem when the folder cannot be written or is full.
    """
    with explained(path):
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write text as UTF-8 with line feeds, atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_texts(path: Path, parts: Iterable[str]) -> None:
    """Write a text that is too large to be in memory at once, part by part as UTF-8, atomically."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            file.write(part.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys, atomically; NaN and infinity are refused with a ValueError."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a flat dict of tensors as safetensors, atomically.

    By way of bytes: safetensors' own writer reports a full disk as an error of the format.
    """
    from safetensors.torch import save

    contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    write_bytes(path, save(contiguous, metadata))


def write_with(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, then make it `path` atomically."""
    with replacing(path) as temporary:
        write(temporary)


def sweep(folder: Path, below: str = "") -> list[Path]:
    """Remove what `left_over` finds; call it only while holding the folder's lock."""
    left = left_over(folder, below)
    for path in left:
        path.unlink(missing_ok=True)
    return left


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each entry flushed to the disk; OSError where that fails."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _flush(folder.parent)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text for people; not atomic: a killed writer may leave a part of it."""
    with explained(path), path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def left_over(folder: Path, below: str = "") -> list[Path]:
    """What killed writers left directly in `folder`; with ``**/`` for `below` also in the folders in it."""
    found = (p for pattern in (".*.tmp", ".*.tmp.*") for p in folder.glob(f"{below}{pattern}"))
    return [path for path in found if path.is_file()]


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the disk refuses in the block, a write to `path`, into an EnvironmentProblem."""
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(
            f"stopped: disk: cannot write {path}: {error.strerror or error}",
            "free some disk space or choose another folder with --out, then run the same command again",
        ) from error


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
