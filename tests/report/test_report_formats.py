"""LaTeX, CSV, JSON and Parquet: what they say is what the report knows, and foreign text does nothing in them."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import PROMPTS, VIEWS, RunMaker, made_up

from psdbench.report import build_report
from psdbench.report.blocks import Cell, Table, estimated
from psdbench.report.latex import escape
from psdbench.report.schema import FILES, SCORES, TABLE
from psdbench.report.tables import scores_csv, table_of
from psdbench.stats import Estimate

HAS_LATEX = bool(shutil.which("pdflatex") and shutil.which("kpsewhich")) and not subprocess.call(
    ["kpsewhich", "booktabs.sty"], stdout=subprocess.DEVNULL
)
needs_latex = pytest.mark.skipif(
    not HAS_LATEX, reason="no pdflatex with booktabs on this machine (apt install texlive-latex-recommended)"
)
Maker = Callable[..., RunMaker]
HOSTILE = r"\input{/etc/passwd} 100% of_$x^2$ {a} & #1 ~ <b> | ‡† — “q” émile 猫 \write18{rm -rf /}"


def test_escaped_text_holds_no_command() -> None:
    text = escape(HOSTILE)
    assert r"\input" not in text
    assert r"\write" not in text
    assert r"\textbackslash{}input\{" in text
    assert r"100\% of\_\$x" in text
    assert text.isascii()
    assert "emile" in text


@needs_latex
@pytest.mark.parametrize("name", ["psd", HOSTILE])
def test_the_tables_compile_in_a_plain_article(make_run: Maker, tmp_path: Path, name: str) -> None:
    maker = make_run(methods=["sds"], seeds=(0,))
    for prompt in PROMPTS:
        maker.finished("psd", prompt, 0)
        maker.finished(
            "psd", prompt, 0, label=name
        )  # a parameter of that value, which becomes part of the label
    report = build_report([maker.run])
    report.write_folder(tmp_path, ("latex",))
    packages = "\\usepackage{booktabs}"
    document = f"\\documentclass{{article}}{packages}\\begin{{document}}\\input{{table}}\\end{{document}}"
    (tmp_path / "paper.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
    assert name == HOSTILE or "Overfull" not in done.stdout


def test_significance_not_size_is_bold(make_run: Maker) -> None:
    maker = make_run(methods=[])
    for method, gain in (("sds", 0.0), ("better", 2.0), ("lucky", 0.1)):
        for index in range(8):
            clear = index + gain * (1 + 0.1 * (index % 3)) - 0.5 * gain * (method == "lucky") * (index % 4)
            close = index + gain * ((-1) ** index + 0.1)  # the mean gain is a tenth of its swing
            scores = {"clear": clear, "close": close}
            entries = {
                name: {"sha256": name[1] * 64, "higher_is_better": True, "values": [value] * 2}
                for name, value in scores.items()
            }
            maker.finished(method, f"cube number {index}", 0, entries)
    report = build_report([maker.run])
    assert report.analysis.tops == {"clear": {"better"}, "close": {"sds", "better", "lucky"}}
    means = report.text("latex").partition("Paired difference")[0]
    bold = [line for line in means.splitlines() if r"\textbf" in line]
    assert len(bold) == 1
    assert bold[0].startswith("better &")
    assert r"\underline" not in means


def test_the_long_table_has_every_view_once(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run(prompts=PROMPTS[:2])
    maker.diverged("vsd", PROMPTS[0])
    report = build_report([maker.run])
    rows = list(csv.DictReader(io.StringIO("".join(scores_csv(report.parts)))))
    assert tuple(rows[0]) == tuple(SCORES)
    assert len(rows) == 8 * 4 * VIEWS + 1
    expected = made_up("psd", PROMPTS[0], 1)["clip_shapes"]["values"]
    found = [
        float(row["value"])
        for row in rows
        if (row["method"], row["prompt"], row["seed"], row["metric"])
        == ("psd", PROMPTS[0], "1", "clip_shapes")
    ]
    assert found == expected
    assert {
        row["trained_on"] for row in rows if row["method"] == "psd" and row["metric"] == "hps_shapes"
    } == {"true"}
    lost = [row for row in rows if row["status"] == "diverged"]
    assert [(row["metric"], row["value"]) for row in lost] == [("", "")]


def test_parquet_holds_the_same_rows_and_says_what_they_mean(make_run: Maker, tmp_path: Path) -> None:
    from pyarrow import parquet

    report = build_report([make_run(prompts=PROMPTS[:1]).run])
    report.write_file("parquet", tmp_path / "scores.parquet")
    table = parquet.read_table(tmp_path / "scores.parquet")
    assert table.column_names == list(SCORES)
    assert table.schema.field("value").metadata[b"description"].decode() == SCORES["value"]
    rows = list(csv.DictReader(io.StringIO("".join(scores_csv(report.parts)))))
    assert table.column("value").to_pylist() == [float(row["value"]) for row in rows]
    assert table.column("view").to_pylist() == [int(row["view"]) for row in rows]


def test_every_column_of_every_file_is_documented(make_run: Maker, tmp_path: Path) -> None:
    report = build_report([make_run(prompts=PROMPTS[:2]).run])
    report.write_folder(tmp_path, ("csv", "json"))
    documented: dict[str, list[str]] = {}
    for row in csv.DictReader((tmp_path / "columns.csv").open()):
        assert row["meaning"]
        documented.setdefault(row["file"], []).append(row["column"])
    for name in FILES:
        if name.endswith(".csv") and name != "snapshots.csv":
            header = next(csv.reader((tmp_path / name).open()))
            assert header == documented[name]
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["columns"] == TABLE
    assert all(list(row) == sorted(TABLE) for row in content["rows"])


def test_the_table_tells_what_is_separable(make_run: Maker) -> None:
    rows = {
        (row["method"], row["metric"]): row
        for row in csv.DictReader(io.StringIO(build_report([make_run().run]).text("csv")))
    }
    gained = rows["psd", "hps_shapes"]
    assert (gained["separable"], gained["wins"]) == ("true", "1")
    assert float(gained["improvement"]) > 0.8
    assert float(gained["p"]) < float(gained["p_holm"]) <= 0.05
    assert float(gained["detectable"]) > 0
    assert rows["psd", "shape_accuracy"]["separable"] == "false"
    assert rows["sds", "hps_shapes"]["separable"] == ""
    assert rows["sds", "hps_shapes"]["shares_top"] == "false"


def test_means_with_intervals_become_three_columns() -> None:
    rows = [
        [Cell("=a"), estimated(Estimate(3, 3, 1.0, 0.5, 1.5))],
        [Cell("b"), estimated(Estimate(1, 1, 2.0))],
    ]
    assert table_of(Table("t", ["who", "x"], rows)).splitlines() == [
        "who,x,x_low,x_high",
        "'=a,1,0.5,1.5",
        "b,2,,",
    ]
