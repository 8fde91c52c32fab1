"""A job from every state to its end, with the real optimizer, renderer and scorers on a tiny untrained prior."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import statistics
from pathlib import Path

import pytest
from jobs import METRICS, STEPS, contents, make_task
from safetensors.torch import load_file, save_file

from psdbench import registry
from psdbench.config import PriorRef
from psdbench.errors import Interrupted
from psdbench.job import Event, Models, Watch, execute, settle
from psdbench.store.manifest import problems, read_manifest, write_manifest, write_stages
from psdbench.store.run import claim


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, prior: PriorRef, models: Models) -> dict[str, bytes]:
    task = make_task(tmp_path_factory.mktemp("reference"), prior)
    assert execute([task], models, Watch())[0].status == "finished"
    return contents(task.folder)


def test_a_job_is_done_once(tmp_path: Path, prior: PriorRef, models: Models) -> None:
    task, events = make_task(tmp_path, prior), list[Event]()
    outcome = execute([task], models, Watch(events.append))[0]
    assert (outcome.status, outcome.fresh) == ("finished", True)
    assert [e.kind for e in events] == ["start", *["step"] * STEPS]
    assert (events[-1].step, events[-1].steps) == (STEPS, STEPS)
    manifest = read_manifest(task.folder)
    assert manifest is not None
    assert problems(task.folder, manifest.files) == {}
    assert {entry.stage for entry in manifest.files.values()} == {"optimize", "render", "score"}
    assert not list(task.folder.glob("checkpoint-*"))
    cost = json.loads((task.folder / "cost.json").read_text())
    assert cost["denoiser_forwards"] == 2 * STEPS
    assert cost["seconds"] > 0
    rows = list(csv.DictReader((task.folder / "trace.csv").open()))
    assert cost["gradient_rms_median"] == statistics.median(float(row["gradient_rms"]) for row in rows)
    before = {p: p.stat().st_mtime_ns for p in task.folder.rglob("*") if p.name != ".lock"}
    again = execute([task], models, Watch(events.append))[0]
    assert (again.status, again.fresh) == ("finished", False)
    assert {p: p.stat().st_mtime_ns for p in task.folder.rglob("*") if p.name != ".lock"} == before


def test_a_job_under_a_budget_says_how_many_steps_it_expects(
    tmp_path: Path, prior: PriorRef, models: Models
) -> None:
    task, events = make_task(tmp_path, prior, nfe=7), list[Event]()
    assert execute([task], models, Watch(events.append))[0].status == "finished"
    steps = [(e.step, e.steps) for e in events if e.kind == "step"]
    assert steps == [(1, 0), (2, 4), (3, 4), (4, 4)]
    cost = json.loads((task.folder / "cost.json").read_text())
    assert (cost["steps"], cost["denoiser_forwards"]) == (4, 8)


def test_scores_carry_the_hash_of_their_scorer(reference: dict[str, bytes], models: Models) -> None:
    scores = json.loads(reference["scores.json"])
    assert set(scores) == set(METRICS)
    for name, entry in scores.items():
        assert entry["sha256"] == models.scorer(name).sha256
        assert len(entry["values"]) == 9


def test_a_new_metric_repeats_the_scores_only(tmp_path: Path, prior: PriorRef, models: Models) -> None:
    task = make_task(tmp_path, prior)
    execute([dataclasses.replace(task, metrics=METRICS[:1])], models, Watch())
    before, events = contents(task.folder), list[Event]()
    assert execute([task], models, Watch(events.append))[0].fresh
    assert [e.kind for e in events] == ["start"]
    after = contents(task.folder)
    assert {name for name in after if after[name] != before[name]} == {"scores.json"}
    assert set(json.loads(after["scores.json"])) == set(METRICS)
    assert execute([dataclasses.replace(task, metrics=METRICS[:1])], models, Watch())[0].fresh is False


def test_scores_of_the_geometry_render_again_what_older_versions_have_not_stored(
    tmp_path: Path, prior: PriorRef, models: Models
) -> None:
    task = make_task(tmp_path, prior)
    execute([task], models, Watch())
    before, geometry = contents(task.folder), task.folder / "renders" / "geometry.safetensors"
    manifest = read_manifest(task.folder)
    assert manifest is not None
    files = {name: entry for name, entry in manifest.files.items() if "geometry" not in name}
    geometry.unlink()
    write_stages(task.folder, task.spec.id, files)
    write_manifest(task.folder, dataclasses.replace(manifest, files=files))
    assert execute([task], models, Watch())[0].fresh is False
    assert not geometry.exists()
    more = dataclasses.replace(task, metrics=(*METRICS, "consistency"))
    events = list[Event]()
    assert execute([more], models, Watch(events.append))[0].fresh
    assert [e.kind for e in events] == ["start"]
    assert geometry.exists()
    after = contents(task.folder)
    assert {name for name in after if after[name] != before[name]} == {"scores.json"}
    assert settle(more, models, Watch()) is not None


@pytest.mark.parametrize("stop_at", [0, 1, 2, 3])
def test_a_stopped_job_ends_with_the_same_bytes(
    tmp_path: Path, prior: PriorRef, models: Models, reference: dict[str, bytes], stop_at: int
) -> None:
    task, steps = make_task(tmp_path, prior), list[Event]()

    def stop_after() -> int:
        return 15 if sum(e.kind == "step" for e in steps) >= stop_at else 0

    with pytest.raises(Interrupted) as caught:
        execute([task], models, Watch(steps.append, stop_after))
    assert caught.value.exit_code == 143
    assert read_manifest(task.folder) is None
    assert execute([task], models, Watch())[0].status == "finished"
    assert contents(task.folder) == reference


@pytest.mark.parametrize("name", ["asset.safetensors", "renders/view_03.png", "scores.json", "manifest.json"])
def test_damage_is_repaired_to_the_same_bytes(
    tmp_path: Path, prior: PriorRef, models: Models, reference: dict[str, bytes], name: str
) -> None:
    task, events = make_task(tmp_path, prior), list[Event]()
    execute([task], models, Watch())
    path = task.folder / name
    path.write_bytes(path.read_bytes()[:-7])
    assert settle(task, models, Watch()) is None
    outcome = execute([task], models, Watch(events.append))[0]
    assert (outcome.status, outcome.fresh) == ("finished", True)
    assert any(e.kind == "step" for e in events) == (name == "asset.safetensors")
    assert contents(task.folder) == reference
    assert (path.parent / "quarantine").is_dir()


def test_a_prior_with_nan_diverges_once_and_for_all(
    tmp_path: Path, tiny_prior_folder: Path, models: Models
) -> None:
    folder = tmp_path / "nan"
    shutil.copytree(tiny_prior_folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    state["conv_out.bias"][0] = float("nan")
    save_file(state, weights, metadata={"format": "pt"})
    task = make_task(tmp_path, registry.prior_ref(str(folder)))
    outcome = execute([task], models, Watch())[0]
    assert (outcome.status, outcome.step) == ("diverged", 0)
    assert "finite" in outcome.reason
    assert not (task.folder / "scores.json").exists()
    again = execute([task], models, Watch())[0]
    assert (again.status, again.fresh, again.step) == ("diverged", False, 0)


def test_an_empty_scene_diverges(tmp_path: Path, prior: PriorRef, models: Models) -> None:
    task = make_task(tmp_path, prior, empty_opacity=0.99, empty_steps=2)
    outcome = execute([task], models, Watch())[0]
    assert outcome.status == "diverged"
    assert "empty" in outcome.reason


def test_a_jobs_own_failure_is_its_result_and_is_tried_again(
    tmp_path: Path, prior: PriorRef, models: Models
) -> None:
    task = make_task(tmp_path, prior, method="psd")  # without a reward, which the plan would have refused
    outcome = execute([task], models, Watch())[0]
    assert outcome.status == "failed"
    assert "reward" in outcome.reason
    manifest = read_manifest(task.folder)
    assert manifest is not None
    assert manifest.status == "failed"
    assert "Traceback" in (task.folder / "log.txt").read_text()
    assert settle(task, models, Watch()) is None


def test_a_claimed_job_is_left_alone(tmp_path: Path, prior: PriorRef, models: Models) -> None:
    task = make_task(tmp_path, prior)
    with claim(task.folder) as mine:
        assert mine
        assert execute([task], models, Watch())[0].status == "busy"
        assert settle(task, models, Watch()) is None
    assert execute([task], models, Watch())[0].status == "finished"


def test_a_linked_job_folder_is_refused(tmp_path: Path, prior: PriorRef, models: Models) -> None:
    from psdbench.errors import CorruptResult

    task = make_task(tmp_path, prior)
    task.folder.parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    task.folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptResult, match="symbolic link"):
        execute([task], models, Watch())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_checkpoints_are_kept_on_request(tmp_path: Path, prior: PriorRef, models: Models) -> None:
    task = dataclasses.replace(make_task(tmp_path, prior), keep_checkpoints=True)
    execute([task], models, Watch())
    assert [p.name for p in task.folder.glob("checkpoint-*")] == ["checkpoint-000004.safetensors"]
