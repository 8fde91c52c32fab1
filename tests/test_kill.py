"""kill -9 at random moments of a real run: nothing finished is lost, and the final table has the same bytes.

How each life died is checked, so a kill that misses cannot pass, and what it was doing is told from what it has
left. A run that ends before it is killed does not count: the next one begins in a new folder.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from random import Random

import pytest
from lives import COUNTED, EVERY, Life, assert_no_half_commit, moment, wait

from psdbench.world import weights_folder

AIMS = ("work", "resume", "commit", "resume", "work", "resume", "start", "commit")
RESULTS = ("asset.safetensors", "trace.csv", "scores.json", "turntable.mp4", "renders/view_00.png")

pytestmark = pytest.mark.skipif(
    not (weights_folder() / "prior" / "unet").is_dir(), reason="the embedded weights are not there yet"
)


@pytest.mark.parametrize(
    ("kills", "resumes", "commits"), [(20, 4, 2), pytest.param(200, 40, 20, marks=pytest.mark.slow)]
)
def test_killed_again_and_again_same_table(
    tmp_path: Path, program: Callable, kills: int, resumes: int, commits: int
) -> None:
    plugin = tmp_path / "counted.py"
    plugin.write_text(COUNTED)
    work = undisturbed(tmp_path / "undisturbed", plugin)
    rng, aims, moments = Random(kills), cycle(AIMS), Counter[str]()
    outs, done, lost = [tmp_path / "killed-0"], set[Path](), list[int]()
    while moments.total() < kills:
        life = Life(outs[-1], plugin)
        wait(life, next(aims), work, rng)
        code = life.kill()
        done = assert_no_half_commit(outs[-1], done)
        if code == 0:
            outs.append(tmp_path / f"killed-{len(outs)}")
            done = set()
            continue
        assert code == -signal.SIGKILL, life.text
        moments[moment(life)] += 1
        lost.append(life.lost_steps())
    print(f"{dict(moments)}, {len(outs)} runs, most steps lost {max(lost)} of {EVERY}, sum {sum(lost)}")
    assert moments["resume"] >= resumes
    assert moments["commit"] >= commits
    assert max(lost) <= EVERY
    for out in outs:
        assert_same(out, plugin, tmp_path / "undisturbed", program)


def undisturbed(out: Path, plugin: Path) -> float:
    """Run to the end; seconds from the first job's start on."""
    life = Life(out, plugin)
    life.wait_for(life.started.is_set)
    begin = time.monotonic()
    assert life.end() == 0, life.text
    return time.monotonic() - begin


def assert_same(out: Path, plugin: Path, undisturbed: Path, program: Callable) -> None:
    """Finish a killed run; its results and its table have the bytes of the undisturbed one."""
    life = Life(out, plugin)
    assert life.end() == 0, life.text
    assert not list(out.rglob("*.tmp*"))
    jobs = [path.parent for path in undisturbed.glob("jobs/*/manifest.json")]
    assert len(jobs) == 4
    for folder in jobs:
        for name in RESULTS:
            assert (out / "jobs" / folder.name / name).read_bytes() == (folder / name).read_bytes(), name
    tables = [program("report", run, "--format", "csv").out for run in (out, undisturbed)]
    assert tables[0] == tables[1] != ""
