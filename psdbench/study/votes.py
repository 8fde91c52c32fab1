"""Reading a study's key and the votes that raters have sent back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from psdbench.errors import CorruptResult, UsageError
from psdbench.store.sealed import read_record, remedied
from psdbench.study.export import FOLDER, KEY, SCHEMA_VERSION
from psdbench.study.items import Item

Choice = Literal["a", "b", "tie"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
PASS = 0.75
"""share of the checks that a rater must answer rightly for the votes to count"""
REMEDY = "export the study again; its votes are lost"
MOST_BYTES = 20_000_000
"""size of a votes file above which it is not read"""


@dataclass(frozen=True)
class Vote:
    """What a rater said of an item."""

    rater: str
    item: Item
    choice: Choice


@dataclass(frozen=True)
class Votes:
    """All votes that count, and why others do not."""

    votes: tuple[Vote, ...]
    raters: tuple[str, ...]
    rejected: dict[str, str] = field(default_factory=dict)
    """rater to how many checks were answered rightly"""
    repeated: int = 0
    """votes of a rater on an item that was already voted on: the first counts"""


def read_key(run: Path) -> tuple[str, dict[str, Item]]:
    """The study of a run folder: its id, and its items by id.

    Raises UsageError when there is none, CorruptResult when it is not what was written.
    """
    path = run / FOLDER / KEY
    with remedied(REMEDY):
        content = read_record(path, {})
    if content is None:
        raise UsageError(f"{run} has no study", f"make one with: psdbench study export {run}")
    try:
        items = {
            str(e["id"]): Item(str(e["id"]), str(e["prompt"]), int(e["seed"]), str(e["a"]), str(e["b"]))
            for e in content["items"]
        }
        return str(content["study"]), items
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptResult(f"{path} is corrupt: {error}", REMEDY) from error


def vote_files(paths: Iterable[Path]) -> list[Path]:
    """Files of votes, those of a folder by name; UsageError for a folder without any."""
    found = []
    for path in paths:
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not inside:
            raise UsageError(f"{path} holds no votes: no .json file", "put the files of the raters there")
        found += inside
    return found


def find_run(
    files: Sequence[Path], places: Iterable[Path], remedy: str = "name the run folder with --run"
) -> Path:
    """The run folder among `places` whose study the first file's votes belong to; UsageError without one."""
    study = _content(files[0])["study"]
    for run in places:
        if (run / FOLDER / KEY).is_file() and read_key(run)[0] == study:
            return run
    raise UsageError(f"no run here has the study {study!r} of {files[0]}", remedy)


def read_votes(files: Sequence[Path], study: str, items: dict[str, Item]) -> Votes:
    """The votes of all files; raters who fail the checks are left out, and named.

    Raises UsageError, naming the file, for one that holds no votes, or votes on another study.
    """
    votes: dict[tuple[str, str], Vote] = {}
    repeated = 0
    for path in files:
        content = _content(path)
        if content["study"] != study:
            raise UsageError(
                f"{path} holds votes on another study, {content['study']!r} instead of {study!r}",
                "name the run folder that this study was exported from with --run",
            )
        for entry in content["votes"]:
            vote = _vote(path, content["rater"], entry, items)
            key = vote.rater, vote.item.id
            repeated += key in votes
            votes.setdefault(key, vote)
    return _checked(list(votes.values()), repeated)


def _content(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        content = json.loads(path.read_bytes())
        known = isinstance(content, dict) and content.get("schema_version") == SCHEMA_VERSION
        if not known or not isinstance(content.get("votes"), list):
            raise ValueError("not what the study's page saves")
        if not (isinstance(content.get("rater"), str) and isinstance(content.get("study"), str)):
            raise ValueError("no rater or no study")
        return content
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} holds no votes: {error}", "pass the files that raters have saved"
        ) from error


def _vote(path: Path, rater: str, entry: Any, items: dict[str, Item]) -> Vote:
    if not isinstance(entry, dict) or entry.get("choice") not in CHOICES:
        raise UsageError(
            f"{path} holds a vote that is none: {str(entry)[:80]}", "pass the file as it was saved"
        )
    if entry.get("item") not in items:
        raise UsageError(
            f"{path} holds a vote on an item that the study has not", "pass the file as it was saved"
        )
    return Vote(rater, items[entry["item"]], entry["choice"])


def _checked(votes: Sequence[Vote], repeated: int) -> Votes:
    rejected = {}
    raters = tuple(dict.fromkeys(vote.rater for vote in votes))
    for rater in raters:
        checks = [vote.choice == "a" for vote in votes if vote.rater == rater and vote.item.check]
        if checks and sum(checks) < PASS * len(checks):
            rejected[rater] = f"{sum(checks)} of {len(checks)}"
    kept = tuple(vote for vote in votes if vote.rater not in rejected and not vote.item.check)
    return Votes(kept, tuple(rater for rater in raters if rater not in rejected), rejected, repeated)
