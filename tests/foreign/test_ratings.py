"""Ratings of people: the csv of a public set, and what a run folder keeps of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from psdbench.errors import CorruptResult, UsageError
from psdbench.foreign.ratings import RATINGS, read_ratings, stored_ratings, write_ratings

CSV = 'model,prompt,Alignment,Overall\nsjc,"A brown horse",5.9,4\n"one2345++","A bear, brown",6,5.25\n'


def test_ratings_come_back_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("\ufeff" + CSV, encoding="utf-8")
    ratings = read_ratings(tmp_path / "all.csv")
    assert ratings.dimensions == ("Alignment", "Overall")
    assert ratings.scores == {("sjc", "A brown horse"): (5.9, 4), ("one2345++", "A bear, brown"): (6, 5.25)}
    assert ratings.prompts == ["A brown horse", "A bear, brown"]
    assert stored_ratings(tmp_path) is None
    write_ratings(tmp_path, ratings)
    assert stored_ratings(tmp_path) == ratings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns"),
        ("model,prompt\nsjc,a\n", "columns"),
        ("method,prompt,Overall\nsjc,a,1\n", "columns"),
        ("model,prompt,Overall\n", "no ratings"),
        ("model,prompt,Overall\nsjc,a,good\n", ":2: a rating is not a number"),
        ("model,prompt,Overall\nsjc,a,\n", ":2: a rating is not a number"),
        ("model,prompt,Overall\nsjc,a\n", ":2: a rating is not a number"),
        ("model,prompt,Overall\nsjc,a,nan\n", ":2: a rating is not finite"),
        ("model,prompt,Overall\nsjc,a,1\nsjc,a,2\n", ":3: sjc is rated twice for 'a'"),
        ('model,prompt,Overall\nsjc,"a,1\n', "cannot read"),
    ],
)
def test_other_files_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_ratings(tmp_path / "r.csv")
    assert caught.value.remedy


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes(b"\xff\xfe\x00model")
    for name in ("r.csv", "nowhere.csv"):
        with pytest.raises(UsageError, match="cannot read the ratings"):
            read_ratings(tmp_path / name)


@pytest.mark.parametrize("content", ["{}", '{"dimensions": ["a"], "ratings": [{"method": "m"}]}', "[", "3"])
def test_damaged_ratings_of_a_run(tmp_path: Path, content: str) -> None:
    (tmp_path / RATINGS).write_text(content)
    with pytest.raises(CorruptResult, match=RATINGS):
        stored_ratings(tmp_path)
