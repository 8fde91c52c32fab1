"""The comparison: which pairs, what counts as within bounds, and a child process that answers."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.parity.compare import BOUND, Material, Row, choose_pairs, compare, fitting, layers, score_pairs
from psdbench.parity.pictures import PICTURES, write_pictures
from psdbench.parity.prompts import PROMPTS, Prompt
from psdbench.parity.references import REFERENCES, Reference, ask, find_python
from psdbench.parity.table import HEADER, as_json, cells, markdown
from psdbench.scorers.official import OFFICIAL

PLAIN = [Prompt("a red cube"), Prompt("a blue sphere"), Prompt("cats &amp; dogs", "untidy")]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All pictures as files."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def row(gap: float = 1e-6, sd: float = 0.1) -> Row:
    return Row("hps_v2.1", "hpsv2", {"hpsv2": "1.2.0"}, (2, 2), 3, 4, 12, sd, gap, "noise: a | b")


@pytest.mark.parametrize("each", [1, 4, 7, 18, 40])
def test_every_prompt_and_every_picture_is_used_and_no_pair_twice(each: int) -> None:
    pairs = choose_pairs(18, 40, each)
    assert len(pairs) == len(set(pairs)) == 40 * min(each, 18)
    assert {prompt for _, prompt in pairs} == set(range(40))
    assert {picture for picture, _ in pairs} == set(range(18))


def test_the_bound_is_a_ten_thousandth_of_the_deviation() -> None:
    assert row(0.9 * BOUND * 0.1).within
    assert not row(1.1 * BOUND * 0.1).within


@pytest.mark.parametrize(("gap", "sd"), [(0.0, 0.0), (math.inf, 1.0), (1e-9, math.nan)])
def test_scores_that_are_all_one_or_not_finite_prove_nothing(gap: float, sd: float) -> None:
    assert row(gap, sd).ratio == math.inf
    assert not row(gap, sd).within


def test_the_table_names_package_version_and_worst_pair() -> None:
    lines = markdown([row(), row(1.0)]).splitlines()
    assert len(lines) == 4
    assert len(cells(row())) == len(HEADER)
    assert "| hpsv2 1.2.0 | 2 + 2 | 3 | 4 | 12 | 0.1 | 1e-06 | 1e-05 | 1e-04 | within |" in lines[2]
    assert lines[3].endswith(r"OUT OF BOUNDS at noise: a \| b |")
    assert as_json(row(1.0))["within"] is False


def test_the_same_pictures_come_every_time(pictures: list[Path], tmp_path: Path) -> None:
    again = write_pictures(tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in pictures]
    assert len({path.read_bytes() for path in again}) == len(PICTURES)


def test_no_picture_is_one_that_a_package_refuses(pictures: list[Path]) -> None:
    from PIL import Image

    for path in pictures:
        with Image.open(path) as picture:
            assert picture.mode in ("RGB", "L")
            assert picture.width == picture.height or max(picture.size) != 224


def test_there_are_forty_prompts_and_the_hard_ones_are_among_them() -> None:
    texts = [prompt.text for prompt in PROMPTS]
    assert len(set(texts)) == 40
    assert max(map(len, texts)) > 10_000
    assert sum(not text.isascii() for text in texts) > 10
    assert sum(prompt.kind == "long" for prompt in PROMPTS) == 3


def test_torchmetrics_gets_what_it_reads_like_openai(pictures: list[Path]) -> None:
    reference = next(each for each in REFERENCES["clip_vit_l14"] if each.package == "torchmetrics")
    names = [path.stem for path in pictures]
    material = Material(pictures, PLAIN, [(p, q) for p in range(len(pictures)) for q in range(3)])
    left = fitting(material, reference)
    assert {PLAIN[prompt].kind for _, prompt in left.pairs} == {"plain"}
    gone = set(range(len(pictures))) - {picture for picture, _ in left.pairs}
    assert names.index("photo-remainder-of-three") in gone
    assert len(gone) < 6
    assert fitting(material, REFERENCES["hps_v2.1"][0]).pairs == material.pairs


def test_every_official_scorer_has_a_reference() -> None:
    assert REFERENCES.keys() == OFFICIAL.keys() - {
        "janus_clip_vit_l14"
    }  # ours alone, on a CLIP that is compared


PACKAGE = '''#!{python}
import json, sys
asked, answered = sys.argv[-2:]
request = json.load(open(asked))
scores = json.loads("""{scores}""") if request["pairs"] else []
json.dump({{"versions": {{"transformers": "0"}}, "scores": scores}}, open(answered, "w"))
'''


def interpreter(folder: Path, scores: list[float]) -> Path:
    """An executable that answers every request with these scores."""
    path = folder / "python"
    path.write_text(PACKAGE.format(python=sys.executable, scores=json.dumps(scores)))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("off", [0.0, 0.01])
def test_a_comparison_end_to_end(off: float, pickscore: Path, pictures: list[Path], tmp_path: Path) -> None:
    material = Material(pictures[:3], PLAIN, choose_pairs(3, 3, 2))
    ours = score_pairs("pickscore_v1", material)
    theirs = [ours[pair] for pair in material.pairs]
    theirs[4] += off
    said: list[str] = []
    (found,) = compare("pickscore_v1", material, [interpreter(tmp_path, theirs)], said.append)
    assert (found.pictures, found.prompts, found.pairs) == (3, 3, 6)
    assert found.layers == layers("pickscore_v1") == (2, 2)
    assert found.sd == pytest.approx(torch.tensor(theirs, dtype=torch.float64).std().item())
    assert found.largest == pytest.approx(off, abs=1e-12)
    assert found.within == (off == 0)
    picture, prompt = material.pairs[4]
    assert not off or found.worst == f"{pictures[picture].stem}: {PLAIN[prompt].text}"
    assert said == ["pickscore_v1: 6 pairs by transformers", "pickscore_v1: the same by psdbench"]


def test_a_score_that_is_no_number_is_out_of_bounds(
    pickscore: Path, pictures: list[Path], tmp_path: Path
) -> None:
    material = Material(pictures[:2], PLAIN, [(0, 0), (1, 1)])
    (found,) = compare("pickscore_v1", material, [interpreter(tmp_path, [1.0, math.nan])])
    assert not found.within
    assert as_json(found)["largest"] is None
    json.dumps(as_json(found), allow_nan=False)


def test_what_the_environment_lacks_is_named_with_how_to_get_it() -> None:
    with pytest.raises(EnvironmentProblem, match=r"has no ImageReward, clip") as caught:
        find_python(REFERENCES["image_reward_v1.0"][0], [Path(sys.executable)])
    assert "pip install image-reward==1.5" in caught.value.remedy
    assert "--python" in caught.value.remedy


def test_the_first_interpreter_that_has_the_package_is_taken(tmp_path: Path) -> None:
    able = interpreter(tmp_path, [])
    assert find_python(REFERENCES["hps_v2.0"][0], [Path(sys.executable), able]) == able


def test_what_is_no_interpreter_is_a_mistake_of_usage(tmp_path: Path) -> None:
    for path in (tmp_path / "python", tmp_path):
        with pytest.raises(UsageError, match="cannot be run"):
            find_python(REFERENCES["hps_v2.0"][0], [path])


def test_a_package_that_fails_has_its_last_words_in_the_message(tmp_path: Path) -> None:
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\necho the checkpoint is for another network >&2\nexit 1\n")
    path.chmod(0o755)
    with pytest.raises(EnvironmentProblem, match=r"hpsv2 failed under .* for another network"):
        ask(Reference("hpsv2", "hpsv2"), path, {"pairs": []})
