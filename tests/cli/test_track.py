"""The mirrors: what they hold is what the run folder holds, secrets are not in them, and they harm no run."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from psdbench.store.table import load_table

CANARY = "hf_canary_in_the_coal_mine"
BLOCK = 32768
"""bytes; W&B's files are logs of records in blocks, as LevelDB's"""


def records(file: Path) -> Iterator[object]:
    """The protobuf records of an offline W&B run."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, pending = file.read_bytes(), 7, b""
    while position + 7 <= len(content):
        if BLOCK - position % BLOCK < 7:  # too short for a header: padding
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        pending += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(pending)
            yield record
            pending = b""


def test_wandb_offline_holds_the_run_and_no_secret(
    process: Callable, small: list[object], tmp_path: Path
) -> None:
    pytest.importorskip("wandb", reason="pip install 'psdbench[track]'")
    secret = tmp_path / CANARY
    secret.mkdir()
    prompts = small[small.index("--prompts") + 1]
    small[small.index("--prompts") + 1] = secret / "p.txt"
    (secret / "p.txt").write_text(Path(str(prompts)).read_text())
    variables = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    done = process("run", *small, "--track", "wandb", env=variables | {"SOME_TOKEN": CANARY})
    assert done.returncode == 0, done.stderr
    assert "wandb" not in done.stderr, done.stderr
    folder = tmp_path / "run" / "wandb"
    for path in folder.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
    jobs = {p.name for p in (tmp_path / "run" / "jobs").iterdir()}
    names, steps = set[str](), 0
    for file in folder.rglob("*.wandb"):
        for record in records(file):
            if record.HasField("run"):
                names.add(record.run.display_name)
                assert record.run.run_group == "run"
            steps += record.HasField("history")
    assert names == {*jobs, "run"}
    assert steps >= 2 * 3 + 1, "three steps of each job, and the table"
    assert list(folder.rglob("*.mp4"))
    assert list(folder.rglob("*.table.json"))


def test_tensorboard_holds_the_curves(process: Callable, small: list[object], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'psdbench[track]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = process("run", *small, "--track", "tensorboard")
    assert done.returncode == 0, done.stderr
    table = load_table(tmp_path / "run")
    for job in (tmp_path / "run" / "jobs").iterdir():
        events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / job.name)).Reload()
        assert [event.step for event in events.Scalars("loss")] == [0, 1, 2]
        mean = events.Scalars("score/true_preference")[0].value
        own = table[(table["scorer"] == "true_preference") & table["prompt"].str.contains(job.name[7:10])]
        assert mean == pytest.approx(own["value"].mean(), abs=1e-5)


def test_a_mirror_that_breaks_harms_nothing(process: Callable, small: list[object], tmp_path: Path) -> None:
    """W&B is asked to be online where there is no server."""
    pytest.importorskip("wandb", reason="pip install 'psdbench[track]'")
    broken = {"WANDB_MODE": "no such mode", "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = process("run", *small, "--track", "wandb", env=os.environ | broken)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("note: wandb: ") == 1
    assert "2 of 2 jobs finished" in done.stderr
    assert load_table(tmp_path / "run")["value"].notna().all()


def test_an_unknown_tracker_is_refused(program: Callable, small: list[object]) -> None:
    done = program("run", *small, "--track", "wandbb")
    assert done.code == 2
    assert "unknown tracker 'wandbb'" in done.err
    assert "did you mean 'wandb'?" in done.err
