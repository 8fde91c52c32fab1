"""Reading runs: what counts, what is refused, what variants are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import SCORERS, RunMaker, made_up

from psdbench.config import Protocol
from psdbench.errors import UsageError
from psdbench.report.results import MAJORITY, Score, read_runs

Maker = Callable[..., RunMaker]


def test_jobs_are_read_with_scores_and_cost(make_run: Maker) -> None:
    results = read_runs([make_run().run])
    assert [(r.label, r.spec.prompt, r.spec.seed) for r in results] == sorted(
        (r.label, r.spec.prompt, r.spec.seed) for r in results
    )
    assert len(results) == 12
    assert {r.status for r in results} == {"finished"}
    assert results[0].scores.keys() == {*SCORERS, MAJORITY}
    assert results[0].cost["denoiser_forwards"] == 60
    assert "seconds_by_part" not in results[0].cost


def test_failed_and_unfinished_jobs_are_rows_too(make_run: Maker) -> None:
    maker = make_run(methods=["sds"])
    maker.diverged("psd", "a red cube")
    maker.job("psd", "a blue sphere")
    states = {(r.spec.method, r.spec.prompt): (r.status, r.reason) for r in read_runs([maker.run])}
    assert states["psd", "a red cube"] == ("diverged", "NaN in the gradient (step 7)")
    assert states["psd", "a blue sphere"] == ("unfinished", "")


def test_a_score_needs_every_view() -> None:
    assert Score("", True, (1.0, 2.0)).mean == 1.5
    assert Score("", True, (1.0, None)).mean is None
    assert Score("", True, ()).mean is None


def test_an_asset_is_named_when_most_of_its_views_are(make_run: Maker) -> None:
    maker = make_run(methods=[])
    for seed, right in enumerate((5, 4)):
        values = [1.0] * right + [0.0] * (9 - right)
        entry = {"sha256": "e" * 64, "higher_is_better": True, "values": values}
        maker.finished("sds", "a red cube", seed, {"shape_accuracy": entry})
    assert [r.scores[MAJORITY].mean for r in read_runs([maker.run])] == [1.0, 0.0]


def test_variants_of_a_method_are_named_by_what_differs(make_run: Maker) -> None:
    maker = make_run(methods=["sds"])
    maker.finished("psd", "a red cube", preference_scale=0.5)
    maker.finished("psd", "a red cube", preference_scale=1.0)
    labels = {r.label for r in read_runs([maker.run])}
    assert labels == {"sds", "psd(preference_scale=0.5)", "psd(preference_scale=1.0)"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.6127178418460943, 3.0), ("0.613", "3.0")),
        ((6.224185572443663e-05, 0.0001), ("6.22e-05", "0.0001")),
        ((0.12345678, 0.12345999), ("0.123457", "0.12346")),
        ((0.1, 0.1 + 1e-16), ("0.1", "0.1000000000000001")),
    ],
)
def test_names_of_variants_are_as_short_as_keeps_them_apart(
    make_run: Maker, values: tuple[float, float], words: tuple[str, str]
) -> None:
    maker = make_run(methods=[])
    for value in values:
        maker.finished("psd", "a red cube", preference_scale=value)
    labels = {r.label for r in read_runs([maker.run])}
    assert labels == {f"psd(preference_scale={word})" for word in words}


def test_variants_stand_in_the_order_of_their_values(make_run: Maker) -> None:
    maker = make_run(methods=["sds"])
    for scale in (32.0, 2.0, 1e-5, 8.0, -0.5):
        maker.finished("psd", "a red cube", preference_scale=scale)
    labels = list(dict.fromkeys(r.label for r in read_runs([maker.run])))
    values = ("-0.5", "1e-05", "2.0", "8.0", "32.0")
    assert labels == [*(f"psd(preference_scale={value})" for value in values), "sds"]


def test_a_job_in_two_runs_counts_once(make_run: Maker) -> None:
    first, second = make_run("one", methods=["sds"]), make_run("two")
    assert len(read_runs([first.run, second.run])) == 12


def test_mixed_protocols_are_refused_by_the_names_that_differ(
    make_run: Maker, other_protocol: Protocol
) -> None:
    maker = make_run(methods=["sds"])
    maker.finished("psd", "a red cube", protocol=other_protocol)
    with pytest.raises(UsageError) as caught:
        read_runs([maker.run])
    assert "optimize.steps (10, 20)" in str(caught.value)
    assert "negative_prompt" in str(caught.value)
    assert "optimize.views" not in str(caught.value)


def test_one_name_for_two_scorers_is_refused(make_run: Maker) -> None:
    maker = make_run(methods=["sds"])
    scores = made_up("psd", "a red cube", 0)
    scores["clip_shapes"]["sha256"] = "f" * 64
    maker.finished("psd", "a red cube", 0, scores)
    with pytest.raises(UsageError, match="clip_shapes"):
        read_runs([maker.run])


@pytest.mark.parametrize("name", ["scores.json", "cost.json", "manifest.json"])
def test_altered_files_give_no_numbers(make_run: Maker, name: str) -> None:
    maker = make_run()
    folder = next((maker.run / "jobs").iterdir())
    path = folder / name
    path.write_text(path.read_text().replace("0", "1", 1) if name != "manifest.json" else "{")
    found = next(r for r in read_runs([maker.run]) if r.folder == folder)
    assert found.status == "corrupt"
    assert not found.scores


def test_a_folder_without_jobs_is_refused(tmp_path: Path, make_run: Maker) -> None:
    with pytest.raises(UsageError, match="no jobs"):
        read_runs([make_run(methods=[]).run])
    with pytest.raises(UsageError, match="not a run folder"):
        read_runs([tmp_path / "nothing"])


def test_a_job_that_was_only_claimed_is_passed_over(make_run: Maker) -> None:
    maker = make_run(methods=["sds"])
    (maker.run / "jobs" / "claimed").mkdir()
    assert len(read_runs([maker.run])) == 6
    assert json.loads((maker.run / "run.json").read_text())["machine"] == {"cores": 2}
