"""sha256 of files and of model folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

MODEL_FILES = {".safetensors", ".json", ".txt", ".model"}
"""endings of the files that decide what a model computes; pictures and read-me files do not"""


def sha256_file(path: Path) -> str:
    """sha256 (hex) of one file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_files(folder: Path) -> dict[str, str]:
    """Relative path to sha256 of every file in `folder` that decides what the model computes."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix in MODEL_FILES)
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in files}


def folder_sha256(*folders: Path) -> str:
    """One sha256 over the model files of one or several folders; names and contents count, places do not."""
    listing = {
        f"{i}/{name}": sha for i, folder in enumerate(folders) for name, sha in model_files(folder).items()
    }
    return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()
