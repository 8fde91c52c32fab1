"""Layouts of renders made elsewhere: which pictures belong to which asset, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from foreign_renders import draw, gpteval3d, mate3d, threestudio

from psdbench.errors import UsageError
from psdbench.foreign.folders import find_assets, in_order
from psdbench.foreign.ratings import read_ratings


def test_gpteval3d(tmp_path: Path) -> None:
    assets = find_assets(gpteval3d(tmp_path / "t"))
    assert [(a.method, a.prompt, a.seed) for a in assets] == [
        (method, prompt, 0) for method in ("mvdream", "sjc") for prompt in ("A soft sofa", "A torn hat")
    ]
    assert {a.layout for a in assets} == {"gpteval3d"}
    assert [path.name for path in assets[0].files] == [f"rgb_{i}.png" for i in range(16)]
    assert assets[0].elevation is None


def test_mate3d(tmp_path: Path) -> None:
    folder, ratings = mate3d(tmp_path / "projection")
    assets = find_assets(folder, read_ratings(ratings).prompts)
    assert len(assets) == 12
    assert {a.layout for a in assets} == {"mate3d"}
    assert ("one2345++", "A red hat, worn") in {(a.method, a.prompt) for a in assets}
    assert {len(a.files) for a in assets} == {6}


def test_a_trial_of_threestudio_and_a_folder_of_them(tmp_path: Path) -> None:
    trial = threestudio(tmp_path / "outputs")
    threestudio(tmp_path / "outputs", "'a blue sphere: shiny'".strip("'").replace(":", ","), seed=0)
    for folder, count in ((trial, 1), (tmp_path / "outputs", 2)):
        assets = find_assets(folder)
        assert len(assets) == count
    [red] = [asset for asset in assets if asset.prompt == "a red cube"]
    assert (red.method, red.seed, red.layout, red.elevation) == ("dreamfusion-sd", 3, "threestudio", 20.0)
    assert red.files[0].parent.name == "it10000-test"
    assert [path.stem for path in red.files] == [str(i) for i in range(12)]


@pytest.mark.parametrize(
    "name", ["a-red-cube", "a_red_cube", "0", "method/a-red-cube", "method/a_red_cube/7"]
)
def test_plain_folders_name_their_prompt(tmp_path: Path, name: str) -> None:
    root = tmp_path / "mine"
    for view in range(3):
        draw(root / name / f"{view}.png", number=view)
    (root / "prompts.txt").write_text("a red cube\na blue sphere\n")
    [asset] = find_assets(root)
    assert asset.prompt == "a red cube"
    assert asset.method == ("method" if "/" in name else "mine")
    assert asset.seed == (7 if name.endswith("7") else 0)
    assert [path.name for path in asset.files] == ["0.png", "1.png", "2.png"]


def test_views_are_ordered_by_number(tmp_path: Path) -> None:
    paths = [tmp_path / f"view{i}.png" for i in (10, 2, 1, 0, 9, 8, 7, 6, 5, 4, 3)]
    assert [path.stem for path in in_order(paths)] == [f"view{i}" for i in range(11)]
    named = [tmp_path / f"{name}.png" for name in ("front", "back")]
    assert [path.stem for path in in_order(named)] == ["back", "front"]


def refused(folder: Path, message: str, prompts: list[str] | None = None) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        find_assets(folder, prompts)
    assert caught.value.remedy


def test_a_missing_view_is_no_result(tmp_path: Path) -> None:
    root = gpteval3d(tmp_path / "t", 5)
    gone = root / "methods" / "sjc" / "1" / "0" / "rgb_3.png"
    gone.unlink()
    refused(root, r"sjc/1/0 lacks view 3: its numbers run from 0 to 4")
    draw(gone)
    for view in (0, 1):
        gone.with_name(f"rgb_{view}.png").unlink()
    refused(root, r"sjc/1/0 lacks view 0")


def test_folders_that_name_no_prompt(tmp_path: Path) -> None:
    draw(tmp_path / "a-red-cub" / "0.png")
    refused(tmp_path, "no prompts file")
    (tmp_path / "prompts.txt").write_text("a red cube\na blue sphere\n")
    refused(tmp_path, "its name stands for no prompts")
    refused(tmp_path, "stands for 2 prompts", ["a red cub!", "a red, cub"])
    shutil.rmtree(tmp_path / "a-red-cub")
    draw(tmp_path / "7" / "0.png")
    refused(tmp_path, "its name stands for no prompts")


def test_other_folders(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "is not a folder")
    (tmp_path / "notes.txt").write_text("no pictures")
    refused(tmp_path, "is not a run folder, and no pictures")
    draw(tmp_path / "a" / "b" / "c" / "d" / "0.png")
    refused(tmp_path, "lies 4 levels below", ["a"])
    shutil.rmtree(tmp_path / "a")
    draw(tmp_path / "m" / "0" / "latest" / "0.png")
    refused(tmp_path, "the seed 'latest' is not a number", ["a"])


def test_prompts_that_would_shift(tmp_path: Path) -> None:
    root = gpteval3d(tmp_path / "t", 2)
    (root / "prompts.json").write_text('["A torn hat", "A torn hat", "A soft sofa"]')
    refused(root, "duplicate")


def test_one_asset_twice(tmp_path: Path) -> None:
    for name in ("a-red-cube", "a_red_cube"):
        draw(tmp_path / "m" / name / "0.png")
    refused(tmp_path, "are of one method, prompt and seed", ["a red cube"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "not a mapping"),
        ("name: [", "cannot be read"),
        ("name: x\nsystem: {prompt_processor: {prompt: ''}}", "names no prompt"),
        ("name: x", "names no prompt"),
        ("x: !!python/object/apply:os.system ['touch pwned']", "cannot be read"),
    ],
)
def test_a_trial_with_another_configuration(tmp_path: Path, text: str, message: str) -> None:
    trial = threestudio(tmp_path / "outputs", views=2)
    (trial / "configs" / "parsed.yaml").write_text(text)
    refused(trial, message)
    assert not Path("pwned").exists()


def test_a_trial_without_test_renders(tmp_path: Path) -> None:
    trial = threestudio(tmp_path / "outputs", views=2)
    shutil.rmtree(trial / "save")
    refused(trial, "no test renders in save")
    (trial / "save" / "it5-test").mkdir(parents=True)
    refused(trial, "has no test renders")
