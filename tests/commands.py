"""The program, run in this process, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def in_this_process(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """A function that runs `psdbench ARGS`; exceptions other than an exit fail the test."""
    from psdbench.cli.main import app

    def run(*args: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Done(int(ended.value.code or 0), out, err)

    return run


def refusal(done: Done, code: int = 2) -> tuple[str, str]:
    """The error and the remedy of a command that printed nothing else."""
    assert (done.code, done.out) == (code, ""), done.err
    error, remedy = done.err.splitlines()
    assert error.startswith("error: ")
    assert remedy.startswith("  remedy: ")
    return error, remedy
