"""Signals as wishes: the first is remembered, the second interrupt is obeyed, the handlers come back."""

from __future__ import annotations

import os
import signal
import time

import pytest

from psdbench.errors import Interrupted
from psdbench.launch.stop import SIGNALS, StopRequest


def test_first_is_remembered_second_interrupts(capfd: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequest(message="stopping\n") as stop:
        assert stop.number is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGTERM
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert capfd.readouterr().err == "stopping\n"


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGINT, 130, "stopped by SIGINT"),
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGUSR1, 75, "stopped by SIGUSR1"),
        (signal.SIGUSR2, 75, "stopped by SIGUSR2"),
        (signal.SIGALRM, 75, "the time of --max-time is over"),
    ],
)
def test_every_signal_has_its_exit_code(number: signal.Signals, code: int, message: str) -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), number)
        assert stop.number == number
    error = Interrupted(number)
    assert (error.exit_code, str(error)) == (code, message)
    assert "same command" in error.remedy


def test_the_time_ends_like_a_signal() -> None:
    with StopRequest(seconds=0.05) as stop:
        while stop.number is None:
            time.sleep(0.01)
    assert stop.number == signal.SIGALRM
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_clock_that_was_not_needed_is_stopped() -> None:
    with StopRequest(seconds=60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
