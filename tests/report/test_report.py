"""The report: its numbers, its words, its determinism, its files."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import PROMPTS, PROTOCOL, VIEWS, RunMaker, made_up
from PIL import Image

from psdbench.config import OptimizeConfig
from psdbench.errors import UsageError
from psdbench.report import build_report
from psdbench.scorers.catalogue import SCORERS
from psdbench.store.run import write_run

Maker = Callable[..., RunMaker]


def rows_of(report_csv: str) -> dict[tuple[str, str], dict[str, str]]:
    """The rows of table.csv by method and metric."""
    return {(row["method"], row["metric"]): row for row in csv.DictReader(io.StringIO(report_csv))}


def test_the_table_holds_means_and_paired_differences(make_run: Maker) -> None:
    rows = rows_of(build_report([make_run().run]).text("csv"))
    row = rows["psd", "hps_shapes"]
    assert (row["n"], row["prompts"], row["pairs"], row["baseline"]) == ("6", "3", "6", "sds")
    assert row["trained_on"] == "true"
    assert rows["sds", "hps_shapes"]["trained_on"] == "false"
    assert rows["psd", "clip_shapes"]["trained_on"] == "false"
    means = {m: float(rows[m, "hps_shapes"]["mean"]) for m in ("psd", "sds")}
    assert float(row["difference"]) == pytest.approx(means["psd"] - means["sds"], abs=1e-6)
    assert float(row["low"]) < float(row["mean"]) < float(row["high"])
    assert float(row["difference_low"]) > 0.01
    expected = [made_up("sds", p, s)["hps_shapes"]["values"] for p in PROMPTS for s in (0, 1)]
    assert means["sds"] == pytest.approx(sum(map(sum, expected)) / (6 * VIEWS), abs=1e-6)


@pytest.mark.parametrize("metric", sorted(id for id, listing in SCORERS.items() if listing.ends))
def test_an_interval_ends_where_the_scale_of_its_metric_ends(make_run: Maker, metric: str) -> None:
    maker, (least, most) = make_run(methods=[]), SCORERS[metric].ends or (0, 0)
    for prompt, value in zip(PROMPTS, (least, least, most), strict=True):
        entry = {"sha256": "e" * 64, "higher_is_better": not SCORERS[metric].lower_is_better}
        maker.finished("sds", prompt, 0, {metric: {**entry, "values": [value] * VIEWS}})
    row = rows_of(build_report([maker.run]).text("csv"))["sds", metric]
    assert float(row["low"]) == least
    assert least < float(row["mean"]) < float(row["high"]) <= most


def test_equal_scores_give_equal_bytes(make_run: Maker, tmp_path: Path) -> None:
    first = make_run("one")
    shutil.copytree(first.run, tmp_path / "other place")
    for path in (tmp_path / "other place" / "jobs").iterdir():
        cost = json.loads((path / "cost.json").read_text())
        (path / "cost.json").write_text(json.dumps({**cost, "seconds": 77.0}))
        first.commit(path, "finished")
    ours, theirs = build_report([first.run]), build_report([tmp_path / "other place"])
    assert ours.text("csv") == theirs.text("csv")
    assert ours.text("json") == theirs.text("json")
    assert ours.text("md") == theirs.text("md")
    assert str(tmp_path) not in ours.text("json")


def test_the_json_says_what_made_the_numbers(make_run: Maker) -> None:
    report = build_report([make_run().run])
    content = json.loads(report.text("json"))
    assert content["protocol"] == report.results[0].spec.protocol.hash
    assert {m["metric"]: m["sha256"] for m in content["metrics"]}["clip_shapes"] == "c" * 64
    assert len(content["prompts"]) == len(PROMPTS) * 2 * 5
    assert content["methods"][0] == {"method": "sds", "jobs": 6, "finished": 6}


def test_the_verdict_tells_separable_from_not(make_run: Maker) -> None:
    text = build_report([make_run().run]).text("md")
    assert re.search(
        r"\*\*psd\*\* against sds \(6 pairs over 3 prompts\): better on hps_shapes† \(\+0\.0", text
    )
    assert "not separable on shape_accuracy" in text
    assert "after Holm's correction over 4 comparisons" in text
    assert "3 times the denoiser forwards" in text
    assert "the true preference rises too" in text


def test_the_verdict_names_reward_hacking(make_run: Maker) -> None:
    maker = make_run(methods=["sds"])
    for prompt in PROMPTS:
        for seed in (0, 1):
            scores = made_up("psd", prompt, seed)
            truth = scores["true_preference"]
            scores["true_preference"] = {**truth, "values": [v - 0.5 for v in truth["values"]]}
            maker.finished("psd", prompt, seed, scores)
    text = build_report([maker.run]).text("md")
    assert "worse on true_preference" in text
    assert "while the true preference falls: mind reward hacking" in text


def test_lower_is_better_where_a_metric_says_so(make_run: Maker) -> None:
    maker = make_run(methods=[])
    for method, level in (("sds", 0.0), ("psd", 1.0)):
        for prompt in PROMPTS:
            values = [level + 0.01 * len(prompt)] * 3 + [level]
            score = {"sha256": "9" * 64, "higher_is_better": False, "values": values}
            maker.finished(method, prompt, 0, {"floaters": score})
    text = build_report([maker.run], "psd").text("md")
    assert "floaters ↓" in text
    assert "better on" not in text.split("**sds** against psd")[0]


def test_one_prompt_has_no_interval_and_no_verdict(make_run: Maker) -> None:
    report = build_report([make_run(prompts=PROMPTS[:1]).run])
    assert rows_of(report.text("csv"))["psd", "hps_shapes"]["low"] == ""
    assert "one prompt gives no interval" in report.text("md")
    assert "one prompt alone" in report.text("md")


def test_any_part_of_a_run_can_be_reported(make_run: Maker) -> None:
    maker = make_run()
    folders = sorted((maker.run / "jobs").iterdir())
    for gone in range(len(folders) - 1):
        (folders[gone] / "manifest.json").unlink()
        report = build_report([maker.run])
        finished = sum(report.analysis.finished.values())
        assert finished == len(folders) - 1 - gone
        assert f"{gone + 1} of 12 jobs without a result ({gone + 1} unfinished)" in report.text("md")
        assert json.loads(report.text("json"))
    (folders[-1] / "manifest.json").unlink()
    assert "Nothing is scored yet" in build_report([maker.run]).text("md")


def test_a_view_without_score_takes_its_job_out_of_that_metric(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run(methods=["sds"])
    scores = made_up("psd", PROMPTS[0], 0)
    scores["clip_shapes"]["values"][4] = None
    maker.finished("psd", PROMPTS[0], 0, scores)
    maker.finished("psd", PROMPTS[1], 0)
    report = build_report([maker.run])
    rows = rows_of(report.text("csv"))
    assert (rows["psd", "hps_shapes"]["n"], rows["psd", "clip_shapes"]["n"]) == ("2", "1")
    assert "(n=1)" in report.text("md")
    report.write_folder(tmp_path / "out", ("md", "csv"))
    assert re.search(
        r"psd +\| a red cube.*unscored view +\| clip_shapes", (tmp_path / "out/report.md").read_text()
    )


def test_the_baseline_is_sds_or_the_one_asked_for(make_run: Maker) -> None:
    maker = make_run(methods=["psd", "vsd"])
    assert build_report([maker.run]).analysis.baseline is None
    assert "choose one with --baseline" in build_report([maker.run]).text("md")
    assert build_report([maker.run], "vsd").analysis.methods == ("vsd", "psd")
    with pytest.raises(UsageError) as caught:
        build_report([maker.run], "sdss")
    assert "psd, vsd" in caught.value.remedy


def test_the_folder_is_complete_and_its_links_lead_somewhere(make_run: Maker) -> None:
    maker = make_run("a run (1)")
    maker.diverged("vsd", PROMPTS[0])
    report = build_report([maker.run])
    folder = maker.run / "report"
    report.write_folder(folder)
    assert {p.name for p in folder.iterdir()} == {
        "report.md",
        "report.html",
        "table.tex",
        "table.csv",
        "table.json",
        "scores.csv",
        "scores.parquet",
        "cost.csv",
        "columns.csv",
        "agreement.csv",
        "contact",
        "plots",
    }
    text = (folder / "report.md").read_text()
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert len(links) == 1 + 3 + 12
    assert all((folder / link).is_file() for link in links)
    for title in (
        "Results",
        "Paired difference to sds",
        "Agreement with people",
        "Cost",
        "Without a result",
        "By prompt",
        "Provenance",
    ):
        assert f"## {title}" in text
    assert "NaN in the gradient (step 7)" in text
    assert report.results[0].spec.protocol.hash in text
    assert "2.13.0" in text
    assert "| diverged" in text
    cost = list(csv.DictReader((folder / "cost.csv").open()))
    assert len(cost) == 13
    assert {row["reward_forwards"] for row in cost if row["method"] == "psd"} == {"40"}


def test_provenance_tells_each_command_that_filled_the_folder(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run()
    for methods, torch in ((["sds"], "2.13.0"), (["psd"], "2.14.0"), (["sds"], "2.13.0")):
        write_run(maker.run, {"options": {"methods": methods, "workers": 2}, "versions": {"torch": torch}})
    build_report([maker.run]).write_folder(tmp_path / "out", ("md",))
    text = (tmp_path / "out" / "report.md").read_text().partition("## Provenance")[2]
    commands = re.findall(r"trial: command +\| (psdbench run [^|]*?) *\|", text)
    assert commands == [f"psdbench run --methods {method} --workers 2" for method in ("psd", "sds")]
    assert "2.13.0 and 2.14.0" in text


def test_the_cost_table_shows_steps_and_the_size_of_gradients(make_run: Maker, tmp_path: Path) -> None:
    report = build_report([make_run().run])
    report.write_folder(tmp_path / "out", ("md", "csv"))
    cost = (tmp_path / "out" / "report.md").read_text().partition("## Cost")[2].partition("##")[0]
    header, _, *rows = [line.strip("| ").split(" | ") for line in cost.splitlines() if line.startswith("|")]
    cells = {
        row[0].strip(): dict(zip(map(str.strip, header), map(str.strip, row), strict=True)) for row in rows
    }
    assert {name: row["gradient RMS"] for name, row in cells.items()} == {"sds": "0.25", "psd": "1.5"}
    assert {row["steps"] for row in cells.values()} == {"10"}
    assert "grad_norm" not in cost
    assert "Every job had" not in cost
    lines = list(csv.DictReader((tmp_path / "out" / "cost.csv").open()))
    assert {line["gradient_rms_median"] for line in lines} == {"0.25", "1.5"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"nfe": 600}, ["Every job had 600 denoiser forwards, in as many steps as they paid for"]),
        ({"seconds": 9.0}, ["Every job had 9 seconds", "no run repeats it exactly"]),
        ({"grad_norm": "unit"}, ["before grad_norm unit scaled it"]),
    ],
)
def test_the_cost_table_says_what_ended_and_scaled_the_jobs(
    make_run: Maker, tmp_path: Path, fields: dict[str, Any], words: list[str]
) -> None:
    protocol = replace(PROTOCOL, optimize=OptimizeConfig(**fields))
    report = build_report([make_run(protocol=protocol).run])
    report.write_folder(tmp_path / "out", ("md", "csv"))
    text = (tmp_path / "out" / "report.md").read_text()
    assert all(each in text for each in words)
    assert all(f"optimize.{name}" in text for name in fields)


def test_foreign_text_stays_text(make_run: Maker, tmp_path: Path) -> None:
    prompt = "=cmd|'/c calc' <script>alert(1)</script> [x](y) `z` \x1b[31m red_cube _i_ *b*\u202e"
    maker = make_run(prompts=[prompt])
    report = build_report([maker.run])
    report.write_folder(tmp_path / "out", ("md", "csv"))
    text = (tmp_path / "out" / "report.md").read_text()
    assert "<script>" not in text
    assert "\\|'/c calc'" in text
    assert "\\[x\\](y)" in text
    assert "red_cube \\_i\\_ \\*b\\*" in text
    assert not re.search("[\x1b\u202e]", text)
    cost = list(csv.DictReader((tmp_path / "out" / "cost.csv").open()))
    assert cost[0]["prompt"].startswith("'=cmd")


def test_tables_are_rectangular(make_run: Maker) -> None:
    for block in build_report([make_run(prompts=["a | b", "c"]).run]).text("md").split("\n\n"):
        if block.startswith("|"):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1


def test_sheets_have_a_row_per_method_under_the_truth(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run(prompts=["a red cube", "an armchair made of cheese"])
    build_report([maker.run]).write_folder(tmp_path / "out", ("md", "csv"))
    contact = tmp_path / "out" / "contact"
    assert {p.name for p in contact.iterdir()} == {
        "overview.png",
        "a-red-cube.png",
        "an-armchair-made-of-cheese.png",
    }
    known, unknown = (Image.open(contact / f"{n}.png") for n in ("a-red-cube", "an-armchair-made-of-cheese"))
    assert known.width == unknown.width > VIEWS * 128
    assert known.height - unknown.height == 128 + 6 + 10  # the world knows only the cube


def test_prompts_that_read_alike_have_sheets_of_their_own(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run(methods=["sds"], prompts=["a red cube", "a red, cube!", "overview"], seeds=[0])
    build_report([maker.run]).write_folder(tmp_path / "out", ("md", "csv"))
    names = {p.name for p in (tmp_path / "out" / "contact").iterdir()}
    assert len(names) == 4
    assert "overview.png" in names


def test_damaged_pictures_do_not_stop_a_report(make_run: Maker, tmp_path: Path) -> None:
    maker = make_run(prompts=PROMPTS[:1])
    renders = next((maker.run / "jobs").iterdir()) / "renders"
    (renders / "view_00.png").unlink()
    (renders / "view_01.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (renders / "view_02.png").write_bytes((renders / "view_02.png").read_bytes()[:60])
    build_report([maker.run]).write_folder(tmp_path / "out", ("md", "csv"))
    assert (tmp_path / "out" / "report.md").is_file()
