"""Ten thousand jobs: a report in half a minute of one core and 500 MB, its page still small."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import RunMaker

from psdbench.report import build_report

METHODS = (*(f"method{i}" for i in range(7)), "sds")
PROMPTS = tuple(f"a thing number {i}" for i in range(417))


def fill(maker: RunMaker) -> int:
    """Finished jobs of 8 methods, 417 prompts and 3 seeds, whose renders are links to a few files."""
    model = maker.finished(METHODS[0], "model", 9)
    views = [path for path in (model / "renders").iterdir()]
    jobs = 0
    for seed in range(3):
        for prompt in PROMPTS:
            for method in METHODS:
                folder = maker.scored(method, prompt, seed)
                (folder / "renders").mkdir()
                for view in views:
                    os.link(view, folder / "renders" / view.name)
                jobs += 1
    return jobs + 1


@pytest.mark.slow
def test_ten_thousand_jobs_take_half_a_minute(make_run: Callable[..., RunMaker], tmp_path: Path) -> None:
    maker = make_run(methods=[])
    jobs = fill(maker)
    assert jobs > 10_000
    start = time.process_time()
    report = build_report([maker.run])
    report.write_file("html", tmp_path / "report.html")
    seconds = time.process_time() - start  # of this process: others do not count
    assert len(report.results) == jobs
    assert (tmp_path / "report.html").stat().st_size < 15_000_000
    peak = peak_mb(maker.run, tmp_path / "again.html")
    print(f"{jobs} jobs: report.html in {seconds:.1f} s of a processor, at most {peak:.0f} MB")
    assert seconds < 30
    assert peak < 500


def peak_mb(run: Path, page: Path) -> float:
    """The most memory that the command holds while it writes the page, in a process of its own."""
    program = (
        "import sys; from psdbench.cli.main import app; from psdbench.job.stages import peak_memory_mb\n"
        "try: app(['report', *sys.argv[1:]])\n"
        "finally: print(peak_memory_mb('cpu'), file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, str(run), "--output", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stderr.split()[-1])
