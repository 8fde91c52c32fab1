"""The whole loop: export, simulated people vote on what the page shows, import recovers what was known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
import torch
from voters import annotator_judge, page_data, save_votes

from psdbench.cli.study import export, import_
from psdbench.errors import CorruptResult, UsageError
from psdbench.report.results import read_runs
from psdbench.study.export import KEY, export_study
from psdbench.study.items import choose
from psdbench.study.outcome import outcome
from psdbench.study.votes import read_key
from psdbench.world.preference import ANNOTATORS


def vote(run: Path, folder: Path, raters: int = 3) -> list[Path]:
    """Votes of the simulated annotators on the page of a study."""
    data = page_data(run / "study" / "study.html")
    cache: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    people = [list(ANNOTATORS.values())[i % len(ANNOTATORS)] for i in range(raters)]
    return [
        save_votes(folder / f"votes-{i}.json", data, f"rater {i}", annotator_judge(person, i, cache))
        for i, person in enumerate(people)
    ]


def test_simulated_people_recover_the_known_order(blurred_run: Path, tmp_path: Path) -> None:
    export_study(blurred_run, 24, "secret")
    found = outcome(blurred_run, vote(blurred_run, tmp_path))
    assert list(found.strengths.strength) == ["best", "good", "poor"]
    assert found.votes.rejected == {}
    assert len(found.votes.votes) == 24 * 3
    best, poor = found.strengths.strength["best"], found.strengths.strength["poor"]
    assert best.low is not None
    assert poor.high is not None
    assert poor.high < 0 < best.low
    agreement = {id: share for id, (_, share) in found.metrics.items()}
    knows, random = agreement["clip_shapes"], agreement["floaters"]
    assert knows.low is not None
    assert random.low is not None
    assert random.high is not None
    assert knows.low > 0.6
    assert random.low < 0.5 < random.high + 0.15
    assert found.raters is not None
    assert found.raters.mean is not None
    assert found.raters.mean > 0.2


def test_the_commands_go_round(
    blurred_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export(blurred_run, 12) == 0
    page, told = capsys.readouterr()
    assert Path(page.strip()) == blurred_run / "study" / "study.html"
    assert "12 pairs and 1 check" in told
    files = vote(blurred_run, tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    assert import_(files) == 0
    text = capsys.readouterr().out
    assert "## Methods by votes" in text
    assert "## Metrics and votes" in text
    assert "No item has votes of two raters" in text
    import_(files, blurred_run, json=True)
    content = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in content["methods"]} == {"best", "good", "poor"}
    with pytest.raises(UsageError, match="has a study already"):
        export(blurred_run, 12)


def test_the_page_names_no_method_and_allows_only_its_script(blurred_run: Path) -> None:
    page, items = export_study(blurred_run, 12, "secret")
    text = unescape(page.read_text())
    for method in ("best", "good", "poor"):
        assert method not in text.replace("like\nbetter", "")
    data = page_data(page)
    assert {item["id"] for item in data["items"]} == {item.id for item in items}
    assert set(data["items"][0]) == {"id", "prompt", "views", "a", "b"}
    assert "default-src 'none'; script-src 'sha256-" in text
    assert "http" not in text.replace("http-equiv", "")
    keyed = json.loads((page.parent / KEY).read_text())
    assert sum(item["b"] == "check" for item in keyed["items"]) == 1


def test_items_are_balanced(flat_run: Callable) -> None:
    prompts = ("a red cube", "a blue sphere", "a cone")
    maker = flat_run(("sds", "psd", "vsd"), prompts, (0, 1, 2, 3))
    items = [item for item in choose(read_runs([maker.run]), 24, "s") if not item.check]
    assert len({item.id for item in items}) == len(items) == 24
    assert set(Counter(frozenset((i.a, i.b)) for i in items).values()) == {8}
    assert set(Counter(i.prompt for i in items).values()) == {8}
    sides = Counter((i.a, i.b) for i in items)
    assert set(sides.values()) == {4}
    everything = choose(read_runs([maker.run]), 10_000, "s")
    assert sum(not item.check for item in everything) == 3 * 12
    assert choose(read_runs([maker.run]), 24, "s")[:24] == items
    assert choose(read_runs([maker.run]), 24, "other")[:24] != items


def test_one_method_is_no_study(flat_run: Callable) -> None:
    with pytest.raises(UsageError, match="no two methods"):
        export_study(flat_run(("sds",), ("a red cube",), (0, 1)).run, 10)


def test_careless_raters_do_not_count(blurred_run: Path, tmp_path: Path) -> None:
    export_study(blurred_run, 24, "secret")
    data = page_data(blurred_run / "study" / "study.html")
    files = [
        *vote(blurred_run, tmp_path, 1),
        save_votes(tmp_path / "careless.json", data, "careless", lambda item: "b"),
    ]
    found = outcome(blurred_run, files)
    assert found.votes.rejected == {"careless": "0 of 2"}
    assert found.votes.raters == ("rater 0",)
    assert "careless (0 of 2)" in " ".join(line.text for line in found.lines)
    with pytest.raises(UsageError, match="no vote counts: 1 rater failed"):
        outcome(blurred_run, files[1:])


def test_votes_that_come_twice_count_once(blurred_run: Path, tmp_path: Path) -> None:
    export_study(blurred_run, 12, "secret")
    [file] = vote(blurred_run, tmp_path, 1)
    found = outcome(blurred_run, [file, file])
    assert (len(found.votes.votes), found.votes.repeated) == (12, 13)


def test_votes_on_another_study_are_refused(blurred_run: Path, tmp_path: Path) -> None:
    export_study(blurred_run, 6, "one")
    [file] = vote(blurred_run, tmp_path, 1)
    export_study(blurred_run, 6, "two")
    with pytest.raises(UsageError, match="votes on another study"):
        outcome(blurred_run, [file])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no votes"),
        ("[1]", "not what the study's page saves"),
        ('{"schema_version": 1, "study": "x", "rater": "r", "votes": 3}', "not what the study's page saves"),
        ('{"schema_version": 1, "study": 3, "rater": "r", "votes": []}', "no rater or no study"),
        (
            '{"schema_version": 1, "study": "STUDY", "rater": "r", "votes": [{"choice": "c"}]}',
            "a vote that is none",
        ),
        (
            '{"schema_version": 1, "study": "STUDY", "rater": "r", "votes": [{"item": "x", "choice": "a"}]}',
            "that the study has not",
        ),
        ("[" * 100_000, "holds no votes"),
    ],
)
def test_files_that_are_no_votes_are_named(
    blurred_run: Path, tmp_path: Path, content: str, words: str
) -> None:
    export_study(blurred_run, 6, "secret")
    path = tmp_path / "votes.json"
    path.write_text(content.replace("STUDY", read_key(blurred_run)[0]))
    with pytest.raises(UsageError, match=words) as caught:
        outcome(blurred_run, [path])
    assert "votes.json" in str(caught.value)


def test_a_damaged_key_is_no_study(blurred_run: Path) -> None:
    with pytest.raises(UsageError, match="has no study"):
        read_key(blurred_run)
    export_study(blurred_run, 6, "secret")
    (blurred_run / "study" / KEY).write_text('{"schema_version": 1}')
    with pytest.raises(CorruptResult):
        read_key(blurred_run)
