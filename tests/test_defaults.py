"""Defaults by family of priors, and search spaces: every value fits its parameter, has a source, and is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psdbench import registry, strict
from psdbench.defaults import FAMILIES, family_of, read, sources
from psdbench.defaults.spaces import Choice, Range, dimension, search_spaces
from psdbench.errors import UsageError
from psdbench.plan import make_plan
from psdbench.settings import RunConfig, resolve, table_class

METHODS = registry.shipped_methods()


@pytest.fixture
def folder_prior(tmp_path: Path) -> Callable[[Any], str]:
    """Makes a prior's folder whose UNet has this configuration."""

    def make(unet: Any) -> str:
        config = tmp_path / "prior" / "unet" / "config.json"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(unet if isinstance(unet, str) else json.dumps(unet))
        return str(tmp_path / "prior")

    return make


@pytest.fixture
def options(tiny_prior_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """A plan of two methods on a Stable-Diffusion-format prior, without a reward."""
    (tmp_path / "p.txt").write_text("a fox\n")
    return {"methods": ["sds,vsd"], "prompts": [str(tmp_path / "p.txt")], "prior": str(tiny_prior_folder)}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_value_fits_its_parameter_and_names_its_source(family: str) -> None:
    given, tables = read(family)
    strict.build(RunConfig, given, family)
    for table, values in tables.items():
        strict.build(table_class(table), values, f"{family}.{table}")
    places = {*given, *(f"{table}.{key}" for table, values in tables.items() for key in values)}
    assert set(sources(family)) == places


@pytest.mark.parametrize("family", ["sd", "mvdream"])
def test_a_real_prior_has_values_for_every_method(family: str) -> None:
    assert set(METHODS) <= set(read(family)[1])


def test_the_peers_other_form_of_guidance_is_converted() -> None:
    """ε̂_text + s (ε̂_text - ε̂_neg) with threestudio's s = 100 is ω = 101."""
    tables = read("sd")[1]
    assert {tables[name]["guidance_scale"] for name in ("sds", "sjc")} == {101.0}


def test_psd_and_its_base_have_one_guidance_and_weighting() -> None:
    for family in ("sd", "mvdream"):
        tables = read(family)[1]
        assert tables["psd"]["guidance_scale"] == tables["sds"]["guidance_scale"]
        assert tables["psd"].get("weighting", "sds") == tables["sds"]["weighting"]
        assert tables["psd"].get("x0_rescale") == tables["sds"].get("x0_rescale")


def test_the_embedded_world_holds_only_what_differs_from_the_dataclass_defaults() -> None:
    """What is not in its file keeps the ids that its jobs had before there were families."""
    tables = read("shapes")[1]
    assert resolve({"methods": METHODS}, None) == RunConfig(methods=tuple(METHODS), tables=tables)
    for table, values in tables.items():
        assert not values.items() & vars(table_class(table)()).items()


@pytest.mark.parametrize(
    ("unet", "family"),
    [
        ({"class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}, "mvdream"),
        ({"class_embed_type": "projection", "projection_class_embeddings_input_dim": 512}, "sd"),
        ({"class_embed_type": None, "projection_class_embeddings_input_dim": 16}, "sd"),
        ({}, "sd"),
        ("[]", "sd"),
        ("no JSON", "sd"),
    ],
)
def test_the_family_is_read_from_the_unet(folder_prior: Callable[[Any], str], unet: Any, family: str) -> None:
    folder = folder_prior(unet)
    assert family_of(folder) == family
    assert family_of(f"{folder}+lora:tuned") == family


def test_the_embedded_prior_is_known_by_name() -> None:
    assert family_of("shapes") == family_of("shapes+lora:results/draft") == "shapes"
    assert family_of("shaps") == "sd"  # the plan refuses it, with the nearest name


def test_a_plan_has_the_values_of_its_family(options: dict[str, Any]) -> None:
    plan = make_plan(resolve(options, None))
    sds, vsd = plan.jobs[:2]
    assert (sds.params["guidance_scale"], vsd.params["guidance_scale"]) == (101.0, 7.5)
    assert (plan.protocol.optimize.size, plan.protocol.optimize.steps) == (512, 10_000)
    assert plan.protocol.cameras.named_azimuths == 4


def test_mvdream_has_its_own_views_cameras_and_negative_prompt(
    options: dict[str, Any], mvdream_folder: Path
) -> None:
    protocol = make_plan(resolve({**options, "prior": str(mvdream_folder)}, None)).protocol
    assert (protocol.optimize.views, protocol.cameras.named_azimuths) == (4, 0)
    assert protocol.negative_prompt.startswith("ugly, bad anatomy")
    assert make_plan(resolve({**options, "negative_prompt": ""}, None)).protocol.negative_prompt == ""


@pytest.mark.parametrize(
    ("setting", "message"),
    [("optimize.views=6", "denoises 4 views together"), ("optimize.perp_neg=2", "no view words")],
)
def test_what_mvdream_cannot_do_is_refused_by_the_plan(
    options: dict[str, Any], mvdream_folder: Path, setting: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_plan(resolve({**options, "prior": str(mvdream_folder)}, None, [setting]))


def test_file_and_flag_and_set_win_over_the_family(options: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[sds]\nguidance_scale = 20.0\n[optimize]\nsize = 64\n")
    made = resolve({**options, "steps": 7}, file, ["cameras.fov=50"])
    assert made.steps == 7
    assert made.tables["sds"] == {"guidance_scale": 20.0, "weighting": "sds"}
    assert (made.tables["optimize"]["size"], made.tables["optimize"]["timestep_max_end"]) == (64, 0.5)
    assert (made.tables["cameras"]["fov"], made.tables["cameras"]["rig_distance"]) == (50.0, 3.0)
    assert "psd" not in made.tables


@pytest.mark.parametrize(
    ("flags", "sets", "length"),
    [
        ({}, [], (10_000, None, None)),
        ({"budget": "nfe=60"}, [], (300, 60, None)),
        ({}, ["optimize.nfe=60"], (300, 60, None)),
        ({}, ["optimize.seconds=9"], (300, None, 9.0)),
        ({}, ["optimize.steps=5"], (5, None, None)),
    ],
)
def test_a_length_that_is_given_takes_the_place_of_the_familys(
    options: dict[str, Any], flags: dict[str, str], sets: list[str], length: tuple[Any, ...]
) -> None:
    made = make_plan(resolve({**options, **flags}, None, sets)).protocol.optimize
    assert (made.steps, made.nfe, made.seconds) == length


@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_has_a_search_space_around_its_defaults(family: str) -> None:
    spaces = search_spaces(METHODS, [], [])
    assert set(read("spaces")[1]) == set(METHODS)
    for name, space in spaces.items():
        assert 2 <= len(space) <= 3
        first = strict.build(table_class(name), read(family)[1].get(name, {}), name)
        for key, values in space.items():
            assert getattr(first, key) in values, f"{name}.{key}"
            for value in (values.low, values.high) if isinstance(values, Range) else values.values:
                strict.build(table_class(name), {key: value}, name)
        assert set(sources("spaces")) >= {f"{name}.{key}" for key in space}


def test_guidance_and_weighting_have_the_same_choice_everywhere() -> None:
    for key in ("guidance_scale", "weighting"):
        assert len({table[key] for table in read("spaces")[1].values() if key in table}) == 1


@given(
    st.one_of(
        st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.booleans())
        .filter(lambda r: r[0] < r[1])
        .map(lambda r: Range(*r)),
        st.lists(st.floats(-1e6, 1e6), min_size=2, unique=True).map(lambda v: Choice(tuple(v))),
    )
)
def test_a_dimension_is_read_back_from_its_text(made: Range | Choice) -> None:
    assert dimension("sds", "guidance_scale", str(made)) == made


def test_a_dimension_has_the_type_of_its_parameter() -> None:
    assert dimension("vsd", "lora_rank", "1..8:log") == Range(1, 8, True)
    assert dimension("psd", "per_view", "true,false") == Choice((True, False))
    assert dimension("dreamreward", "ceiling", "none,4") == Choice((None, 4.0))
    assert dimension("psd", "base", "sds, csd") == Choice(("sds", "csd"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("psd.preference_scale", "--space 'psd.preference_scale' is not TABLE.KEY=VALUE"),
        ("psd.preference_scal=1..2", "unknown parameter 'preference_scal' in psd"),
        ("psd.preference_scale=2..1", "is an empty range"),
        ("psd.preference_scale=0..1:log", "is an empty range"),
        ("psd.preference_scale=1..2:lin", "has no range '1..2:lin'"),
        ("psd.preference_scale=1..b", "must be a number, not 'b'"),
        ("psd.preference_scale=1", "has no choice in '1'"),
        ("psd.base=sds..vsd", "has no range 'sds..vsd'"),
        ("psd.base=sds,ism", "unknown value 'ism' in psd.base"),
        ("sds.guidance_scale=1..2", "--space names 'sds', which is not tuned here"),
        ("optimize.steps=1..2", "--space names 'optimize', which is not tuned here"),
        ("pds.preference_scale=1..2", "unknown table 'pds'"),
        ("psd.rank_on=1..4", "psd.rank_on is set and searched at once"),
    ],
)
def test_wrong_spaces_are_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        search_spaces(["psd"], [text], [("psd", "rank_on")])


def test_what_is_set_is_not_searched() -> None:
    space = search_spaces(["sds"], [], [("sds", "weighting")])["sds"]
    assert list(space) == ["guidance_scale"]
    with pytest.raises(UsageError, match="all that would be searched of 'sds' is set"):
        search_spaces(["sds"], [], [("sds", "weighting"), ("sds", "guidance_scale")])


def test_a_given_space_replaces_that_of_its_method_alone() -> None:
    spaces = search_spaces(["sds", "psd"], ["psd.rank_on=1..4"], [])
    assert spaces["psd"] == {"rank_on": Range(1, 4)}
    assert set(spaces["sds"]) == {"guidance_scale", "weighting"}
