"""Run folders as the program writes them: real job files, PNGs and manifests; the scores are made up.

Files are written without the flushing of `store.atomic`, which would take most of the time of the tests.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from psdbench.config import EvaluateConfig, JobSpec, OptimizeConfig, PriorRef, Protocol, ScorerRef
from psdbench.store.manifest import Manifest, record, write_manifest
from psdbench.store.run import job_folder, read_job, write_job

PROMPTS = ("a red cube", "a blue sphere", "a green cone on top of a yellow cube")
METHODS = ("sds", "psd")
VIEWS = 9
REWARD = ScorerRef("hps_shapes", "a" * 64)
PROTOCOL = Protocol(
    prior=PriorRef("shapes", "b" * 64),
    reward=REWARD,
    optimize=OptimizeConfig(steps=10),
    evaluate=EvaluateConfig(size=32),
)
SCORERS = {
    "hps_shapes": (REWARD.sha256, 0.28, 0.02),
    "clip_shapes": ("c" * 64, 27.0, 0.5),
    "true_preference": ("d" * 64, 1.0, 0.1),
    "shape_accuracy": ("e" * 64, 1.0, 0.0),
}
"""hash, level, and what psd gains over sds"""


@dataclass
class RunMaker:
    """Writes jobs into a run folder."""

    run: Path

    def job(
        self, method: str, prompt: str, seed: int = 0, protocol: Protocol = PROTOCOL, **params: Any
    ) -> Path:
        """The folder of a new job, unfinished."""
        spec = JobSpec(prompt, method, {"guidance_scale": 7.5, **params}, seed, protocol)
        folder = job_folder(self.run, spec)
        folder.mkdir(parents=True)
        write_job(folder, spec)
        return folder

    def finished(
        self, method: str, prompt: str, seed: int = 0, scores: dict[str, Any] | None = None, **params: Any
    ) -> Path:
        """A finished job with renders, scores, cost and manifest."""
        folder = self.scored(method, prompt, seed, scores, **params)
        rng = random.Random(f"{prompt} {seed} {method}")
        for view in range(VIEWS):
            write_png(folder / "renders" / f"view_{view:02d}.png", rng)
        (folder / "turntable.mp4").write_bytes(b"not played here")
        self.commit(folder, "finished")
        return folder

    def scored(
        self, method: str, prompt: str, seed: int = 0, scores: dict[str, Any] | None = None, **params: Any
    ) -> Path:
        """A finished job whose pictures are lost."""
        folder = self.job(method, prompt, seed, **params)
        rng = random.Random(f"{prompt} {seed} {method} cost")
        write_json(folder / "scores.json", made_up(method, prompt, seed) if scores is None else scores)
        calls = 0 if method == "sds" else 40
        cost = {
            "seconds": rng.uniform(1, 2),
            "peak_memory_mb": 600.0,
            "steps": 10,
            "gradient_rms_median": 0.25 if method == "sds" else 1.5,
            "seconds_by_part": {"render": 0.2},
        }
        counters = {"denoiser_forwards": 20 + calls, "decodes": calls, "reward_forwards": calls}
        write_json(folder / "cost.json", {**cost, **counters})
        self.commit(folder, "finished")
        return folder

    def diverged(self, method: str, prompt: str, seed: int = 0, reason: str = "NaN in the gradient") -> Path:
        """A job that has ended without a result."""
        folder = self.job(method, prompt, seed)
        self.commit(folder, "diverged", reason, 7)
        return folder

    def commit(self, folder: Path, status: Any, reason: str = "", step: int | None = None) -> None:
        """Write the manifest over all files there are."""
        spec = read_job(folder)
        names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
        files = record(folder, (name for name in names if name not in ("job.json", "manifest.json")), "score")
        write_manifest(folder, Manifest(status, spec.id, spec.protocol.hash, files, reason, step))


def write_png(path: Path, rng: random.Random) -> None:
    """A coloured disc on white."""
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    pixels = np.full((32, 32, 3), 255, dtype=np.uint8)
    pixels[x**2 + y**2 < 0.5] = [rng.randrange(256) for _ in range(3)]
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


def made_up(method: str, prompt: str, seed: int) -> dict[str, Any]:
    """Scores per view: levels differ by prompt and seed, and psd gains a little."""
    common = random.Random(f"{prompt} {seed}")
    own = random.Random(f"{prompt} {seed} {method}")
    result = {}
    for scorer, (sha256, level, gain) in SCORERS.items():
        base = level * (1 + 0.1 * common.random()) + (gain * own.uniform(0.8, 1.2) if method == "psd" else 0)
        values = [base + 0.01 * level * own.random() for _ in range(VIEWS)]
        if scorer == "shape_accuracy":
            values = [float(own.random() < 0.9) for _ in values]
        result[scorer] = {"sha256": sha256, "higher_is_better": True, "values": values}
    return result


def write_json(path: Path, value: Any) -> None:
    """A JSON file."""
    path.write_text(json.dumps(value), encoding="utf-8")
