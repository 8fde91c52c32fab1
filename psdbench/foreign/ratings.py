"""What people think of assets: ratings of a public set, read from its csv and kept in the run folder."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from psdbench.errors import CorruptResult, UsageError
from psdbench.store.sealed import read_record, remedied, write_record

RATINGS = "ratings.json"
REMEDY = "score the renders again with --ratings FILE"
RATING_KEYS = ("model", "prompt")
"""columns of a csv of ratings that are none; as in MATE-3D (arXiv 2412.11170)"""


@dataclass(frozen=True)
class Ratings:
    """What people think of assets, by (method, prompt), in each dimension of a public set; more is better."""

    dimensions: tuple[str, ...]
    scores: dict[tuple[str, str], tuple[float, ...]]

    @property
    def prompts(self) -> list[str]:
        """All prompts, each once, in the order of the file."""
        return list(dict.fromkeys(prompt for _, prompt in self.scores))


def read_ratings(path: Path) -> Ratings:
    """Ratings in MATE-3D's form: a csv with columns ``model``, ``prompt`` and one for each dimension.

    Raises UsageError, naming the line, for a file of another form, a rating that is no finite number, and two
    ratings of one asset.
    """
    scores: dict[tuple[str, str], tuple[float, ...]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            dimensions = tuple(name for name in rows.fieldnames or () if name not in RATING_KEYS)
            if not dimensions or not set(RATING_KEYS) <= set(rows.fieldnames or ()):
                raise _unusable(path, 1, "the columns are not model, prompt and ratings")
            for row in rows:
                key = row["model"], " ".join((row["prompt"] or "").split())
                if key in scores:
                    raise _unusable(path, rows.line_num, f"{key[0]} is rated twice for '{key[1]}'")
                scores[key] = _numbers(row, dimensions, path, rows.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read the ratings in {path}: {error}", "pass a csv file") from error
    if not scores:
        raise _unusable(path, 1, "no ratings")
    return Ratings(dimensions, scores)


def _numbers(
    row: Mapping[str, str | None], dimensions: Sequence[str], path: Path, line: int
) -> tuple[float, ...]:
    try:
        values = tuple(float(row[name] or "") for name in dimensions)
    except ValueError:
        raise _unusable(path, line, "a rating is not a number") from None
    if not all(map(math.isfinite, values)):
        raise _unusable(path, line, "a rating is not finite")
    return values


def _unusable(path: Path, line: int, reason: str) -> UsageError:
    return UsageError(f"{path}:{line}: {reason}", "use a csv as MATE-3D's: model,prompt,Alignment,…,Overall")


def write_ratings(run: Path, ratings: Ratings) -> None:
    """Keep ratings in a run folder, for its reports."""
    rows = [{"method": m, "prompt": p, "scores": list(values)} for (m, p), values in ratings.scores.items()]
    write_record(run / RATINGS, {"dimensions": list(ratings.dimensions), "ratings": rows})


def stored_ratings(run: Path) -> Ratings | None:
    """The ratings of a run folder, None when it has none; CorruptResult for a file that is not what was written."""
    with remedied(REMEDY):
        content = read_record(run / RATINGS, {})
    if content is None:
        return None
    try:
        scores = {
            (str(row["method"]), str(row["prompt"])): tuple(float(value) for value in row["scores"])
            for row in content["ratings"]
        }
        return Ratings(tuple(map(str, content["dimensions"])), scores)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptResult(f"{run / RATINGS} is corrupt: {error}", REMEDY) from error
