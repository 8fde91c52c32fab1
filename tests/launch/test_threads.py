"""The cores are shared out so that results do not depend on the number of workers."""

from __future__ import annotations

import pytest

from psdbench.launch import threads


@pytest.mark.parametrize(
    ("cores", "omp", "each", "workers"),
    [
        (2, "", 1, 2),
        (2, "2", 2, 1),
        (2, "1", 1, 2),
        (16, "", 1, 16),
        (16, "4", 4, 4),
        (16, "64", 16, 1),
        (2, "x", 1, 2),
    ],
)
def test_threads_never_exceed_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, omp: str, each: int, workers: int
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", omp)
    assert (threads.threads_per_worker(), threads.max_workers()) == (each, workers)
    assert each * workers <= cores


def test_default_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads.default_workers("cuda") == 1
    monkeypatch.setattr(threads, "max_workers", lambda: 10_000)
    assert 1 <= threads.default_workers() < 10_000  # memory is a limit, too
