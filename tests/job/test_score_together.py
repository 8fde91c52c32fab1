"""Jobs that are scored together: the numbers of each are those that it gets alone, and so are its failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from foreign_renders import draw
from PIL import Image

from psdbench.errors import EnvironmentProblem, Interrupted
from psdbench.foreign import foreign_job
from psdbench.foreign.folders import Asset
from psdbench.job import Event, Models, Task, Watch, execute
from psdbench.scorers.clip import ClipTower
from psdbench.store.run import claim, job_folder

METRICS = ("clip_shapes", "aesthetic_shapes", "janus_shapes", "image_reward_shapes", "coverage")
PROMPTS = ("a red cube", "a blue sphere", "a torn hat")


@pytest.fixture
def tasks(tmp_path: Path) -> Callable[..., list[Task]]:
    """Jobs of renders made elsewhere, of different sizes, in a run of that name."""

    def make(run: str, metrics: tuple[str, ...] = METRICS) -> list[Task]:
        specs = []
        for number, prompt in enumerate(PROMPTS):
            size, folder = 32 * (number + 1), tmp_path / f"asset{number}"
            files = tuple(draw(folder / f"{i}.png", number=i, size=size) for i in range(2 + number))
            specs.append(foreign_job(Asset("other", prompt, 0, files, "plain", elevation=15.0)))
        return [Task(spec, job_folder(tmp_path / run, spec), metrics) for spec in specs]

    return make


def scores(task: Task) -> dict[str, list[float]]:
    stored = json.loads((task.folder / "scores.json").read_text())
    return {name: entry["values"] for name, entry in stored.items()}


def test_the_numbers_are_those_of_each_job_alone(
    tasks: Callable[..., list[Task]], models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, on a CPU."""
    alone = tasks("alone")
    for task in alone:
        assert execute([task], models, Watch())[0].status == "finished"
    seen: list[int] = []
    encode = ClipTower.encode
    monkeypatch.setattr(
        ClipTower, "encode", lambda tower, pixels: (seen.append(len(pixels)), encode(tower, pixels))[1]
    )
    together = tasks("together")
    outcomes = execute(together, models, Watch())
    assert [outcome.job for outcome in outcomes] == [task.folder.name for task in together]
    assert seen == [2, 3, 4]  # one look at each job for three metrics
    for one, other in zip(alone, together, strict=True):
        assert scores(other).keys() == set(METRICS)
        assert scores(other) == scores(one)


def test_what_fails_fails_alone(tasks: Callable[..., list[Task]], models: Models) -> None:
    made, other = tasks("run", ("clip_shapes", "true_preference")), tasks("other", ("clip_shapes",))[1]
    assert made[0].spec.foreign is not None
    Image.new("RGB", (32, 32)).save(made[0].spec.foreign.files[1])  # not what was found, and black
    with pytest.raises(EnvironmentProblem, match="not those that were taken over"):
        execute(made, models, Watch())
    outcomes = execute([*made[1:], other], models, Watch())
    assert [outcome.status for outcome in outcomes] == ["finished", "failed", "finished"]
    assert "hat" in outcomes[1].reason  # a word that the embedded world does not know


def test_another_process_keeps_its_job(tasks: Callable[..., list[Task]], models: Models) -> None:
    made = tasks("run", ("coverage",))
    with claim(made[1].folder):
        outcomes = execute(made, models, Watch())
    assert [outcome.status for outcome in outcomes] == ["finished", "busy", "finished"]
    again = execute(made, models, Watch())
    assert [(outcome.status, outcome.fresh) for outcome in again] == [
        ("finished", False),
        ("finished", True),
        ("finished", False),
    ]


def test_a_stop_loses_nothing(tasks: Callable[..., list[Task]], models: Models) -> None:
    made, events = tasks("run"), list[Event]()
    asked: list[int] = []

    def stop() -> int:
        asked.append(1)
        return 15 if len(asked) > 6 else 0  # while the networks look

    with pytest.raises(Interrupted):
        execute(made, models, Watch(events.append, stop))
    assert [event.kind for event in events] == ["start"] * 3
    outcomes = execute(made, models, Watch())
    assert [outcome.status for outcome in outcomes] == ["finished"] * 3
