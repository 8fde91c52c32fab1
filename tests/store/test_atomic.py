"""Atomic files: complete or not there, whatever interrupts the writer."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from psdbench.errors import EnvironmentProblem
from psdbench.store import atomic


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    atomic.write_json(path, {"b": 1, "a": [1.5, None, "é"]})
    assert path.read_text() == '{\n "a": [\n  1.5,\n  null,\n  "é"\n ],\n "b": 1\n}\n'
    atomic.write_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~atomic._umask()


def test_tensors_with_metadata(tmp_path: Path) -> None:
    tensors = {"x": torch.arange(6.0).view(2, 3).T, "n": torch.tensor(3)}
    atomic.write_tensors(tmp_path / "a.safetensors", tensors, {"step": "1"})
    loaded = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(loaded[key], value) for key, value in tensors.items())


def test_not_a_number_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, 1)
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(path, float("nan"))
    assert path.read_text() == "1\n"


def test_a_failing_writer_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(temporary: Path) -> None:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"half")
        raise RuntimeError("encoder")

    with pytest.raises(RuntimeError, match="encoder"):
        atomic.write_with(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("where", ["mkstemp", "fsync", "replace"])
def test_a_full_disk_is_an_environment_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, "old")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.tempfile if where == "mkstemp" else atomic.os, where, full)
    with pytest.raises(EnvironmentProblem, match="No space left on device") as caught:
        atomic.write_json(path, "new")
    assert caught.value.exit_code == 4
    assert "disk space" in caught.value.remedy
    assert path.read_text() == '"old"\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_real_full_disk(tmp_path: Path) -> None:
    """A file size limit of the process is the real thing: the kernel refuses the write."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from psdbench.store import atomic\n"
        "from psdbench.errors import EnvironmentProblem\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: atomic.write_bytes(Path(sys.argv[1]), b'x' * 5000)\n"
        "except EnvironmentProblem as error: print(error)\n"
    )
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_killed_writers_leave_old_or_new_and_rubbish_is_swept(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from psdbench.store import atomic\n"
        "i = 0\n"
        "while True: i = 1 - i; atomic.write_bytes(Path(sys.argv[1]), b'ab'[i:i + 1] * 200_000)\n"
    )
    path = tmp_path / "a.bin"
    for moment in range(8):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.15 + 0.007 * moment)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        content = path.read_bytes()
        assert content in (b"a" * 200_000, b"b" * 200_000)
    atomic.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_sweep_leaves_real_files_alone(tmp_path: Path) -> None:
    for name in (".a.x1.tmp", ".view_00.x1.tmp.png", ".lock", "a.tmp", "b.json"):
        (tmp_path / name).touch()
    atomic.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "a.tmp", "b.json"]
