"""`doctor` for real priors and scorers, offline, and the usage of `prefetch`."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from psdbench import weights
from psdbench.world import weights_folder

ASKED = ["--prior", "sd15", "--metrics", "hps_v2.1,image_reward_v1.0"]


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSDBENCH_WEIGHTS", str(tmp_path / "library"))
    return tmp_path / "library"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_doctor_names_every_missing_file_and_the_command(
    program: Callable, library: Path, no_network: None
) -> None:
    done = program("doctor", *ASKED)
    assert done.code == 4
    files = [
        library / name / file.name
        for name in ("sd15", "hps_v2.1", "image_reward_v1.0")
        for file in weights.catalogue()[name].files
    ]
    assert len(files) == 12 + 5 + 5
    assert all(f"{path} is missing" in done.out for path in files)
    command = "psdbench prefetch --prior sd15 --metrics hps_v2.1,image_reward_v1.0"
    assert done.out.count(command) == 1
    assert "metric hps_shapes" not in done.out


def test_doctor_finds_a_cut_file(program: Callable, library: Path, no_network: None) -> None:
    for file in weights.catalogue()["hps_v2.1"].files:
        path = library / "hps_v2.1" / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"cut")
    done = program("doctor", "--metrics", "hps_v2.1", "--json")
    wrong = [check for check in json.loads(done.out)["checks"] if check["topic"] == "metric hps_v2.1"]
    assert done.code == 4
    assert [check["finding"].partition(" has ")[2] for check in wrong] == ["3 bytes instead of 1972490005"]


def test_doctor_tries_a_folder_and_an_embedded_metric(program: Callable, no_network: None) -> None:
    folder = (
        weights_folder() / "prior"
    )  # by its path: a trained one, for doctor sees that it predicts the noise
    done = program("doctor", "--prior", folder, "--metrics", "coverage", "--json")
    checks = {check["topic"]: check for check in json.loads(done.out)["checks"]}
    assert checks[f"prior {folder}"]["state"] == "ok"


def test_a_run_is_refused_before_it_starts(program: Callable, small: list[object]) -> None:
    small[small.index("true_preference,ground_truth")] = "clip_vit_b32"
    done = program("plan", *small)
    assert done.code == 4
    assert "pytorch_model.bin is missing" in done.err
    assert "psdbench prefetch --metrics clip_vit_b32" in done.err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "nothing to fetch"),
        (["--metrics", "hps_v2.2"], 2, "did you mean 'hps_v2"),
        (["--prior", "sd1"], 2, "did you mean 'sd15'?"),
    ],
)
def test_prefetch_refuses_what_there_is_not(
    program: Callable, args: list[str], code: int, message: str, no_network: None
) -> None:
    done = program("prefetch", *args)
    assert done.code == code
    assert message in done.err
    assert done.out == ""


def test_prefetch_of_what_is_embedded_needs_no_network(program: Callable, no_network: None) -> None:
    done = program("prefetch", "--prior", "shapes", "--metrics", "hps,clip")
    assert done.code == 0
    assert "nothing to fetch" in done.err


def test_prefetch_respects_a_forbidden_network(
    program: Callable, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = program("prefetch", "--metrics", "hps_v2.1")
    assert done.code == 4
    assert "HF_HUB_OFFLINE" in done.err
