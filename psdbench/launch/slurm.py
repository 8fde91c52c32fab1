"""The SLURM launcher: job arrays through submitit, followed by the files that they leave.

An array task does several jobs, one after the other, with the local launcher. When SLURM announces the end of its
time or a preemption it finishes its step, writes a checkpoint and is put back into the queue. What a job came to
is read from its manifest, so that nothing depends on accounting. The command that submitted may be stopped and
started again: it finds the arrays that are still queued and follows them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psdbench.cli.output import say
from psdbench.errors import EnvironmentProblem, Interrupted
from psdbench.job import Event, Models, Outcome, Task, Watch, commit_lost, settle
from psdbench.launch.backlog import MAX_ATTEMPTS
from psdbench.launch.local import run_jobs, settle_all
from psdbench.launch.notes import forwarded_warnings, quiet_libraries
from psdbench.launch.observed import Observed
from psdbench.launch.options import SlurmOptions, parse_time
from psdbench.launch.stop import StopRequest
from psdbench.launch.threads import set_threads, threads_per_worker
from psdbench.launch.together import run_together
from psdbench.store import atomic
from psdbench.store.manifest import MANIFEST, read_manifest
from psdbench.store.sealed import read_json

FOLDER, ARRAYS = "slurm", "arrays.json"
POLL_SECONDS = 15.0
"""between two looks at the queue and the files"""
REQUEUES = 1000
"""how often an array task may run out of time; each time it has gone on by that time"""
STAYS = "the array tasks stay in the queue: the same command follows them, scancel ends them\n"
PROGRAMS = ("sbatch", "srun", "squeue", "scontrol")


@dataclass
class ArrayTask:
    """What submitit calls on a node: some jobs, with this many threads."""

    tasks: tuple[Task, ...]
    device: str
    threads: int
    together: bool = False
    """whether many jobs are done at a time, for only their scores are missing"""
    pack: int = 1
    """jobs that are optimised in lockstep"""

    def __call__(self) -> None:
        """Do the jobs; how each ended stands in its folder.

        Announced by SIGUSR2, the end of the time is handed on to submitit once a checkpoint is written.
        """
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        try:
            if self.together:
                set_threads(self.device)
                run_together(self.tasks, Models(self.device), _log)
            else:
                run_jobs(self.tasks, 1, self.device, _log, pack=self.pack)
        except Interrupted as error:
            _log(Event("note", "", text=str(error)))
            if error.signal_number != signal.SIGTERM:
                os.kill(os.getpid(), signal.SIGUSR2)  # submitit's handler is back: it requeues and exits

    def checkpoint(self) -> Any:
        """What is to be submitted again: the same, for finished jobs are only verified."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass
class SlurmRun:
    """The jobs of a run folder on SLURM."""

    out: Path
    options: SlurmOptions
    workers: int | None
    """array tasks; None for one a job"""
    device: str
    together: bool = False
    """whether a task does many jobs at a time, for only their scores are missing"""
    pack: int = 1
    """jobs that a task optimises in lockstep"""
    unanswered: str = ""
    """what SLURM said instead of an answer when it was last asked"""

    def run(
        self, tasks: Sequence[Task], report: Callable[[Event], None], max_seconds: float | None = None
    ) -> list[Outcome]:
        """Submit what is to do and wait for its end; raises Interrupted when a signal or the time ends that."""
        quiet_libraries()
        require_submitit()
        with (
            StopRequest(message=STAYS, seconds=max_seconds) as stop,
            forwarded_warnings(lambda text: report(Event("note", "", text=text))),
        ):
            watch, models = Watch(report, lambda: stop.number or 0), Models(self.device)
            tasks = [replace(task, folder=task.folder.resolve()) for task in tasks]
            outcomes, open_tasks = settle_all(tasks, models, watch)
            return outcomes + self._follow(open_tasks, models, watch)

    def _follow(self, tasks: list[Task], models: Models, watch: Watch) -> list[Outcome]:
        """Wait for the tasks, and submit those that are in no array, up to three times."""
        outcomes, attempts, observed = list[Outcome](), Counter[str](), Observed(watch.report)
        before = {task.folder.name: _stamp(task) for task in tasks}
        while tasks:
            watch.check()
            queued = self._queued(watch)
            for task in list(tasks):
                observed.look(task)
                if done := judge(task, before[task.folder.name], models, watch):
                    tasks.remove(task)
                    outcomes.append(self._ended(done, watch))
            lost = [task for task in tasks if task.folder.name not in queued]
            attempts.update(task.folder.name for task in lost)
            for task in [t for t in lost if attempts[t.folder.name] > MAX_ATTEMPTS]:
                tasks.remove(task)
                lost.remove(task)
                done = commit_lost(task, f"its array task ended without a result, {MAX_ATTEMPTS} times")
                outcomes.append(self._ended(done, watch))
            if lost:
                self._submit(lost, watch)
            elif tasks:
                _pause(watch)
        return outcomes

    @staticmethod
    def _ended(outcome: Outcome, watch: Watch) -> Outcome:
        watch.report(Event("end", outcome.job, status=outcome.status, text=outcome.reason))
        return outcome

    def _queued(self, watch: Watch) -> set[str]:
        """The jobs of the arrays that SLURM still has, or had when it last answered; the others are forgotten."""
        arrays = alive = (read_json(self.out / FOLDER / ARRAYS) or {}).get("arrays", [])
        try:
            alive, self.unanswered = [array for array in arrays if in_queue(array["id"])], ""
        except EnvironmentProblem as error:
            if not self.unanswered:
                watch.report(Event("note", "", text=f"{error}; waiting until it does"))
            self.unanswered = str(error)
        if len(alive) != len(arrays):
            self._remember(alive)
        return {job for array in alive for job in array["jobs"]}

    def _remember(self, arrays: list[dict[str, Any]]) -> None:
        atomic.write_json(self.out / FOLDER / ARRAYS, {"arrays": arrays})

    def _submit(self, tasks: list[Task], watch: Watch) -> None:
        """One array for all of them; its logs go to RUN/slurm."""
        from submitit import SlurmExecutor, helpers
        from submitit.core.utils import FailedSubmissionError, UncompletedJobError

        executor = SlurmExecutor(self.out.resolve() / FOLDER, max_num_timeout=REQUEUES)
        executor.update_parameters(**self.parameters())
        chunks, threads = self.chunks(tasks), threads_per_worker()
        try:
            with _kept("SLURM_CONF", helpers.clean_env()):
                jobs = executor.submit_array(
                    [ArrayTask(chunk, self.device, threads, self.together, self.pack) for chunk in chunks]
                )
        except (FailedSubmissionError, UncompletedJobError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise EnvironmentProblem(
                f"SLURM refuses the jobs: {reason}", "change them with --slurm"
            ) from error
        array = jobs[0].job_id.partition("_")[0]
        known = (read_json(self.out / FOLDER / ARRAYS) or {}).get("arrays", [])
        self._remember([*known, {"id": array, "jobs": [task.folder.name for task in tasks]}])
        text = f"{len(tasks)} jobs submitted to SLURM as {array}, {len(chunks)} tasks; logs in {self.out / FOLDER}"
        watch.report(Event("note", "", text=text))

    def chunks(self, tasks: Sequence[Task]) -> list[tuple[Task, ...]]:
        """The jobs of each array task, of lengths that differ by one at most."""
        jobs = self.options.jobs or -(-len(tasks) // (self.workers or len(tasks)))
        count = -(-len(tasks) // jobs)
        return [tuple(tasks[index::count]) for index in range(count)]

    def parameters(self) -> dict[str, Any]:
        """The options in submitit's names, without those that are left to the cluster."""
        o = self.options
        gpus = o.gpus if o.gpus is not None else int(self.device == "cuda")
        asked = {
            "job_name": f"psdbench-{self.out.name}"[:40],
            "time": int(parse_time(o.time) // 60),
            "partition": o.partition,
            "account": o.account,
            "qos": o.qos,
            "constraint": o.constraint,
            "cpus_per_task": o.cpus or threads_per_worker(),
            "gpus_per_node": gpus or None,
            "mem": o.mem and f"{round(1024 * o.mem)}M",
            "array_parallelism": o.parallel,
            "signal_delay_s": o.notice,
        }
        return {name: value for name, value in asked.items() if value is not None}


def _pause(watch: Watch) -> None:
    """Wait until the next look, but not with a stop."""
    until = time.monotonic() + POLL_SECONDS
    while time.monotonic() < until:
        watch.check()
        time.sleep(0.2)


def judge(task: Task, before: object, models: Models, watch: Watch) -> Outcome | None:
    """How a job that was submitted has ended, None while it has not; `before` is its manifest's stamp then."""
    if _stamp(task) in (None, before):
        return None
    if done := settle(task, models, watch):
        return replace(done, fresh=True)
    manifest = read_manifest(task.folder)
    if manifest and manifest.status == "failed":
        return Outcome(task.folder.name, "failed", True, manifest.reason, manifest.step)
    return None


@contextmanager
def _kept(name: str, cleaned: AbstractContextManager[None]) -> Iterator[None]:
    """An environment without what a surrounding SLURM job has set, but with this variable of the machine's."""
    value = os.environ.get(name)
    with cleaned:
        if value is not None:
            os.environ[name] = value
        yield


def _stamp(task: Task) -> tuple[int, int] | None:
    """What changes when the manifest is written anew, None where there is none."""
    try:
        stat = (task.folder / MANIFEST).stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino


def in_queue(array: str) -> bool:
    """Whether SLURM has tasks of an array that wait or run; EnvironmentProblem when it does not answer."""
    done = subprocess.run(
        ["squeue", "--noheader", "--format=%i", "--jobs", array], capture_output=True, text=True, check=False
    )
    if done.returncode and "Invalid job id" not in done.stderr:
        raise EnvironmentProblem(
            f"squeue does not answer (exit code {done.returncode}): {done.stderr.strip() or 'no reason given'}",
            "run the same command again once SLURM does",
        )
    return bool(done.stdout.strip())


def require_submitit() -> None:
    """EnvironmentProblem unless submitit and SLURM's programs are there."""
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(
            "the slurm launcher needs the package 'submitit'", "pip install 'psdbench[slurm]'"
        ) from error
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"SLURM is not on this machine: no {', '.join(missing)}",
            "run on a login node of the cluster, or take --launcher local",
        )


def _log(event: Event) -> None:
    """A line in the log of the array task, but not for every step."""
    if event.kind in ("start", "end", "note"):
        say(" ".join(part for part in (event.job, event.kind, event.status, event.text) if part))
