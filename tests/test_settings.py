"""Options: flag over variable over file over default, and what a wrong file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from psdbench.errors import UsageError
from psdbench.settings import RunConfig, parse_budget, read_config, resolve, seed_list


def write(folder: Path, content: str) -> Path:
    path = folder / "run.toml"
    path.write_text(content)
    return path


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    config = write(tmp_path, 'methods = "sds,vsd"\nseeds = 2\nsteps = 50\n[sds]\nguidance_scale = 20\n')
    made = resolve({"methods": None, "steps": 7, "prompts": ["a.txt,b.txt", "c.txt"]}, config)
    assert made.methods == ("sds", "vsd")
    assert (made.seeds, made.steps, made.representation) == (2, 7, "voxels")
    assert made.prompts == ("a.txt", "b.txt", "c.txt")
    assert made.tables == {"sds": {"guidance_scale": 20}}


def test_set_wins_over_tables_and_is_typed(tmp_path: Path) -> None:
    config = write(tmp_path, "[sds]\nguidance_scale = 20.0\n[optimize]\nviews = 2\n")
    sets = ["sds.guidance_scale=30", "sds.weighting=uniform", "voxels.resolution=16", "cameras.fov=40"]
    made = resolve({}, config, sets)
    assert made.tables["sds"] == {"guidance_scale": 30.0, "weighting": "uniform"}
    assert made.tables["voxels"] == {"resolution": 16}
    assert made.tables["optimize"] == {"views": 2}
    assert made.tables["cameras"] == {"fov": 40.0}


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("methodz = 'sds'", "unknown key 'methodz' in .*run.toml", "methods"),
        ("steps = 'many'", "run.toml.steps must be a whole number", ""),
        ("steps = 0", "steps must be at least 1", ""),
        ("device = 'tpu'", "device must be auto, cpu or cuda", ""),
        ("[sdz]\nx = 1", "unknown table 'sdz'", "sds"),
        ("[sds]\nguidance = 1", "unknown parameter 'guidance'", "guidance_scale"),
        ("[sds]\nguidance_scale = 'x'", "sds.guidance_scale must be a number", ""),
        ("methods = [1]", r"methods\[0\] must be a text", ""),
        ("a = = 1", "run.toml: not TOML: .*line 1", ""),
    ],
)
def test_wrong_files_name_the_key(tmp_path: Path, content: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_config(write(tmp_path, content))
    assert hint in caught.value.remedy


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        read_config(tmp_path / "no.toml")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("psd.preference_scal=1", "unknown parameter 'preference_scal' in psd", "preference_scale"),
        ("pds.preference_scale=1", "unknown table 'pds'", "psd"),
        ("psd.preference_scale=high", "psd.preference_scale must be a number, not 'high'", ""),
        ("preference_scale=1", "is not TABLE.KEY=VALUE", "psd.preference_scale=0.5"),
        ("psd.preference_scale", "is not TABLE.KEY=VALUE", ""),
        ("sds.weighting=sdss", "unknown value 'sdss'", "sds"),
    ],
)
def test_wrong_settings_are_named(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resolve({}, None, [text])
    assert hint in caught.value.remedy


@pytest.mark.parametrize(("text", "seeds"), [(3, [0, 1, 2]), ("2", [0, 1]), ("5-7", [5, 6, 7]), ("4-4", [4])])
def test_seeds(text: int | str, seeds: list[int]) -> None:
    assert seed_list(text) == seeds


@pytest.mark.parametrize("text", [0, -1, "x", "3-1", "1-", 10_000])
def test_impossible_seeds(text: int | str) -> None:
    with pytest.raises(UsageError, match="seeds must be a count or a range"):
        seed_list(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [("nfe=600", {"nfe": 600}), ("seconds=1.5", {"seconds": 1.5}), (" nfe = 7 ", {"nfe": 7})],
)
def test_budgets(text: str, field: dict[str, float]) -> None:
    assert parse_budget(text) == field
    assert resolve({"budget": text}, None).budget == text


@pytest.mark.parametrize(
    "text", ["600", "nfe", "nfe=", "nfe=0", "nfe=1.5", "nfe=-3", "seconds=nan", "seconds=inf", "hours=1", ""]
)
def test_impossible_budgets(text: str) -> None:
    with pytest.raises(UsageError, match="budget must be nfe=N or seconds=S") as caught:
        resolve({"budget": text}, None)
    assert "--budget nfe=600" in caught.value.remedy


def test_steps_and_budget_exclude_each_other_but_a_flag_wins_over_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="steps and budget exclude each other"):
        resolve({"steps": 5, "budget": "nfe=6"}, None)
    made = resolve({"budget": "nfe=6"}, write(tmp_path, "steps = 50\n"))
    assert (made.steps, made.budget) == (None, "nfe=6")
    made = resolve({"steps": 50}, write(tmp_path, 'budget = "nfe=6"\n'))
    assert (made.steps, made.budget) == (50, None)
    with pytest.raises(UsageError, match="steps and budget exclude each other"):
        resolve({}, write(tmp_path, 'budget = "nfe=6"\nsteps = 50\n'))


def test_defaults() -> None:
    assert resolve({}, None) == RunConfig()
