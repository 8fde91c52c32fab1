"""What tests of methods from outside share: such a method, and the program's answer to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from psdbench.cli.main import app

PLUGIN = '''"""A method of somebody else."""

from __future__ import annotations

from torch import Tensor

from psdbench.guidance import Method, Step, combine, method, noise_pool, weights


@method("tempered", paper="none")
class Tempered(Method):
    """Tempered distillation."""

    temperature: float = 2.0
    """divides the gradient; our choice"""

    def gradient(self, step: Step) -> Tensor:
        pool = noise_pool(step, step.noise(), 7.5)
        return combine(pool.residuals, weights(step, pool, "sds")) / self.temperature
'''


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def in_this_process(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """A function that runs `psdbench ARGS` in this process."""

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
