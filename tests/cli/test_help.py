"""--help is fast, needs no heavy import, and starts with an example."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

HEAVY = ("torch", "numpy", "pandas", "diffusers", "transformers", "PIL", "filelock", "psdbench.config")


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["--nonsense"]])
def test_no_heavy_imports(args: list[str]) -> None:
    code = (
        "import sys\n"
        "from psdbench.cli.main import app\n"
        f"try: app({args!r})\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_takes_less_than_three_tenths_of_cpu_time() -> None:
    """CPU time of the fastest of five: what a loaded machine does to the clock is not ours."""
    import resource

    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "psdbench", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.3


def test_every_command_says_what_it_does(program: Callable) -> None:
    text = program("--help").out
    for command in (
        "run",
        "plan",
        "score",
        "report",
        "list",
        "convert",
        "finetune",
        "tune",
        "doctor",
        "verify-scorers",
        "study",
        "export",
        "world",
    ):
        assert f" {command} " in text
    assert "Example: psdbench run --methods" in text
    assert "Exit codes: 0 all good" in text


def test_help_of_every_command_shows_what_is_in_brackets(program: Callable) -> None:
    from psdbench.cli.main import app

    names = [command.name for command in app.registered_commands]
    texts = {name: program(str(name), "--help") for name in names}
    assert {text.code for text in texts.values()} == {0}
    assert "[METHOD/]PROMPT[/SEED]/*.png" in texts["score"].out
    assert "Scorer to learn from. [hps]" in " ".join(texts["finetune"].out.split())
    assert "..." not in program("--help").out.partition("Commands:")[2]


def test_without_a_command_the_help_and_exit_code_2(program: Callable) -> None:
    done = program()
    assert done.code == 2
    assert "Usage" in done.out + done.err


def test_every_option_of_run_has_its_variable() -> None:
    import inspect
    from typing import get_args, get_type_hints

    from psdbench.cli.run import run

    hints = get_type_hints(run, include_extras=True)
    for name in inspect.signature(run).parameters:
        option = get_args(hints[name])[-1]
        assert option.envvar == f"PSDBENCH_{name.rstrip('_').upper()}"


def test_start_of_a_wrong_command_is_quick() -> None:
    start = time.process_time()
    done = subprocess.run(
        [sys.executable, "-m", "psdbench", "runn"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: No such command 'runn'")
    assert time.process_time() - start < 1
