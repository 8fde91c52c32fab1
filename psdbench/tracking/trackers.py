"""Where a run can be mirrored to, W&B and TensorBoard, and all that they are shown of it."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from psdbench.cli.output import say
from psdbench.config import identity
from psdbench.report.document import TURNTABLE
from psdbench.report.results import Score
from psdbench.store.sealed import read_json
from psdbench.store.table import COST, read_result, read_scores

INIT_SECONDS = 30.0
"""how long W&B's server may take to answer, where WANDB_INIT_TIMEOUT does not say"""
CURVE_POINTS = 1000
"""steps of a curve, at most; longer ones are thinned out evenly"""
CURVES = ("loss", "gradient_rms", "opacity", "learning_rate", "timestep", "denoiser_forwards")


@dataclass(frozen=True)
class Facts:
    """All that a tracker is shown of a job."""

    name: str
    id: str
    method: str
    config: dict[str, Any]
    status: str
    curves: tuple[dict[str, float], ...]
    """by step"""
    scores: dict[str, Score]
    cost: dict[str, float]
    turntable: Path | None

    @property
    def results(self) -> dict[str, float]:
        """Scores, as means over the views where all have one, and costs."""
        means = {f"score/{scorer}": score.mean for scorer, score in self.scores.items()}
        known = {name: mean for name, mean in means.items() if mean is not None}
        return known | {f"cost/{name}": value for name, value in self.cost.items()}


class Tracker(Protocol):
    """Where a run is mirrored to."""

    def has(self, id: str, name: str) -> bool:
        """Whether a job, by its id and its folder's name, was mirrored before."""
        ...

    def job(self, facts: Facts) -> None:
        """Mirror a job."""
        ...

    def summary(self, rows: list[dict[str, Any]]) -> None:
        """Mirror the table of the report."""
        ...


@dataclass
class Wandb:
    """One W&B run a job, with the job's id, in the group of the run; and one with the table of the report."""

    run: Path
    mode: str = field(default_factory=lambda: os.environ.get("WANDB_MODE", "offline"))

    def has(self, id: str, name: str) -> bool:
        """Whether there is a folder of that run, uploaded or not."""
        return any((self.run / "wandb").glob(f"*run-*-{id}"))

    @contextmanager
    def _begun(self, id: str, name: str, kind: str, config: dict[str, Any]) -> Iterator[Any]:
        """A W&B run; offline from now on, where the server or the key for it is missing."""
        import wandb

        told = {"id": id, "name": name, "job_type": kind, "config": config}
        try:
            begun = self._init(told)
        except wandb.Error as error:
            if self.mode != "online":
                raise
            self.mode = "offline"
            reason = str(error).strip().splitlines()[0]
            say(f"note: wandb: {reason}; it goes on offline, later: wandb sync {self.run / 'wandb'}/*")
            wandb.teardown()  # else the id counts as one in use
            begun = self._init(told)
        with begun:
            yield begun

    def _init(self, told: dict[str, Any]) -> Any:
        import wandb

        limit: dict[str, Any] = {} if "WANDB_INIT_TIMEOUT" in os.environ else {"init_timeout": INIT_SECONDS}
        quiet = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_save_requirements=False,
            **limit,
        )
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "psdbench"),
            group=self.run.name,
            resume="allow",
            dir=str(self.run),
            mode=self.mode,  # type: ignore[arg-type]
            settings=quiet,
            **told,
        )

    def job(self, facts: Facts) -> None:
        """Curves, scores by view, their means and the costs, and the turntable."""
        import wandb

        with self._begun(facts.id, facts.name, facts.method, facts.config) as begun:
            for point in (each for each in facts.curves if each["step"] >= begun.step):
                begun.log({k: v for k, v in point.items() if k != "step"}, step=int(point["step"]))
            rows = [[s, view, v] for s, score in facts.scores.items() for view, v in enumerate(score.values)]
            shown: dict[str, Any] = {"scores": wandb.Table(columns=["scorer", "view", "value"], data=rows)}
            if facts.turntable:
                shown["turntable"] = wandb.Video(str(facts.turntable), format="mp4")
            begun.log(shown)
            begun.summary.update({"status": facts.status, **facts.results})

    def summary(self, rows: list[dict[str, Any]]) -> None:
        """The table of the report."""
        import wandb

        columns: list[str | int] = list(rows[0]) if rows else []
        with self._begun(f"summary-{self.run.name}", self.run.name, "summary", {}) as begun:
            data = [[row[str(column)] for column in columns] for row in rows]
            begun.log({"comparison": wandb.Table(columns=columns, data=data)})


@dataclass
class Tensorboard:
    """One folder of scalars a job, in RUN/tensorboard."""

    run: Path

    def has(self, id: str, name: str) -> bool:
        """Whether there is a folder of that job."""
        return (self.run / "tensorboard" / name).is_dir()

    def job(self, facts: Facts) -> None:
        """Curves, and the means of the scores and the costs at the last step."""
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.run / "tensorboard" / facts.name)) as writer:
            for point in facts.curves:
                for name in CURVES:
                    writer.add_scalar(name, point[name], int(point["step"]))
            for name, value in facts.results.items():
                writer.add_scalar(name, value, len(facts.curves))

    def summary(self, rows: list[dict[str, Any]]) -> None:
        """Nothing: TensorBoard compares the jobs by itself."""


TRACKERS: dict[str, type[Wandb] | type[Tensorboard]] = {"wandb": Wandb, "tensorboard": Tensorboard}


def facts(folder: Path) -> Facts:
    """What a tracker is shown of a job's folder; CorruptResult when that is not what was written."""
    spec, manifest = read_result(folder)
    scores = read_scores(folder, manifest) if manifest else {}
    cost = read_json(folder / COST) or {}
    turntable = folder / TURNTABLE
    parts = {"prompt": spec.prompt, "method": spec.method, "seed": spec.seed, "params": spec.params}
    return Facts(
        name=folder.name,
        id=spec.id,
        method=spec.label,
        config={**parts, "protocol": identity(spec.protocol), "protocol_hash": spec.protocol.hash},
        status=manifest.status if manifest else "unfinished",
        curves=_curves(folder / "trace.csv"),
        scores={
            scorer: Score(entry["sha256"], entry["higher_is_better"], tuple(entry["values"]))
            for scorer, entry in scores.items()
        },
        cost={name: value for name, value in cost.items() if isinstance(value, int | float)},
        turntable=turntable if turntable.is_file() else None,
    )


def _curves(trace: Path) -> tuple[dict[str, float], ...]:
    if not trace.is_file():
        return ()
    with trace.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    stride = max(1, -(-len(rows) // CURVE_POINTS))
    kept = [row for index, row in enumerate(rows) if index % stride == 0 or index == len(rows) - 1]
    return tuple({name: float(row[name]) for name in ("step", *CURVES)} for row in kept)
