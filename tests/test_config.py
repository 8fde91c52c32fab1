"""Identity of jobs: what changes it and what does not, and names that are safe on every file system."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psdbench.config import (
    CameraConfig,
    JobSpec,
    OptimizeConfig,
    PluginRef,
    PriorRef,
    Protocol,
    ScorerRef,
    canonical_json,
    digest,
    identity,
    slug,
    stored,
)
from psdbench.strict import build

PROTOCOL = Protocol(PriorRef("shapes", "ab" * 32), ScorerRef("hps_shapes", "cd" * 32))
SPEC = JobSpec("a red cube", "psd", {"preference_scale": 1.0}, 0, PROTOCOL)


def test_id_is_pinned() -> None:
    """The id of a fixed job never changes by accident: old results would be orphaned."""
    small = {"prompt": "a red cube", "method": "sds", "params": {}, "seed": 0, "protocol": "0"}
    assert (
        canonical_json(small) == '{"method":"sds","params":{},"prompt":"a red cube","protocol":"0","seed":0}'
    )
    assert digest(small) == "ad795c852400c58c203fd9cbc87adcfb2d58fba464cf8d0e24c5003f29cb6551"
    parts = {"prompt": "a red cube", "method": "psd", "params": {"preference_scale": 1.0}, "seed": 0}
    assert SPEC.id == digest({**parts, "protocol": PROTOCOL.hash})


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(SPEC, prompt="a red sphere"),
        dataclasses.replace(SPEC, method="sds"),
        dataclasses.replace(SPEC, params={"preference_scale": 0.5}),
        dataclasses.replace(SPEC, seed=1),
        dataclasses.replace(SPEC, protocol=dataclasses.replace(PROTOCOL, reward=None)),
        dataclasses.replace(SPEC, protocol=dataclasses.replace(PROTOCOL, device="cuda")),
        dataclasses.replace(SPEC, plugin=PluginRef("ef" * 32)),
        dataclasses.replace(SPEC, protocol=dataclasses.replace(PROTOCOL, optimize=OptimizeConfig(steps=201))),
        dataclasses.replace(SPEC, protocol=dataclasses.replace(PROTOCOL, optimize=OptimizeConfig(nfe=600))),
        dataclasses.replace(SPEC, protocol=dataclasses.replace(PROTOCOL, cameras=CameraConfig(fov=46.0))),
        dataclasses.replace(SPEC, protocol=dataclasses.replace(PROTOCOL, prior=PriorRef("shapes", "00"))),
    ],
)
def test_every_part_changes_the_id(other: JobSpec) -> None:
    assert other.id != SPEC.id


def test_place_and_checkpoint_cadence_do_not_change_the_id() -> None:
    prior = PriorRef("shapes", "ab" * 32, folder="/somewhere/else")
    optimize = OptimizeConfig(checkpoint_every=7)
    same = dataclasses.replace(SPEC, protocol=dataclasses.replace(PROTOCOL, prior=prior, optimize=optimize))
    assert same.id == SPEC.id
    assert "folder" not in identity(same.protocol)["prior"]


def test_switches_of_a_later_version_leave_old_ids_alone() -> None:
    later = {"nfe", "seconds", "particles", "grad_norm", "grad_clip"}
    assert not later & identity(OptimizeConfig()).keys()
    assert later & identity(OptimizeConfig(nfe=600, grad_norm="unit")).keys() == {"nfe", "grad_norm"}
    assert later & identity(OptimizeConfig(particles=2)).keys() == {"particles"}


def test_a_limit_that_nothing_is_held_to_has_no_identity() -> None:
    for mode in ("none", "unit"):
        limited, plain = OptimizeConfig(grad_norm=mode, grad_clip=0.3), OptimizeConfig(grad_norm=mode)
        assert digest(limited) == digest(plain)
    clips = [OptimizeConfig(grad_norm="clip", grad_clip=limit) for limit in (0.3, 1.0)]
    assert digest(clips[0]) != digest(clips[1])
    assert build(OptimizeConfig, stored(clips[0]), "stored") == clips[0]


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        dataclasses.replace(SPEC, plugin=PluginRef("ef" * 32, "/somewhere/mine.py")),
        dataclasses.replace(SPEC, protocol=dataclasses.replace(PROTOCOL, optimize=OptimizeConfig(nfe=600))),
        dataclasses.replace(
            SPEC, protocol=dataclasses.replace(PROTOCOL, optimize=OptimizeConfig(seconds=9.0))
        ),
    ],
)
def test_spec_survives_json(spec: JobSpec) -> None:
    again = build(JobSpec, stored(spec), "job.json")
    assert again == spec
    assert again.id == spec.id


def test_key_order_does_not_matter_and_types_do() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.0})
    assert canonical_json((1, 2.5, None, "é")) == '[1,2.5,null,"é"]'


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_a_number_has_no_identity(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"a": value})


@given(st.text())
def test_slug_is_always_a_plain_name(text: str) -> None:
    name = slug(text)
    assert 0 < len(name) <= 40
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not name.startswith("-")
    assert not name.endswith("-")


def test_folder_name_is_for_people() -> None:
    assert SPEC.folder_name == f"psd--a-red-cube--s0--{SPEC.id[:8]}"
    assert slug("../../etc/passwd $(rm -rf)") == "etc-passwd-rm-rf"
    assert slug("日本") == "prompt"


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"views": 0},
        {"particles": 0},
        {"particles": 301},
        {"size": 63},
        {"timestep_min": 0.9},
        {"timestep_max_start": 1.5},
        {"checkpoint_every": 0},
    ],
)
def test_impossible_optimisers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|need|more particles than steps"):
        OptimizeConfig(**wrong)  # type: ignore[arg-type]
