"""A whole finetuning: captions, resume, files, and what a run and a report make of its result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from psdbench.config import LoraRef, PriorRef, Protocol, ScorerRef
from psdbench.errors import CorruptResult, Interrupted, UsageError
from psdbench.finetune.captions import WORLD_SETS, captions_for, split, world_captions
from psdbench.finetune.run import FinetuneSpec, finetune, make_spec
from psdbench.plan import make_plan
from psdbench.priors.finetuned import FILE
from psdbench.prompts import read_prompts, shipped_sets
from psdbench.settings import RunConfig
from psdbench.store.run import read_job, write_job

FAST = {
    "draft": {"steps": 3, "batch": 1, "sampling_steps": 2},
    "dpo": {"steps": 2, "pairs": 1, "draws": 1, "sampling_steps": 2},
    "ddpo": {"steps": 2, "prompts": 1, "samples": 2, "sampling_steps": 2},
}


@pytest.fixture
def prompts(tmp_path: Path) -> list[str]:
    """A file of three prompts."""
    file = tmp_path / "training.txt"
    file.write_text("a red cone\na blue cube\na green sphere\n")
    return [str(file)]


def tiny_spec(
    folder: Path, prompts: list[str], algorithm: str = "draft", reward: str = "hps_shapes"
) -> FinetuneSpec:
    """A finetuning of the tiny prior that takes a moment."""
    return make_spec(algorithm, reward, str(folder), params=FAST[algorithm], prompts=prompts)


def test_captions_of_the_world_are_none_of_those_that_methods_are_compared_on() -> None:
    captions = world_captions(0)
    used = set(read_prompts([str(shipped_sets()[name]) for name in WORLD_SETS]).texts)
    assert len(used) > 30
    assert not used & {*captions.training, *captions.held_out}
    assert not {*captions.training} & {*captions.held_out}
    assert (len(captions.training), len(captions.held_out)) == (256, 32)
    assert world_captions(0) == captions != world_captions(1)


def test_of_given_prompts_every_fifth_is_held_out(prompts: list[str]) -> None:
    texts = tuple(f"prompt {i}" for i in range(12))
    assert split(texts).held_out == ("prompt 4", "prompt 9")
    assert len(split(texts).training) == 10
    assert split(texts[:2]) == (("prompt 0",), ("prompt 1",))
    assert captions_for("/some/folder", prompts, 0).held_out == ("a green sphere",)
    with pytest.raises(UsageError, match="one prompt"):
        split(texts[:1])
    with pytest.raises(UsageError, match="no captions of its own"):
        captions_for("/some/folder", [], 0)


@pytest.mark.parametrize("algorithm", list(FAST))
def test_an_interrupted_finetuning_ends_with_the_same_bytes(
    algorithm: str, tiny_prior_folder: Path, prompts: list[str], tmp_path: Path
) -> None:
    spec = tiny_spec(tiny_prior_folder, prompts, algorithm)
    rows: list = []
    whole = finetune(spec, tmp_path / "whole", rows.append)
    assert [row.step for row in rows] == list(range(spec.params["steps"]))
    asked = iter((0, 15))
    with pytest.raises(Interrupted):
        finetune(spec, tmp_path / "cut", should_stop=lambda: next(asked))
    resumed: list = []
    facts = finetune(spec, tmp_path / "cut", resumed.append)
    assert resumed == rows[1:]
    assert (tmp_path / "cut" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    assert facts["reward_on_held_out"] == whole["reward_on_held_out"]
    assert not list((tmp_path / "cut").glob("checkpoint*"))
    assert (tmp_path / "cut" / "trace.csv").read_text().count("\n") == len(rows) + 1


def test_the_same_call_again_does_nothing_and_another_is_refused(
    tiny_prior_folder: Path, prompts: list[str], tmp_path: Path
) -> None:
    spec, rows = tiny_spec(tiny_prior_folder, prompts), []
    first = finetune(spec, tmp_path / "out", rows.append)
    assert (
        finetune(spec, tmp_path / "out", rows.append)
        == first
        == json.loads((tmp_path / "out" / "finetune.json").read_text())
    )
    assert len(rows) == 3
    assert first["lora"]["sha256"]
    assert (first["algorithm"], first["reward"]["id"], first["seed"]) == ("draft", "hps_shapes", 0)
    assert {"before", "after", "gain"} == first["reward_on_held_out"].keys()
    with pytest.raises(UsageError, match="holds another finetuning"):
        finetune(replace(spec, seed=1), tmp_path / "out")
    (tmp_path / "out" / FILE).write_bytes(b"damaged")
    assert finetune(spec, tmp_path / "out")["lora"] == first["lora"]


def test_what_determines_a_finetuning_is_in_its_identity(tiny_prior_folder: Path, prompts: list[str]) -> None:
    spec = tiny_spec(tiny_prior_folder, prompts)
    others = [
        replace(spec, seed=1),
        replace(spec, params={**spec.params, "learning_rate": 1.0}),
        replace(spec, captions=(*spec.captions, "a red cube")),
        replace(spec, reward=ScorerRef("hps_shapes", "00")),
        replace(spec, prior=PriorRef("tiny", "00")),
    ]
    assert len({spec.id, *(other.id for other in others)}) == 6
    assert replace(spec, prior=replace(spec.prior, folder="/elsewhere")).id == spec.id


def test_options_that_do_not_go_together_are_refused(tiny_prior_folder: Path, prompts: list[str]) -> None:
    with pytest.raises(UsageError, match="unknown algorithm 'drft'") as caught:
        make_spec("drft", "hps_shapes", "shapes")
    assert "did you mean 'draft'?" in caught.value.remedy
    with pytest.raises(UsageError, match="needs the gradient of its reward, and 'true_preference' has none"):
        tiny_spec(tiny_prior_folder, prompts, reward="true_preference")
    assert tiny_spec(tiny_prior_folder, prompts, "ddpo", "true_preference").reward.id == "true_preference"
    with pytest.raises(UsageError, match="cannot be finetuned again"):
        make_spec("draft", "hps_shapes", "shapes+lora:somewhere")
    with pytest.raises(UsageError, match="name 'A b'"):
        make_spec("draft", "hps_shapes", str(tiny_prior_folder), prompts=prompts, name="A b")


def test_a_prior_of_view_sets_is_not_finetuned(mvdream_folder: Path, prompts: list[str]) -> None:
    with pytest.raises(UsageError, match="denoises sets of views"):
        tiny_spec(mvdream_folder, prompts)


def test_jobs_on_a_finetuned_prior_share_the_protocol_but_not_the_id(
    tiny_prior_folder: Path, prompts: list[str], tmp_path: Path
) -> None:
    finetune(tiny_spec(tiny_prior_folder, prompts), tmp_path / "out")
    config = RunConfig(methods=("sds",), prompts=tuple(prompts), prior=str(tiny_prior_folder))
    plain = make_plan(config)
    tuned = make_plan(replace(config, prior=f"{tiny_prior_folder}+lora:{tmp_path / 'out'}"))
    assert tuned.protocol == plain.protocol
    assert tuned.out == plain.out, "both end in one folder, and so in one report"
    assert not {spec.id for spec in plain.jobs} & {spec.id for spec in tuned.jobs}
    spec = tuned.jobs[0]
    assert spec.label == "sds+draft"
    assert spec.folder_name.startswith("sds+draft--a-red-cone--s0--")
    assert any("finetuned as 'draft' on hps_shapes" in note for note in tuned.notes)
    write_job(tmp_path, spec)
    assert read_job(tmp_path) == spec


def test_the_place_and_name_of_a_lora_are_no_part_of_the_id_but_its_content_is(tmp_path: Path) -> None:
    from psdbench.config import JobSpec

    reward = ScorerRef("hps_shapes", "aa")
    plain = JobSpec("a red cube", "sds", {}, 0, Protocol(PriorRef("shapes", "bb")))
    one = replace(plain, lora=LoraRef("cc", "draft", reward, "/here"))
    moved = replace(plain, lora=LoraRef("cc", "other", reward, "/there"))
    changed = replace(plain, lora=LoraRef("dd", "draft", reward, "/here"))
    assert one.id == moved.id
    assert len({plain.id, one.id, changed.id}) == 3
    write_job(tmp_path, one)
    text = (tmp_path / "job.json").read_text()
    (tmp_path / "job.json").write_text(text.replace('"cc"', '"ce"'))
    with pytest.raises(CorruptResult, match="its seal does not fit its content"):
        read_job(tmp_path)
