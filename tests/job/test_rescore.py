"""A finished job gets a further metric and its process dies: what it had before is still there and still counts."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs import METRICS, make_task

from psdbench import registry
from psdbench.cli.score import finished_tasks
from psdbench.job import Models, Watch, execute
from psdbench.report import build_report
from psdbench.store import atomic
from psdbench.store.sealed import read_json
from psdbench.store.table import SCORES, load_table
from psdbench.verify import file_problems

OLD, NEW = METRICS
WRITES = 6
"""files that the second command replaces: a record and the scores, of the job and of its snapshot; stages, manifest"""


class Killed(BaseException):
    """Stands for the death of the process."""


def scorers(run: Path) -> set[str]:
    """Whose scores a table has."""
    return set(load_table(run)["scorer"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_prior_folder: Path, models: Models) -> Path:
    """A run of one job with one metric and one snapshot."""
    run = tmp_path_factory.mktemp("finished") / "run"
    task = make_task(run, registry.prior_ref(str(tiny_prior_folder)))
    execute([replace(task, snapshots=1, metrics=(OLD,))], models, Watch())
    return run


@pytest.mark.parametrize("file", range(WRITES + 1))
def test_death_at_any_file_loses_no_score(
    finished: Path, tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch, file: int
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    written, replace_file = list[str](), os.replace

    def die_before(source: Any, target: Path) -> None:
        if len(written) == file:
            raise Killed
        written.append(target.name)
        replace_file(source, target)

    (again,) = finished_tasks(run, [NEW])[0]
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", die_before)
        if file < WRITES:
            with pytest.raises(Killed):
                execute([again], models, Watch())
        else:
            execute([again], models, Watch())
    assert len(written) == file
    assert OLD in scorers(run), "a report can be made now"
    assert file_problems(again.folder) == []
    assert [result.status for result in build_report([run]).results] == ["finished"]
    (again,), code = finished_tasks(run, [NEW])
    assert code == 0, "the same command goes on"
    assert execute([again], models, Watch())[0].status == "finished"
    assert scorers(run) == {OLD, NEW}
    for place in (again.folder, again.folder / "snapshots" / "000002"):
        assert set(read_json(place / SCORES) or {}) == {OLD, NEW}
