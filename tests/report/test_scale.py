"""Ten thousand finished jobs: what a plan and a report of them take. Processor time, for machines are busy."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import made_up_runs
import pytest
from made_up_runs import PROTOCOL, RunMaker

from psdbench.config import JobSpec
from psdbench.plan.forecast import forecast
from psdbench.report import build_report
from psdbench.store import atomic
from psdbench.store.run import open_run, read_job

PROMPTS, METHODS, SEEDS = 417, 8, 3
PLAN_SECONDS, REPORT_SECONDS, MEMORY_MB = 2.0, 30.0, 500.0


@contextmanager
def at_most(seconds: float, what: str) -> Iterator[None]:
    """Fail when the block takes more of a processor."""
    start = time.process_time()
    yield
    taken = time.process_time() - start
    print(f"{what}: {taken:.2f} s")
    assert taken < seconds


@pytest.fixture
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[JobSpec]:
    """The jobs of `tmp_path`/run. Nothing is flushed, and there are no renders, to make them in a minute."""
    monkeypatch.setattr(atomic.os, "fsync", lambda handle: None)
    monkeypatch.setattr(made_up_runs, "write_png", lambda path, rng: None)
    maker = RunMaker(open_run(tmp_path / "run"))
    methods = ["sds", "psd", *(f"method{n}" for n in range(METHODS - 2))]
    return [
        read_job(maker.finished(method, f"a red cube, number {n}", seed))
        for n in range(PROMPTS)
        for method in methods
        for seed in range(SEEDS)
    ]


@pytest.mark.slow
def test_ten_thousand_finished_jobs(specs: list[JobSpec], tmp_path: Path) -> None:
    """The contact sheets, one a prompt, are not in it: they take as long as there are pictures."""
    assert len(specs) > 10_000
    assert all(spec.protocol is specs[0].protocol for spec in specs[:100]), (
        "jobs share one protocol in memory"
    )
    assert specs[0].protocol == PROTOCOL
    run, before = tmp_path / "run", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with at_most(PLAN_SECONDS, "plan"):
        assert forecast(specs, run, 2).left == 0
    with at_most(REPORT_SECONDS, "report as csv, json and md"):
        report = build_report([run])
        assert len(report.results) == len(specs)
        assert report.text("csv").count("\n") > METHODS
        assert report.text("json")
        assert report.text("md")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{len(specs)} jobs, {grown / 1024:.0f} MB more")
    assert grown / 1024 < MEMORY_MB
