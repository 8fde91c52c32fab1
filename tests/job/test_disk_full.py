"""A full disk ends a run cleanly wherever it strikes, and once there is room the result has the same bytes."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import contents, make_task

from psdbench.config import PriorRef
from psdbench.errors import EnvironmentProblem
from psdbench.job import Models, Watch, execute
from psdbench.store import atomic
from psdbench.store.manifest import problems, read_manifest, read_stages

WRITTEN = (
    "job.json",
    "checkpoint-000002.safetensors",
    "checkpoint-000004.safetensors",
    "trace.csv",
    "asset.safetensors",
    "cost.json",
    "stages.json",
    "view_00.png",
    "view_08.png",
    "geometry.safetensors",
    "turntable.mp4",
    "scores.json",
    "manifest.json",
    "log.txt",
)
"""every file that a job writes"""
PAGE = 4096
"""bytes; the unit in which a tmpfs fills up"""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, prior: PriorRef, models: Models) -> dict[str, bytes]:
    task = make_task(tmp_path_factory.mktemp("reference"), prior)
    assert execute([task], models, Watch())[0].status == "finished"
    seen = {p.name for p in task.folder.rglob("*") if p.is_file()} - {".lock"}
    assert seen == {n for n in WRITTEN if "checkpoint" not in n} | {f"view_{v:02d}.png" for v in range(9)}
    return contents(task.folder)


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_nothing_is_torn(folder: Path) -> None:
    """What is committed verifies, be it a stage or the whole job, and nothing temporary is left."""
    if folder.is_dir():
        assert problems(folder, read_stages(folder)[1]) == {}
        manifest = read_manifest(folder)
        assert manifest is None or (manifest.status == "finished" and not problems(folder, manifest.files))
    assert not list(folder.rglob("*.tmp*"))


@pytest.mark.parametrize("name", WRITTEN)
def test_at_every_file_that_is_written(
    tmp_path: Path,
    prior: PriorRef,
    models: Models,
    reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    task, replace, open_ = make_task(tmp_path, prior), os.replace, Path.open

    def full_replace(source: Any, target: Path) -> None:
        full() if target.name == name else replace(source, target)

    def full_open(path: Path, *args: Any, **kwargs: Any) -> Any:
        return full() if (path.name, args) == (name, ("a",)) else open_(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", full_replace)
        patch.setattr(Path, "open", full_open)
        with pytest.raises(EnvironmentProblem, match=f"stopped: disk: .*{name}: No space left") as caught:
            execute([task], models, Watch())
    assert caught.value.exit_code == 4
    assert read_manifest(task.folder) is None
    assert_nothing_is_torn(task.folder)
    assert execute([task], models, Watch())[0].status == "finished"
    assert contents(task.folder) == reference


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in memory, of one page; `resize` changes that."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={PAGE}", "tmpfs", str(disk)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if made.returncode:
        pytest.skip(f"only root can make a small file system: {made.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def resize(disk: Path, pages: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={pages * PAGE}", str(disk)], check=True)


def name_in(error: EnvironmentProblem) -> str:
    """The file that a full disk has struck."""
    start = "stopped: disk: cannot write "
    assert str(error).startswith(start)
    return Path(str(error).removeprefix(start).split(": ")[0]).name


def fill_up(
    disk: Path, prior: PriorRef, models: Models, reference: dict[str, bytes], step: int
) -> dict[str, int]:
    """Give a job `step` pages more whenever the disk is full; how often which file met a full disk."""
    struck: dict[str, int] = {}
    task = make_task(disk, prior)
    for pages in range(1, 1000, step):
        resize(disk, pages)
        try:
            (outcome,) = execute([task], models, Watch())
        except EnvironmentProblem as error:
            name = name_in(error)
            struck[name] = struck.get(name, 0) + 1
            assert_nothing_is_torn(task.folder)
            continue
        assert outcome.status == "finished"
        assert contents(task.folder) == reference
        return struck
    raise AssertionError("never finished")


def test_on_a_real_disk(
    small_disk: Path, prior: PriorRef, models: Models, reference: dict[str, bytes]
) -> None:
    assert fill_up(small_disk, prior, models, reference, step=24)


@pytest.mark.slow
def test_on_a_real_disk_that_grows_page_by_page(
    small_disk: Path, prior: PriorRef, models: Models, reference: dict[str, bytes]
) -> None:
    """Most files of a job meet the full disk at least once, and the kernel, not a test, refuses the write."""
    struck = fill_up(small_disk, prior, models, reference, step=1)
    assert len(struck) > 8, struck
