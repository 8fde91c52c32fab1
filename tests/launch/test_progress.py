"""Progress: the tally's arithmetic, one line per event without a terminal, and no foreign control characters."""

from __future__ import annotations

import pytest

from psdbench.job import Event
from psdbench.launch import progress
from psdbench.launch.progress import Lines, LiveTable, Silence, Tally, make_display


def test_tally(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    tally = Tally(5)
    tally.settled(Event("settled", "", step=2, status="finished"))
    tally.count(Event("start", "a"))
    assert tally.headline() == "2/5 jobs · 2 finished"
    tally.count(Event("step", "a", 1, 100))
    now = 10.0
    tally.count(Event("step", "a", 21, 100))
    assert tally.running["a"].rate == 2.0
    assert tally.seconds_left() == (2 * 100 + 79) / 2
    tally.count(Event("end", "a", status="diverged"))
    assert tally.headline() == "3/5 jobs · 1 diverged · 2 finished · 100 s left".replace("100 s", "2 min")


def test_a_job_under_a_budget_steps_before_its_length_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    tally = Tally(3)
    job = tally.count(Event("start", "a"))
    assert job.state == "loading"
    assert tally.count(Event("step", "a", 1, 0)).state == job.place == "1"
    assert tally.seconds_left() is None
    now = 2.0
    assert tally.count(Event("step", "a", 2, 50)).state == "2/50"
    assert job.rate == 0.5, "seen stepping since the first step"
    assert tally.seconds_left() == (48 + 2 * 50) / 0.5
    tally.count(Event("step", "b", 1, 0))
    assert tally.seconds_left() == (48 + 49 + 50) / 0.5, "the second counts as long as the first"
    assert tally.count(Event("step", "a", 50, 50)).state == "scoring"


def test_a_job_of_unknown_length_never_promises_an_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    display = Lines(1)
    for step in range(1, 33):
        now += 1.0
        display.show(Event("step", "a", step, 0))
    assert capsys.readouterr().err.splitlines() == ["a: step 31, 1.0 steps/s · 0/1 jobs"]


def test_one_line_per_event(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    display = make_display(2, quiet=False)
    assert isinstance(display, Lines)
    display.show(Event("start", "a"))
    for step in range(1, 41):
        now += 1.0
        display.show(Event("step", "a", step, 40))
    display.show(Event("note", "a", text="bad \x1b[31m file\nname"))
    display.show(Event("end", "a", status="failed", text="out of memory"))
    display.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "a: started",
        "a: step 31/40, 1.0 steps/s · 0/2 jobs · 49 s left",
        "bad ?[31m file name",
        "a: failed (out of memory) · 1/2 jobs · 1 failed · 40 s left",
    ]


def test_quiet_still_tells_of_damage(capsys: pytest.CaptureFixture[str]) -> None:
    display = make_display(1, quiet=True)
    assert isinstance(display, Silence)
    display.show(Event("start", "a"))
    display.show(Event("note", "a", text="damaged"))
    assert capsys.readouterr().err == "damaged\n"


def test_live_table_shows_running_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    display = LiveTable(4)
    try:
        display.show(Event("start", "loading-job"))
        display.show(Event("step", "[red]job[/red]", 3, 10))
        display.show(Event("step", "bought-job", 7, 0))
        console = Console(width=80, record=True)
        with console.capture() as capture:
            console.print(display.table())
    finally:
        display.close()
    text = capture.get()
    assert "[red]job[/red]" in text  # markup in a name is text
    assert "3/10" in text
    assert "loading" in text
    assert "0/4 jobs" in text
    assert [line for line in text.splitlines() if "bought-job" in line and " 7 " in line]
