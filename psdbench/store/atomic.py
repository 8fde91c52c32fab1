"""Files that are there completely or not at all, also after a crash or a loss of power.

Pattern: write a temporary file in the same folder, flush it to the disk, rename it over the target, flush the
folder. Readers therefore see the old content or the new, never a part. A killed writer leaves at most a file
`.name.*.tmp`, which `sweep` removes. Folders and targets that are symbolic links are refused by the manifest
reader, not here. Cost: two fsyncs a file, a few milliseconds on a local disk.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psdbench.errors import EnvironmentProblem

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when the block ends well it becomes `path`, else vanishes.

    For writers that want a file name (an mp4 encoder, PIL, safetensors); the temporary name keeps the suffix.
    Raises EnvironmentProblem when the folder cannot be written or the disk is full.
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
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


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys, atomically; NaN and infinity are refused with a ValueError."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a flat dict of tensors as safetensors, atomically."""
    from safetensors.torch import save_file

    contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, metadata=metadata)


def write_with(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, then make it `path` atomically."""
    with replacing(path) as temporary:
        write(temporary)


def sweep(folder: Path) -> list[Path]:
    """Remove what killed writers left directly in `folder`; call it only while holding the folder's lock."""
    left = [p for pattern in (".*.tmp", ".*.tmp.*") for p in folder.glob(pattern) if p.is_file()]
    for path in left:
        path.unlink(missing_ok=True)
    return left


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {path}: {error.strerror or error}",
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
