"""Job folders as `psdbench run` leaves it, with small files."""

from __future__ import annotations

from pathlib import Path

from psdbench.config import JobSpec, PriorRef, Protocol
from psdbench.store import atomic
from psdbench.store.manifest import Manifest, record, write_manifest, write_stages
from psdbench.store.run import job_folder, write_job

SPEC = JobSpec("a red cube", "sds", {"guidance_scale": 7.5}, 0, Protocol(PriorRef("shapes", "ab" * 32)))
SCORES = {
    "clip_shapes": {"sha256": "00", "higher_is_better": True, "values": [1.5, None]},
    "hps_shapes": {"sha256": "11", "higher_is_better": True, "values": [0.25, 0.5]},
}


def commit(run: Path, spec: JobSpec = SPEC, scores: dict[str, object] = SCORES) -> Path:
    """Write a finished job into a run folder."""
    folder = job_folder(run, spec)
    write_job(folder, spec)
    atomic.write_bytes(folder / "asset.safetensors", b"asset" * 100)
    atomic.write_bytes(folder / "renders" / "view_00.png", b"png" * 100)
    atomic.write_json(folder / "scores.json", scores)
    files = record(folder, ["asset.safetensors"], "optimize")
    files |= record(folder, ["renders/view_00.png"], "render")
    files |= record(folder, ["scores.json"], "score")
    write_stages(folder, spec.id, files)
    write_manifest(folder, Manifest("finished", spec.id, spec.protocol.hash, files))
    return folder
