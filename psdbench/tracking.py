"""A mirror of a run in Weights & Biases or TensorBoard: never the truth, and never in the way.

A process of its own copies what each job has left in its folder once the job has ended. Whatever goes wrong
there, an outage, a missing key, a crash, stays there: no job waits for it or fails with it. Only what `facts`
lists is shown, and nothing of the command line or the environment. W&B works offline unless WANDB_MODE says
otherwise; `wandb sync RUN/wandb/*` uploads later.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from psdbench.cli.output import say
from psdbench.config import identity
from psdbench.errors import EnvironmentProblem
from psdbench.job import Event
from psdbench.report.results import Score
from psdbench.store.run import JOBS
from psdbench.store.sealed import read_json
from psdbench.store.table import read_result, read_scores

PATIENCE = 300.0
"""seconds that the mirror may take for one job once all are done; W&B gives a start 90"""
PATIENCE_STOPPED = 2.0
"""the same when a signal has stopped the run: whoever sent it may not wait long"""
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

    def job(self, facts: Facts) -> None: ...

    def summary(self, rows: list[dict[str, Any]]) -> None: ...


@dataclass
class Wandb:
    """One W&B run a job, with the job's id, in the group of the run; and one with the table of the report."""

    run: Path

    @contextmanager
    def _begun(self, id: str, name: str, kind: str, config: dict[str, Any]) -> Iterator[Any]:
        import wandb

        quiet = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        begun = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "psdbench"),
            group=self.run.name,
            job_type=kind,
            name=name,
            id=id,
            resume="allow",
            config=config,
            dir=str(self.run),
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
            settings=quiet,
        )
        with begun:
            yield begun

    def job(self, facts: Facts) -> None:
        """Curves, scores by view, their means and the costs, and the turntable."""
        import wandb

        with self._begun(facts.id, facts.name, facts.method, facts.config) as begun:
            for point in facts.curves:
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

        columns = list(rows[0]) if rows else []
        with self._begun(f"summary-{self.run.name}", self.run.name, "summary", {}) as begun:
            data = [[row[column] for column in columns] for row in rows]
            begun.log({"comparison": wandb.Table(columns=columns, data=data)})


@dataclass
class Tensorboard:
    """One folder of scalars a job, in RUN/tensorboard."""

    run: Path

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


class Mirror:
    """The process that mirrors, as the one that runs jobs sees it."""

    def __init__(self, tracker: str, run: Path) -> None:
        if find_spec(tracker) is None:
            raise EnvironmentProblem(
                f"--track {tracker} needs the package '{tracker}'", f"pip install {tracker}, or leave it out"
            )
        context = multiprocessing.get_context("spawn")
        self.queue, self.done = context.Queue(), context.Value("i", 0)
        given = (self.queue, self.done, tracker, run.resolve())
        self.process = context.Process(target=serve, args=given, daemon=True)
        self.tracker = tracker

    def __enter__(self) -> Mirror:
        self.process.start()
        return self

    def tell(self, event: Event) -> None:
        """Pass on that a job has ended; returns at once."""
        if event.kind == "end":
            self.queue.put(event.job)

    def __exit__(self, kind: object, *error: object) -> None:
        self.queue.put(None)
        before, patience = -1, PATIENCE if kind is None else PATIENCE_STOPPED
        while self.process.is_alive() and self.done.value > before:
            before = self.done.value
            self.process.join(timeout=patience)
        if self.process.exitcode != 0:
            say(f"note: {self.tracker} did not get everything; the results are in the run folder")
            self.process.kill()
        self.queue.cancel_join_thread()


def serve(queue: Any, done: Any, tracker: str, run: Path) -> None:
    """Mirror jobs by folder name until None arrives, then the table; `done` counts them.

    An error costs what it hits, and is told once.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.argv = ["psdbench"]  # trackers store it, and arguments are nobody's business
    mirror, told = TRACKERS[tracker](run), False
    while True:
        name = queue.get()
        try:
            if name is None:
                mirror.summary(comparison(run))
                return
            mirror.job(facts(run / JOBS / name))
        except Exception as error:  # the mirror may break, the run goes on
            if not told:
                say(f"note: {tracker}: {type(error).__name__}: {error}")
            told = True
            if name is None:
                return
        done.value += 1


def facts(folder: Path) -> Facts:
    """What a tracker is shown of a job's folder; CorruptResult when that is not what was written."""
    spec, manifest = read_result(folder)
    scores = read_scores(folder, manifest) if manifest else {}
    cost = read_json(folder / "cost.json") or {}
    turntable = folder / "turntable.mp4"
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


def comparison(run: Path) -> list[dict[str, Any]]:
    """The rows of the report's table."""
    from psdbench.report import build_report
    from psdbench.report.tables import table_rows

    return [row for part in build_report([run]).parts for row in table_rows(part)]


def _curves(trace: Path) -> tuple[dict[str, float], ...]:
    if not trace.is_file():
        return ()
    with trace.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    stride = max(1, -(-len(rows) // CURVE_POINTS))
    kept = [row for index, row in enumerate(rows) if index % stride == 0 or index == len(rows) - 1]
    return tuple({name: float(row[name]) for name in ("step", *CURVES)} for row in kept)
