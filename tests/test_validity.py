"""The controls of a run: made once from the weights that made the scores, of the world or of the best-known asset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from foreign_renders import draw

from psdbench import validity
from psdbench.errors import CorruptResult
from psdbench.foreign import foreign_job
from psdbench.foreign.folders import Asset
from psdbench.job import Models, Task, Watch, execute
from psdbench.scorers import load_scorer
from psdbench.store.run import job_folder
from psdbench.store.sealed import read_record, write_record
from psdbench.validity import CONTROLS, check_metrics, read_controls

METRICS = ("coverage", "floaters")


def scored(tmp_path: Path, *prompts: str) -> Path:
    """A run with one finished asset of each prompt; the later, the smaller."""
    run = tmp_path / "run"
    for number, prompt in enumerate(prompts):
        size = 32 * (number + 1)
        files = tuple(
            draw(tmp_path / f"{size}" / f"{i}.png", number=i, size=size, mode="RGBA") for i in range(4)
        )
        spec = foreign_job(Asset("other", prompt, 0, files, "plain"))
        outcome = execute([Task(spec, job_folder(run, spec), METRICS)], Models(), Watch())[0]
        assert outcome.status == "finished"
    return run


def test_the_world_brings_its_own_controls(tmp_path: Path) -> None:
    run = scored(tmp_path, "a red cube")
    check_metrics(run, METRICS)
    content = json.loads((run / CONTROLS).read_text())
    assert content["good"] == "shapes"
    found = read_controls(run)
    assert found.keys() == set(METRICS)
    assert found["coverage"][0] == load_scorer("coverage").sha256
    assert found["coverage"][1].valid
    assert found["floaters"][1].means["specks"] == pytest.approx(0.03, abs=0.03)


def test_other_prompts_have_the_best_known_asset(tmp_path: Path) -> None:
    run = scored(tmp_path, "a torn hat", "a soft sofa")
    check_metrics(run, METRICS)
    content = json.loads((run / CONTROLS).read_text())
    assert content["good"] in {path.name for path in (run / "jobs").iterdir()}
    assert all(outcome.valid for _, outcome in read_controls(run).values())


def test_controls_are_made_once_and_again_for_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scored(tmp_path, "a torn hat")
    check_metrics(run, METRICS[:1])
    made = []
    judged = validity._entry
    monkeypatch.setattr(
        validity, "_entry", lambda scorer, *rest: (made.append(scorer.id), judged(scorer, *rest))[1]
    )
    check_metrics(run, METRICS[:1])
    assert made == []
    check_metrics(run, METRICS)
    assert made == ["floaters"]
    content = read_record(run / CONTROLS, {}) or {}
    content["metrics"]["coverage"]["sha256"] = "0" * 64
    write_record(run / CONTROLS, content)
    check_metrics(run, METRICS)
    assert made == ["floaters", "coverage"]


def test_a_run_without_a_finished_job_has_none(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    check_metrics(tmp_path, METRICS)
    assert not (tmp_path / CONTROLS).exists()
    assert read_controls(tmp_path) == {}


@pytest.mark.parametrize("content", ["[", '{"metrics": 3}', '{"metrics": {"coverage": {"sha256": "0"}}}'])
def test_damaged_controls_are_told_and_made_again(tmp_path: Path, content: str) -> None:
    run = scored(tmp_path, "a torn hat")
    (run / CONTROLS).write_text(content)
    with pytest.raises(CorruptResult, match=CONTROLS):
        read_controls(run)
    check_metrics(run, METRICS)
    assert read_controls(run).keys() == set(METRICS)
