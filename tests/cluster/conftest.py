"""Real clusters on this machine, for `make test-cluster`: a SLURM and a Ray of the test's own."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_node
import torch
from disturbed import Disturbed, make_tasks, results

from psdbench.launch import local
from psdbench.launch import slurm as slurm_launcher


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """A SLURM with one node; skipped where it cannot be started."""
    pytest.importorskip("submitit", reason="pip install 'psdbench[slurm]'")
    if reason := slurm_node.missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="psdbench-slurm-"))
    with slurm_node.slurm_node(folder) as variables:
        yield variables
    shutil.rmtree(folder)


@pytest.fixture
def on_slurm(slurm: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs of SLURM find that one, and Python finds psdbench on its node."""
    monkeypatch.setattr(slurm_launcher, "POLL_SECONDS", 2.0)
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    _share_source(monkeypatch)


@pytest.fixture(scope="session")
def token() -> str:
    """What protects the Ray of these tests, which anybody on this machine could else give work to."""
    return secrets.token_hex(32)


@pytest.fixture
def on_ray(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """Python finds psdbench in Ray's processes."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # Ray looks at it when it is imported
    pytest.importorskip("ray", reason="pip install 'psdbench[ray]'")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else its workers get nothing of a busy machine
    _share_source(monkeypatch)


def _share_source(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).parent.parent.parent)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_prior_folder: Path) -> list[bytes]:
    """What the local launcher makes of the same tasks."""
    threads = torch.get_num_threads()
    tasks = make_tasks(tmp_path_factory.mktemp("local"), tiny_prior_folder)
    outcomes = local.run_jobs(tasks, 1, "cpu", lambda event: None)
    torch.set_num_threads(threads)
    assert [outcome.status for outcome in outcomes] == ["finished"] * len(tasks)
    return results(tasks)


@pytest.fixture
def disturbed(tmp_path: Path, tiny_prior_folder: Path) -> Disturbed:
    """The same tasks in another folder, to be disturbed."""
    return Disturbed(make_tasks(tmp_path / "run", tiny_prior_folder))
