"""The SLURM launcher on a real SLURM: same bytes as the local one, whatever happens to the array tasks."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from disturbed import Disturbed, results

from psdbench.errors import Interrupted
from psdbench.launch.options import SlurmOptions
from psdbench.launch.slurm import ARRAYS, FOLDER, SlurmRun, in_queue
from psdbench.store.sealed import read_json

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("on_slurm")]
OPTIONS = SlurmOptions(time="30m", mem=1.0)


def slurm_run(disturbed: Disturbed) -> SlurmRun:
    return SlurmRun(disturbed.run, OPTIONS, 1, "cpu")


def newest_array(run: Path) -> str:
    return str((read_json(run / FOLDER / ARRAYS) or {})["arrays"][-1]["id"])


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def processes(array: str) -> list[int]:
    """The Python processes of an array's tasks."""
    lines = ask("scontrol", "listpids", array).splitlines()[1:]
    pids = [int(line.split()[0]) for line in lines if int(line.split()[0]) > 0]
    return [pid for pid in pids if b"submitit" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def kill_worker(run: Path) -> None:
    for pid in processes(newest_array(run)):
        os.kill(pid, signal.SIGKILL)


def requeue(run: Path) -> None:
    ask("scontrol", "requeue", newest_array(run))


def announce_end(run: Path) -> None:
    ask("scancel", "--signal=USR2", newest_array(run))


def test_two_jobs_in_one_task(disturbed: Disturbed, undisturbed: list[bytes]) -> None:
    outcomes = slurm_run(disturbed).run(disturbed.tasks, disturbed.report)
    assert [(outcome.status, outcome.fresh) for outcome in outcomes] == [("finished", True)] * 2
    assert results(disturbed.tasks) == undisturbed
    assert "2 jobs submitted to SLURM as " in disturbed.notes[0]
    assert list((disturbed.run / FOLDER).glob("*_log.err")), "its logs are found"
    again = slurm_run(disturbed).run(disturbed.tasks, disturbed.report)
    assert [outcome.fresh for outcome in again] == [False] * 2
    assert len(disturbed.notes) == 1, "nothing was submitted again"


@pytest.mark.parametrize(
    ("disturb", "submissions"), [(kill_worker, 2), (requeue, 1), (announce_end, 1)], ids=lambda v: str(v)[:24]
)
def test_a_disturbed_task_goes_on(
    disturbed: Disturbed, undisturbed: list[bytes], disturb: Callable[[Path], None], submissions: int
) -> None:
    """SIGKILL ends the task for good, and another one is submitted; the others come back by themselves."""
    thread = disturbed.by(lambda: disturb(disturbed.run))
    slurm_run(disturbed).run(disturbed.tasks, disturbed.report)
    thread.join()
    disturbed.assert_unharmed(undisturbed)
    assert sum("submitted to SLURM" in note for note in disturbed.notes) == submissions
    if submissions == 1:
        logs = "".join(p.read_text() for p in (disturbed.run / FOLDER).glob("*_log.*"))
        restarts = ask("scontrol", "show", "job", disturbed.notes[0].split(" as ")[1].split(",")[0])
        assert "Restarts=1" in restarts, logs


def test_the_command_may_be_stopped_and_started_again(disturbed: Disturbed, undisturbed: list[bytes]) -> None:
    """The second one follows the array that the first one has submitted."""
    thread = disturbed.by(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        slurm_run(disturbed).run(disturbed.tasks, disturbed.report)
    thread.join()
    assert in_queue(newest_array(disturbed.run))
    slurm_run(disturbed).run(disturbed.tasks, disturbed.report)
    disturbed.assert_unharmed(undisturbed)
    assert sum("submitted to SLURM" in note for note in disturbed.notes) == 1


def test_what_slurm_refuses_is_one_line(disturbed: Disturbed) -> None:
    from psdbench.errors import EnvironmentProblem

    wrong = SlurmRun(disturbed.run, SlurmOptions(partition="nowhere"), 1, "cpu")
    with pytest.raises(EnvironmentProblem, match=r"SLURM refuses the jobs: .*partition"):
        wrong.run(disturbed.tasks, disturbed.report)
