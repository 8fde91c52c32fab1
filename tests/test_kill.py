"""kill -9 at random moments of a real run: nothing finished is lost, and the final table has the same bytes.

Each life of the run is a process group of its own that gets SIGKILL, half of them while the program starts and
half of them after its first job has started. How each died is checked, so a kill that misses cannot pass.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from psdbench.store.manifest import problems, read_manifest
from psdbench.world import weights_folder

KILLS = 20
SMOKE = Path(__file__).parent.parent / "prompts" / "smoke.txt"
RESULTS = ("asset.safetensors", "trace.csv", "scores.json", "turntable.mp4", "renders/view_00.png")

pytestmark = pytest.mark.skipif(
    not (weights_folder() / "prior" / "unet").is_dir(), reason="the embedded weights are not there yet"
)


def command(out: Path) -> list[str]:
    program = [
        sys.executable,
        "-m",
        "psdbench.cli.main",
        "run",
        "--methods",
        "sds,psd",
        "--prompts",
        str(SMOKE),
    ]
    sizes = ["--seeds", "1", "--steps", "24", "--set", "optimize.checkpoint_every=4", "--workers", "1"]
    return [
        *program,
        *sizes,
        "--device",
        "cpu",
        "--metrics",
        "hps,true_preference,ground_truth",
        "--out",
        str(out),
    ]


class Life:
    """One process group that runs the command; `started` is set when it begins to work on a job."""

    def __init__(self, out: Path) -> None:
        self.process = subprocess.Popen(
            command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.started, self.lines = threading.Event(), list[str]()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            self.lines.append(line)
            if line.endswith(": started\n"):
                self.started.set()

    def kill(self) -> int:
        """Kill the whole group; the exit status says whether it was alive."""
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself, as the exit status will say
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(timeout=300)
        self.reader.join(timeout=10)
        return code


def manifests(out: Path) -> Iterator[Path]:
    return (p.parent for p in out.glob("jobs/*/manifest.json"))


def assert_no_half_commit(out: Path, done_before: set[Path]) -> set[Path]:
    """Every manifest there is verifies, and none that was there has gone."""
    done = set(manifests(out))
    assert done_before <= done
    for folder in done:
        manifest = read_manifest(folder)
        assert manifest is not None
        assert manifest.status == "finished"
        assert problems(folder, manifest.files) == {}
    return done


def table(out: Path) -> bytes:
    report = [sys.executable, "-m", "psdbench.cli.main", "report", str(out)]
    subprocess.run(report, check=True, capture_output=True)
    return (out / "report" / "table.csv").read_bytes()


def measured(out: Path) -> tuple[float, float]:
    """Run undisturbed; seconds until the first job has started, and from then to the end."""
    begin, life = time.monotonic(), Life(out)
    assert life.started.wait(timeout=120)
    start_up = time.monotonic() - begin
    assert life.wait() == 0, "".join(life.lines)
    return start_up, time.monotonic() - begin - start_up


def test_killed_twenty_times_same_table(tmp_path: Path) -> None:
    """A run that ends before it is killed does not count: the next one begins in a new folder."""
    start_up, work = measured(tmp_path / "undisturbed")
    rng, outs, done, at_start, at_work = random.Random(0), [tmp_path / "killed-0"], set[Path](), 0, 0
    for _ in range(2 * KILLS):
        life = Life(outs[-1])
        if at_work <= at_start and life.started.wait(timeout=120):
            time.sleep(rng.uniform(0, 2 * work / KILLS))
        else:
            life.started.wait(timeout=rng.uniform(0, start_up))
        working, code = life.started.is_set(), life.kill()
        done = assert_no_half_commit(outs[-1], done)
        if code == 0:
            outs.append(tmp_path / f"killed-{len(outs)}")
            done = set()
            continue
        assert code == -signal.SIGKILL, "".join(life.lines)
        at_work, at_start = at_work + working, at_start + (not working)
        if at_work + at_start == KILLS:
            break
    assert (at_work + at_start, at_work >= KILLS // 2) == (KILLS, True)
    for out in outs:
        assert_same(out, tmp_path / "undisturbed")


def assert_same(out: Path, undisturbed: Path) -> None:
    """Finish a killed run; its results and its table have the bytes of the undisturbed one."""
    last = Life(out)
    assert last.wait() == 0, "".join(last.lines)
    assert not list(out.rglob("*.tmp*"))
    for folder in manifests(undisturbed):
        for name in RESULTS:
            assert (out / "jobs" / folder.name / name).read_bytes() == (folder / name).read_bytes(), name
    assert table(out) == table(undisturbed)
