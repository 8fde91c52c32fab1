"""Progress: the tally's arithmetic, one line per event without a terminal, and no foreign control characters."""

from __future__ import annotations

import pytest

from psdbench.job import Event
from psdbench.launch import progress
from psdbench.launch.progress import Lines, LiveTable, Silence, Tally, make_display


class Clock:
    """What the display takes for the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still."""
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def same(*jobs: str) -> dict[str, str]:
    """Jobs of one kind."""
    return dict.fromkeys(jobs, "sds")


def test_tally(clock: Clock) -> None:
    tally = Tally(same("a", "b", "c", "d", "e"))
    for job in "bc":
        tally.settled(Event("settled", job, status="finished"))
    tally.count(Event("start", "a"))
    assert tally.headline() == "2/5 jobs · 2 finished"
    tally.count(Event("step", "a", 1, 100))
    clock.now = 10.0
    tally.count(Event("step", "a", 21, 100))
    assert tally.running["a"].rate == 2.0
    assert tally.seconds_left() == (2 * 100 + 79) / 2
    tally.count(Event("end", "a", status="diverged"))
    assert tally.headline() == "3/5 jobs · 1 diverged · 2 finished", (
        "of how long a whole job takes nothing is known"
    )


def test_kinds_of_jobs_take_as_long_as_they_took(clock: Clock) -> None:
    tally = Tally({"a": "sds", "b": "vsd", "c": "sds", "d": "vsd", "e": "esd"})
    tally.count(Event("start", "a"))
    tally.count(Event("start", "b"))
    for job in "ab":
        tally.count(Event("step", job, 1, 300))
    clock.now = 30.0
    tally.count(Event("end", "a", status="finished"))
    clock.now = 90.0
    tally.count(Event("end", "b", status="finished"))
    usual = (30 + 90) / 2
    assert tally.seconds_left() == (30 + 90 + usual) / 2, "two at once, one of a kind that was not seen yet"
    tally.count(Event("start", "e"))
    tally.count(Event("step", "e", 1, 11))
    clock.now = 94.0
    tally.count(Event("step", "e", 3, 11))
    assert tally.seconds_left() == pytest.approx((30 + 90 + 22 * 8 / 11) / 2), "a running one by its speed"


def test_the_last_job_is_done_by_one_alone(clock: Clock) -> None:
    tally = Tally(same("a", "b"))
    for job in "ab":
        tally.count(Event("start", job))
        tally.count(Event("step", job, 1, 100))
    clock.now = 30.0
    tally.count(Event("end", "a", status="finished"))
    tally.count(Event("step", "b", 50, 100))
    assert tally.seconds_left() == 15.0


def test_a_job_that_began_from_a_checkpoint_is_no_measure(clock: Clock) -> None:
    tally = Tally(same("a", "b"))
    tally.count(Event("start", "a"))
    tally.count(Event("step", "a", 299, 300))
    clock.now = 1.0
    tally.count(Event("step", "a", 300, 300))
    assert tally.seconds_left() == 300.0
    tally.count(Event("end", "a", status="finished"))
    assert tally.seconds_left() is None


def test_jobs_that_are_only_scored_have_an_end_in_sight(clock: Clock) -> None:
    tally = Tally(same("a", "b", "c"))
    tally.count(Event("start", "a"))
    assert tally.seconds_left() is None
    clock.now = 4.0
    tally.count(Event("end", "a", status="finished"))
    assert tally.headline() == "1/3 jobs · 1 finished · 8 s left"


def test_an_end_out_of_the_blue_is_no_measure(clock: Clock) -> None:
    tally = Tally(same("a", "b"))
    tally.count(Event("end", "a", status="finished"))
    assert tally.headline() == "1/2 jobs · 1 finished"


def test_a_job_under_a_budget_steps_before_its_length_is_known(clock: Clock) -> None:
    tally = Tally(same("a", "b", "c"))
    job = tally.count(Event("start", "a"))
    assert job.state == "loading"
    assert tally.count(Event("step", "a", 1, 0)).state == job.place == "1"
    assert tally.seconds_left() is None
    clock.now = 2.0
    assert tally.count(Event("step", "a", 2, 50)).state == "2/50"
    assert job.rate == 0.5, "seen stepping since the first step"
    assert tally.seconds_left() == 100 * 48 / 50 + 2 * 100
    tally.count(Event("step", "b", 1, 0))
    assert tally.seconds_left() == (96 + 100 + 100) / 2, "the second counts as long as the first, beside it"
    assert tally.count(Event("step", "a", 50, 50)).state == "scoring"


def test_a_job_of_unknown_length_never_promises_an_end(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    display = Lines(same("a"))
    for step in range(1, 33):
        clock.now += 1.0
        display.show(Event("step", "a", step, 0))
    assert capsys.readouterr().err.splitlines() == ["a: step 31, 1.0 steps/s · 0/1 jobs"]


def test_one_line_per_event(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    display = Lines(same("a", "b", "c", "d"))
    for job in "cd":
        display.show(Event("settled", job, status="finished"))
    display.show(Event("start", "a"))
    for step in range(1, 41):
        clock.now += 1.0
        display.show(Event("step", "a", step, 40))
    display.show(Event("note", "a", text="bad \x1b[31m file\nname"))
    display.show(Event("end", "a", status="finished"))
    display.show(Event("start", "b"))
    display.show(Event("end", "b", status="failed", text="out of memory"))
    display.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "2 of 4 jobs were finished before",
        "a: started",
        "a: step 31/40, 1.0 steps/s · 2/4 jobs · 2 finished · 49 s left",
        "bad ?[31m file name",
        "a: finished · 3/4 jobs · 3 finished · 40 s left",
        "b: started",
        "b: failed (out of memory) · 4/4 jobs · 1 failed · 3 finished · 0 s left",
    ]


def test_jobs_that_were_all_done_before_are_told_of_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    display = Lines(same("a", "b"))
    display.show(Event("settled", "a", status="finished"))
    display.show(Event("settled", "b", status="diverged"))
    display.close()
    assert capsys.readouterr().err.splitlines() == [
        "1 of 2 jobs were diverged before",
        "1 of 2 jobs were finished before",
    ]


def test_quiet_still_tells_of_damage(capsys: pytest.CaptureFixture[str]) -> None:
    display = make_display([], quiet=True)
    assert isinstance(display, Silence)
    display.show(Event("start", "a"))
    display.show(Event("note", "a", text="damaged"))
    assert capsys.readouterr().err == "damaged\n"


def test_live_table_shows_running_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    display = LiveTable(same("loading-job", "[red]job[/red]", "bought-job", "d"))
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
