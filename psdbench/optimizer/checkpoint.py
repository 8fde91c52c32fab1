"""Checkpoints of one job: safetensors files that prove their own integrity; the newest sound one counts.

Each carries in its metadata the job's id and a sha256 over everything else it holds. A file that does not
verify is moved to `quarantine/` with a warning and the one before it is taken: damage costs a few steps.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from psdbench.errors import CorruptResult
from psdbench.store import atomic
from psdbench.store.manifest import quarantine

FORMAT = 2
"""raised when the names or meanings of the tensors change"""
KEEP = 2
PATTERN = "checkpoint-*.safetensors"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The state of an optimisation after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    """by dotted names; the first part says what they belong to"""
    facts: dict[str, Any]
    """what fits into JSON"""

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors below ``name.``, without that prefix."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): t for key, t in self.tensors.items() if key.startswith(prefix)}


def save(folder: Path, job: str, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint of a job atomically, then remove all but the newest two."""
    path = folder / f"checkpoint-{checkpoint.step:06d}.safetensors"
    head = {"format": FORMAT, "job": job, "step": checkpoint.step, "facts": checkpoint.facts}
    head |= {"sha256": _digest(head, checkpoint.tensors)}
    metadata = {"psdbench": json.dumps(head, sort_keys=True, allow_nan=False)}
    atomic.write_tensors(path, checkpoint.tensors, metadata)
    for old in newest_first(folder)[KEEP:]:
        old.unlink()
    return path


def load_newest(folder: Path, job: str) -> Checkpoint | None:
    """The newest checkpoint of this job that verifies, on the CPU; None when there is none."""
    for path in newest_first(folder):
        try:
            return read(path, job)
        except CorruptResult as error:
            quarantine(path)
            logger.warning("%s; it is set aside and the checkpoint before it, if any, is used", error)
    return None


def newest_first(folder: Path) -> list[Path]:
    """The checkpoint files of a job folder."""
    return sorted(folder.glob(PATTERN), reverse=True)


def read(path: Path, job: str) -> Checkpoint:
    """Read and verify one checkpoint; raises CorruptResult when it is damaged or of another job."""
    try:
        if path.is_symlink():
            raise CorruptResult("it is a symbolic link")
        with safe_open(path, framework="pt") as file:
            head = json.loads((file.metadata() or {})["psdbench"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        if head.pop("sha256") != _digest(head, tensors):
            raise CorruptResult("its content does not match its sha256")
        if (head["format"], head["job"]) != (FORMAT, job):
            raise CorruptResult("it is of another job or version")
        return Checkpoint(head["step"], tensors, head["facts"])
    except (SafetensorError, OSError, ValueError, KeyError, CorruptResult) as error:
        raise CorruptResult(f"{path.name} is unusable: {error}", "run the same command again") from error


def _digest(head: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """sha256 (hex) of the head and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
