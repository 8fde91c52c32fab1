"""A job folder that is a symbolic link is refused by every command that would read it or write into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from commands import refusal


def test_a_linked_job_folder_is_refused(program: Callable, small: list[object], tmp_path: Path) -> None:
    Path(str(small[small.index("--prompts") + 1])).write_text("a red cube\n")
    assert program("run", *small).code == 0
    run = tmp_path / "run"
    (job,) = (run / "jobs").iterdir()
    job.rename(tmp_path / "elsewhere")
    job.symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    commands = [("run", *small), ("plan", *small), ("export", job)]
    commands += [(name, run) for name in ("report", "verify", "prune", "score")]
    for command in commands:
        error, remedy = refusal(program(*command), code=5)
        assert error == f"error: {job} is a symbolic link", command
        assert remedy == "  remedy: remove the link, or put the folder in its place"
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before
