"""kill -9 at random moments of a real run: nothing finished is lost, and the final table has the same bytes.

How each life died is checked, so a kill that misses cannot pass, and what it was doing is told from what it has
left. A run that ends before it is killed does not count: the next one begins in a new folder.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from random import Random

import pytest
from lives import COUNTED, EVERY, Life, Marksman, assert_no_half_commit, command, moment

AIMS = ("work", "resume", "commit", "resume", "work", "resume", "start", "commit")
RESULTS = ("asset.safetensors", "trace.csv", "scores.json", "turntable.mp4", "renders/view_00.png")


@pytest.mark.parametrize(
    ("kills", "resumes", "commits"), [(20, 4, 2), pytest.param(200, 40, 20, marks=pytest.mark.slow)]
)
def test_killed_again_and_again_same_table(
    tmp_path: Path,
    program: Callable,
    tiny_prior_folder: Path,
    capsys: pytest.CaptureFixture[str],
    kills: int,
    resumes: int,
    commits: int,
) -> None:
    plugin = tmp_path / "counted.py"
    plugin.write_text(COUNTED)

    def begin(out: Path) -> Life:
        return Life(out, command(out, plugin, tiny_prior_folder))

    life = begin(tmp_path / "undisturbed")
    assert life.end() == 0, life.text
    outs, done, lost, moments = [tmp_path / "killed-0"], set[Path](), list[int](), Counter[str]()
    marksman, aims = Marksman(Random(kills)), cycle(AIMS)
    while moments.total() < kills or moments["resume"] < resumes or moments["commit"] < commits:
        assert moments.total() < 2 * kills, moments
        life, aim = begin(outs[-1]), next(aims)
        aim = "work" if aim == "resume" and not life.resumes else aim
        marksman.wait(life, aim)
        code = life.kill()
        done = assert_no_half_commit(outs[-1], done)
        if code == 0:
            outs.append(tmp_path / f"killed-{len(outs)}")
            done = set()
            marksman.learn(aim, "end")
            continue
        assert code == -signal.SIGKILL, life.text
        marksman.learn(aim, hit := moment(life))
        moments[hit] += 1
        lost.append(life.lost_steps())
    with capsys.disabled():
        print(f"{dict(moments)}, {len(outs)} runs, most steps lost {max(lost)} of {EVERY}, sum {sum(lost)}")
    assert max(lost) <= EVERY
    for out in outs:
        life = begin(out)
        assert life.end() == 0, life.text
        assert_same(out, tmp_path / "undisturbed", program)


def assert_same(out: Path, undisturbed: Path, program: Callable) -> None:
    """Results and table of a run that was killed and finished have the bytes of the undisturbed one."""
    assert not list(out.rglob("*.tmp*"))
    jobs = [path.parent for path in undisturbed.glob("jobs/*/manifest.json")]
    assert len(jobs) == 4
    for folder in jobs:
        for name in RESULTS:
            assert (out / "jobs" / folder.name / name).read_bytes() == (folder / name).read_bytes(), name
    tables = [program("report", run, "--format", "csv").out for run in (out, undisturbed)]
    assert tables[0] == tables[1] != ""
