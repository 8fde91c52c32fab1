"""Failures: what is missing is said, and whether conclusions hang on it."""

from __future__ import annotations

from collections.abc import Callable

from made_up_runs import PROMPTS, RunMaker

from psdbench.report import build_report

Maker = Callable[..., RunMaker]
MANY = [*PROMPTS, "a pink cone", "a cyan cylinder", "an orange sphere", "a purple cube"]


def test_a_gain_that_hangs_on_left_out_failures_is_named(make_run: Maker) -> None:
    maker = make_run(methods=["sds"], prompts=MANY)
    for index, prompt in enumerate(MANY):
        for seed in (0, 1):
            if index % 2:
                maker.finished("psd", prompt, seed)
            else:
                maker.diverged("psd", prompt, seed)
    report = build_report([maker.run])
    text = report.text("md")
    assert report.analysis.comparisons["psd", "hps_shapes"].sign == 1
    assert report.worst is not None
    assert report.worst.comparisons["psd", "hps_shapes"].sign == 0
    assert (
        "8 of 28 jobs without a result (8 diverged); every mean is over the jobs that have a result" in text
    )
    assert (
        "**Sensitivity:** counting the 8 jobs that diverged or failed as the worst score of all changes"
        in text
    )
    assert "psd on hps_shapes from better to not separable" in text


def test_one_failure_among_many_changes_nothing(make_run: Maker) -> None:
    maker = make_run(methods=["sds"], prompts=MANY, seeds=(0, 1, 2))
    for prompt in MANY:
        for seed in (0, 1, 2):
            if (prompt, seed) == (MANY[0], 0):
                maker.diverged("sds2", prompt, seed)
            else:
                maker.finished("sds2", prompt, seed)
    assert "changes no conclusion" in build_report([maker.run]).text("md")


def test_unfinished_jobs_are_nobodys_failure(make_run: Maker) -> None:
    maker = make_run()
    maker.job("psd", "a pink cone")
    report = build_report([maker.run])
    assert report.worst is None
    assert "Sensitivity" not in report.text("md")
    assert "1 of 13 jobs without a result (1 unfinished)" in report.text("md")


def test_the_worst_score_of_a_metric_where_less_is_better_is_the_largest(make_run: Maker) -> None:
    maker = make_run(methods=[])
    for index, prompt in enumerate(MANY):
        for method, level in (("sds", 0.2), ("psd", 0.1)):
            score = {"sha256": "9" * 64, "higher_is_better": False, "values": [level + 0.01 * index]}
            maker.finished(method, prompt, 0, {"floaters": score})
    maker.diverged("psd", "a cone", 0)
    maker.finished(
        "sds", "a cone", 0, {"floaters": {"sha256": "9" * 64, "higher_is_better": False, "values": [0.15]}}
    )
    worst = build_report([maker.run]).worst
    assert worst is not None
    assert worst.by_prompt["a cone", "psd", "floaters"] == (1, 0.2 + 0.06)
