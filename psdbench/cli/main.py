"""The program `psdbench`: its commands, and how an error becomes a line, a remedy and an exit code.

Only typer is imported here; each command imports what it needs when it runs, so that --help stays fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from psdbench.cli.convert import app as convert
from psdbench.cli.doctor import doctor
from psdbench.cli.export import export
from psdbench.cli.finetune import finetune
from psdbench.cli.list import list_names
from psdbench.cli.output import show_error
from psdbench.cli.plan import plan
from psdbench.cli.prefetch import prefetch
from psdbench.cli.prune import prune
from psdbench.cli.report import report
from psdbench.cli.run import run
from psdbench.cli.score import score
from psdbench.cli.study import app as study
from psdbench.cli.tune import tune
from psdbench.cli.verify import verify
from psdbench.cli.verify_scorers import verify_scorers
from psdbench.cli.world import app as world
from psdbench.errors import PsdbenchError, UsageError

ClickException: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)
"""the base of usage errors, of typer's own copy of click or, in older versions, of click"""

HELP = """Text-to-3D score distillation methods under one shared 3D optimizer, scored by preference metrics.

Example: psdbench run --methods psd,sds --prompts prompts/shapes.txt

Exit codes: 0 all good, 1 a bug, 2 usage, 3 some jobs failed, 4 environment, 5 results corrupt, 75 preempted,
130 and 143 interrupted. After the last three the same command continues.
"""


def show_usage(error: Any) -> int:
    """A mistake on the command line as a line; without any command, the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        show_error(UsageError(error.format_message(), "see psdbench --help"))
    return UsageError.exit_code


class Program(typer.Typer):
    """A typer application whose foreseen errors are lines, not tracebacks."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            code = super().__call__(*args, standalone_mode=False, **kwargs)
        except PsdbenchError as error:
            show_error(error)
            code = error.exit_code
        except ClickException as error:
            code = show_usage(error)
        except (KeyboardInterrupt, typer.Abort):
            code = 130
        except BrokenPipeError:  # the reader of our stdout has gone, as in `psdbench list methods | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        sys.exit(code if isinstance(code, int) else 0)


# help texts name defaults and optional parts in brackets, which rich would take for its markup
app = Program(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
COMMANDS: dict[str, Callable[..., int | None]] = {
    "run": run,
    "plan": plan,
    "score": score,
    "report": report,
    "verify": verify,
    "prune": prune,
    "list": list_names,
    "export": export,
    "finetune": finetune,
    "tune": tune,
    "prefetch": prefetch,
    "doctor": doctor,
    "verify-scorers": verify_scorers,
}
for name, command in COMMANDS.items():
    # as its short help the first paragraph is shown whole
    app.command(name, short_help=" ".join((command.__doc__ or "").partition("\n\n")[0].split()))(command)
app.add_typer(convert, name="convert")
app.add_typer(
    study, name="study", short_help="Ask people by a page of blinded pairs, and import their votes."
)
app.add_typer(world, name="world")
