"""Folders of renders made elsewhere: which asset, method, prompt and seed each picture belongs to.

    plain         [METHOD/]ASSET[/SEED]/*.png, and a prompts file whose prompt each ASSET names
    gpteval3d     [methods/]METHOD/INDEX/SEED/rgb_0.png …, and prompts.json (GPTEval3D's data format)
    mate3d        METHOD/PROMPT_WITH_UNDERSCORES/rendered_view_0.png …, and a csv of ratings with the prompts
    threestudio   trial folders with configs/parsed.yaml and save/itN-test/0.png …

An ASSET names its prompt by the prompt's number in the file (from 0), by the prompt with underscores for blanks,
or by its slug. A folder that names none, or a gap in the numbers of the views, is an error: what is missing must
not become a result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from psdbench.config import slug
from psdbench.errors import UsageError, unknown
from psdbench.prompts import read_prompts

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
PROMPT_FILES = ("prompts.json", "prompts.txt")
TRIAL = Path("configs") / "parsed.yaml"
THREESTUDIO_ELEVATION = 15.0
"""degrees, its own default for test renders"""
_PREFIXES = {"rgb_": "gpteval3d", "rendered_view_": "mate3d"}


@dataclass(frozen=True)
class Asset:
    """The renders of one asset, in the order of its views."""

    method: str
    prompt: str
    seed: int
    files: tuple[Path, ...]
    layout: str
    elevation: float | None = None
    """of the cameras in degrees, where known; the first then looks at the front and the others follow evenly"""


def find_assets(folder: Path, prompts: Sequence[str] | None = None) -> list[Asset]:
    """All assets in a folder by method, prompt and seed; `prompts` where they are not in a file of the folder.

    Raises UsageError when there are none, when one has no prompt, lacks a view or is there twice.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "pass a run folder or a folder of renders")
    trials = sorted(path.parent.parent for path in folder.rglob(str(TRIAL)))
    found = [trial(each) for each in trials] if trials else list(_plain(folder, prompts))
    if not found:
        raise UsageError(
            f"{folder} is not a run folder, and no pictures made elsewhere lie in it either",
            "pass a run, results/NAME, or a folder in a layout that psdbench score --help names",
        )
    assets = sorted(found, key=lambda asset: (asset.method, asset.prompt, asset.seed))
    _refuse_missing_views(assets)
    for one, other in pairwise(assets):
        if (one.method, one.prompt, one.seed) == (other.method, other.prompt, other.seed):
            raise UsageError(
                f"{one.files[0].parent} and {other.files[0].parent} are of one method, prompt and seed",
                "take one of them out of the folder",
            )
    return assets


def _refuse_missing_views(assets: Sequence[Asset]) -> None:
    """UsageError for an asset with fewer views than another of its method, whose last ones may be missing."""
    fullest: dict[str, Asset] = {}
    for asset in assets:
        fullest.setdefault(asset.method, asset)
        if len(asset.files) > len(fullest[asset.method].files):
            fullest[asset.method] = asset
    for asset in assets:
        full = fullest[asset.method]
        if len(asset.files) < len(full.files):
            raise UsageError(
                f"{asset.files[0].parent} has {len(asset.files)} views, and {full.files[0].parent} of the same "
                f"method has {len(full.files)}",
                "render the missing views, or take the asset out of the folder",
            )


def _plain(folder: Path, prompts: Sequence[str] | None) -> Iterator[Asset]:
    """Every folder with pictures in it, as a plain, GPTEval3D or MATE-3D layout."""
    root = folder / "methods" if (folder / "methods").is_dir() else folder
    places = sorted({path.parent for path in root.rglob("*") if path.suffix.lower() in PICTURES})
    if not places:
        return
    known = list(prompts) if prompts is not None else _prompts(folder)
    for place in places:
        parts = place.relative_to(root).parts
        if not 1 <= len(parts) <= 3:
            raise UsageError(
                f"{place} lies {len(parts)} levels below {root}: which asset its pictures show is not clear",
                "arrange them as METHOD/PROMPT/*.png or METHOD/PROMPT/SEED/*.png",
            )
        seed = parts[-1] if len(parts) == 3 else "0"
        if not seed.isdecimal():
            raise UsageError(f"{place}: the seed '{seed}' is not a number", "arrange as METHOD/PROMPT/SEED")
        method = parts[0] if len(parts) > 1 else folder.resolve().name
        name = parts[min(1, len(parts) - 1)]
        files, layout = _views(place)
        yield Asset(method, _prompt(name, known, place), int(seed), files, layout)


def _prompts(folder: Path) -> list[str]:
    """The prompts of the file in the folder, in its order; UsageError without one."""
    path = next((folder / name for name in PROMPT_FILES if (folder / name).is_file()), None)
    if path is None:
        raise UsageError(
            f"{folder} has no prompts file ({' or '.join(PROMPT_FILES)})", "name one with --prompts FILE"
        )
    return prompt_list(path)


def prompt_list(path: Path) -> list[str]:
    """The prompts of a file by their number; UsageError for one that is empty or there twice and shifts the others."""
    found = read_prompts([str(path)])
    if found.notes:
        raise UsageError(
            found.notes[0].removesuffix(", dropped"), "every prompt must be there once, and say something"
        )
    return list(found.texts)


def _prompt(name: str, known: Sequence[str], place: Path) -> str:
    """The prompt that a folder's name stands for."""
    if name.isdecimal() and int(name) < len(known):
        return known[int(name)]
    named = [text for text in known if name in (text.replace(" ", "_"), text)]
    named = named or [text for text in known if slug(text) == name]
    if len(named) == 1:
        return named[0]
    problem = unknown("prompt", name, [text.replace(" ", "_") for text in known][:20])
    raise UsageError(f"{place}: its name stands for {len(named) or 'no'} prompts of the file", problem.remedy)


def _views(place: Path) -> tuple[tuple[Path, ...], str]:
    """The views of an asset in the order of their numbers, and the layout that their names tell."""
    pictures = [path for path in place.iterdir() if path.suffix.lower() in PICTURES]
    for prefix, layout in _PREFIXES.items():
        if own := [path for path in pictures if path.stem.startswith(prefix)]:
            return in_order(own), layout
    return in_order(pictures), "plain"


def in_order(pictures: Sequence[Path]) -> tuple[Path, ...]:
    """Pictures by the number at the end of their names, else by name; UsageError when a number is missing."""
    numbers = {path: re.search(r"(\d+)$", path.stem) for path in pictures}
    if any(match is None for match in numbers.values()):
        return tuple(sorted(pictures))
    order = {path: int(match[1]) for path, match in numbers.items() if match}
    first = min(order.values())
    lacking = sorted(set(range(first, first + len(order))) - set(order.values()))
    if lacking or first > 1:
        gap = lacking[0] if lacking else 0
        raise UsageError(
            f"{pictures[0].parent} lacks view {gap}: its numbers run from {first} to {max(order.values())}",
            "render the asset again, or take it out of the folder",
        )
    return tuple(sorted(pictures, key=lambda path: order[path]))


def trial(folder: Path) -> Asset:
    """A threestudio trial: its last test renders, with method, prompt and seed from configs/parsed.yaml.

    Raises UsageError for a trial without test renders, or whose configuration does not name the prompt.
    """
    settings = _settings(folder / TRIAL)
    tests = [path for path in (folder / "save").glob("it*-test") if re.fullmatch(r"it\d+-test", path.name)]
    if not tests:
        raise UsageError(f"{folder} has no test renders in save/itN-test", "run threestudio's --test on it")
    last = max(tests, key=lambda path: int(path.name[2:-5]))
    pictures = [path for path in last.iterdir() if path.suffix == ".png" and path.stem.isdecimal()]
    if not pictures:
        raise UsageError(f"{last} has no test renders", "run threestudio's --test on it")
    prompt = _get(settings, "system", "prompt_processor", "prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise UsageError(f"{folder / TRIAL} names no prompt", "restore system.prompt_processor.prompt in it")
    seed, elevation = settings.get("seed", 0), _get(settings, "data", "eval_elevation_deg")
    return Asset(
        method=str(settings.get("name") or folder.parent.name),
        prompt=" ".join(prompt.split()),
        seed=seed if isinstance(seed, int) else 0,
        files=in_order(pictures),
        layout="threestudio",
        elevation=float(elevation) if isinstance(elevation, int | float) else THREESTUDIO_ELEVATION,
    )


def _settings(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain values; nothing in it is executed."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} cannot be read: {reason}", "restore the file of the trial") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a mapping", "restore the file of the trial")
    return content


def _get(settings: Any, *keys: str) -> Any:
    """A value under nested keys, None where there is none."""
    for key in keys:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings
