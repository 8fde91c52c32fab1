"""run.json: every command that filled a folder stays told, also when they come at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from psdbench.errors import CorruptResult
from psdbench.store.run import read_run, told_commands, write_run

WRITER = """
import sys
from pathlib import Path
from psdbench.store.run import write_run
for number in range(10):
    write_run(Path(sys.argv[1]), {"versions": {}, "jobs": [f"{sys.argv[2]}-{number}"]})
"""


def facts(job: str, torch: str = "2.13.0") -> dict[str, Any]:
    """What a command writes."""
    return {"jobs": [job], "versions": {"torch": torch}, "options": {"methods": [job]}}


def test_the_last_command_is_on_top_and_those_before_stay_once(run: Path) -> None:
    for job in ("sds", "psd", "vsd", "psd"):
        write_run(run, facts(job))
    told = read_run(run)
    assert {name: told[name] for name in facts("psd")} == facts("psd")
    assert told_commands(told) == [facts("sds"), facts("vsd"), facts("psd")]


def test_the_same_command_with_other_versions_is_told_apart(run: Path) -> None:
    for torch in ("2.13.0", "2.14.0", "2.14.0"):
        write_run(run, facts("sds", torch))
    assert [command["versions"]["torch"] for command in told_commands(read_run(run))] == ["2.13.0", "2.14.0"]


def test_one_command_leaves_nothing_earlier(run: Path) -> None:
    write_run(run, facts("sds"))
    write_run(run, facts("sds"))
    assert "earlier" not in json.loads((run / "run.json").read_text())


def test_no_command_is_told_of_an_empty_folder(run: Path) -> None:
    assert told_commands(read_run(run)) == []


def test_commands_at_once_are_all_told(run: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(run), name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    told = {job for command in told_commands(read_run(run)) for job in command["jobs"]}
    assert told == {f"{name}-{number}" for name in "abc" for number in range(10)}


def test_a_run_behind_a_link_is_written_to(run: Path) -> None:
    link = run.with_name("link")
    link.symlink_to(run)
    write_run(link, facts("sds"))
    assert told_commands(read_run(run)) == [facts("sds")]


def test_what_is_corrupt_is_begun_anew(run: Path) -> None:
    write_run(run, facts("sds"))
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace("2.13.0", "9.9.9"))
    with pytest.raises(CorruptResult, match="seal"):
        read_run(run)
    write_run(run, facts("psd"))
    assert told_commands(read_run(run)) == [facts("psd")]


@pytest.mark.parametrize("earlier", ["sds", ["sds"], {"jobs": []}])
def test_what_is_no_list_of_commands_is_corrupt(run: Path, earlier: object) -> None:
    (run / "run.json").write_text(json.dumps({**facts("sds"), "earlier": earlier}))
    with pytest.raises(CorruptResult, match="another record"):
        read_run(run)
