"""The mirrors: what they hold is what the run folder holds, secrets are not in them, and they harm no run."""

from __future__ import annotations

import csv
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import RunMaker

from psdbench.store.run import open_run, read_job
from psdbench.store.table import load_table

CANARY, ARGUMENT = "hf_canary_in_the_coal_mine", "path_that_nobody_else_needs_to_know"
BLOCK = 32768
"""bytes; W&B's files are logs of records in blocks, as LevelDB's"""


def records(file: Path) -> Iterator[Any]:
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


@dataclass
class Mirrored:
    """What a file of W&B's says of a run."""

    name: str = ""
    id: str = ""
    group: str = ""
    kind: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def curve(self, name: str) -> list[float]:
        """The values of a quantity in the order of its steps."""
        return [row[name] for row in self.history if name in row]


def read(file: Path) -> Mirrored:
    """Everything that a file says, later words over earlier ones."""
    found = Mirrored()
    for record in records(file):
        if record.HasField("run"):
            run = record.run
            found.name, found.id, found.group, found.kind = (
                run.display_name,
                run.run_id,
                run.run_group,
                run.job_type,
            )
        elif record.HasField("history"):
            found.history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
        elif record.HasField("summary"):
            found.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
    return found


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def test_the_mirrors_hold_the_run_and_no_secret(
    process: Callable, small: list[object], tmp_path: Path
) -> None:
    for package in ("wandb", "tensorboard"):
        pytest.importorskip(package, reason="pip install 'psdbench[track]'")
    secret = tmp_path / ARGUMENT
    secret.mkdir()
    prompts = small[small.index("--prompts") + 1]
    small[small.index("--prompts") + 1] = secret / "p.txt"
    (secret / "p.txt").write_text(Path(str(prompts)).read_text())
    secrets = {"SOME_TOKEN": CANARY, "WANDB_API_KEY": CANARY.ljust(40, "0")}
    done = process("run", *small, "--track", "wandb,tensorboard", env=variables() | secrets)
    assert done.returncode == 0, done.stderr
    assert "note: wandb" not in done.stderr, done.stderr
    folder = tmp_path / "run" / "wandb"
    for path in (tmp_path / "run").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert CANARY.encode() not in content, path
        assert ARGUMENT.encode() not in content or path.name == "run.json", "whose options are the user's own"
    mirrored = [read(file) for file in folder.rglob("*.wandb")]
    assert {run.group for run in mirrored} == {"run"}
    by_name = {run.name: run for run in mirrored}
    table = load_table(tmp_path / "run")
    for job in (tmp_path / "run" / "jobs").iterdir():
        run, own = by_name.pop(job.name), table[table["job"] == read_job(job).id]
        assert (run.id, run.kind) == (read_job(job).id, "sds")
        with (job / "trace.csv").open() as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
        assert run.curve("loss") == losses
        mean = own[own["scorer"] == "true_preference"]["value"].mean()
        assert run.summary["score/true_preference"] == pytest.approx(mean)
        assert run.summary["status"] == "finished"
    assert list(by_name) == ["run"]
    assert by_name["run"].kind == "summary"
    assert len(list(folder.rglob("*.mp4"))) == 2
    (comparison,) = (path for path in folder.rglob("*.table.json") if "comparison" in path.name)
    assert "true_preference" in comparison.read_text()
    assert_scalars(tmp_path / "run")


def variables() -> dict[str, str]:
    """The environment without what would tell W&B where to go."""
    return {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}


def assert_scalars(run: Path) -> None:
    """TensorBoard has the curves and the means."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    table = load_table(run)
    for job in (run / "jobs").iterdir():
        events = EventAccumulator(str(run / "tensorboard" / job.name)).Reload()
        assert [event.step for event in events.Scalars("loss")] == [0, 1, 2]
        mean = events.Scalars("score/true_preference")[0].value
        own = table[(table["scorer"] == "true_preference") & table["prompt"].str.contains(job.name[7:10])]
        assert mean == pytest.approx(own["value"].mean(), abs=1e-5)


NOWHERE = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "1"}


@pytest.mark.parametrize("broken", [NOWHERE, {"HOME": "/nowhere"}], ids=["no server", "no key"])
def test_a_mirror_that_breaks_harms_nothing(tmp_path: Path, broken: dict[str, str]) -> None:
    """W&B is to be online where no server answers, or no key is known."""
    pytest.importorskip("wandb", reason="pip install 'psdbench[track]'")
    RunMaker(open_run(tmp_path / "run")).finished("sds", "a red cube")
    program = [sys.executable, "-c", MIRRORED, str(tmp_path / "run")]
    environment = variables() | {"WANDB_MODE": "online"} | broken
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("note: wandb: ") == 1
    told = float(done.stdout)
    assert told < 1, "the run never waits for the mirror"
    names = {read(file).name for file in (tmp_path / "run").rglob("offline-run-*/*.wandb")}
    assert len(names) == 2, "the job and the summary, offline"


MIRRORED = """
import sys, time
from pathlib import Path
from psdbench.job import Event
from psdbench.tracking import Mirror

if __name__ == "__main__":
    run = Path(sys.argv[1])
    (job,) = (run / "jobs").iterdir()
    with Mirror("wandb", run) as mirror:
        begin = time.monotonic()
        for _ in range(100):
            mirror.tell(Event("step", job.name))
        mirror.tell(Event("end", job.name))
        print(time.monotonic() - begin)
"""


def test_an_unknown_tracker_is_refused(program: Callable, small: list[object]) -> None:
    done = program("run", *small, "--track", "wandbb")
    assert done.code == 2
    assert "unknown tracker 'wandbb'" in done.err
    assert "did you mean 'wandb'?" in done.err
