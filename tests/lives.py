"""Lives of one `psdbench run`: child processes that die by SIGKILL, what each was doing, and what it has lost.

Each life is a process group of its own, forked from a server that has imported the libraries, so that it is at
work at once. One of the two methods writes down every step that it begins, before it makes it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from psdbench.config import slug
from psdbench.store.manifest import problems, read_manifest, read_stages
from psdbench.store.prune import CHECKPOINTS

EVERY, STEPS = 4, 16
"""steps between two checkpoints, steps of a job"""
PATIENCE = 300.0
"""seconds until a life that neither begins nor ends is an error"""
SMOKE = Path(__file__).parent.parent / "prompts" / "smoke.txt"
COUNTED = '''\
"""SDS that writes down its steps."""

import os

from psdbench.guidance import method
from psdbench.methods.sds import SDS


@method("counted", paper="none")
class Counted(SDS):
    """SDS that writes down its steps."""

    def gradient(self, step):
        if not hasattr(step.prior, "folder"):  # the forecast of memory tries a method without the prior of the run
            return super().gradient(step)
        log = os.open(os.environ["STEPS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, f"{step.index} {step.prompt}\\n".encode())
        os.close(log)
        return super().gradient(step)
'''
SIZES = {"voxels.resolution": 12, "optimize.size": 32, "evaluate.size": 32, "evaluate.turntable_frames": 4}
SMALL = [word for name, value in SIZES.items() for word in ("--set", f"{name}={value}")]
LIBRARIES = [
    *("psdbench.optimizer.loop", "psdbench.job.evaluate"),
    *("psdbench.priors.diffusers", "psdbench.priors.lora"),
    *("psdbench.cli.run", "psdbench.launch.local", "psdbench.validity"),
    *("diffusers.models.unets.unet_2d_condition", "diffusers.models.autoencoders.autoencoder_kl"),
    "transformers.models.clip.modeling_clip",
]
"""imported once: of the 7 s of processor time that a life took, 6 went into the last three"""
LONGEST = 4.0
"""seconds after its sign within which a moment is aimed at: more, and most lives would end before"""


def command(out: Path, plugin: Path, prior: Path) -> list[str]:
    """The arguments of a run of four jobs, of a method without and one with weights of its own."""
    words = ["run", "--methods", "counted,vsd", "--plugin", plugin, "--prompts", SMOKE, "--out", out]
    words += ["--seeds", 1, "--steps", STEPS, "--set", f"optimize.checkpoint_every={EVERY}", "--workers", 1]
    words += ["--prior", prior, *SMALL]
    words += ["--device", "cpu", "--metrics", "true_preference,ground_truth"]
    return list(map(str, words))


def live(arguments: list[str], log: Path, stderr: Connection) -> None:
    """The child: run the command in a process group of its own, its stderr into a pipe."""
    os.setsid()
    os.dup2(stderr.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.environ |= {"STEPS_LOG": str(log), "OMP_NUM_THREADS": "1"}
    from psdbench.cli.main import app

    sys.exit(app(arguments))


class Life:
    """One life of a run; `started` is set when it begins to work on a job."""

    def __init__(self, out: Path, arguments: list[str]) -> None:
        self.out, self.log = out, out.with_suffix(".steps")
        self.log.write_text("")
        self.before = {folder: Job.seen(folder) for folder in out.glob("jobs/*")}
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        reader, writer = context.Pipe(duplex=False)
        self.process = context.Process(target=live, args=(arguments, self.log, writer))
        self.process.start()
        writer.close()
        self.started, self.text = threading.Event(), ""
        self.reader = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self.reader.start()

    def _read(self, stderr: Connection) -> None:
        while part := os.read(stderr.fileno(), 65536):
            self.text += part.decode()
            if ": started\n" in self.text:
                self.started.set()
        stderr.close()

    @property
    def resumes(self) -> bool:
        """Whether it found a job that had begun and not ended."""
        return any(job.resumable for job in self.before.values())

    @property
    def alive(self) -> bool:
        """Whether it is still running."""
        return self.process.is_alive()

    def kill(self) -> int:
        """Kill the whole group; the exit code says whether it was alive, and how it died."""
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself, as its exit code will say
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        return self.end()

    def end(self) -> int:
        """Wait for its end."""
        self.process.join(PATIENCE)
        self.reader.join(10)
        assert self.process.exitcode is not None
        return self.process.exitcode

    def wait_for(self, sign: Callable[[], bool]) -> None:
        """Wait until a sign is seen, or it has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.alive and not sign():
            assert time.monotonic() < deadline, self.text
            time.sleep(0.005)

    def gets_on(self) -> bool:
        """Whether it has left anything new: a job's first file, a checkpoint, a stage."""
        return any(Job.seen(folder) != self.before.get(folder, Job()) for folder in self.out.glob("jobs/*"))

    def commits(self) -> bool:
        """Whether a job has just got its scores: what is left of it is the commit."""
        return any(
            (folder / "scores.json").exists()
            for folder in self.out.glob("jobs/*")
            if not self.before.get(folder, Job()).scored
        )

    def lost_steps(self) -> int:
        """Steps begun that are in no checkpoint, of the job that it worked on last."""
        begun = self.log.read_text().splitlines()
        if not begun:
            return 0
        index, _, prompt = begun[-1].partition(" ")
        (folder,) = self.out.glob(f"jobs/counted--{slug(prompt)}--*")
        now = Job.seen(folder)
        return 0 if "optimize" in now.stages else int(index) + 1 - now.checkpoint


@dataclass(frozen=True)
class Job:
    """What of a job is on the disk."""

    checkpoint: int = 0
    """steps of the newest"""
    stages: frozenset[str] = frozenset()
    """those that are complete"""
    scored: bool = False
    committed: bool = False

    @classmethod
    def seen(cls, folder: Path) -> Job:
        """As it is now."""
        steps = [int(path.stem.rpartition("-")[2]) for path in folder.glob(CHECKPOINTS)]
        files = read_stages(folder)[1]
        return cls(
            max(steps, default=0),
            frozenset(entry.stage for entry in files.values()),
            (folder / "scores.json").exists(),
            read_manifest(folder) is not None,
        )

    @property
    def resumable(self) -> bool:
        """Whether a life that comes next has something to continue."""
        return not self.committed and (self.checkpoint > 0 or bool(self.stages))


def moment(life: Life) -> str:
    """What a life was doing when it died, from what it has left: start, resume, work or commit."""
    after = {folder: Job.seen(folder) for folder in life.out.glob("jobs/*")}
    for folder, now in after.items():
        begun = life.before.get(folder, Job())
        ended = now.committed and now.checkpoint == 0  # its checkpoints are gone: all is over
        if now.scored and not ended and begun != now:
            return "commit"
    if not life.started.is_set():
        return "start"
    return "resume" if life.resumes and after == life.before else "work"


@dataclass
class Marksman:
    """Lets lives go on until about the moment that is aimed at, and learns from what was hit."""

    rng: Random
    spans: dict[str, float] = field(
        default_factory=lambda: {"start": 1.0, "resume": 0.3, "work": LONGEST, "commit": 0.05}
    )
    """by aim the longest wait after its sign, seconds"""

    def wait(self, life: Life, aim: str) -> None:
        """Wait for the sign of a moment, then at random; return early when the life has ended."""
        signs = {"resume": life.started.is_set, "work": life.gets_on, "commit": life.commits}
        if aim in signs:
            life.wait_for(signs[aim])
        time.sleep(self.rng.uniform(0, self.spans[aim]))

    def learn(self, aim: str, hit: str) -> None:
        """Wait less after a sign that was followed by another moment, a little more after the right one."""
        self.spans[aim] = min(LONGEST, self.spans[aim] * (1.3 if aim == hit else 0.7))


def assert_no_half_commit(out: Path, done_before: set[Path]) -> set[Path]:
    """Every manifest there is verifies, and none that was there has gone; the jobs that have one."""
    done = {path.parent for path in out.glob("jobs/*/manifest.json")}
    assert done_before <= done
    for folder in done:
        manifest = read_manifest(folder)
        assert manifest is not None
        assert manifest.status == "finished"
        assert problems(folder, manifest.files) == {}
    return done
