"""The script of the other interpreter: what of it can be checked without the official packages."""

from __future__ import annotations

import ast
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

from psdbench.parity import official_side, openai_layout
from psdbench.parity.compare import BOUND, Material, choose_pairs, score_pairs
from psdbench.parity.pictures import photograph, stripes
from psdbench.parity.prompts import PROMPTS
from psdbench.scorers.head import ScoreHead
from psdbench.scorers.layouts import LAYOUTS


@pytest.mark.parametrize("module", [official_side, openai_layout])
def test_it_imports_nothing_of_psdbench_and_nothing_heavy_at_its_top(module: ModuleType) -> None:
    tree = ast.parse(Path(module.__file__ or "").read_text())
    names = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert "psdbench" not in names
    top = {
        alias.name.split(".")[0] for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }
    assert top <= sys.stdlib_module_names


def test_openai_names_are_the_way_back_of_our_layout(clip_folder: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(clip_folder / "model.safetensors")
    theirs = openai_layout.as_openai(state)
    sources = {key: LAYOUTS["openclip"].source(key) for key in state}
    assert {source.key for source in sources.values()} == theirs.keys()
    assert all(torch.equal(source.take(theirs[source.key]), state[key]) for key, source in sources.items())


def test_laions_definition_is_our_head() -> None:
    torch.manual_seed(0)
    ours = ScoreHead([768, 1024, 128, 64, 16, 1]).eval()
    features = torch.randn(5, 768)
    theirs = openai_layout.laion_head(ours.state_dict())
    assert torch.allclose(theirs(features)[:, 0], ours(features), atol=1e-6)


def test_pickscore_by_its_authors_recipe(pickscore: Path, tmp_path: Path) -> None:
    """End to end in this environment: CLIPProcessor and CLIPModel of transformers against our scorer."""
    from PIL import Image

    shapes = [(photograph, 60, 90), (photograph, 448, 454), (stripes, 331, 225)]
    paths = [tmp_path / f"{i}.png" for i in range(len(shapes))]
    for path, (make, height, width) in zip(paths, shapes, strict=True):
        Image.fromarray(make(height, width)).save(path)
    material = Material(paths, PROMPTS, choose_pairs(len(paths), len(PROMPTS), 1))
    request = {
        "reference": "transformers",
        "folder": str(pickscore),
        "weights": str(pickscore / "model.safetensors"),
        "pictures": [str(path) for path in paths],
        "prompts": [prompt.text for prompt in PROMPTS],
        "pairs": material.pairs,
    }
    answer = official_side.answer(request)
    ours = score_pairs("pickscore_v1", material)
    theirs = torch.tensor(answer["scores"], dtype=torch.float64)
    gap = (theirs - torch.tensor([ours[pair] for pair in material.pairs], dtype=torch.float64)).abs().max()
    assert gap <= BOUND * theirs.std()
    assert answer["versions"].keys() == {"transformers", "torch"}


def test_a_reference_without_its_modules_says_which() -> None:
    with pytest.raises(official_side.Missing, match="has no hpsv2"):
        official_side.answer({"reference": "hpsv2", "pairs": []})


def test_pairs_are_asked_prompt_by_prompt_and_answered_in_their_order() -> None:
    calls: list[tuple[str, list[str]]] = []

    def score(prompt: str, pictures: list[str]) -> list[float]:
        calls.append((prompt, pictures))
        return [float(picture) for picture in pictures]

    pairs = [(2, 0), (0, 1), (1, 0), (2, 1)]
    request = {"pairs": pairs, "prompts": ["a", "b"], "pictures": ["10", "11", "12"]}
    answer = official_side.score_by_prompt(request, score)
    assert answer["scores"] == [12.0, 10.0, 11.0, 12.0]
    assert calls == [("a", ["12", "11"]), ("b", ["10", "12"])]


def test_seconds_of_a_checkpoint_read_again_are_not_those_of_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes 30 ms of computing here, scoring itself next to nothing."""
    monkeypatch.setattr(official_side, "_rereading", 0.0)

    def read() -> None:
        end = time.process_time() + 0.03
        while time.process_time() < end:
            pass

    reread = official_side.again(read)

    def score(prompt: str, pictures: list[str]) -> list[float]:
        reread()
        return [0.0 for _ in pictures]

    request = {"pairs": [(0, 0), (0, 1)], "prompts": ["a", "b"], "pictures": ["c"]}
    cost = official_side.score_by_prompt(request, score)["cost"]
    assert cost["rereading"] >= 0.06
    assert 0 <= cost["scoring"] < 0.03
    assert cost["loading"] > 0
    assert cost["megabytes"] > 10
