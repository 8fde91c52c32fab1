"""Errors that the command line turns into one line, a remedy and an exit code; anything else is a bug.

Exit codes: 0 all good, 1 a bug, 2 usage or configuration, 3 finished but some jobs failed, 4 environment,
5 results corrupt, 75 preempted (run again), 130 and 143 interrupted by SIGINT and SIGTERM.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from difflib import get_close_matches

SOME_FAILED = 3
PREEMPTED = 75


class PsdbenchError(Exception):
    """A foreseen failure: what happened in one sentence, and in `remedy` what the user can do about it."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[PsdbenchError], tuple[object, ...]]:
        return type(self), (str(self), self.remedy)


class UsageError(PsdbenchError):
    """The command line, a configuration or a prompt file asks for something that does not exist or fit."""

    exit_code = 2


class EnvironmentProblem(PsdbenchError):
    """The machine lacks something: weights, a package, room on the disk, permission to write."""

    exit_code = 4


class CorruptResult(PsdbenchError):
    """A stored file is truncated, altered or of the wrong form."""

    exit_code = 5


class Diverged(PsdbenchError):
    """An optimisation went wrong numerically: `step` is the first bad step (from 0), `reason` says how."""

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(
            f"diverged at step {step}: {reason}", "lower the learning rate or the guidance scale"
        )
        self.step, self.reason = step, reason

    def __reduce__(self) -> tuple[type[Diverged], tuple[object, ...]]:
        return type(self), (self.step, self.reason)


class OutOfMemory(PsdbenchError):
    """A step needs more memory than there is, even on the last rung of the ladder; the job fails, others go on."""


class Interrupted(PsdbenchError):
    """A signal asked the program to stop; the work so far is kept and the same command continues it."""

    def __init__(self, signal_number: int) -> None:
        over = signal_number == signal.SIGALRM
        what = (
            "the time of --max-time is over" if over else f"stopped by {signal.Signals(signal_number).name}"
        )
        super().__init__(what, "run the same command again to continue")
        self.signal_number = signal_number
        by_hand = signal_number in (signal.SIGINT, signal.SIGTERM)
        self.exit_code = 128 + signal_number if by_hand else PREEMPTED

    def __reduce__(self) -> tuple[type[Interrupted], tuple[object, ...]]:
        return type(self), (self.signal_number,)


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> UsageError:
    """The error for a name that does not exist, with the nearest one that does: ``did you mean 'psd'?``."""
    names = sorted(known)
    near = [other for other in names if len(name) > 1 and other.startswith(name.lower())]
    near = near or get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    near.sort(key=lambda other: other[:1] != name[:1].lower())  # few people mistype the first letter
    suffix = f" in {where}" if where else ""
    remedy = f"did you mean '{near[0]}'? " if near else ""
    return UsageError(f"unknown {kind} '{name}'{suffix}", f"{remedy}known: {', '.join(names) or 'none'}")
