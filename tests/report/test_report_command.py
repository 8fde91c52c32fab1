"""The command: what goes to stdout and what into files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import PROMPTS, RunMaker

from psdbench.cli.report import report
from psdbench.errors import UsageError

Maker = Callable[..., RunMaker]


def test_without_output_everything_is_written_and_the_table_printed(
    make_run: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = make_run(prompts=PROMPTS[:2], seeds=[0])
    assert report([maker.run], ["md"]) == 0
    out, err = capsys.readouterr()
    assert "| psd" in out
    assert "report.md" in err
    assert (maker.run / "report" / "contact" / "overview.png").is_file()


def test_data_on_stdout(make_run: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    maker = make_run(prompts=PROMPTS[:2], seeds=[0])
    report([maker.run], format=["json"])
    out = capsys.readouterr().out
    assert json.loads(out)["baseline"] == "sds"
    assert out == (maker.run / "report" / "table.json").read_text()
    report([maker.run], format=["csv"])
    assert capsys.readouterr().out == (maker.run / "report" / "table.csv").read_text()


def test_output_is_a_file_or_a_folder(
    make_run: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = make_run(prompts=PROMPTS[:2], seeds=[0])
    report([maker.run], format=["csv"], output=tmp_path / "numbers" / "all.csv")
    assert [p.name for p in (tmp_path / "numbers").iterdir()] == ["all.csv"]
    report([maker.run], output=tmp_path / "page" / "index.md")
    assert {p.name for p in (tmp_path / "page").iterdir()} == {"index.md", "contact"}
    report([maker.run], ["csv,parquet"], output=tmp_path / "whole")
    assert {p.name for p in (tmp_path / "whole").iterdir()} >= {"cost.csv", "scores.csv", "scores.parquet"}
    assert not (maker.run / "report").exists()


def test_several_runs_are_printed_and_written_only_where_asked(
    make_run: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = make_run("one", ["sds"], PROMPTS[:2], [0]), make_run("two", ["psd"], PROMPTS[:2], [0])
    report([one.run, two.run])
    assert "**psd** against sds" in capsys.readouterr().out
    assert not (one.run / "report").exists()
    report([one.run, two.run], ["md"], output=tmp_path / "both")
    assert (tmp_path / "both" / "report.md").read_text().startswith("# one, two")


def test_corrupt_results_are_told_and_give_their_exit_code(
    make_run: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = make_run(prompts=PROMPTS[:2], seeds=[0])
    folder = next((maker.run / "jobs").iterdir())
    (folder / "scores.json").write_text("{}")
    assert report([maker.run], ["md"]) == 5
    out, err = capsys.readouterr()
    assert folder.name in err
    assert "1 of 4 jobs without a result (1 corrupt)" in out


def test_formats_take_commas_and_repeats(
    make_run: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = make_run(prompts=PROMPTS[:2], seeds=[0])
    report([maker.run], ["latex,json", "parquet"], output=tmp_path / "out")
    out, err = capsys.readouterr()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"table.tex", "table.json", "scores.parquet"}
    assert out.startswith("- **In short:** by the true preference, psd is not separable from sds.")
    assert err.count("written: ") == 3
    report([maker.run], ["latex"], output=tmp_path / "out")
    assert capsys.readouterr().out == (tmp_path / "out" / "table.tex").read_text()
    report([maker.run], output=tmp_path / "t.tex")
    assert (tmp_path / "t.tex").read_text() == (tmp_path / "out" / "table.tex").read_text()


@pytest.mark.parametrize(
    ("formats", "output", "words"),
    [
        (["htm"], None, "unknown format 'htm'"),
        (["md,csv"], "all.csv", "is one file, not 2 formats"),
        (None, "all.xlsx", "no format ends in '.xlsx'"),
    ],
)
def test_formats_that_cannot_be_are_refused_before_anything_is_read(
    tmp_path: Path, formats: list[str] | None, output: str | None, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        report([tmp_path / "no run"], formats, output=tmp_path / output if output else None)
    assert words in str(caught.value)
